/* JSON (RFC 8259): records that are written alike, and a few flat ones. */

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

/* ── a few records ── */

#define FEW 64
#define WANTED 64
#define MEMBERS 256

struct json_names {
  const uint8_t *texts; /* one after the other, in UTF-8 */
  const offset *ends;
  uint64_t names;
  uint64_t wanted;  /* how many of them, the first ones, are read; at most WANTED */
  uint64_t members; /* how many a record has at most */
  uint64_t longest; /* bytes of a number */
  uint64_t lines;   /* whether each record is on a line of its own; else they are an array */
};

struct json_few {
  uint64_t records;
  uint64_t there; /* the wanted names that records have, a bit for each */
  uint64_t nulls; /* those of them of which some value is `null` */
  uint64_t names; /* where the names begin in what is written */
  uint64_t others; /* how many of them are none of `json_names` */
};

static inline size_t after_space(const uint8_t *data, size_t size, size_t at, int lines) {
  while (at < size && (data[at] == ' ' || data[at] == '\t' || data[at] == '\r' || (data[at] == '\n' && !lines))) at++;
  return at;
}

/* Which of the names it is, the number of names where it is none of them. */
static size_t number_of_name(const struct json_names *names, const uint8_t *name, size_t length) {
  for (size_t i = 0, start = 0; i < names->names; start = names->ends[i++])
    if (names->ends[i] - start == length && !memcmp(names->texts + start, name, length)) return i;
  return (size_t)names->names;
}

/* The values of a whole document of 1 to FEW records, each with the members of the first in its order: first a
   `json_few`; then the wanted ones that are there, name by name, each record's as it is written with a line feed after
   it, for none holds one; then all the names of the first record, in quotes, each with a line feed. How many bytes that
   are, all of which it is given room for; 0 where the document is another one. No name has an escape, none is there
   twice; values are as `after_value` has them; all is UTF-8. */
size_t json_few(const uint8_t *data, size_t size, const struct json_names *names, uint8_t *out, size_t room) {
  offset starts[WANTED][FEW], ends[WANTED][FEW];
  offset name_starts[MEMBERS], name_ends[MEMBERS];
  size_t which[MEMBERS], members = 0;
  struct json_few found = {0};
  const int lines = names->lines != 0;
  uint8_t high = 0;
  if (names->wanted > WANTED || names->wanted > names->names || room < sizeof found) return 0;
  size_t at = after_space(data, size, 0, lines);
  if (!lines && (at >= size || data[at++] != '[')) return 0;
  for (;;) {
    if (lines && at == size && found.records) break;
    at = after_space(data, size, at, lines);
    if (at >= size || data[at++] != '{' || found.records == FEW) return 0;
    for (size_t m = 0;; m++) {
      at = after_space(data, size, at, lines);
      if (at >= size || data[at] != '"') return 0;
      if (found.records) {
        size_t length = m < members ? name_ends[m] - name_starts[m] : 0;
        if (!length || size - at < length || memcmp(data + at, data + name_starts[m], length)) return 0;
        at += length;
      } else {
        size_t end = after_string(data, size, at, &high);
        if (!end || end > size || memchr(data + at, '\\', end - at)) return 0;
        if (m == MEMBERS || m == names->members) return 0;
        for (size_t i = 0; i < m; i++)
          if (name_ends[i] - name_starts[i] == end - at && !memcmp(data + name_starts[i], data + at, end - at)) return 0;
        name_starts[m] = (offset)at;
        name_ends[m] = (offset)end;
        which[m] = number_of_name(names, data + at + 1, end - at - 2);
        if (which[m] < names->wanted) found.there |= (uint64_t)1 << which[m];
        else found.others += which[m] == names->names;
        at = end;
      }
      at = after_space(data, size, at, lines);
      if (at >= size || data[at++] != ':') return 0;
      at = after_space(data, size, at, lines);
      if (at >= size) return 0;
      size_t end = after_value(data, size, at, names->longest, &high);
      if (!end || end > size) return 0;
      if (which[m] < names->wanted) {
        starts[which[m]][found.records] = (offset)at;
        ends[which[m]][found.records] = (offset)end;
        if (data[at] == 'n') found.nulls |= (uint64_t)1 << which[m];
      }
      at = after_space(data, size, end, lines);
      if (at >= size) return 0;
      if (data[at] == '}') {
        if (!found.records) members = m + 1;
        else if (m + 1 != members) return 0;
        break;
      }
      if (data[at++] != ',') return 0;
    }
    found.records++;
    at = after_space(data, size, at + 1, lines);
    if (at >= size) return 0;
    uint8_t next = data[at++];
    if (next == (lines ? '\n' : ',')) continue;
    if (lines || next != ']') return 0;
    at = after_space(data, size, at, lines);
    if (at != size) return 0;
    break;
  }
  if (high && !utf8_well_formed(data, size)) return 0;
  size_t to = sizeof found;
  for (size_t name = 0; name < names->wanted; name++) {
    if (!(found.there >> name & 1)) continue;
    for (size_t record = 0; record < found.records; record++) {
      size_t start = starts[name][record], length = ends[name][record] - start;
      if (room - to <= length) return 0;
      move(out + to, data + start, length, room - to < size - start ? room - to : size - start);
      to += length;
      out[to++] = '\n';
    }
  }
  found.names = to;
  for (size_t m = 0; m < members; m++) {
    size_t length = name_ends[m] - name_starts[m];
    if (room - to <= length) return 0;
    memcpy(out + to, data + name_starts[m], length);
    to += length;
    out[to++] = '\n';
  }
  memcpy(out, &found, sizeof found);
  return to;
}
