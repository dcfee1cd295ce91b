/* Channels of a pixel in a register, float32, on x86 processors with AVX2: whole registers, and those that are left. */

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

#endif
