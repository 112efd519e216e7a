/* Pieces of a block, by where each begins and ends: cut out of it, and equal ones found. */

#include "kernels.h"

#define NONE SIZE_MAX
#define OUTSIDE (SIZE_MAX - 1)
#define AHEAD 8

/* Where each piece begins once they stand one after the other, and where the last one ends: `height` + 1 places. How
   many bytes that are; NONE where a piece is not in the data. */
size_t spans_size(size_t size, const offset *starts, const offset *ends, size_t height, int64_t *places) {
  size_t sum = 0, wrong = 0;
  for (size_t i = 0; i < height; i++) {
    wrong |= (size_t)(starts[i] > ends[i]) | (size_t)(ends[i] > size);
    places[i] = (int64_t)sum;
    sum += (size_t)(ends[i] - starts[i]); /* modulo 2^32, so that it does not run over */
  }
  places[height] = (int64_t)sum;
  return wrong ? NONE : sum;
}

/* Write them one after the other; `out` has room for them, `room` bytes. They are in the data. */
void cut_spans(const uint8_t *data, size_t size, const offset *starts, const offset *ends, size_t height, uint8_t *out,
               size_t room) {
  for (size_t i = 0; i < height; i++) {
    size_t length = ends[i] - starts[i];
    size_t left = size - starts[i];
    move(out, data + starts[i], length, left < room ? left : room);
    out += length;
    room -= length;
  }
}

/* Up to eight bytes as a number, the others 0. `left` bytes may be read. */
static inline uint64_t eight(const uint8_t *at, size_t length, size_t left) {
  uint64_t number = 0;
  if (left >= 8) {
    memcpy(&number, at, 8);
    return length >= 8 ? number : number & (((uint64_t)1 << 8 * length) - 1);
  }
  memcpy(&number, at, length < 8 ? length : 8);
  return number;
}

static inline uint64_t mixed(uint64_t a, uint64_t b) {
  unsigned __int128 product = (unsigned __int128)(a ^ 0x9e3779b97f4a7c15) * (b ^ 0xd1b54a32d192ed03);
  return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* What tells most pieces apart: two that are alike in it are equal, unless they are longer than 16 bytes. */
struct start { uint64_t first, second, length; };

static inline struct start start_of(const uint8_t *at, size_t length, size_t left) {
  struct start start = {eight(at, length, left), length > 8 ? eight(at + 8, length - 8, left - 8) : 0, length};
  return start;
}

static inline int alike(struct start a, struct start b) {
  return !((a.first ^ b.first) | (a.second ^ b.second) | (a.length ^ b.length));
}

/* Equal ones have the same number. */
static inline uint64_t number_of(struct start start, const uint8_t *at, size_t left) {
  uint64_t number = mixed(start.first ^ start.length, start.second);
  for (size_t i = 16; i < start.length; i += 16) {
    struct start next = start_of(at + i, start.length - i, left - i);
    number = mixed(number ^ next.first, next.second);
  }
  return number;
}

/* Number the distinct pieces as they come: `codes` has one number for each of `height`; `firsts` and `starts_of` have
   room for the `most` first of each, their places and their starts. `table` has `slots`, a power of two above `most`,
   all 0. How many there are; NONE where they are more, or so many of them fall on one slot that to go on would take too
   long; OUTSIDE where one is not in the data.

   A slot is the upper half of a number, and the code plus 1: the numbers tell that two may be equal, bytes that they
   are. */
size_t number_spans(const uint8_t *data, size_t size, const offset *starts, const offset *ends, size_t height,
                    size_t most, uint64_t *table, size_t slots, offset *codes, offset *firsts, struct start *starts_of) {
  size_t known = 0, looks = 8 * height + 64; /* at slots */
  struct start before = {0, 0, NONE};
  for (size_t i = 0; i < height; i++) {
    if (starts[i] > ends[i] || ends[i] > size) return OUTSIDE;
    if (height - i > AHEAD && starts[i + AHEAD] < size) __builtin_prefetch(data + starts[i + AHEAD]);
    const uint8_t *at = data + starts[i];
    size_t left = size - starts[i];
    struct start start = start_of(at, ends[i] - starts[i], left);
    if (alike(start, before) && (start.length <= 16 || !memcmp(at, data + starts[i - 1], start.length))) {
      codes[i] = codes[i - 1];
      continue;
    }
    before = start;
    uint64_t number = number_of(start, at, left), upper = number >> 32;
    for (size_t slot = (size_t)number & (slots - 1);; slot = (slot + 1) & (slots - 1)) {
      if (!looks--) return NONE;
      uint64_t held = table[slot];
      if (!held) {
        if (known == most) return NONE;
        starts_of[known] = start;
        firsts[known] = (offset)i;
        codes[i] = (offset)known++;
        table[slot] = upper << 32 | known;
        break;
      }
      if (held >> 32 != upper) continue;
      size_t code = (size_t)(uint32_t)held - 1;
      if (alike(start, starts_of[code]) && (start.length <= 16 || !memcmp(at, data + starts[firsts[code]], start.length))) {
        codes[i] = (offset)code;
        break;
      }
    }
  }
  return known;
}
