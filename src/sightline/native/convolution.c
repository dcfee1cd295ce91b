/* The gradient of a convolution's weights, float32, a pixel's channels side by side, on x86 processors with AVX2 and
 * FMA: a product over pixels for each place of the kernel, of values that were packed to lie as they are read.
 * convolution.py calls it.
 */

#include <string.h>

#include "lanes.h"

enum {
    PIXELS = 256,       /* of the output that are packed at a time, or a row of it: a core's cache holds a tile's */
    TILE = ROWS * WIDTH /* of the gradient: output channels and input channels */
};

typedef struct { /* convolution.py fills it */
    int batch, height, width, channels;      /* of the images */
    int out_height, out_width, out_channels; /* of the output */
    int kernel_height, kernel_width;
    int down, right; /* the strides */
    int pad_height, pad_width;
} Shape;

/* What is packed at a time: rows of some images. */
typedef struct {
    int image, images; /* the first, and how many */
    int out, outs;     /* the output's rows of each */
    int row, rows;     /* and the images' own that they are made of */
} Part;

/* How much a part holds, but for the last ones, and in how many an image is cut. */
static Part largest(const Shape *s, int *of_image) {
    int plane = s->out_height * s->out_width, whole = plane < PIXELS;
    Part part = {.images = whole ? up(s->batch, up(s->batch, PIXELS / plane)) : 1}; /* in parts of about one size */
    part.outs = whole ? s->out_height : most(1, PIXELS / s->out_width);
    part.rows = least(s->height, (part.outs - 1) * s->down + s->kernel_height);
    *of_image = up(s->out_height, part.outs);
    return part;
}

/* One of the parts, by its number. */
static Part cut(const Shape *s, int number) {
    int of_image, end;
    Part part = largest(s, &of_image);
    part.image = number / of_image * part.images;
    part.images = least(part.images, s->batch - part.image);
    part.out = number % of_image * part.outs;
    part.outs = least(part.outs, s->out_height - part.out);
    part.row = most(0, part.out * s->down - s->pad_height);
    end = least(s->height, (part.out + part.outs - 1) * s->down - s->pad_height + s->kernel_height);
    part.rows = most(0, end - part.row);
    return part;
}

/* Pixels of some images, (images, pixels, channels) with `image` numbers from one image to the next, packed as
 * (channels / width, pixels, images, width), with zeros for the channels that are missing.
 */
INLINE void pack(const float *from, int channels, int64_t image, int images, int64_t pixels, int width, float *to) {
    for (int channel = 0; channel < channels; channel += width) {
        int here = least(width, channels - channel);
        const float *at = from + channel;
        for (int64_t pixel = 0; pixel < pixels; pixel++, at += channels)
            for (int number = 0; number < images; number++, to += width)
                if (here == width) memcpy(to, at + number * image, width * sizeof *to);
                else
                    for (int place = 0; place < width; place++)
                        to[place] = place < here ? at[number * image + place] : 0;
    }
}

