/* Convolutions of 3x3 and their gradients by minimal filtering: images' tiles by their values at 36 places (winograd.h),
 * products of these with weights over the channels, each place by itself, and back to images, whose channels lie side
 * by side. winograd.py calls it.
 */

#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "winograd.h"

enum {
    WIDTH = 2 * LANES, /* of a panel: channels that lie side by side */
    ROWS = 6,          /* of a product at a time: as many as there are registers for */
    PANELS = 4,        /* of products, at a time */
    SPARE = WIDTH,     /* numbers between places: else all would fall into one set of a cache */
};

typedef struct { /* winograd.py fills it */
    int batch, height, width, channels, out_channels;
} Shape;

/* Tiles of all images, worked on in blocks. */
typedef struct {
    int down, right; /* of a plane */
    int64_t count;
    int block; /* in each block but the last */
    int blocks;
} Tiles;

static int up(int value, int step) { return (value + step - 1) / step; }
static int least(int one, int other) { return one < other ? one : other; }
static int most(int one, int other) { return one > other ? one : other; }
static int panels(int channels) { return up(channels, WIDTH); }

/* From one place's values of so many rows to the next's, in numbers. */
static int64_t step(int channels, int rows) { return (int64_t)panels(channels) * WIDTH * rows + SPARE; }

/* In blocks of about so many channels of tiles, both sides together; of blocks a multiple of `in_turn`. */
static Tiles cut(const Shape *s, int channels, int least_block, int most_block, int in_turn) {
    Tiles t = {.down = up(s->height, OUT), .right = up(s->width, OUT)};
    t.count = (int64_t)s->batch * t.down * t.right;
    int fit = channels / WIDTH / (panels(s->channels) + panels(s->out_channels));
    fit = least(most(fit, least_block), most_block);
    int64_t blocks = (t.count + fit - 1) / fit;
    blocks = (blocks + in_turn - 1) / in_turn * in_turn;
    t.block = (int)((t.count + blocks - 1) / blocks);
    t.blocks = (int)((t.count + t.block - 1) / t.block);
    return t;
}

static int in_block(const Tiles *t, int block) {
    int64_t left = t->count - (int64_t)block * t->block;
    return left < t->block ? (int)left : t->block;
}

static float *aligned(int64_t numbers) {
    return aligned_alloc(64, (numbers * sizeof(float) + 63) / 64 * 64);
}

/* Where a tile's pixels begin, `side` x `side`, of images (batch, height, width, channels); `zeros` for padding. */
INLINE void find(const Shape *s, const Tiles *t, int64_t tile, int side, int channels, const float *images,
                 const float *zeros, const float *at[]) {
    int column = (int)(tile % t->right) * OUT - (side - OUT) / 2;
    int row = (int)(tile / t->right % t->down) * OUT - (side - OUT) / 2;
    const float *image = images + tile / t->right / t->down * s->height * s->width * channels;
    for (int y = 0; y < side; y++, at += side) {
        int is_there = row + y >= 0 && row + y < s->height;
        int64_t begin = (int64_t)(row + y) * s->width + column;
        for (int x = 0; x < side; x++)
            at[x] = is_there && column + x >= 0 && column + x < s->width ? image + (begin + x) * channels : zeros;
    }
}

/* Tiles [begin, end) of a block of `count`, whose first is `first`, of images with so many channels, by a matrix:
 * (PLACES, panels, count, WIDTH).
 */
#define GATHER(name, matrix, side)                                                                                     \
    INLINE void name##_channels(const float *const at[], int channel, int here, int64_t apart, float *to) {            \
        BOTH_WAYS(matrix, side, IN, load(at[row * side + column] + channel, here),                                     \
                  _mm256_store_ps(to + PLACE, value));                                                                 \
    }                                                                                                                  \
    static void name(const Shape *s, const Tiles *t, int64_t first, int count, int begin, int end, int channels,       \
                     const float *images, const float *zeros, float *to) {                                             \
        int64_t apart = step(channels, count);                                                                         \
        for (int tile = begin; tile < end; tile++) {                                                                   \
            const float *at[side * side];                                                                              \
            find(s, t, first + tile, side, channels, images, zeros, at);                                               \
            for (int channel = 0; channel < panels(channels) * WIDTH; channel += LANES) {                              \
                float *there = to + ((int64_t)(channel / WIDTH) * count + tile) * WIDTH + channel % WIDTH;             \
                for (int place = 0; channel % WIDTH == 0 && place < side * side; place++)                              \
                    if (place % side >= side - OUT) __builtin_prefetch(at[place] + OUT * channels + channel);          \
                if (channels - channel >= LANES) name##_channels(at, channel, LANES, apart, there);                    \
                else name##_channels(at, channel, channels - channel, apart, there);                                   \
            }                                                                                                          \
        }                                                                                                              \
    }
