/* 64 bytes as bits, the first one lowest (Langdale and Lemire, "Parsing Gigabytes of JSON per Second", VLDB
   Journal 28, 2019, §3.1). */

#ifndef LANES_H
#define LANES_H

#include "kernels.h"

#define WORD 64

#if defined(__AVX512BW__) && defined(__AVX512VBMI2__) && defined(__PCLMUL__)

#include <immintrin.h>

#define LANES 64

typedef __m512i lanes; /* so many bytes, the first one lowest */

static inline lanes lanes_at(const uint8_t *at) { return _mm512_loadu_si512(at); }
static inline lanes all_lanes(uint8_t byte) { return _mm512_set1_epi8((char)byte); }
static inline lanes no_lanes(void) { return _mm512_setzero_si512(); }
static inline lanes same_lanes(lanes a, lanes b) { return _mm512_movm_epi8(_mm512_cmpeq_epi8_mask(a, b)); }
static inline lanes or_lanes(lanes a, lanes b) { return _mm512_or_si512(a, b); }
static inline lanes and_lanes(lanes a, lanes b) { return _mm512_and_si512(a, b); }
static inline lanes xor_lanes(lanes a, lanes b) { return _mm512_xor_si512(a, b); }
static inline lanes least_lanes(lanes a, lanes b) { return _mm512_min_epu8(a, b); }
static inline lanes less_lanes(lanes a, lanes b) { return _mm512_subs_epu8(a, b); } /* not below 0 */
static inline lanes upper_halves(lanes a) { return _mm512_and_si512(_mm512_srli_epi16(a, 4), _mm512_set1_epi8(0x0f)); }
static inline lanes table_at(const uint8_t *at) { return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)at)); }
static inline lanes looked_up(lanes table, lanes at) { return _mm512_shuffle_epi8(table, at); } /* of 16 bytes */
#define LANES_BEFORE(now, before, by) /* as they stood up to 16 bytes before */ \
  _mm512_alignr_epi8(now, _mm512_alignr_epi64(now, before, 6), 16 - (by))

/* The top bit of each byte of a word. */
static inline uint64_t tops(const lanes *word) { return _mm512_movepi8_mask(*word); }

static inline int any(lanes a) { return _mm512_test_epi8_mask(a, a) != 0; }

#elif defined(__x86_64__) && defined(__SSSE3__)

#include <tmmintrin.h>

#define LANES 16

typedef __m128i lanes;

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
static inline lanes table_at(const uint8_t *at) { return lanes_at(at); }
static inline lanes looked_up(lanes table, lanes at) { return _mm_shuffle_epi8(table, at); }
#define LANES_BEFORE(now, before, by) _mm_alignr_epi8(now, before, LANES - (by))

static inline uint64_t tops(const lanes *word) {
  return (uint64_t)(uint32_t)_mm_movemask_epi8(word[0]) | (uint64_t)(uint32_t)_mm_movemask_epi8(word[1]) << 16 |
         (uint64_t)(uint32_t)_mm_movemask_epi8(word[2]) << 32 | (uint64_t)(uint32_t)_mm_movemask_epi8(word[3]) << 48;
}

static inline int any(lanes a) { return _mm_movemask_epi8(_mm_cmpeq_epi8(a, _mm_setzero_si128())) != 0xffff; }

#elif defined(__aarch64__)

#include <arm_neon.h>

#define LANES 16

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
static inline lanes table_at(const uint8_t *at) { return lanes_at(at); }
static inline lanes looked_up(lanes table, lanes at) { return vqtbl1q_u8(table, at); }
#define LANES_BEFORE(now, before, by) vextq_u8(before, now, LANES - (by))

static inline uint64_t tops(const lanes *word) {
  static const uint8_t places[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  lanes at = vld1q_u8(places), top = vdupq_n_u8(0x80);
  lanes ab = vpaddq_u8(vandq_u8(vcgeq_u8(word[0], top), at), vandq_u8(vcgeq_u8(word[1], top), at));
  lanes cd = vpaddq_u8(vandq_u8(vcgeq_u8(word[2], top), at), vandq_u8(vcgeq_u8(word[3], top), at));
  lanes all = vpaddq_u8(ab, cd);
  all = vpaddq_u8(all, all);
  return vgetq_lane_u64(vreinterpretq_u64_u8(all), 0);
}

static inline int any(lanes a) { return vmaxvq_u8(a) != 0; }

#else

#define LANES 16

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
static inline lanes table_at(const uint8_t *at) { return lanes_at(at); }
static inline lanes looked_up(lanes table, lanes at) { LANE_BY_LANE(table.byte[at.byte[i] & 15]); }
static inline lanes LANES_BEFORE(lanes now, lanes before, int by) {
  LANE_BY_LANE(i < by ? before.byte[LANES - by + i] : now.byte[i - by]);
}

static inline uint64_t tops(const lanes *word) {
  uint64_t bits = 0;
  for (int i = 0; i < WORD; i++) bits |= (uint64_t)(word[i / LANES].byte[i % LANES] >> 7) << i;
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
  for (int i = 0; i < WORD / LANES; i++) w.part[i] = same_lanes(w.part[i], b);
  return tops(w.part);
}

static inline uint64_t beyond_ascii(word w) { return tops(w.part); }

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
static inline int highest(uint64_t bits) { return WORD - 1 - __builtin_clzll(bits); }
static inline int count(uint64_t bits) { return __builtin_popcountll(bits); }

#if LANES == WORD

static inline uint64_t between(uint64_t quotes) {
  __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)quotes), _mm_set1_epi8((char)0xff), 0);
  return (uint64_t)_mm_cvtsi128_si64(product);
}

static inline size_t placed(offset *out, size_t at, uint64_t bits) {
  static const uint8_t places[WORD] = {
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
    32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63,
  };
  lanes found = _mm512_maskz_compress_epi8(bits, lanes_at(places)), begin = _mm512_set1_epi32((int)at);
  int most = count(bits);
  for (int held = 0; held < most || !held; held += WORD / (int)sizeof *out) {
    lanes some = _mm512_add_epi32(_mm512_cvtepu8_epi32(_mm512_castsi512_si128(found)), begin);
    _mm512_storeu_si512(out + held, some);
    found = _mm512_shuffle_i64x2(found, found, 0x39); /* the next 16 first */
  }
  return (size_t)most;
}

#else

/* Each bit, exclusive-or'ed with all that are below it: from a quote that opens up to the one that closes. */
static inline uint64_t between(uint64_t quotes) {
  for (int step = 1; step < WORD; step *= 2) quotes ^= quotes << step;
  return quotes;
}

/* Write where the bits stand, from `at` on; there is room for 64. How many they are. */
static inline size_t placed(offset *out, size_t at, uint64_t bits) {
  size_t most = (size_t)count(bits);
  for (size_t held = 0; held < most; held += 8) /* some too many, where to know how many would take longer */
    for (size_t i = 0; i < 8; i++, bits &= bits - 1) out[held + i] = (offset)at + (offset)lowest(bits | (uint64_t)1 << 63);
  return most;
}

#endif

#endif
