/* Gradients of attention in bfloat16, a head at a time, on x86 processors with AMX. attention.py calls it.
 *
 * Of a head with queries Q (T, D), keys K and values V (S, D): the scores A = scale Q K' + bias, the weights P, whose
 * rows are A's softmax, the result P V. With the gradient G of the result: dV = P' G, dP = G V', dA = P (dP - delta),
 * where delta is G's product with the result, row by row, dQ = scale dA K and dK = scale dA' Q. The transposes of A and
 * dA are computed, 32 keys at a time, so that what belongs to a query lies along a register.
 *
 * A product multiplies a tile, 16 rows of 32 numbers, by one of 32 rows of 16, whose rows lie in pairs: two numbers of
 * a column in 32 bits. Rows and columns that a tile has too many are zeros.
 */

#define _GNU_SOURCE
#include <immintrin.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    TILE = 16,
    DEEP = 32, /* numbers that a product of tiles goes through */
    WIDE = 64, /* columns that are computed at a time */
    ALIGNED = 64
};

typedef uint16_t bfloat;
typedef struct { /* as the processor reads it */
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} Tiles;

#define CLEAR_TILES _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3) /* in which products are added up */

static const Tiles TILES = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

static int64_t padded(int64_t count) { return (count + DEEP - 1) / DEEP * DEEP; }

static __m256i load(const bfloat *from) { return _mm256_loadu_si256((const __m256i *)from); }

static void store(bfloat *to, __m256i numbers) { _mm256_storeu_si256((__m256i *)to, numbers); }

static __m512 wide(__m256i numbers) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(numbers), 16));
}

static __m512i paired(__m256i one, __m256i two) {
    return _mm512_or_si512(_mm512_cvtepu16_epi32(one), _mm512_slli_epi32(_mm512_cvtepu16_epi32(two), 16));
}

static __m256i narrow(__m512 values) { return (__m256i)_mm512_cvtneps_pbh(values); }

/* e to the power of x, to 4e-5 of itself. */
static __m512 exponential(__m512 x) {
    const float taylor[] = {9.61812911e-3f, 5.55041087e-2f, 0.240226507f, 0.693147181f, 1}; /* of two to a power */
    __m512 power = _mm512_mul_ps(x, _mm512_set1_ps(1.44269504f));
    __m512 nearest = _mm512_roundscale_ps(power, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 rest = _mm512_sub_ps(power, nearest), sum = _mm512_set1_ps(taylor[0]);
    for (int term = 1; term < 5; term++) sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(taylor[term]));
    return _mm512_scalef_ps(sum, nearest);
}

/* 16 x 16 numbers of 32 bits. */
static void transpose(const void *from, int64_t stride, __m512i *columns) {
    __m512i rows[16], pairs[16];
    for (int row = 0; row < 16; row++) rows[row] = _mm512_loadu_si512((const uint32_t *)from + row * stride);
    for (int row = 0; row < 16; row += 2) {
        pairs[row] = _mm512_unpacklo_epi32(rows[row], rows[row + 1]);
        pairs[row + 1] = _mm512_unpackhi_epi32(rows[row], rows[row + 1]);
    }
    for (int row = 0; row < 16; row += 4) {
        rows[row] = _mm512_unpacklo_epi64(pairs[row], pairs[row + 2]);
        rows[row + 1] = _mm512_unpackhi_epi64(pairs[row], pairs[row + 2]);
        rows[row + 2] = _mm512_unpacklo_epi64(pairs[row + 1], pairs[row + 3]);
        rows[row + 3] = _mm512_unpackhi_epi64(pairs[row + 1], pairs[row + 3]);
    }
    for (int column = 0; column < 4; column++) {
        __m512i even = _mm512_shuffle_i32x4(rows[column], rows[column + 4], 0x88);
        __m512i even2 = _mm512_shuffle_i32x4(rows[column + 8], rows[column + 12], 0x88);
        __m512i odd = _mm512_shuffle_i32x4(rows[column], rows[column + 4], 0xdd);
        __m512i odd2 = _mm512_shuffle_i32x4(rows[column + 8], rows[column + 12], 0xdd);
        columns[column] = _mm512_shuffle_i32x4(even, even2, 0x88);
        columns[column + 8] = _mm512_shuffle_i32x4(even, even2, 0xdd);
        columns[column + 4] = _mm512_shuffle_i32x4(odd, odd2, 0x88);
        columns[column + 12] = _mm512_shuffle_i32x4(odd, odd2, 0xdd);
    }
}

