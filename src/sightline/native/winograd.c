/* Convolutions of 3x3 and their gradients by minimal filtering: images' tiles by their values at 36 places (winograd.h),
 * products of these with weights over the channels, each place by itself, and back to images, whose channels lie side
 * by side. winograd.py calls it.
 */

#include <omp.h>
#include <string.h>

#include "winograd_tiles.h"

enum {
    PANELS = 4,         /* of products, at a time */
    FEW = 320 * 1024,   /* numbers of a gradient's sums, which one thread makes for a group of tiles by itself */
    FEW_TILES = 128,    /* of a group, at least */
    MOST_GROUPS = 32,
    ALL_SUMS = 4 << 20, /* numbers of all groups' sums, at most */
};

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

/* Add to sums (rows, WIDTH) slopes of outputs, `rows` from `out`, by a panel of pixels, both of so many `tiles` of a
 * block of `count`.
 */
INLINE void add(int rows, int tiles, int count, int out, const float *slopes, const float *pixels, float *to) {
#define FIND(row) const float *of##row = slopes + (out + row) / WIDTH * (int64_t)count * WIDTH + (out + row) % WIDTH;
#define TAKE(row)                                                                                                      \
    __m256 low##row = _mm256_load_ps(to + row % rows * WIDTH);                                                         \
    __m256 high##row = _mm256_load_ps(to + row % rows * WIDTH + LANES);
    EACH_ROW(FIND)
    EACH_ROW(TAKE)
    for (int64_t tile = 0; tile < (int64_t)tiles * WIDTH; tile += WIDTH) {
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
static void add_rows(int rows, int tiles, int count, int out, const float *slopes, const float *pixels, float *to) {
    FOR_ROWS(add, tiles, count, out, slopes, pixels, to)
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
static void scatter(const Shape *s, const Tiles *t, const Block *b, int out, int end, const float *products,
                    float *images) {
    int64_t apart = step(end - out, b->count);
    for (int place = 0; place < b->count; place++) {
        int64_t tile = b->first + b->order[place], image = tile / t->right / t->down;
        int column = (int)(tile % t->right) * OUT, row = (int)(tile / t->right % t->down) * OUT;
        int down = least(OUT, s->height - row), right = least(OUT, s->width - column);
        float *to = images + ((image * s->height + row) * s->width + column) * s->out_channels;
        for (int channel = out; channel < end; channel += LANES) {
            int64_t panel = (channel - out) / WIDTH;
            const float *from = products + (panel * b->count + place) * WIDTH + channel % WIDTH;
            for (int pixel = 0; channel % WIDTH == 0 && pixel < OUT * OUT; pixel++) { /* of the next tile */
                int64_t next = (int64_t)(pixel / OUT) * s->width + OUT + pixel % OUT;
                __builtin_prefetch(to + next * s->out_channels + channel, 1);
            }
            if (down == OUT && right == OUT && end - channel >= LANES)
                scatter_channels(s, from, apart, OUT, OUT, LANES, to + channel);
            else scatter_channels(s, from, apart, down, right, end - channel, to + channel);
        }
    }
}

/* A block of tiles, from gathered pixels and weights at all places to outputs. */
static void convolve_block(const Shape *s, const Tiles *t, const Block *b, const float *pixels, const float *weights,
                           float *products, float *y) {
    int count = b->count;
    int64_t pixels_apart = step(s->channels, count), weights_apart = step(s->out_channels, s->channels);
    for (int out = 0; out < s->out_channels; out += PANELS * WIDTH) {
        int end = least(s->out_channels, out + PANELS * WIDTH);
        int64_t apart = step(end - out, count);
        for (int place = 0; place < PLACES; place++) {
            Range tiles = of_use(b, place);
            for (int at = out; at < end; at += WIDTH)
                for (int tile = tiles.begin; tile < tiles.end; tile += ROWS)
                    multiply_rows(least(ROWS, tiles.end - tile), count, s->channels,
                                  pixels + place * pixels_apart + tile * WIDTH,
                                  weights + place * weights_apart + (int64_t)at * s->channels,
                                  products + place * apart + (int64_t)(at - out) * count + tile * WIDTH);
        }
        scatter(s, t, b, out, end, products, y);
    }
}

/* Images (batch, height, width, channels), padded by one pixel, by weights (out_channels, 3, 3, channels): (batch,
 * height, width, out_channels). Where `is_back` what goes in is the gradient of such an output, what comes out is the
 * images', the weights are (channels, 3, 3, out_channels), and the shape is named from this side. Returns 0, and
 * writes nothing, where memory ran out.
 */
int convolve(const float *x, const float *weight, float *y, const Shape *s, int is_back, int threads) {
    Tiles t = cut(s, 6 * 1024, 48, 96, threads);
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
            Block b;
            find_block(s, &t, block, &b);
            gather_pixels(s, &t, &b, 0, b.count, s->channels, x, nothing, mine);
            convolve_block(s, &t, &b, mine, space, mine + pixels, y);
        }
    }
    free(space);
    return 1;
}

/* What the gradient of the weights is made of, block by block: pixels by slopes of outputs. */
typedef struct {
    const Shape *shape;
    const Tiles *tiles;
    const float *x, *grad, *zeros;
    float *pixels, *slopes; /* values of a block */
} Pairs;

/* Tiles [begin, end) of a block by their values. */
static void gather_pairs(const Pairs *p, const Block *b, int begin, int end) {
    const Shape *s = p->shape;
    gather_pixels(s, p->tiles, b, begin, end, s->channels, p->x, p->zeros, p->pixels);
    gather_slopes(s, p->tiles, b, begin, end, s->out_channels, p->grad, p->zeros, p->slopes);
}

/* Add what a block's values make at one place, for a panel of the images' channels, to sums (PLACES, panels,
 * out_channels, WIDTH).
 */
static void add_pairs(const Pairs *p, const Block *b, int place, int panel, float *sums) {
    int channels = p->shape->channels, outs = p->shape->out_channels, count = b->count;
    Range tiles = of_use(b, place);
    const float *pixels = p->pixels + place * step(channels, count) + ((int64_t)panel * count + tiles.begin) * WIDTH;
    const float *slopes = p->slopes + place * step(outs, count) + tiles.begin * WIDTH;
    float *to = sums + place * step(channels, outs) + (int64_t)panel * outs * WIDTH;
    for (int out = 0; out < outs; out += ROWS)
        add_rows(least(ROWS, outs - out), tiles.end - tiles.begin, count, out, slopes, pixels,
                 to + (int64_t)out * WIDTH);
}

/* The same, with the values of a block in another room. */
static Pairs in_room(const Pairs *p, int64_t numbers) {
    Pairs other = *p;
    other.pixels += numbers;
    other.slopes += numbers;
    return other;
}

/* Many sums: all threads at one block after the other, each at some places, and then at the next block's values, so that
 * they wait for each other once a block.
 */
static void sum_together(const Pairs *p, int64_t room, int threads, float *sums) {
    int blocks = p->tiles->blocks, in = panels(p->shape->channels);
    int64_t apart = step(p->shape->channels, p->shape->out_channels);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int place = 0; place < PLACES; place++) memset(sums + place * apart, 0, apart * sizeof *sums);
        for (int block = -1; block < blocks; block++) { /* of the one before the first there are no products */
            Pairs here = in_room(p, block % 2 ? room : 0), ahead = in_room(p, block % 2 ? 0 : room);
            Block b, next;
            find_block(p->shape, p->tiles, most(block, 0), &b);
            find_block(p->shape, p->tiles, least(block + 1, blocks - 1), &next);
            int products = block < 0 ? 0 : PLACES * in, parts = block + 1 < blocks ? 4 * threads : 0;
#pragma omp for schedule(dynamic)
            for (int task = 0; task < products + parts; task++) {
                int part = task - products;
                if (part < 0) add_pairs(&here, &b, task / in, task % in, sums);
                else gather_pairs(&ahead, &next, next.count * part / parts, next.count * (part + 1) / parts);
            }
        }
    }
}

