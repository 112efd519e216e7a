/* JSON (RFC 8259): records that are written alike. */

#include "lanes.h"

enum { COMPLETE = 0, INCOMPLETE = 1, DIFFERENT = 2 };

struct json_found {
  uint64_t records;
  uint64_t cut;     /* after the last complete record */
  uint64_t longest; /* bytes from the end of a record to the end of the next */
  uint8_t ended;    /* why it was the last one */
  uint8_t ascii;    /* whether all strings of the records hold ASCII alone */
};

/* Whether two texts of `length` bytes are the same. */
static inline int same_text(const uint8_t *a, const uint8_t *b, size_t length) {
  if (length < 8 || length > 16) return !memcmp(a, b, length);
  uint64_t first, other, last, another; /* they overlap */
  memcpy(&first, a, 8), memcpy(&other, b, 8);
  memcpy(&last, a + length - 8, 8), memcpy(&another, b + length - 8, 8);
  return !((first ^ other) | (last ^ another));
}

static inline int is_hex(uint8_t c) { return is_digit(c) || (uint8_t)((c | 0x20) - 'a') < 6; }

/* After the string that begins at `at`; 0 where it is no string that is looked at here (§7; surrogates
   are left to others), `size` + 1 where it does not end. */
static size_t after_string(const uint8_t *data, size_t size, size_t at, uint8_t *high) {
  at++;
  while (at < size) {
#if defined(__x86_64__)
    if (size - at >= 16) {
      __m128i part = _mm_loadu_si128((const __m128i *)(data + at));
      __m128i stop = _mm_or_si128(_mm_cmpeq_epi8(part, _mm_set1_epi8('"')), _mm_cmpeq_epi8(part, _mm_set1_epi8('\\')));
      stop = _mm_or_si128(stop, _mm_cmpeq_epi8(_mm_max_epu8(part, _mm_set1_epi8(0x1f)), _mm_set1_epi8(0x1f)));
      unsigned stops = (unsigned)_mm_movemask_epi8(stop), tops = (unsigned)_mm_movemask_epi8(part);
      if (!stops) {
        *high |= tops != 0;
        at += 16;
        continue;
      }
      unsigned first = (unsigned)__builtin_ctz(stops);
      *high |= (tops & ((1u << first) - 1)) != 0;
      at += first;
    }
#endif
    uint8_t c = data[at];
    if (c == '"') return at + 1;
    if (c < 0x20) return 0;
    if (c == '\\') {
      if (at + 1 >= size) return size + 1;
      switch (data[at + 1]) {
      case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r': case 't':
        at += 2;
        break;
      case 'u':
        if (size - at < 6) return size + 1;
        for (int i = 2; i < 6; i++) if (!is_hex(data[at + i])) return 0;
        if ((data[at + 2] | 0x20) == 'd' && data[at + 3] > '7') return 0;
        at += 6;
        break;
      default:
        return 0;
      }
      continue;
    }
    *high |= c >> 7;
    at++;
  }
  return size + 1;
}

/* After the number that begins at `at` (§6, without exponent); as above. */
static size_t after_number(const uint8_t *data, size_t size, size_t at) {
  if (data[at] == '-') at++;
  if (at >= size) return size + 1;
  if (!is_digit(data[at])) return 0;
  if (data[at] == '0') at++;
  else while (at < size && is_digit(data[at])) at++;
  if (at < size && data[at] == '.') {
    at++;
    if (at >= size) return size + 1;
    if (!is_digit(data[at])) return 0;
    while (at < size && is_digit(data[at])) at++;
  }
  return at < size ? at : size + 1;
}

static inline size_t after_word(const uint8_t *data, size_t size, size_t at, const char *text, size_t length) {
  size_t have = size - at < length ? size - at : length;
  if (memcmp(data + at, text, have)) return 0;
  return have == length ? at + length : size + 1;
}

static inline size_t after_value(const uint8_t *data, size_t size, size_t at, size_t longest, uint8_t *high) {
  size_t end;
  switch (data[at]) {
  case '"': return after_string(data, size, at, high);
  case 't': return after_word(data, size, at, "true", 4);
  case 'f': return after_word(data, size, at, "false", 5);
  case 'n': return after_word(data, size, at, "null", 4);
  case '-': case '0': case '1': case '2': case '3': case '4': case '5': case '6': case '7': case '8': case '9':
    end = after_number(data, size, at);
    return end <= size && end - at > longest ? 0 : end;
  default: return 0;
  }
}

/* Records from `start` on, of `members` members each. Before the value of member m stands the text that ends
   at `lead_ends[m]` of `leads`, before all of the first one's the text `between` too, but for the record at
   `start`; after the last value that which ends at `lead_ends[members]`. Values go from `starts[m * room + r]` up to
   `ends[m * room + r]`. It stops at the first record that is not so, or at the `room`th. */
void json_alike(const uint8_t *data, size_t size, size_t start, const uint8_t *leads, const offset *lead_ends,
                size_t members, const uint8_t *between, size_t between_size, size_t longest_number, size_t room,
                offset *starts, offset *ends, struct json_found *found) {
  size_t at = start;
  memset(found, 0, sizeof *found);
  found->cut = start;
  uint8_t high = 0;
  for (size_t record = 0; record < room; record++) {
    for (size_t m = 0; m <= members; m++) {
      const uint8_t *lead = leads + (m ? lead_ends[m - 1] : 0);
      size_t length = lead_ends[m] - (m ? lead_ends[m - 1] : 0);
      if (!m && record) {
        size_t have = size - at < between_size ? size - at : between_size;
        if (memcmp(data + at, between, have)) goto different;
        if (have < between_size) goto incomplete;
        at += between_size;
      }
      size_t have = size - at < length ? size - at : length;
      if (!same_text(data + at, lead, have)) goto different;
      if (have < length) goto incomplete;
      at += length;
      if (m == members) break;
      if (at >= size) goto incomplete;
      size_t end = after_value(data, size, at, longest_number, &high);
      if (!end) goto different;
      if (end > size) goto incomplete;
      starts[m * room + record] = (offset)at;
      ends[m * room + record] = (offset)end;
      at = end;
    }
    if (at - found->cut > found->longest) found->longest = at - found->cut;
    found->cut = at;
    found->records++;
    found->ascii = !high;
  }
  found->ended = COMPLETE;
  return;
different:
  found->ended = DIFFERENT;
  return;
incomplete:
  found->ended = INCOMPLETE;
}
