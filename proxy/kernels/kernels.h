/* What every kernel goes by: see __init__.py.

   Each function reads `data[0 .. size)` and nothing beyond, writes to `room` elements of what it is given
   and nothing beyond, allocates nothing, keeps nothing, and ends after a time that grows with `size`.
   Offsets are of 32 bits: whoever calls has seen that a block is smaller. */

#ifndef KERNELS_H
#define KERNELS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint32_t offset;

#define SHORT 32

/* Move `length` bytes; `left` may be read from there on, and overwritten with anything. */
static inline void move(uint8_t *out, const uint8_t *from, size_t length, size_t left) {
  if (length <= SHORT && left >= SHORT) memcpy(out, from, SHORT); /* two moves, where to know how many would take longer */
  else memcpy(out, from, length);
}

static inline int is_digit(uint8_t c) { return (uint8_t)(c - '0') < 10; }

/* In utf8.c. */
uint8_t utf8_well_formed(const uint8_t *data, size_t size);

#endif
