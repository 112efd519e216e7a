/* UTF-8 (RFC 3629 §4), by three tables for two bytes after one another (Keiser and Lemire, "Validating UTF-8 In
   Less Than One Instruction Per Byte", Software: Practice and Experience 51, 2021). */

#ifndef UTF8_H
#define UTF8_H

#include "lanes.h"

/* The bytes of the character beyond ASCII that begins at `at`; 0 where there is none. */
static size_t beyond(const uint8_t *data, size_t size, size_t at) {
  uint8_t c = data[at], low = 0x80, top = 0xbf;
  size_t length;
  if (c >= 0xc2 && c <= 0xdf) length = 2;
  else if (c >= 0xe0 && c <= 0xef) {
    length = 3;
    if (c == 0xe0) low = 0xa0;
    if (c == 0xed) top = 0x9f;
  } else if (c >= 0xf0 && c <= 0xf4) {
    length = 4;
    if (c == 0xf0) low = 0x90;
    if (c == 0xf4) top = 0x8f;
  } else return 0;
  if (size - at < length || data[at + 1] < low || data[at + 1] > top) return 0;
  for (size_t i = 2; i < length; i++) if ((data[at + i] & 0xc0) != 0x80) return 0;
  return length;
}

/* What is wrong with two bytes, if each of three half bytes says so. */
enum {
  TOO_SHORT = 1 << 0,  /* the first one of several, and none that continues it */
  TOO_LONG = 1 << 1,   /* ASCII, and one that continues it */
  OVERLONG_3 = 1 << 2, /* E0, and less than A0 */
  TOO_LARGE = 1 << 3,  /* F4 or more, and 90 or more */
  SURROGATE = 1 << 4,  /* ED, and A0 or more */
  OVERLONG_2 = 1 << 5, /* C0 or C1 */
  OTHER = 1 << 6,      /* F0, and less than 90; or F5 or more */
  CONTINUED = 1 << 7,  /* both continue, which is well where two or three bytes before them say so */
  ANY = TOO_SHORT | TOO_LONG | CONTINUED,
};

static const uint8_t FIRST_UPPER[16] = {
  TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG,
  CONTINUED, CONTINUED, CONTINUED, CONTINUED,
  TOO_SHORT | OVERLONG_2, TOO_SHORT, TOO_SHORT | OVERLONG_3 | SURROGATE, TOO_SHORT | TOO_LARGE | OTHER,
};
static const uint8_t FIRST_LOWER[16] = {
  ANY | OVERLONG_3 | OVERLONG_2 | OTHER, ANY | OVERLONG_2, ANY, ANY,
  ANY | TOO_LARGE, ANY | TOO_LARGE | OTHER, ANY | TOO_LARGE | OTHER, ANY | TOO_LARGE | OTHER,
  ANY | TOO_LARGE | OTHER, ANY | TOO_LARGE | OTHER, ANY | TOO_LARGE | OTHER, ANY | TOO_LARGE | OTHER,
  ANY | TOO_LARGE | OTHER, ANY | TOO_LARGE | OTHER | SURROGATE, ANY | TOO_LARGE | OTHER, ANY | TOO_LARGE | OTHER,
};
static const uint8_t SECOND_UPPER[16] = {
  TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT,
  TOO_LONG | OVERLONG_2 | CONTINUED | OVERLONG_3 | OTHER, TOO_LONG | OVERLONG_2 | CONTINUED | OVERLONG_3 | TOO_LARGE,
  TOO_LONG | OVERLONG_2 | CONTINUED | SURROGATE | TOO_LARGE, TOO_LONG | OVERLONG_2 | CONTINUED | SURROGATE | TOO_LARGE,
  TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT,
};

/* Not nothing where a byte of `now`, which stands right after `before`, cannot follow those before it. */
static inline lanes misplaced(lanes now, lanes before) {
  lanes one = LANES_BEFORE(now, before, 1), two = LANES_BEFORE(now, before, 2), three = LANES_BEFORE(now, before, 3);
  lanes wrong = and_lanes(and_lanes(looked_up(table_at(FIRST_UPPER), upper_halves(one)),
                                    looked_up(table_at(FIRST_LOWER), and_lanes(one, all_lanes(0x0f)))),
                          looked_up(table_at(SECOND_UPPER), upper_halves(now)));
  /* A byte of 80 or more where the one two before is E0 or more, or the one three before F0 or more. */
  lanes continues = or_lanes(less_lanes(two, all_lanes(0xe0 - 0x80)), less_lanes(three, all_lanes(0xf0 - 0x80)));
  return xor_lanes(and_lanes(continues, all_lanes(0x80)), wrong);
}

/* What a look at one word after the other knows: whether the last one may end within a character, and where the
   first character is that is none. */
struct characters { uint64_t open; size_t malformed; };

/* Look at the word at `at`, of which `high` are the bytes beyond ASCII. */
static inline void look(struct characters *seen, const uint8_t *data, size_t size, size_t at, word w, uint64_t high) {
  if (LANES < WORD && !(high | seen->open)) return; /* at 64 at once, to look costs less than not to foresee it */
  lanes before = at ? lanes_at(data + at - LANES) : no_lanes(), wrong = no_lanes();
  for (int i = 0; i < WORD / LANES; i++) {
    wrong = or_lanes(wrong, misplaced(w.part[i], before));
    before = w.part[i];
  }
  seen->open = high >> (WORD - 3);
  if (!any(wrong) || seen->malformed != SIZE_MAX) return;
  /* All before the word is well-formed, but for a character that may go on into it. */
  size_t i = at;
  for (size_t back = 1; back <= 3 && back <= at && data[at - back] >= 0x80; back++)
    if (data[at - back] >= 0xc0) {
      i = at - back;
      break;
    }
  while (i < size) {
    size_t length = data[i] < 0x80 ? 1 : beyond(data, size, i);
    if (!length) break;
    i += length;
    if (i >= at + WORD) break; /* not so: but what was found wrong is not let pass */
  }
  seen->malformed = i < at + WORD ? i : at;
}

#endif
