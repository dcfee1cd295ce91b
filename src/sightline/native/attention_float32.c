/* Attention in float32 and its gradients, a head at a time, on x86 processors with AVX2 and FMA. attention_float32.py
 * calls it.
 *
 * Of a head with queries Q (T, D), keys K and values V (S, D): the scores A = scale Q K' + bias, the weights P, whose
 * rows are A's softmax, the result P V. With the gradient G of the result: dV = P' G, dP = G V', dA = P (dP - delta),
 * where delta is G's product with the result, row by row, dQ = scale dA K and dK = scale dA' Q. A head's numbers stay
 * in a core's cache meanwhile.
 */

#include <math.h> /* INFINITY */
#include <omp.h>
#include <string.h>

#include "lanes.h"

typedef struct { /* attention_float32.py fills them */
    int64_t address, image, head, token; /* where it begins, and from one to the next, in numbers */
} Place;

typedef struct {
    int64_t images, heads, queries, keys, depth;
    int64_t parts; /* into which the images are divided: each sums up its own gradient of the bias */
} Shape;

static int64_t padded(int64_t count) { return up(count, LANES) * LANES; }

/* e to the power of x, which is at most about 0; 0 where the true one has no normal float32. */
static __m256 exponential(__m256 x) {
    const float taylor[] = {1 / 720.f, 1 / 120.f, 1 / 24.f, 1 / 6.f, .5f, 1, 1}; /* within 1e-7 for |rest| < .35 */
    __m256 power = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 rest = _mm256_fnmadd_ps(power, _mm256_set1_ps(0.693359375f), x); /* log 2, in two parts */
    rest = _mm256_fnmadd_ps(power, _mm256_set1_ps(-2.12194440e-4f), rest);
    __m256 sum = _mm256_set1_ps(taylor[0]);
    for (int term = 1; term < 7; term++) sum = _mm256_fmadd_ps(sum, rest, _mm256_set1_ps(taylor[term]));
    __m256i bits = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(power), _mm256_set1_epi32(127)), 23);
    __m256 is_tiny = _mm256_cmp_ps(x, _mm256_set1_ps(-87), _CMP_LT_OQ); /* not, of what isn't a number */
    return _mm256_andnot_ps(is_tiny, _mm256_mul_ps(sum, _mm256_castsi256_ps(bits)));
}

