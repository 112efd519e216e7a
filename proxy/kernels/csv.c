/* CSV (RFC 4180, with LF or CRLF line ends). */

#include "utf8.h"

enum { WELL_FORMED = 0, QUOTES_MALFORMED = 1, RETURN_ALONE = 2, NO_ROOM = 3 };

struct csv_found {
  uint64_t separators; /* of complete records: delimiters and line feeds outside quotes */
  uint64_t records;
  uint64_t cut;     /* where the incomplete record begins */
  uint64_t longest; /* bytes of a complete record, its line feed included */
  uint64_t width;   /* fields of the first record */
  uint8_t fault;
  uint8_t alike;    /* whether all records have as many fields as the first, or as was said */
  uint8_t quoted;
  uint8_t needless; /* whether there are quotes around a text that does not need them */
  uint8_t returns;  /* whether a line ends with a carriage return before its line feed */
  uint8_t utf8;     /* whether complete records are well-formed UTF-8 */
  uint8_t nul;      /* whether they hold a NUL */
};

/* A word, without what stands within quotes in the last three. */
struct marks { uint64_t quotes, feeds, delimiters, returns; };

/* What a look at one word after the other knows: bits that the last one hands on to the next, then any bit at all. */
struct quoting {
  uint64_t inside;                 /* all ones: it ends within quotes */
  uint64_t first;                  /* a field may begin */
  uint64_t quote, opened, closed;  /* it ends with a quote; which opens a field; which closes */
  uint64_t plain, plain_closed;    /* … in a field of which nothing yet needs quotes; with the quote that closes one */
  uint64_t malformed, needless;
};

/* The bits of `bits` as they stand for the byte before, and what is handed on to the next word. */
static inline uint64_t after(uint64_t bits, uint64_t *handed) {
  uint64_t moved = bits << 1 | *handed;
  *handed = bits >> (WORD - 1);
  return moved;
}

/* Quotes open and close by turns. RFC 4180 §2.5 to 2.7: one that opens stands at a field's start, or right after one
   that closes; after one that closes comes a quote, a delimiter or a line end, or what has not come yet. */
static inline void unquoted(struct quoting *q, struct marks *m, uint64_t there) {
  uint64_t special = m->quotes | m->feeds | m->delimiters;
  uint64_t within = between(m->quotes) ^ q->inside; /* opening quotes and what follows them */
  uint64_t opening = m->quotes & within, closing = m->quotes & ~within;
  q->inside = 0 - (within >> (WORD - 1));
  q->malformed |= opening & ~after(special, &q->first);
  special |= m->returns;
  q->malformed |= after(closing, &q->closed) & ~special & there;

  /* From each quote that opens a field on, over what is not special, to the first byte that is: the sum carries. */
  uint64_t begun = after(opening & ~after(m->quotes, &q->quote), &q->opened) & ~special, ended;
  uint64_t over = __builtin_add_overflow(~special, begun, &ended);
  over |= (uint64_t)__builtin_add_overflow(ended, q->plain, &ended);
  q->plain = over;
  q->needless |= after(ended & m->quotes, &q->plain_closed) & ~m->quotes;

  uint64_t outside = ~(within | m->quotes);
  m->feeds &= outside, m->delimiters &= outside, m->returns &= outside;
}

/* What is known of all bytes. */
struct seen {
  size_t held; /* separators that were written */
  size_t records;
  size_t alone; /* the first carriage return outside quotes that ends no line; SIZE_MAX for none */
  uint64_t returns;
  int needless, nul;
  struct characters characters;
};