/* `count` rows of `depth` numbers, `stride` apart, one after another, and zeros up to `room` rows. */
static void gather(const bfloat *from, int64_t stride, int64_t count, int64_t room, int64_t depth, bfloat *to) {
    for (int64_t row = 0; row < count; row++) memcpy(to + row * depth, from + row * stride, depth * sizeof *to);
    memset(to + count * depth, 0, (room - count) * depth * sizeof *to);
}

/* The transpose of rows x depth numbers, its rows in pairs: (depth / 2, rows) of 32 bits. */
static void turn(const bfloat *from, int64_t rows, int64_t depth, uint32_t *to) {
    __m512i columns[16];
    for (int64_t row = 0; row < rows; row += 16)
        for (int64_t pair = 0; pair < depth / 2; pair += 16) {
            transpose(from + row * depth + 2 * pair, depth / 2, columns);
            for (int column = 0; column < 16; column++)
                _mm512_storeu_si512(to + (pair + column) * rows + row, columns[column]);
        }
}

/* Rows x depth numbers, the rows in pairs: (rows / 2, depth) of 32 bits. */
static void pair_up(const bfloat *from, int64_t rows, int64_t depth, uint32_t *to) {
    for (int64_t row = 0; row < rows; row += 2)
        for (int64_t column = 0; column < depth; column += 16) {
            const bfloat *at = from + row * depth + column;
            _mm512_storeu_si512(to + row / 2 * depth + column, paired(load(at), load(at + depth)));
        }
}

/* The transpose of rows x depth numbers, from `turn`'s: (depth, rows). */
static void unpair(const uint32_t *turned, int64_t rows, int64_t depth, bfloat *to) {
    for (int64_t pair = 0; pair < depth / 2; pair++)
        for (int64_t row = 0; row < rows; row += 16) {
            __m512i both = _mm512_loadu_si512(turned + pair * rows + row);
            store(to + 2 * pair * rows + row, _mm512_cvtepi32_epi16(both));
            store(to + (2 * pair + 1) * rows + row, _mm512_cvtepi32_epi16(_mm512_srli_epi32(both, 16)));
        }
}

/* 16 rows of `left`, which lie `stride` apart, times `count` (1 to 4) tiles of 16 columns of `right`, whose rows of
 * pairs lie `across` apart; through `depth` numbers, into `to`, (16, WIDE).
 */
static void multiply(const bfloat *left, int64_t stride, const uint32_t *right, int64_t across, int64_t depth,
                     int count, float *to) {
    CLEAR_TILES;
    for (int64_t at = 0; at < depth; at += DEEP) {
        const uint32_t *rows = right + at / 2 * across;
        _tile_loadd(4, left + at, stride * 2);
        _tile_loadd(5, rows, across * 4);
        _tile_dpbf16ps(0, 4, 5);
        if (count > 1) {
            _tile_loadd(6, rows + TILE, across * 4);
            _tile_dpbf16ps(1, 4, 6);
        }
        if (count > 2) {
            _tile_loadd(7, rows + 2 * TILE, across * 4);
            _tile_dpbf16ps(2, 4, 7);
        }
        if (count > 3) {
            _tile_loadd(5, rows + 3 * TILE, across * 4);
            _tile_dpbf16ps(3, 4, 5);
        }
    }
    _tile_stored(0, to, WIDE * 4);
    if (count > 1) _tile_stored(1, to + TILE, WIDE * 4);
    if (count > 2) _tile_stored(2, to + 2 * TILE, WIDE * 4);
    if (count > 3) _tile_stored(3, to + 3 * TILE, WIDE * 4);
}

/* Tiles of 16 columns, four at most, of what is left of `columns`. */
static int tiles(int64_t columns) { return columns >= WIDE ? WIDE / TILE : (int)(columns / TILE); }

/* `count` tiles of (16, WIDE), as rows of bfloat16. */
static void write_rows(const float *from, int64_t rows, int count, bfloat *to, int64_t stride) {
    for (int64_t row = 0; row < rows; row++)
        for (int tile = 0; tile < count; tile++)
            store(to + row * stride + TILE * tile, narrow(_mm512_loadu_ps(from + row * WIDE + TILE * tile)));
}

typedef struct {
    int64_t queries, keys, depth;
    float scale;
} Shape;

typedef struct { /* numbers of one head, a token's in a row; rows lie `row` numbers apart */
    bfloat *at;
    int64_t row;
} Rows;