static float sum_of(__m256 values) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps(values, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static float largest_of(__m256 values) {
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps(values, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

#define MULTIPLY(row)                                                                                                  \
    if (row < rows) {                                                                                                  \
        __m256 value = _mm256_broadcast_ss(left + row * down);                                                         \
        low##row = _mm256_fmadd_ps(value, low, low##row);                                                              \
        if (is_wide) high##row = _mm256_fmadd_ps(value, high, high##row);                                              \
    }
#define STORE(row)                                                                                                     \
    if (row < rows) {                                                                                                  \
        _mm256_storeu_ps(to + row * apart, low##row);                                                                  \
        if (is_wide) _mm256_storeu_ps(to + row * apart + LANES, high##row);                                            \
    }

/* A few rows of `left`, `down` from one to the next and `along` from a number to the next, times one or two registers'
 * columns of `right` (deep, across): into `to`, whose rows are `apart`.
 */
INLINE void multiply(int rows, int is_wide, int64_t deep, const float *left, int64_t down, int64_t along,
                     const float *right, int64_t across, float *to, int64_t apart) {
    EACH_ROW(ZERO)
    for (int64_t at = 0; at < deep; at++, left += along, right += across) {
        __m256 low = _mm256_loadu_ps(right), high = is_wide ? _mm256_loadu_ps(right + LANES) : low;
        EACH_ROW(MULTIPLY)
    }
    EACH_ROW(STORE)
}

#define FOR_ROWS(rows, ...)                                                                                            \
    switch (rows) {                                                                                                    \
    case 1: multiply(1, __VA_ARGS__); break;                                                                           \
    case 2: multiply(2, __VA_ARGS__); break;                                                                           \
    case 3: multiply(3, __VA_ARGS__); break;                                                                           \
    case 4: multiply(4, __VA_ARGS__); break;                                                                           \
    case 5: multiply(5, __VA_ARGS__); break;                                                                           \
    default: multiply(ROWS, __VA_ARGS__);                                                                              \
    }

/* (rows, columns) = left (rows, deep) right (deep, columns), columns a multiple of LANES. Rows of `left` are `down`
 * from one to the next, its numbers `along`.
 */
static void product(int64_t rows, int64_t columns, int64_t deep, const float *left, int64_t down, int64_t along,
                    const float *right, float *to) {
    for (int64_t row = 0; row < rows; row += ROWS)
        for (int64_t column = 0; column < columns; column += WIDTH) {
            const float *from = left + row * down, *by = right + column;
            float *there = to + row * columns + column;
            if (columns - column >= WIDTH)
                FOR_ROWS(least(ROWS, rows - row), 1, deep, from, down, along, by, columns, there, columns)
            else FOR_ROWS(least(ROWS, rows - row), 0, deep, from, down, along, by, columns, there, columns)
        }
}

static float *at(const Place *p, int64_t image, int64_t head) {
    return (float *)p->address + image * p->image + head * p->head;
}

/* A head's tokens (count, depth), one after another. */
static void gather(const Place *p, int64_t image, int64_t head, int64_t count, int64_t depth, float *to) {
    const float *from = at(p, image, head);
    for (int64_t token = 0; token < count; token++)
        memcpy(to + token * depth, from + token * p->token, depth * sizeof *to);
}

/* And back to where they belong, times a number. */
static void scatter(const float *from, float times, const Place *p, int64_t image, int64_t head, int64_t count,
                    int64_t depth) {
    float *to = at(p, image, head);
    for (int64_t token = 0; token < count; token++)
        for (int64_t column = 0; column < depth; column += LANES) {
            __m256 value = _mm256_loadu_ps(from + token * depth + column);
            _mm256_storeu_ps(to + token * p->token + column, _mm256_mul_ps(_mm256_set1_ps(times), value));
        }
}

/* Tokens (count, depth), times a number, the transpose of them: (depth, room), with zeros behind. */
static void transpose(const float *from, float times, int64_t count, int64_t depth, float *to) {
    int64_t room = padded(count);
    for (int64_t token = 0; token < count; token += LANES)
        for (int64_t column = 0; column < depth; column += LANES) {
            __m256 rows[LANES];
            for (int line = 0; line < LANES; line++) {
                const float *there = from + (token + line) * depth + column;
                __m256 value = token + line < count ? _mm256_loadu_ps(there) : _mm256_setzero_ps();
                rows[line] = _mm256_mul_ps(_mm256_set1_ps(times), value);
            }
            turn(rows);
            for (int line = 0; line < LANES; line++) _mm256_storeu_ps(to + (column + line) * room + token, rows[line]);
        }
}

/* Which of the keys from here on there are: registers are whole. */
static __m256 there_are(int64_t left) { return _mm256_castsi256_ps(lanes((int)least(LANES, left))); }

/* Scores of a query, from one of its keys on, with the bias. */
INLINE __m256 score(const float *scores, const float *bias, int64_t key, int64_t keys) {
    __m256 value = _mm256_loadu_ps(scores + key);
    return bias ? _mm256_add_ps(value, load(bias + key, (int)least(LANES, keys - key))) : value;
}

/* A query's weights in place of its scores, and what they are made with: the largest score, and the weight of a key
 * that has it.
 */
INLINE void weigh(float *scores, const float *bias, int64_t keys, float *largest, float *share) {
    __m256 most = _mm256_set1_ps(-INFINITY), sum = _mm256_setzero_ps();
    for (int64_t key = 0; key < keys; key += LANES) {
        __m256 value = score(scores, bias, key, keys);
        _mm256_storeu_ps(scores + key, value);
        if (keys - key < LANES) value = _mm256_blendv_ps(most, value, there_are(keys - key));
        most = _mm256_max_ps(most, value);
    }
    *largest = largest_of(most);
    for (int64_t key = 0; key < keys; key += LANES) {
        __m256 value = exponential(_mm256_sub_ps(_mm256_loadu_ps(scores + key), _mm256_set1_ps(*largest)));
        if (keys - key < LANES) value = _mm256_and_ps(value, there_are(keys - key));
        _mm256_storeu_ps(scores + key, value);
        sum = _mm256_add_ps(sum, value);
    }
    *share = 1 / sum_of(sum);
    for (int64_t key = 0; key < keys; key += LANES)
        _mm256_storeu_ps(scores + key, _mm256_mul_ps(_mm256_set1_ps(*share), _mm256_loadu_ps(scores + key)));
}

/* Query (B, N, T, D), key and value (B, N, S, D), the result (B, N, T, D), and a bias (N, T, S) or none: results, and
 * of each query (2, B, N, T) what `weigh` made its weights with. Returns 0 where memory ran out.
 */
int attention_forward(const Place *places, const float *bias, float *made_with, const Shape *s, float scale,
                      int threads) {
    int64_t room = padded(s->keys), of_queries = s->queries * s->depth, of_keys = s->keys * s->depth;
    int64_t own = 2 * of_queries + 2 * of_keys + (s->depth + s->queries) * room, all = s->images * s->heads;
    float *space = aligned(threads * padded(own));
    if (!space) return 0;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4)
    for (int64_t both = 0; both < all; both++) {
        int64_t image = both / s->heads, head = both % s->heads;
        float *query = space + omp_get_thread_num() * padded(own), *result = query + of_queries;
        float *key = result + of_queries, *value = key + of_keys;
        float *turned = value + of_keys, *scores = turned + s->depth * room;
        gather(places, image, head, s->queries, s->depth, query);
        gather(places + 1, image, head, s->keys, s->depth, key);
        gather(places + 2, image, head, s->keys, s->depth, value);
        transpose(key, scale, s->keys, s->depth, turned);
        product(s->queries, room, s->depth, query, s->depth, 1, turned, scores);
        for (int64_t token = 0; token < s->queries; token++) {
            int64_t row = both * s->queries + token;
            const float *added = bias ? bias + (head * s->queries + token) * s->keys : 0;
            weigh(scores + token * room, added, s->keys, made_with + row, made_with + all * s->queries + row);
        }
        product(s->queries, s->depth, s->keys, scores, room, 1, value, result);
        scatter(result, 1, places + 3, image, head, s->queries, s->depth);
    }
    free(space);
    return 1;
}

/* A query's weights and the gradient of its scores, in place of its scores and of the products of the result's
 * gradient with the values.
 */
INLINE void differentiate(float *weights, float *slopes, const float *bias, float largest, float share, float delta,
                          int64_t keys, float *of_bias) {
    for (int64_t key = 0; key < keys; key += LANES) {
        __m256 value = exponential(_mm256_sub_ps(score(weights, bias, key, keys), _mm256_set1_ps(largest)));
        value = _mm256_mul_ps(_mm256_set1_ps(share), value);
        if (keys - key < LANES) value = _mm256_and_ps(value, there_are(keys - key));
        __m256 slope = _mm256_mul_ps(value, _mm256_sub_ps(_mm256_loadu_ps(slopes + key), _mm256_set1_ps(delta)));
        _mm256_storeu_ps(weights + key, value);
        _mm256_storeu_ps(slopes + key, slope);
        if (of_bias) _mm256_storeu_ps(of_bias + key, _mm256_add_ps(_mm256_loadu_ps(of_bias + key), slope));
    }
}

/* The product of two rows. */
static float dot(const float *one, const float *other, int64_t count) {
    __m256 sum = _mm256_setzero_ps();
    for (int64_t at = 0; at < count; at += LANES)
        sum = _mm256_fmadd_ps(_mm256_loadu_ps(one + at), _mm256_loadu_ps(other + at), sum);
    return sum_of(sum);
}

/* From query, key, value, the result and its gradient, as above, and what `attention_forward` made weights with:
 * gradients of query, key and value, whose places stand behind; and of the bias in parts (parts, N, T, room), which
 * have to be zeros. Of any number of threads the same bits. Returns 0 where memory ran out.
 */
int attention_backward(const Place *places, const float *bias, const float *made_with, float *of_bias, const Shape *s,
                       float scale, int threads) {
    int64_t room = padded(s->keys), of_queries = s->queries * s->depth, of_keys = s->keys * s->depth;
    int64_t made_of = of_queries > of_keys ? of_queries : of_keys, all = s->images * s->heads;
    int64_t own = 3 * of_queries + 2 * of_keys + 2 * (s->depth + s->queries) * room + made_of;
    float *space = aligned(threads * padded(own));
    if (!space) return 0;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t task = 0; task < s->parts * s->heads; task++) {
        int64_t part = task / s->heads, head = task % s->heads, end = s->images * (part + 1) / s->parts;
        float *query = space + omp_get_thread_num() * padded(own), *result = query + of_queries;
        float *grad = result + of_queries, *key = grad + of_queries, *value = key + of_keys;
        float *turned_key = value + of_keys, *turned_value = turned_key + s->depth * room;
        float *weights = turned_value + s->depth * room, *slopes = weights + s->queries * room;
        float *made = slopes + s->queries * room;
        for (int64_t image = s->images * part / s->parts; image < end; image++) {
            gather(places, image, head, s->queries, s->depth, query);
            gather(places + 1, image, head, s->keys, s->depth, key);
            gather(places + 2, image, head, s->keys, s->depth, value);
            gather(places + 3, image, head, s->queries, s->depth, result);
            gather(places + 4, image, head, s->queries, s->depth, grad);
            transpose(key, scale, s->keys, s->depth, turned_key);
            transpose(value, 1, s->keys, s->depth, turned_value);
            product(s->queries, room, s->depth, query, s->depth, 1, turned_key, weights);
            product(s->queries, room, s->depth, grad, s->depth, 1, turned_value, slopes);
            for (int64_t token = 0; token < s->queries; token++) {
                int64_t of_head = head * s->queries + token, row = image * s->heads * s->queries + of_head;
                float delta = dot(result + token * s->depth, grad + token * s->depth, s->depth);
                differentiate(weights + token * room, slopes + token * room, bias ? bias + of_head * s->keys : 0,
                              made_with[row], made_with[all * s->queries + row], delta, s->keys,
                              of_bias ? of_bias + (part * s->heads * s->queries + of_head) * room : 0);
            }
            product(s->queries, s->depth, s->keys, slopes, room, 1, key, made);
            scatter(made, scale, places + 5, image, head, s->queries, s->depth);
            product(s->keys, s->depth, s->queries, slopes, 1, room, query, made);
            scatter(made, scale, places + 6, image, head, s->keys, s->depth);
            product(s->keys, s->depth, s->queries, weights, 1, room, grad, made);
            scatter(made, 1, places + 7, image, head, s->keys, s->depth);
        }
    }
    free(space);
    return 1;
}
