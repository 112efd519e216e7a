/* Putting pieces of text together. */

#include "kernels.h"

enum { SAME = 0, SPANS = 1, TEXTS = 2, CODED = 3 };

struct part {
  const uint8_t *data;
  uint64_t size;      /* of `data` */
  const void *starts; /* SPANS: 32-bit offsets of each record's piece; TEXTS, CODED: 64-bit ones of each text and after the last */
  const void *ends;   /* SPANS: 32-bit offsets after each piece; CODED: 32-bit numbers of the texts */
  uint64_t texts;     /* how many there are */
  uint64_t kind;      /* SAME: all of `data`, in each record */
};

static inline size_t piece_of(const struct part *part, size_t record, size_t *start) {
  switch (part->kind) {
  case SPANS:
    *start = ((const offset *)part->starts)[record];
    return ((const offset *)part->ends)[record] - *start;
  case CODED:
    record = ((const offset *)part->ends)[record]; /* fall through */
  case TEXTS:
    *start = (size_t)((const int64_t *)part->starts)[record];
    return (size_t)((const int64_t *)part->starts)[record + 1] - *start;
  default:
    *start = 0;
    return part->size;
  }
}

/* How many bytes `weave` writes; SIZE_MAX where a piece is not in its data. */
size_t weave_size(const struct part *parts, size_t width, size_t height) {
  size_t size = 0, start;
  for (size_t p = 0; p < width; p++) {
    const struct part *part = parts + p;
    if (part->kind == CODED)
      for (size_t record = 0; record < height; record++)
        if (((const offset *)part->ends)[record] >= part->texts) return SIZE_MAX;
    if (part->kind == TEXTS && part->texts < height) return SIZE_MAX;
    for (size_t record = 0; record < height; record++) {
      size_t length = piece_of(part, record, &start);
      if (start > part->size || length > part->size - start) return SIZE_MAX;
      size += length;
    }
  }
  return size;
}

/* Of each record the piece that each part has for it, in turn; `out` has room for them, `room` bytes. */
void weave(const struct part *parts, size_t width, size_t height, uint8_t *out, size_t room) {
  for (size_t record = 0; record < height; record++)
    for (size_t p = 0; p < width; p++) {
      size_t start, length = piece_of(parts + p, record, &start);
      size_t left = parts[p].size - start;
      move(out, parts[p].data + start, length, left < room ? left : room);
      out += length;
      room -= length;
    }
}