/* Few sums: each thread at blocks of its own, a group of them at a time, so that no core waits for another's values,
 * which may lie in another cache. Then the groups' sums, (groups, size), are added up in the first's place.
 */
static void sum_apart(const Pairs *p, int groups, int64_t size, int64_t room, int threads, float *sums) {
    int in = panels(p->shape->channels);
#pragma omp parallel num_threads(threads)
    {
        Pairs own = in_room(p, omp_get_thread_num() * room);
#pragma omp for schedule(dynamic)
        for (int group = 0; group < groups; group++) {
            float *to = sums + group * size;
            int block = (int)((int64_t)p->tiles->blocks * group / groups);
            int end = (int)((int64_t)p->tiles->blocks * (group + 1) / groups);
            memset(to, 0, size * sizeof *to);
            for (; block < end; block++) {
                Block b;
                find_block(p->shape, p->tiles, block, &b);
                gather_pairs(&own, &b, 0, b.count);
                for (int product = 0; product < PLACES * in; product++)
                    add_pairs(&own, &b, product / in, product % in, to);
            }
        }
#pragma omp for schedule(static)
        for (int64_t at = 0; at < size; at += LANES) {
            __m256 sum = _mm256_load_ps(sums + at);
            for (int group = 1; group < groups; group++) sum = ADD(sum, _mm256_load_ps(sums + group * size + at));
            _mm256_store_ps(sums + at, sum);
        }
    }
}

