/* Channels of a pixel, or numbers of a token, in a register, float32, on x86 processors with AVX2: whole registers,
 * and those that are left; and what loops over them share.
 */

#ifndef LANES_H
#define LANES_H

#include <immintrin.h>
#include <stdint.h>
#include <stdlib.h>

#define INLINE static inline __attribute__((always_inline)) /* made anew for the constants that it is given */

enum {
    LANES = 8,
    WIDTH = 2 * LANES, /* columns of a product at a time: a line of a cache */
    ROWS = 6,          /* and rows: as many as there are registers for */
};

/* Sums of a product's rows have names of their own: of an array compilers would write each to memory every time. */
#define EACH_ROW(WHAT) WHAT(0) WHAT(1) WHAT(2) WHAT(3) WHAT(4) WHAT(5)
#define ZERO(row) __m256 low##row = _mm256_setzero_ps(), high##row = _mm256_setzero_ps();

static inline int64_t up(int64_t value, int64_t step) { return (value + step - 1) / step; }
static inline int64_t least(int64_t one, int64_t other) { return one < other ? one : other; }
static inline int64_t most(int64_t one, int64_t other) { return one > other ? one : other; }
static inline float *aligned(int64_t numbers) { return aligned_alloc(64, up(numbers * sizeof(float), 64) * 64); }

static inline __m256i lanes(int here) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(here), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE __m256 load(const float *at, int here) {
    return here >= LANES ? _mm256_loadu_ps(at) : _mm256_maskload_ps(at, lanes(here));
}
INLINE void store(float *at, __m256 value, int here) {
    if (here >= LANES) _mm256_storeu_ps(at, value);
    else _mm256_maskstore_ps(at, lanes(here), value);
}

/* Turn 8x8 numbers: rows become columns. */
INLINE void turn(__m256 rows[LANES]) {
    __m256 pairs[LANES], fours[LANES];
    for (int row = 0; row < LANES; row += 2) {
        pairs[row] = _mm256_unpacklo_ps(rows[row], rows[row + 1]);
        pairs[row + 1] = _mm256_unpackhi_ps(rows[row], rows[row + 1]);
    }
    for (int row = 0; row < LANES; row += 4)
        for (int half = 0; half < 2; half++) {
            fours[row + 2 * half] = _mm256_shuffle_ps(pairs[row + half], pairs[row + 2 + half], 0x44);
            fours[row + 2 * half + 1] = _mm256_shuffle_ps(pairs[row + half], pairs[row + 2 + half], 0xee);
        }
    for (int row = 0; row < LANES / 2; row++) {
        rows[row] = _mm256_permute2f128_ps(fours[row], fours[row + 4], 0x20);
        rows[row + 4] = _mm256_permute2f128_ps(fours[row], fours[row + 4], 0x31);
    }
}

#endif
