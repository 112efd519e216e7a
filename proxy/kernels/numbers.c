/* Numbers. */

#include "kernels.h"

#define SHORT_WHOLE 12
#define SHORT_SCALE 4

/* The number of a text, in units of 10^-4: `-`, 1 to 12 digits, and a point and 1 to 4 digits if `decimal`. Whether it is
   such. */
static inline int short_number(const uint8_t *at, const uint8_t *end, uint8_t decimal, int64_t *found) {
  static const int64_t units[] = {10000, 1000, 100, 10, 1};
  int64_t number = 0;
  int negative = at < end && *at == '-';
  const uint8_t *first = at += negative;
  int left = SHORT_SCALE;
  for (; at < end && is_digit(*at); at++) {
    if (at - first == SHORT_WHOLE) return 0;
    number = number * 10 + (*at - '0');
  }
  if (at == first) return 0;
  if (at < end) {
    if (!decimal || *at++ != '.' || at == end) return 0;
    for (; at < end; at++, left--) {
      if (!left || !is_digit(*at)) return 0;
      number = number * 10 + (*at - '0');
    }
    number *= units[SHORT_SCALE - left];
  } else number *= units[0];
  *found = negative ? -number : number;
  return 1;
}

/* The numbers of texts; a text without a byte is 0. Whether all are such. */
uint8_t short_numbers(const uint8_t *data, size_t size, const int64_t *places, size_t height, uint8_t decimal,
                      int64_t *numbers) {
  for (size_t cell = 0; cell < height; cell++) {
    if (places[cell] < 0 || places[cell + 1] < places[cell] || (uint64_t)places[cell + 1] > size) return 0;
    numbers[cell] = 0;
    if (places[cell] == places[cell + 1]) continue;
    if (!short_number(data + places[cell], data + places[cell + 1], decimal, numbers + cell)) return 0;
  }
  return 1;
}

/* The numbers of lines, each with its line feed, rounded to multiples of `units` x 10^-`digits`, ties to the even one;
   in lines. `units` are 1 to 10^12, `digits` 0 to 4. How many bytes that are, of which there is room for; 0 where some line
   is no such number. */
size_t round_lines(const uint8_t *data, size_t size, uint8_t decimal, int64_t units, uint64_t digits, uint8_t *out,
                   size_t room) {
  static const int64_t tens[] = {10000, 1000, 100, 10, 1};
  if (digits > SHORT_SCALE || units < 1 || units > 1000000000000) return 0;
  int64_t step = units * tens[digits];
  size_t to = 0;
  for (size_t at = 0; at < size;) {
    const uint8_t *end = memchr(data + at, '\n', size - at);
    int64_t number;
    if (!end || !short_number(data + at, end, decimal, &number)) return 0;
    at = (size_t)(end - data) + 1;
    int64_t count = number / step, rest = number % step;
    if (rest < 0) count--, rest += step;
    if (rest > step - rest || (rest == step - rest && (count & 1))) count++;
    int64_t result = count * units;
    uint8_t written[24];
    size_t length = 0;
    uint64_t left = (uint64_t)(result < 0 ? -result : result);
    do {
      if (digits && length == digits) written[length++] = '.';
      written[length++] = (uint8_t)('0' + left % 10);
      left /= 10;
    } while (left || (digits && length < digits + 2));
    if (result < 0) written[length++] = '-';
    if (room - to <= length) return 0;
    while (length) out[to++] = written[--length];
    out[to++] = '\n';
  }
  return to;
}