GATHER(gather_pixels, turned_b, IN)
GATHER(gather_slopes, by_a, OUT)

/* One tap of a kernel (rows, 3, 3, columns) for 8 rows and 8 columns from here, as they lie or turned. */
INLINE void tap_of(const float *weight, int rows, int columns, int row, int column, int tap, int is_turned,
                   __m256 to[LANES]) {
    const float *at = weight + ((int64_t)row * TAPS * TAPS + tap) * columns + column;
    for (int line = 0; line < LANES; line++)
        to[line] = row + line >= rows
                       ? _mm256_setzero_ps()
                       : load(at + (int64_t)line * TAPS * TAPS * columns, columns - column);
    if (is_turned) turn(to);
}

/* G g G' of the weights (out_channels, 3, 3, channels): (PLACES, panels of outputs, channels, WIDTH). Where `is_back`
 * they are (channels, 3, 3, out_channels) and turned by half a circle.
 */
static void by_places(const Shape *s, const float *weight, int is_back, int threads, float *to) {
    int64_t apart = step(s->out_channels, s->channels);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int channel = 0; channel < s->channels; channel += LANES)
        for (int out = 0; out < panels(s->out_channels) * WIDTH; out += LANES) {
            __m256 taps[TAPS * TAPS][LANES];
            for (int tap = 0; tap < TAPS * TAPS; tap++)
                if (is_back)
                    tap_of(weight, s->channels, s->out_channels, channel, out, TAPS * TAPS - 1 - tap, 0, taps[tap]);
                else tap_of(weight, s->out_channels, s->channels, out, channel, tap, 1, taps[tap]);
            for (int more = 0; more < least(LANES, s->channels - channel); more++) {
                int64_t panel = (int64_t)(out / WIDTH) * s->channels;
                float *there = to + (panel + channel + more) * WIDTH + out % WIDTH;
                BOTH_WAYS(by_g, TAPS, IN, taps[row * TAPS + column][more], _mm256_store_ps(there + PLACE, value));
            }
        }
}

/* The sums have names of their own: of an array compilers would write each to memory after each product. */
#define EACH_ROW(WHAT) WHAT(0) WHAT(1) WHAT(2) WHAT(3) WHAT(4) WHAT(5)
#define ZERO(row) __m256 low##row = _mm256_setzero_ps(), high##row = _mm256_setzero_ps();
#define MULTIPLY(row)                                                                                                  \
    if (row < rows) {                                                                                                  \
        __m256 value = _mm256_broadcast_ss(OF(row));                                                                   \
        low##row = _mm256_fmadd_ps(value, low, low##row);                                                              \
        high##row = _mm256_fmadd_ps(value, high, high##row);                                                           \
    }
