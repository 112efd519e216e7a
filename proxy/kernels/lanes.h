/* 64 bytes as bits, the first one lowest (Langdale and Lemire, "Parsing Gigabytes of JSON per Second", VLDB
   Journal 28, 2019, §3.1). */

#ifndef LANES_H
#define LANES_H

#include "kernels.h"

#define WORD 64
#define LANES 16

#if defined(__x86_64__) && defined(__SSSE3__)

#include <tmmintrin.h>

typedef __m128i lanes; /* 16 bytes, the first one lowest */

static inline lanes lanes_at(const uint8_t *at) { return _mm_loadu_si128((const __m128i *)at); }
static inline lanes all_lanes(uint8_t byte) { return _mm_set1_epi8((char)byte); }
static inline lanes no_lanes(void) { return _mm_setzero_si128(); }
static inline lanes same_lanes(lanes a, lanes b) { return _mm_cmpeq_epi8(a, b); }
static inline lanes or_lanes(lanes a, lanes b) { return _mm_or_si128(a, b); }
static inline lanes and_lanes(lanes a, lanes b) { return _mm_and_si128(a, b); }
static inline lanes xor_lanes(lanes a, lanes b) { return _mm_xor_si128(a, b); }
static inline lanes least_lanes(lanes a, lanes b) { return _mm_min_epu8(a, b); }
static inline lanes less_lanes(lanes a, lanes b) { return _mm_subs_epu8(a, b); } /* not below 0 */
static inline lanes upper_halves(lanes a) { return _mm_and_si128(_mm_srli_epi16(a, 4), _mm_set1_epi8(0x0f)); }
static inline lanes looked_up(lanes table, lanes at) { return _mm_shuffle_epi8(table, at); } /* `at` < 16 */
#define LANES_BEFORE(now, before, by) _mm_alignr_epi8(now, before, LANES - (by)) /* as they stood `by` bytes before */

/* The top bit of each byte. */
static inline uint64_t tops(lanes a, lanes b, lanes c, lanes d) {
  return (uint64_t)(uint32_t)_mm_movemask_epi8(a) | (uint64_t)(uint32_t)_mm_movemask_epi8(b) << 16 |
         (uint64_t)(uint32_t)_mm_movemask_epi8(c) << 32 | (uint64_t)(uint32_t)_mm_movemask_epi8(d) << 48;
}

static inline int any(lanes a) { return _mm_movemask_epi8(_mm_cmpeq_epi8(a, _mm_setzero_si128())) != 0xffff; }

#elif defined(__aarch64__)

#include <arm_neon.h>

typedef uint8x16_t lanes;

static inline lanes lanes_at(const uint8_t *at) { return vld1q_u8(at); }
static inline lanes all_lanes(uint8_t byte) { return vdupq_n_u8(byte); }
static inline lanes no_lanes(void) { return vdupq_n_u8(0); }
static inline lanes same_lanes(lanes a, lanes b) { return vceqq_u8(a, b); }
static inline lanes or_lanes(lanes a, lanes b) { return vorrq_u8(a, b); }
static inline lanes and_lanes(lanes a, lanes b) { return vandq_u8(a, b); }
static inline lanes xor_lanes(lanes a, lanes b) { return veorq_u8(a, b); }
static inline lanes least_lanes(lanes a, lanes b) { return vminq_u8(a, b); }
static inline lanes less_lanes(lanes a, lanes b) { return vqsubq_u8(a, b); }
static inline lanes upper_halves(lanes a) { return vshrq_n_u8(a, 4); }
static inline lanes looked_up(lanes table, lanes at) { return vqtbl1q_u8(table, at); }
#define LANES_BEFORE(now, before, by) vextq_u8(before, now, LANES - (by))

