/* Channels of a pixel, or numbers of a token, in a register, float32, on x86 processors with AVX2: whole registers,
 * and those that are left.
 */

#ifndef LANES_H
#define LANES_H

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline)) /* made anew for the constants that it is given */

enum { LANES = 8 };

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