/* Look at all words; `quoted` says whether there are quotes. Returns what the fault is. */
static inline __attribute__((always_inline)) int look_through(
    struct seen *seen, const uint8_t *data, size_t size, uint8_t delimiter, int quoted, size_t room, offset *separators) {
  struct quoting q = {.first = 1};
  lanes least = all_lanes(0xff);
  uint64_t returned = 0;
  size_t held = 0, records = 0;
  for (size_t at = 0; at < size; at += WORD) {
    word w = next_word(data, size, at);
    struct marks m = {quoted ? equal(w, '"') : 0, equal(w, '\n'), equal(w, delimiter), equal(w, '\r')};
    for (int i = 0; i < WORD / LANES; i++) least = least_lanes(least, w.part[i]);
    look(&seen->characters, data, size, at, w, beyond_ascii(w));
    if (quoted) unquoted(&q, &m, there(size, at));

    if (m.returns | returned) {
      uint64_t next = after(m.returns, &returned);
      seen->returns |= next & m.feeds;
      next &= ~m.feeds;
      if (next && seen->alone == SIZE_MAX) seen->alone = at + (size_t)lowest(next) - 1;
    }

    uint64_t ends = m.delimiters | m.feeds;
    records += (size_t)count(m.feeds);
    if (room - held >= WORD) held += placed(separators + held, at, ends);
    else {
      if (room - held < (size_t)count(ends)) return NO_ROOM;
      for (uint64_t left = ends; left; left &= left - 1) separators[held++] = (offset)at + (offset)lowest(left);
    }
  }
  seen->held = held;
  seen->records = records;
  seen->needless = (q.needless | q.plain_closed) != 0;
  seen->nul = any(same_lanes(least, no_lanes())); /* or what is beyond the end */
  return q.malformed ? QUOTES_MALFORMED : WELL_FORMED;
}

/* Bytes of the longest record; where records are `found` not to be of `width` fields, it says so. */
static size_t longest_of(const uint8_t *data, const offset *separators, size_t width, struct csv_found *found) {
  size_t longest = 0, cut = 0;
  /* There are as many line feeds as records: where there is one after each `width` fields, there are no others. */
  found->alike = !found->records || (width <= found->separators && found->separators == found->records * width);
  for (size_t record = 0; found->alike && record < found->records; record++) {
    size_t end = separators[record * width + width - 1] + (size_t)1;
    found->alike = data[end - 1] == '\n';
    if (end - cut > longest) longest = end - cut;
    cut = end;
  }
  if (found->alike) return longest;
  longest = cut = 0;
  for (size_t i = 0; i < found->separators; i++) {
    size_t end = separators[i] + (size_t)1;
    if (data[end - 1] != '\n') continue;
    if (end - cut > longest) longest = end - cut;
    cut = end;
  }
  return longest;
}

/* Separators go to `separators`, which has room for `room` of them. `width` is how many fields each record has to
   have; 0 where the first one says so. */
void csv_scan(const uint8_t *data, size_t size, uint8_t delimiter, size_t width, size_t room,
              offset *separators, struct csv_found *found) {
  struct seen seen = {.alone = SIZE_MAX, .characters = {0, SIZE_MAX}};
  memset(found, 0, sizeof *found);
  found->quoted = size && memchr(data, '"', size);
  found->fault = (uint8_t)(found->quoted ? look_through(&seen, data, size, delimiter, 1, room, separators)
                                         : look_through(&seen, data, size, delimiter, 0, room, separators));
  if (found->fault) return;

  while (seen.held && data[separators[seen.held - 1]] != '\n') seen.held--;
  found->separators = seen.held;
  found->records = seen.records;
  found->cut = seen.held ? separators[seen.held - 1] + (size_t)1 : 0;
  while (found->records && data[separators[found->width++]] != '\n') {}
  found->longest = longest_of(data, separators, width ? width : found->width, found);
  found->needless = (uint8_t)seen.needless;
  found->returns = seen.returns != 0;
  found->utf8 = seen.characters.malformed >= found->cut;
  found->nul = seen.nul && found->cut && memchr(data, 0, found->cut);
  if (seen.alone < found->cut) found->fault = RETURN_ALONE;
}

/* Where the last complete record ends, by the number of quotes alone; 0 for none. */
size_t csv_cut(const uint8_t *data, size_t size) {
  word odd;
  for (int i = 0; i < WORD / LANES; i++) odd.part[i] = no_lanes();
  for (size_t at = 0; at < size; at += WORD) {
    word w = next_word(data, size, at);
    for (int i = 0; i < WORD / LANES; i++) odd.part[i] = xor_lanes(odd.part[i], same_lanes(w.part[i], all_lanes('"')));
  }
  uint64_t inside = 0 - (uint64_t)(count(tops(odd.part)) & 1); /* all ones: it ends within quotes */
  for (size_t at = (size + WORD - 1) / WORD * WORD; at;) { /* from the end, where it is soon found */
    word w = next_word(data, size, at -= WORD);
    uint64_t quotes = equal(w, '"'), feeds = equal(w, '\n');
    inside ^= 0 - (uint64_t)(count(quotes) & 1); /* so it begins */
    feeds &= ~((between(quotes) ^ inside) | quotes);
    if (feeds) return at + (size_t)highest(feeds) + 1;
  }
  return 0;
}