/* Tensors of (images, heads, tokens, depth), each with what lies between images, heads and tokens. */
typedef struct {
    bfloat *at;
    int64_t image, head, row;
} Tensor;

static Rows of_head(const Tensor *tensor, int64_t image, int64_t head) {
    Rows rows = {tensor->at + image * tensor->image + head * tensor->head, tensor->row};
    return rows;
}

static void *take(char **memory, size_t size) {
    char *taken = *memory;
    *memory += (size + ALIGNED - 1) / ALIGNED * ALIGNED;
    return taken;
}

/* One head's gradients, of queries, keys and values; that of the bias is added to `dbias`. Both are (S, padded T), or
 * NULL.
 */
static void slopes_of(Rows q, Rows k, Rows v, Rows out, Rows grad, Rows dq, Rows dk, Rows dv, const float *logsumexp,
                      const float *bias, float *dbias, const Shape *shape, char *memory) {
    int64_t t = padded(shape->queries), s = padded(shape->keys), d = shape->depth;
    size_t of_queries = t * d * 2, of_keys = s * d * 2;
    bfloat *queries = take(&memory, of_queries), *behind = take(&memory, of_queries); /* the result's gradient */
    bfloat *keys = take(&memory, of_keys), *values = take(&memory, of_keys), *keys_across = take(&memory, of_keys);
    bfloat *weights = take(&memory, DEEP * t * 2), *slopes = take(&memory, DEEP * t * 2); /* P' and dA' */
    uint32_t *queries_across = take(&memory, of_queries), *behind_across = take(&memory, of_queries);
    uint32_t *query_pairs = take(&memory, of_queries), *behind_pairs = take(&memory, of_queries);
    uint32_t *key_pairs = take(&memory, of_keys), *slope_pairs = take(&memory, s * t * 2);
    float *delta = take(&memory, t * 4), *shift = take(&memory, t * 4);
    float *scores = take(&memory, DEEP * TILE * 4), *products = take(&memory, DEEP * TILE * 4); /* A' and dP' */
    float *sums = take(&memory, TILE * WIDE * 4);
    __m512 scale = _mm512_set1_ps(shape->scale), zero = _mm512_setzero_ps();
    gather(q.at, q.row, shape->queries, t, d, queries);
    gather(grad.at, grad.row, shape->queries, t, d, behind);
    gather(k.at, k.row, shape->keys, s, d, keys);
    gather(v.at, v.row, shape->keys, s, d, values);
    turn(queries, t, d, queries_across);
    turn(behind, t, d, behind_across);
    turn(keys, s, d, key_pairs);
    unpair(key_pairs, s, d, keys_across);
    pair_up(queries, t, d, query_pairs);
    pair_up(behind, t, d, behind_pairs);
    for (int64_t query = 0; query < t; query++) {
        __m512 sum = _mm512_setzero_ps();
        if (query < shape->queries)
            for (int64_t at = 0; at < d; at += TILE) {
                __m512 result = wide(load(out.at + query * out.row + at));
                sum = _mm512_fmadd_ps(wide(load(behind + query * d + at)), result, sum);
            }
        delta[query] = _mm512_reduce_add_ps(sum);
        shift[query] = query < shape->queries ? logsumexp[query] : 1e30f; /* a weight of 0 */
    }
    for (int64_t key = 0; key < s; key += DEEP) {
        for (int64_t query = 0; query < t; query += TILE) {
            CLEAR_TILES;
            for (int64_t at = 0; at < d; at += DEEP) {
                _tile_loadd(4, queries_across + at / 2 * t + query, t * 4);
                _tile_loadd(5, keys + key * d + at, d * 2);
                _tile_loadd(6, keys + (key + TILE) * d + at, d * 2);
                _tile_dpbf16ps(0, 5, 4);
                _tile_dpbf16ps(1, 6, 4);
                _tile_loadd(7, behind_across + at / 2 * t + query, t * 4);
                _tile_loadd(5, values + key * d + at, d * 2);
                _tile_loadd(6, values + (key + TILE) * d + at, d * 2);
                _tile_dpbf16ps(2, 5, 7);
                _tile_dpbf16ps(3, 6, 7);
            }
            _tile_stored(0, scores, TILE * 4);
            _tile_stored(1, scores + TILE * TILE, TILE * 4);
            _tile_stored(2, products, TILE * 4);
            _tile_stored(3, products + TILE * TILE, TILE * 4);
            __m512 less = _mm512_loadu_ps(shift + query), off = _mm512_loadu_ps(delta + query);
            __m256i pair[2];
            for (int row = 0; row < DEEP; row++) {
                int there = key + row < shape->keys;
                int64_t at = (key + row) * t + query;
                __m512 added = _mm512_sub_ps(there && bias ? _mm512_loadu_ps(bias + at) : zero, less);
                __m512 weight = exponential(_mm512_fmadd_ps(_mm512_loadu_ps(scores + TILE * row), scale, added));
                if (!there) weight = zero;
                __m512 slope = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(products + TILE * row), off), weight);
                if (there && dbias) _mm512_storeu_ps(dbias + at, _mm512_add_ps(_mm512_loadu_ps(dbias + at), slope));
                pair[row % 2] = narrow(_mm512_mul_ps(slope, scale));
                store(weights + row * t + query, narrow(weight));
                store(slopes + row * t + query, pair[row % 2]);
                if (row % 2) _mm512_storeu_si512(slope_pairs + (key + row) / 2 * t + query, paired(pair[0], pair[1]));
            }
        }
        for (int64_t first = key; first < key + DEEP && first < shape->keys; first += TILE) {
            int64_t rows = shape->keys - first < TILE ? shape->keys - first : TILE, skipped = (first - key) * t;
            for (int64_t at = 0; at < d; at += WIDE) {
                multiply(weights + skipped, t, behind_pairs + at, d, t, tiles(d - at), sums);
                write_rows(sums, rows, tiles(d - at), dv.at + first * dv.row + at, dv.row);
                multiply(slopes + skipped, t, query_pairs + at, d, t, tiles(d - at), sums);
                write_rows(sums, rows, tiles(d - at), dk.at + first * dk.row + at, dk.row);
            }
        }
    }
    for (int64_t at = 0; at < d; at += TILE) /* dQ' = K' dA' */
        for (int64_t query = 0; query < t; query += WIDE) {
            multiply(keys_across + at * s, s, slope_pairs + query, t, s, tiles(t - query), sums);
            for (int tile = 0; tile < tiles(t - query); tile++) {
                __m512i columns[TILE];
                int64_t first = query + TILE * tile;
                transpose(sums + TILE * tile, WIDE, columns);
                for (int row = 0; row < TILE && first + row < shape->queries; row++)
                    store(dq.at + (first + row) * dq.row + at, narrow(_mm512_castsi512_ps(columns[row])));
            }
        }
}