static inline uint64_t tops(lanes a, lanes b, lanes c, lanes d) {
  static const uint8_t places[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  lanes at = vld1q_u8(places), top = vdupq_n_u8(0x80);
  lanes ab = vpaddq_u8(vandq_u8(vcgeq_u8(a, top), at), vandq_u8(vcgeq_u8(b, top), at));
  lanes cd = vpaddq_u8(vandq_u8(vcgeq_u8(c, top), at), vandq_u8(vcgeq_u8(d, top), at));
  lanes all = vpaddq_u8(ab, cd);
  all = vpaddq_u8(all, all);
  return vgetq_lane_u64(vreinterpretq_u64_u8(all), 0);
}

static inline int any(lanes a) { return vmaxvq_u8(a) != 0; }

#else

typedef struct { uint8_t byte[LANES]; } lanes;

#define LANE_BY_LANE(made) lanes out; for (int i = 0; i < LANES; i++) out.byte[i] = (uint8_t)(made); return out

static inline lanes lanes_at(const uint8_t *at) { LANE_BY_LANE(at[i]); }
static inline lanes all_lanes(uint8_t byte) { LANE_BY_LANE(byte); }
static inline lanes no_lanes(void) { LANE_BY_LANE(0); }
static inline lanes same_lanes(lanes a, lanes b) { LANE_BY_LANE(a.byte[i] == b.byte[i] ? 0xff : 0); }
static inline lanes or_lanes(lanes a, lanes b) { LANE_BY_LANE(a.byte[i] | b.byte[i]); }
static inline lanes and_lanes(lanes a, lanes b) { LANE_BY_LANE(a.byte[i] & b.byte[i]); }
static inline lanes xor_lanes(lanes a, lanes b) { LANE_BY_LANE(a.byte[i] ^ b.byte[i]); }
static inline lanes least_lanes(lanes a, lanes b) { LANE_BY_LANE(a.byte[i] < b.byte[i] ? a.byte[i] : b.byte[i]); }
static inline lanes less_lanes(lanes a, lanes b) { LANE_BY_LANE(a.byte[i] > b.byte[i] ? a.byte[i] - b.byte[i] : 0); }
static inline lanes upper_halves(lanes a) { LANE_BY_LANE(a.byte[i] >> 4); }
static inline lanes looked_up(lanes table, lanes at) { LANE_BY_LANE(table.byte[at.byte[i] & 15]); }
static inline lanes LANES_BEFORE(lanes now, lanes before, int by) {
  LANE_BY_LANE(i < by ? before.byte[LANES - by + i] : now.byte[i - by]);
}

static inline uint64_t tops(lanes a, lanes b, lanes c, lanes d) {
  uint64_t bits = 0;
  for (int i = 0; i < LANES; i++)
    bits |= (uint64_t)(a.byte[i] >> 7) << i | (uint64_t)(b.byte[i] >> 7) << (16 + i) |
            (uint64_t)(c.byte[i] >> 7) << (32 + i) | (uint64_t)(d.byte[i] >> 7) << (48 + i);
  return bits;
}

static inline int any(lanes a) {
  uint8_t all = 0;
  for (int i = 0; i < LANES; i++) all |= a.byte[i];
  return all != 0;
}

#endif

typedef struct { lanes part[WORD / LANES]; } word;

static inline word word_at(const uint8_t *at) {
  word w;
  for (int i = 0; i < WORD / LANES; i++) w.part[i] = lanes_at(at + LANES * i);
  return w;
}

static inline uint64_t equal(word w, uint8_t byte) {
  lanes b = all_lanes(byte);
  return tops(same_lanes(w.part[0], b), same_lanes(w.part[1], b), same_lanes(w.part[2], b), same_lanes(w.part[3], b));
}

static inline uint64_t beyond_ascii(word w) { return tops(w.part[0], w.part[1], w.part[2], w.part[3]); }

static inline int holds(word w, uint8_t byte) {
  lanes b = all_lanes(byte);
  return any(or_lanes(or_lanes(same_lanes(w.part[0], b), same_lanes(w.part[1], b)),
                      or_lanes(same_lanes(w.part[2], b), same_lanes(w.part[3], b))));
}

/* The word at `at` of data that ends at `size`; NUL stands beyond it. */
static inline word next_word(const uint8_t *data, size_t size, size_t at) {
  if (size - at >= WORD) return word_at(data + at);
  uint8_t padded[WORD] = {0};
  memcpy(padded, data + at, size - at);
  return word_at(padded);
}

/* Which bits of that word stand for bytes of the data. */
static inline uint64_t there(size_t size, size_t at) {
  return size - at >= WORD ? ~(uint64_t)0 : ((uint64_t)1 << (size - at)) - 1;
}

static inline int lowest(uint64_t bits) { return __builtin_ctzll(bits); }
static inline int count(uint64_t bits) { return __builtin_popcountll(bits); }

/* Each bit, exclusive-or'ed with all that are below it: from a quote that opens up to the one that closes. */
static inline uint64_t between(uint64_t quotes) {
  for (int step = 1; step < WORD; step *= 2) quotes ^= quotes << step;
  return quotes;
}

#endif