/* Add a part's share of a tile, (rows, WIDTH), of the gradient at one place of the kernel. */
INLINE void add_tile(int rows, const Shape *s, const Part *part, const float *grad, const float *x, int y_place,
                     int x_place, float *tile) {
#define LOAD(row)                                                                                                      \
    __m256 low##row = _mm256_load_ps(tile + row % rows * WIDTH);                                                       \
    __m256 high##row = _mm256_load_ps(tile + row % rows * WIDTH + LANES);
#define ADD(row)                                                                                                       \
    if (row < rows) {                                                                                                  \
        __m256 slope = _mm256_broadcast_ss(g + row);                                                                   \
        low##row = _mm256_fmadd_ps(slope, low, low##row);                                                              \
        high##row = _mm256_fmadd_ps(slope, high, high##row);                                                           \
    }
#define STORE(row)                                                                                                     \
    if (row < rows) {                                                                                                  \
        _mm256_store_ps(tile + row * WIDTH, low##row);                                                                 \
        _mm256_store_ps(tile + row * WIDTH + LANES, high##row);                                                        \
    }
    int off = x_place - s->pad_width, begin = off < 0 ? up(-off, s->right) : 0;
    int end = least(s->out_width, s->width - off > 0 ? up(s->width - off, s->right) : 0);
    int is_row = s->right == 1 || part->images == 1; /* whether a row's pixels of all images lie in one line */
    int together = (is_row ? end - begin : 1) * part->images;
    int64_t step = (part->images == 1 ? s->right : 1) * WIDTH;
    EACH_ROW(LOAD)
    for (int out = 0; out < part->outs; out++) {
        int row = (part->out + out) * s->down - s->pad_height + y_place;
        if (row < 0 || row >= s->height) continue;
        for (int column = begin; column < end; column += is_row ? end - begin : 1) {
            int64_t place = (int64_t)out * s->out_width + column;
            int64_t pixel = (int64_t)(row - part->row) * s->width + column * s->right + off;
            const float *g = grad + place * part->images * ROWS, *value = x + pixel * part->images * WIDTH;
            for (int left = together; left > 0; left--, g += ROWS, value += step) {
                __m256 low = _mm256_load_ps(value), high = _mm256_load_ps(value + LANES);
                EACH_ROW(ADD)
            }
        }
    }
    EACH_ROW(STORE)
#undef LOAD
#undef ADD
#undef STORE
}

static void add_rows(int rows, const Shape *s, const Part *part, const float *grad, const float *x, int y_place,
                     int x_place, float *tile) {
    switch (rows) {
    case 1: return add_tile(1, s, part, grad, x, y_place, x_place, tile);
    case 2: return add_tile(2, s, part, grad, x, y_place, x_place, tile);
    case 3: return add_tile(3, s, part, grad, x, y_place, x_place, tile);
    case 4: return add_tile(4, s, part, grad, x, y_place, x_place, tile);
    case 5: return add_tile(5, s, part, grad, x, y_place, x_place, tile);
    default: return add_tile(ROWS, s, part, grad, x, y_place, x_place, tile);
    }
}

/* Add a part's share of all tiles, (out_channels / ROWS, channels / WIDTH, places, TILE). */
static void add_part(const Shape *s, const Part *part, const float *x, const float *grad, float *packed, float *tiles) {
    int64_t out_plane = (int64_t)s->out_height * s->out_width * s->out_channels;
    int64_t plane = (int64_t)s->height * s->width * s->channels;
    int64_t outs = (int64_t)part->outs * s->out_width, pixels = (int64_t)part->rows * s->width;
    float *slopes = packed, *values = slopes + up(s->out_channels, ROWS) * part->images * outs * ROWS;
    values += (LANES - (values - packed) % LANES) % LANES;
    pack(grad + part->image * out_plane + (int64_t)part->out * s->out_width * s->out_channels, s->out_channels,
         out_plane, part->images, outs, ROWS, slopes);
    pack(x + part->image * plane + (int64_t)part->row * s->width * s->channels, s->channels, plane, part->images,
         pixels, WIDTH, values);
    for (int row = 0; row < s->out_channels; row += ROWS, slopes += part->images * outs * ROWS) {
        const float *at = values; /* of the next input channels */
        for (int column = 0; column < s->channels; column += WIDTH, at += part->images * pixels * WIDTH)
            for (int y = 0; y < s->kernel_height; y++)
                for (int x_place = 0; x_place < s->kernel_width; x_place++, tiles += TILE)
                    add_rows(least(ROWS, s->out_channels - row), s, part, slopes, at, y, x_place, tiles);
    }
}

/* Numbers that a thread packs at most, in whole registers. */
static int64_t room(const Shape *s, const Part *part) {
    int64_t slopes = (int64_t)up(s->out_channels, ROWS) * ROWS * part->images * part->outs * s->out_width;
    int64_t values = (int64_t)up(s->channels, WIDTH) * WIDTH * part->images * part->rows * s->width;
    return up(slopes, LANES) * LANES + values;
}

/* The gradient (out_channels, kernel_height, kernel_width, channels) from images (batch, height, width, channels) and
 * the output's gradient (batch, out_height, out_width, out_channels). Returns 0, and writes nothing, where memory ran
 * out.
 */
int weight_gradient(const float *x, const float *grad, float *result, const Shape *s, int threads) {
    int of_image, places = s->kernel_height * s->kernel_width, columns = up(s->channels, WIDTH);
    Part most_of_all = largest(s, &of_image);
    int count = up(s->batch, most_of_all.images) * of_image;
    int64_t tiles = (int64_t)up(s->out_channels, ROWS) * columns * places * TILE, packed = room(s, &most_of_all);
    if (threads > count) threads = count;
    float *space = aligned(threads * (tiles + packed));
    if (!space) return 0;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int thread = 0; thread < threads; thread++) {
        float *own = space + thread * (tiles + packed);
        memset(own, 0, tiles * sizeof *own);
        int end = (int)((int64_t)count * (thread + 1) / threads);
        for (int number = (int)((int64_t)count * thread / threads); number < end; number++) {
            Part part = cut(s, number);
            add_part(s, &part, x, grad, own + tiles, own);
        }
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int row = 0; row < s->out_channels; row++)
        for (int place = 0; place < places; place++)
            for (int channel = 0; channel < s->channels; channel++) {
                int64_t tile = ((int64_t)(row / ROWS) * columns + channel / WIDTH) * places + place;
                const float *at = space + tile * TILE + row % ROWS * WIDTH + channel % WIDTH;
                float sum = 0;
                for (int thread = 0; thread < threads; thread++) sum += at[thread * (tiles + packed)];
                result[((int64_t)row * places + place) * s->channels + channel] = sum;
            }
    free(space);
    return 1;
}
