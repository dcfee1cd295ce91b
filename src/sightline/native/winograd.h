/* Minimal filtering of planes, F(4x4, 3x3), in float32 on x86 processors with AVX2 and FMA: 36 products where the sum
 * over the kernel takes 144. winograd.py names the source.
 *
 * A tile of 4x4 outputs Y is what 6x6 pixels d make with a kernel g: Y = A'[(G g G') * (B' d B)]A, where * is place by
 * place and ' turns a matrix. In the brackets stand polynomials' values at six points each way, 36 places. Gradients
 * are the same turned round: the kernel's is G'[(A Y A') * (B' d B)]G, the pixels' the convolution with the kernel
 * turned by half a circle.
 */

#ifndef WINOGRAD_H
#define WINOGRAD_H

#include "lanes.h"

enum {
    OUT = 4,  /* a tile's side in outputs */
    IN = 6,   /* and in pixels */
    TAPS = 3, /* and a kernel's */
    PLACES = IN * IN,
};

/* The points are 0, A, -A, B, -B and infinity: errors are half of those of the usual 1 and 2, and squares are exact. */
#define A 0.707106781186547524
#define B 1.414213562373095049
#define AA 0.5 /* A * A */
#define BB 2.0
#define OF_0 (1 / (AA * BB)) /* what a point's row of G is divided by: its distances to the other points, multiplied */
#define OF_A (1 / (2 * AA * (AA - BB)))
#define OF_B (1 / (2 * BB * (BB - AA)))

#define MUL(number, a) _mm256_mul_ps(_mm256_set1_ps((float)(number)), a)
#define ADD(a, b) _mm256_add_ps(a, b)
#define SUB(a, b) _mm256_sub_ps(a, b)
#define MORE(number, a, b) _mm256_fmadd_ps(_mm256_set1_ps((float)(number)), a, b)

INLINE void with_points(__m256 first, __m256 even_a, __m256 odd_a, __m256 even_b, __m256 odd_b, __m256 last,
                        __m256 to[IN]) {
    to[0] = first;
    to[1] = ADD(even_a, odd_a);
    to[2] = SUB(even_a, odd_a);
    to[3] = ADD(even_b, odd_b);
    to[4] = SUB(even_b, odd_b);
    to[5] = last;
}

INLINE void turned_b(const __m256 d[IN], __m256 to[IN]) {
    with_points(MORE(AA * BB, d[0], MORE(-(AA + BB), d[2], d[4])), MORE(-BB, d[2], d[4]),
                MUL(A, MORE(-BB, d[1], d[3])), MORE(-AA, d[2], d[4]), MUL(B, MORE(-AA, d[1], d[3])),
                MORE(AA * BB, d[1], MORE(-(AA + BB), d[3], d[5])), to);
}

INLINE void by_a(const __m256 y[OUT], __m256 to[IN]) {
    with_points(y[0], MORE(AA, y[2], y[0]), MUL(A, MORE(AA, y[3], y[1])), MORE(BB, y[2], y[0]),
                MUL(B, MORE(BB, y[3], y[1])), y[3], to);
}

INLINE void by_g(const __m256 g[TAPS], __m256 to[IN]) {
    with_points(MUL(OF_0, g[0]), MUL(OF_A, MORE(AA, g[2], g[0])), MUL(OF_A * A, g[1]),
                MUL(OF_B, MORE(BB, g[2], g[0])), MUL(OF_B * B, g[1]), g[2], to);
}

INLINE void turned_a(const __m256 m[IN], __m256 to[OUT]) {
    __m256 even_a = ADD(m[1], m[2]), odd_a = SUB(m[1], m[2]), even_b = ADD(m[3], m[4]), odd_b = SUB(m[3], m[4]);
    to[0] = ADD(m[0], ADD(even_a, even_b));
    to[1] = MORE(A, odd_a, MUL(B, odd_b));
    to[2] = MORE(AA, even_a, MUL(BB, even_b));
    to[3] = MORE(A * AA, odd_a, MORE(B * BB, odd_b, m[5]));
}

INLINE void turned_g(const __m256 m[IN], __m256 to[TAPS]) {
    __m256 even_a = ADD(m[1], m[2]), odd_a = SUB(m[1], m[2]), even_b = ADD(m[3], m[4]), odd_b = SUB(m[3], m[4]);
    to[0] = MORE(OF_A, even_a, MORE(OF_B, even_b, MUL(OF_0, m[0])));
    to[1] = MORE(OF_A * A, odd_a, MUL(OF_B * B, odd_b));
    to[2] = MORE(OF_A * AA, even_a, MORE(OF_B * BB, even_b, m[5]));
}

/* A matrix by the rows and then by the columns of a plane: `from` x `from` numbers, each as LOAD says of `row` and
 * `column`, to `to` x `to`, of which STORE takes each `value` at `row` and `column`.
 */
#define BOTH_WAYS(matrix, from, to, LOAD, STORE)                                                                       \
    do {                                                                                                               \
        __m256 half[from][to];                                                                                         \
        for (int row = 0; row < from; row++) {                                                                         \
            __m256 before[from];                                                                                       \
            for (int column = 0; column < from; column++) before[column] = LOAD;                                       \
            matrix(before, half[row]);                                                                                 \
        }                                                                                                              \
        for (int column = 0; column < to; column++) {                                                                  \
            __m256 before[from], after[to];                                                                            \
            for (int row = 0; row < from; row++) before[row] = half[row][column];                                      \
            matrix(before, after);                                                                                     \
            for (int row = 0; row < to; row++) {                                                                       \
                __m256 value = after[row];                                                                             \
                STORE;                                                                                                 \
            }                                                                                                          \
        }                                                                                                              \
    } while (0)
#define PLACE ((row * IN + column) * apart) /* where its values lie, from the first place's */

#endif