#define STORE(row)                                                                                                     \
    if (row < rows) {                                                                                                  \
        _mm256_store_ps(to + row * WIDTH, low##row);                                                                   \
        _mm256_store_ps(to + row * WIDTH + LANES, high##row);                                                          \
    }

/* Tiles (rows, channels) of a block by a panel of weights (channels, WIDTH): (rows, WIDTH). */
INLINE void multiply(int rows, int count, int channels, const float *values, const float *weights, float *to) {
    EACH_ROW(ZERO)
    for (int channel = 0; channel < channels; channel += WIDTH, values += (int64_t)count * WIDTH)
        for (int lane = 0; lane < least(WIDTH, channels - channel); lane++, weights += WIDTH) {
            __m256 low = _mm256_load_ps(weights), high = _mm256_load_ps(weights + LANES);
#define OF(row) (values + row * WIDTH + lane)
            EACH_ROW(MULTIPLY)
#undef OF
        }
    EACH_ROW(STORE)
}

/* Add to sums (rows, WIDTH) slopes of outputs, `rows` from `out`, by a panel of pixels, both of `count` tiles. */
INLINE void add(int rows, int count, int out, const float *slopes, const float *pixels, float *to) {
#define FIND(row) const float *of##row = slopes + (out + row) / WIDTH * (int64_t)count * WIDTH + (out + row) % WIDTH;
#define TAKE(row)                                                                                                      \
    __m256 low##row = _mm256_load_ps(to + row % rows * WIDTH);                                                         \
    __m256 high##row = _mm256_load_ps(to + row % rows * WIDTH + LANES);
    EACH_ROW(FIND)
    EACH_ROW(TAKE)
    for (int64_t tile = 0; tile < (int64_t)count * WIDTH; tile += WIDTH) {
        __m256 low = _mm256_load_ps(pixels + tile), high = _mm256_load_ps(pixels + tile + LANES);
#define OF(row) (of##row + tile)
        EACH_ROW(MULTIPLY)
#undef OF
    }
    EACH_ROW(STORE)
}

#define FOR_ROWS(name, ...)                                                                                            \
    switch (rows) {                                                                                                    \
    case 1: return name(1, __VA_ARGS__);                                                                               \
    case 2: return name(2, __VA_ARGS__);                                                                               \
    case 3: return name(3, __VA_ARGS__);                                                                               \
    case 4: return name(4, __VA_ARGS__);                                                                               \
    case 5: return name(5, __VA_ARGS__);                                                                               \
    default: return name(ROWS, __VA_ARGS__);                                                                           \
    }
static void multiply_rows(int rows, int count, int channels, const float *values, const float *weights, float *to) {
    FOR_ROWS(multiply, count, channels, values, weights, to)
}
static void add_rows(int rows, int count, int out, const float *slopes, const float *pixels, float *to) {
    FOR_ROWS(add, count, out, slopes, pixels, to)
}

/* A tile's outputs, `down` x `right` of them, from its products. */
INLINE void scatter_channels(const Shape *s, const float *from, int64_t apart, int down, int right, int here,
                             float *to) {
#define STORE_PIXEL                                                                                                    \
    if (row < down && column < right) store(to + ((int64_t)row * s->width + column) * s->out_channels, value, here)
    BOTH_WAYS(turned_a, IN, OUT, _mm256_load_ps(from + PLACE), STORE_PIXEL);
#undef STORE_PIXEL
}

/* Outputs [out, end) of a block of tiles from their products (PLACES, panels, count, WIDTH). */
static void scatter(const Shape *s, const Tiles *t, int64_t first, int count, int out, int end, const float *products,
                    float *images) {
    int64_t apart = step(end - out, count);
    for (int tile = 0; tile < count; tile++) {
        int column = (int)((first + tile) % t->right) * OUT, row = (int)((first + tile) / t->right % t->down) * OUT;
        int64_t image = (first + tile) / t->right / t->down;
        int down = least(OUT, s->height - row), right = least(OUT, s->width - column);
        float *to = images + ((image * s->height + row) * s->width + column) * s->out_channels;
        for (int channel = out; channel < end; channel += LANES) {
            int64_t panel = (channel - out) / WIDTH;
            const float *from = products + (panel * count + tile) * WIDTH + channel % WIDTH;
            for (int pixel = 0; channel % WIDTH == 0 && pixel < OUT * OUT; pixel++) { /* of the next tile */
                int64_t place = (int64_t)(pixel / OUT) * s->width + OUT + pixel % OUT;
                __builtin_prefetch(to + place * s->out_channels + channel, 1);
            }
            if (down == OUT && right == OUT && end - channel >= LANES)
                scatter_channels(s, from, apart, OUT, OUT, LANES, to + channel);
            else scatter_channels(s, from, apart, down, right, end - channel, to + channel);
        }
    }
}

/* A block of tiles, from gathered pixels and weights at all places to outputs. */
static void convolve_block(const Shape *s, const Tiles *t, int block, const float *pixels, const float *weights,
                           float *products, float *y) {
    int count = in_block(t, block);
    int64_t pixels_apart = step(s->channels, count), weights_apart = step(s->out_channels, s->channels);
    for (int out = 0; out < s->out_channels; out += PANELS * WIDTH) {
        int end = least(s->out_channels, out + PANELS * WIDTH);
        int64_t apart = step(end - out, count);
        for (int place = 0; place < PLACES; place++)
            for (int at = out; at < end; at += WIDTH)
                for (int tile = 0; tile < count; tile += ROWS)
                    multiply_rows(least(ROWS, count - tile), count, s->channels,
                                  pixels + place * pixels_apart + tile * WIDTH,
                                  weights + place * weights_apart + (int64_t)at * s->channels,
                                  products + place * apart + (int64_t)(at - out) * count + tile * WIDTH);
        scatter(s, t, (int64_t)block * t->block, count, out, end, products, y);
    }
}

/* Images (batch, height, width, channels), padded by one pixel, by weights (out_channels, 3, 3, channels): (batch,
 * height, width, out_channels). Where `is_back` what goes in is the gradient of such an output, what comes out is the
 * images', the weights are (channels, 3, 3, out_channels), and the shape is named from this side. Returns 0, and
 * writes nothing, where memory ran out.
 */
int convolve(const float *x, const float *weight, float *y, const Shape *s, int is_back, int threads) {
    Tiles t = cut(s, 6 * 1024, 24, 96, threads);
    int64_t weights = PLACES * step(s->out_channels, s->channels), pixels = PLACES * step(s->channels, t.block);
    int64_t products = PLACES * step(least(s->out_channels, PANELS * WIDTH), t.block);
    int64_t zeros = panels(s->channels) * WIDTH, own = pixels + products + zeros;
    threads = least(threads, t.blocks);
    float *space = aligned(weights + threads * own);
    if (!space) return 0;
    by_places(s, weight, is_back, threads, space);
#pragma omp parallel num_threads(threads)
    {
        float *mine = space + weights + omp_get_thread_num() * own, *nothing = mine + pixels + products;
        memset(nothing, 0, zeros * sizeof *nothing);
#pragma omp for schedule(dynamic) /* cores that others use, too, are not equally fast */
        for (int block = 0; block < t.blocks; block++) {
            int count = in_block(&t, block);
            gather_pixels(s, &t, (int64_t)block * t.block, count, 0, count, s->channels, x, nothing, mine);
            convolve_block(s, &t, block, mine, space, mine + pixels, y);
        }
    }
    free(space);
    return 1;
}

/* The gradient (out_channels, 3, 3, channels) of the weights, from images (batch, height, width, channels) and the
 * output's gradient (batch, height, width, out_channels); of any number of threads the same bits. Returns 0, and
 * writes nothing, where memory ran out.
 */
int weight_gradient(const float *x, const float *grad, float *result, const Shape *s, int threads) {
    Tiles t = cut(s, 28 * 1024, 64, 1024, 1);
    int outs = s->out_channels, in = panels(s->channels), parts = 4 * threads;
    int64_t pixels = PLACES * step(s->channels, t.block), slopes = PLACES * step(outs, t.block);
    int64_t apart = step(s->channels, outs), zeros = (int64_t)most(in, panels(outs)) * WIDTH;
    float *space = aligned(pixels + slopes + PLACES * apart + zeros);
    if (!space) return 0;
    float *all_slopes = space + pixels, *sums = all_slopes + slopes, *nothing = sums + PLACES * apart;
    memset(nothing, 0, zeros * sizeof *nothing);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int place = 0; place < PLACES; place++) memset(sums + place * apart, 0, apart * sizeof *sums);
        for (int block = 0; block < t.blocks; block++) {
            int64_t first = (int64_t)block * t.block;
            int count = in_block(&t, block);
#pragma omp for schedule(dynamic)
            for (int part = 0; part < parts; part++) {
                int begin = (int)((int64_t)count * part / parts), end = (int)((int64_t)count * (part + 1) / parts);
                gather_pixels(s, &t, first, count, begin, end, s->channels, x, nothing, space);
                gather_slopes(s, &t, first, count, begin, end, outs, grad, nothing, all_slopes);
            }
#pragma omp for schedule(dynamic)
            for (int product = 0; product < PLACES * in; product++) {
                int place = product / in, panel = product % in;
                const float *there = space + place * step(s->channels, count) + (int64_t)panel * count * WIDTH;
                float *to = sums + place * apart + (int64_t)panel * outs * WIDTH;
                for (int out = 0; out < outs; out += ROWS)
                    add_rows(least(ROWS, outs - out), count, out, all_slopes + place * step(outs, count), there,
                             to + (int64_t)out * WIDTH);
            }
        }
#pragma omp for schedule(static)
        for (int out = 0; out < outs; out++)
            for (int channel = 0; channel < s->channels; channel += LANES) {
                const float *there = sums + ((int64_t)(channel / WIDTH) * outs + out) * WIDTH + channel % WIDTH;
                float *to = result + (int64_t)out * TAPS * TAPS * s->channels + channel;
                BOTH_WAYS(turned_g, IN, TAPS, _mm256_load_ps(there + PLACE),
                          store(to + (row * TAPS + column) * s->channels, value, s->channels - channel));
            }
    }
    free(space);
    return 1;
}
