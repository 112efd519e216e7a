/* Numbers. */

#include "kernels.h"

#define SHORT_WHOLE 12
#define SHORT_SCALE 4

/* The numbers of texts, in units of 10^-4: `-`, 1 to 12 digits, and a point and 1 to 4 digits if `decimal`. A text
   without a byte is 0. Whether all are such. */
uint8_t short_numbers(const uint8_t *data, size_t size, const int64_t *places, size_t height, uint8_t decimal,
                      int64_t *numbers) {
  static const int64_t units[] = {10000, 1000, 100, 10, 1};
  for (size_t cell = 0; cell < height; cell++) {
    if (places[cell] < 0 || places[cell + 1] < places[cell] || (uint64_t)places[cell + 1] > size) return 0;
    const uint8_t *at = data + places[cell], *end = data + places[cell + 1];
    int64_t number = 0;
    if (at < end) {
      int negative = *at == '-';
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
      if (negative) number = -number;
    }
    numbers[cell] = number;
  }
  return 1;
}