/* The gradient (out_channels, 3, 3, channels) of the weights, from images (batch, height, width, channels) and the
 * output's gradient (batch, height, width, out_channels); of any number of threads the same bits. Returns 0, and
 * writes nothing, where memory ran out.
 */
int weight_gradient(const float *x, const float *grad, float *result, const Shape *s, int threads) {
    int outs = s->out_channels;
    int64_t apart = step(s->channels, outs), size = PLACES * apart;
    Tiles t = size > FEW ? cut(s, 28 * 1024, 64, MOST_TILES, 1) : cut(s, 8 * 1024, 8, MOST_TILES, 1);
    int groups = size > FEW ? 1 : least(MOST_GROUPS, least(t.count / FEW_TILES, ALL_SUMS / size));
    groups = most(1, least(groups, t.blocks));
    if (groups > 1) threads = least(threads, groups);
    int64_t pixels = PLACES * step(s->channels, t.block), room = pixels + PLACES * step(outs, t.block);
    int64_t zeros = most(panels(s->channels), panels(outs)) * WIDTH;
    int64_t rooms = room * (groups > 1 ? threads : 2);
    float *space = aligned(rooms + groups * size + zeros);
    if (!space) return 0;
    float *sums = space + rooms, *nothing = sums + groups * size;
    memset(nothing, 0, zeros * sizeof *nothing);
    Pairs p = {s, &t, x, grad, nothing, space, space + pixels};
    if (groups > 1) sum_apart(&p, groups, size, room, threads, sums);
    else sum_together(&p, room, threads, sums);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int out = 0; out < outs; out++)
        for (int channel = 0; channel < s->channels; channel += LANES) {
            const float *there = sums + ((int64_t)(channel / WIDTH) * outs + out) * WIDTH + channel % WIDTH;
            float *to = result + (int64_t)out * TAPS * TAPS * s->channels + channel;
            BOTH_WAYS(turned_g, IN, TAPS, _mm256_load_ps(there + PLACE),
                      store(to + (row * TAPS + column) * s->channels, value, s->channels - channel));
        }
    free(space);
    return 1;
}
