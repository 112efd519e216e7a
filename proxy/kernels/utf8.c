/* Whether a text is UTF-8. */

#include "utf8.h"

uint8_t utf8_well_formed(const uint8_t *data, size_t size) {
  struct characters seen = {0, SIZE_MAX};
  /* NUL beyond the end tells of a character that goes on there: in the last word, or in one of nothing else. */
  for (size_t at = 0; at < size || (at == size && seen.open); at += WORD) {
    word w = next_word(data, size, at);
    look(&seen, data, size, at, w, beyond_ascii(w));
  }
  return seen.malformed == SIZE_MAX;
}