/* Bytes that a head needs, at most: what `slopes_of` takes, and what it leaves between for the sake of addresses. */
static size_t room(const Shape *shape) {
    size_t t = padded(shape->queries), s = padded(shape->keys), d = shape->depth;
    size_t all = 12 * t * d + 8 * s * d + 4 * DEEP * t + 2 * s * t + 8 * t + 8 * DEEP * TILE + 4 * TILE * WIDE;
    return (all / ALIGNED + 32) * ALIGNED;
}

/* Whether the system lets this process use tiles. */
int has_tiles(void) { return !syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* the tiles' numbers */); }

/* Gradients of q, k and v. `tensors` are q, k, v, the result, its gradient, and the three that are written;
 * `logsumexp` is (images, heads, queries), `bias` (heads, keys, queries rounded up to 32), to `dbias` (threads, heads,
 * keys, queries rounded up) each thread adds; both may be NULL. Returns 0, and writes nothing, where memory ran out.
 */
int attention_backward(const Tensor *tensors, const float *logsumexp, const float *bias, float *dbias, int64_t images,
                       int64_t heads, int64_t queries, int64_t keys, int64_t depth, float scale, int threads) {
    Shape shape = {queries, keys, depth, scale};
    size_t size = room(&shape);
    char *memory = aligned_alloc(ALIGNED, size * threads);
    if (!memory) return 0;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int thread = 0; thread < threads; thread++) {
        _tile_loadconfig(&TILES);
        for (int64_t n = images * heads * thread / threads; n < images * heads * (thread + 1) / threads; n++) {
            Rows of[8];
            int64_t head = n / images, image = n % images, all = keys * padded(queries); /* a bias stays in the cache */
            const float *own = logsumexp + (image * heads + head) * queries, *added = bias ? bias + head * all : NULL;
            float *slopes = dbias ? dbias + (thread * heads + head) * all : NULL;
            for (int which = 0; which < 8; which++) of[which] = of_head(tensors + which, image, head);
            slopes_of(of[0], of[1], of[2], of[3], of[4], of[5], of[6], of[7], own, added, slopes, &shape,
                      memory + size * thread);
        }
        _tile_release();
    }
    free(memory);
    return 1;
}
