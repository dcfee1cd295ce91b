/* Gradients of depthwise convolutions in float32, a pixel's channels side by side, on x86 processors with AVX2 and FMA:
 * a pass over the rows for the images' and one for the weights'. depthwise.py calls it.
 */

#include <omp.h>
#include <string.h>

#include "lanes.h"

enum {
    WIDEST = 7, /* kernel: as many sums as there are registers for */
    PARTS = 64, /* of the batch, at most: what is added up by itself */
};

typedef struct { /* depthwise.py fills it */
    int batch, height, width, channels; /* of the images */
    int out_height, out_width;
    int kernel_height, kernel_width;
    int down, right; /* the strides */
    int pad_height, pad_width;
} Shape;

/* Where so many pixels of a row begin, from column `first` on; `zeros` where there are none. */
static void find(const float *row, int first, int width, int channels, const float *zeros, int pixels,
                 const float *at[]) {
    for (int pixel = 0; pixel < pixels; pixel++)
        at[pixel] = first + pixel >= 0 && first + pixel < width ? row + (int64_t)(first + pixel) * channels : zeros;
}

/* Add to sums (columns, WIDTH) a row of slopes by the pixels that each column of the kernel meets. The sums have names
 * of their own: of an array compilers would write each to memory after each pixel.
 */
#define EACH_COLUMN(WHAT) WHAT(0) WHAT(1) WHAT(2) WHAT(3) WHAT(4) WHAT(5) WHAT(6)
#define TAKE(column)                                                                                                   \
    __m256 low##column = _mm256_load_ps(sums + column % columns * WIDTH);                                              \
    __m256 high##column = _mm256_load_ps(sums + column % columns * WIDTH + LANES);
#define ADD(column)                                                                                                    \
    if (column < columns) {                                                                                            \
        low##column = _mm256_fmadd_ps(low, load(at[column] + channel, here), low##column);                             \
        high##column = _mm256_fmadd_ps(high, load(at[column] + channel + LANES, here - LANES), high##column);          \
    }
#define STORE(column)                                                                                                  \
    if (column < columns) {                                                                                            \
        _mm256_store_ps(sums + column * WIDTH, low##column);                                                           \
        _mm256_store_ps(sums + column * WIDTH + LANES, high##column);                                                  \
    }
INLINE void add_row(int columns, int here, const Shape *s, int channel, const float *slopes, const float *const at[],
                    float *sums) {
    EACH_COLUMN(TAKE)
    slopes += channel;
    for (int out = 0; out < s->out_width; out++, slopes += s->channels, at += s->right) {
        __m256 low = load(slopes, here), high = load(slopes + LANES, here - LANES);
        EACH_COLUMN(ADD)
    }
    EACH_COLUMN(STORE)
}

INLINE void add_columns(int here, const Shape *s, int channel, const float *slopes, const float *const at[],
                        float *sums) {
    switch (s->kernel_width) {
    case 1: return add_row(1, here, s, channel, slopes, at, sums);
    case 2: return add_row(2, here, s, channel, slopes, at, sums);
    case 3: return add_row(3, here, s, channel, slopes, at, sums);
    case 4: return add_row(4, here, s, channel, slopes, at, sums);
    case 5: return add_row(5, here, s, channel, slopes, at, sums);
    case 6: return add_row(6, here, s, channel, slopes, at, sums);
    default: return add_row(WIDEST, here, s, channel, slopes, at, sums);
    }
}

/* One image's share of the sums (panels, kernel_height, kernel_width, WIDTH). */
static void add_image(const Shape *s, const float *x, const float *grad, const float *zeros, const float *at[],
                      float *sums) {
    int pixels = (s->out_width - 1) * s->right + s->kernel_width;
    for (int out = 0; out < s->out_height; out++, grad += (int64_t)s->out_width * s->channels)
        for (int y = 0; y < s->kernel_height; y++) {
            int row = out * s->down + y - s->pad_height;
            if (row < 0 || row >= s->height) continue;
            find(x + (int64_t)row * s->width * s->channels, -s->pad_width, s->width, s->channels, zeros, pixels, at);
            for (int channel = 0; channel < s->channels; channel += WIDTH) {
                float *to = sums + ((int64_t)channel * s->kernel_height + y * WIDTH) * s->kernel_width;
                if (s->channels - channel >= WIDTH) add_columns(WIDTH, s, channel, grad, at, to);
                else add_columns(s->channels - channel, s, channel, grad, at, to);
            }
        }
}

/* The gradient (channels, kernel_height, kernel_width) from images (batch, height, width, channels) and the output's
 * gradient (batch, out_height, out_width, channels), of a kernel at most WIDEST wide; of any number of threads the same
 * bits. Returns 0, and writes nothing, where memory ran out.
 */
int weight_gradient(const float *x, const float *grad, float *result, const Shape *s, int threads) {
    int parts = least(s->batch, PARTS), pixels = (s->out_width - 1) * s->right + s->kernel_width;
    int64_t room = (int64_t)up(s->channels, WIDTH) * WIDTH, taps = s->kernel_height * s->kernel_width;
    int64_t plane = (int64_t)s->height * s->width * s->channels;
    int64_t out_plane = (int64_t)s->out_height * s->out_width * s->channels;
    float *sums = aligned((parts * taps + 1) * room), *zeros = sums + parts * taps * room;
    const float **at = malloc((int64_t)threads * pixels * sizeof *at);
    int is_done = sums && at;
    if (is_done) {
        memset(sums, 0, (parts * taps + 1) * room * sizeof *sums);
        threads = least(threads, parts);
#pragma omp parallel for num_threads(threads) schedule(dynamic) /* cores that others use are not equally fast */
        for (int part = 0; part < parts; part++) {
            const float **own = at + (int64_t)omp_get_thread_num() * pixels;
            int end = (int)((int64_t)s->batch * (part + 1) / parts);
            for (int image = (int)((int64_t)s->batch * part / parts); image < end; image++)
                add_image(s, x + image * plane, grad + image * out_plane, zeros, own, sums + part * taps * room);
        }
        for (int channel = 0; channel < s->channels; channel++)
            for (int tap = 0; tap < taps; tap++) {
                const float *of_part = sums + (channel / WIDTH * taps + tap) * WIDTH + channel % WIDTH;
                float sum = 0;
                for (int part = 0; part < parts; part++) sum += of_part[part * taps * room];
                result[channel * taps + tap] = sum;
            }
    }
    free(sums);
    free(at);
    return is_done;
}

/* A weight of each channel, and the output's slopes that it meets, pixel by pixel. */
typedef struct {
    const float *weight;
    const float *const *slopes;
} Tap;

/* The taps that meet the pixels of a row from column `first` on, each stride's, by those kernel rows that `rows` lists.
 * The slopes of each are `apart` and begin `margin` left of the output. Returns how many taps there are.
 */
static int list(const Shape *s, const float *weights, int64_t room, int first, int rows, const int row_of[],
                const float *const at[], int apart, int margin, Tap taps[]) {
    int count = 0;
    for (int row = 0; row < rows; row++)
        for (int column = 0; column < s->kernel_width; column++) {
            int out = first + s->pad_width - column + margin * s->right; /* by the stride, from the margin */
            if (out % s->right) continue;
            Tap tap = {weights + ((int64_t)row_of[row] * s->kernel_width + column) * room,
                       at + (int64_t)row * apart + out / s->right};
            taps[count++] = tap;
        }
    return count;
}

INLINE void write_pixels(int here, const Shape *s, int channel, int first, int count, const Tap taps[], float *to) {
    for (int column = first; column < s->width; column += s->right) {
        int64_t pixel = (column - first) / s->right;
        __m256 low = _mm256_setzero_ps(), high = low;
        for (int tap = 0; tap < count; tap++) {
            const float *weight = taps[tap].weight + channel, *slopes = taps[tap].slopes[pixel] + channel;
            low = _mm256_fmadd_ps(_mm256_load_ps(weight), load(slopes, here), low);
            high = _mm256_fmadd_ps(_mm256_load_ps(weight + LANES), load(slopes + LANES, here - LANES), high);
        }
        store(to + (int64_t)column * s->channels + channel, low, here);
        store(to + (int64_t)column * s->channels + channel + LANES, high, here - LANES);
    }
}

/* A thread's own. */
typedef struct {
    const float **at;
    int *row_of;
    Tap *taps;
} Room;

/* A row of the images' gradient. */
static void write_row(const Shape *s, const float *grad, const float *weights, int64_t row, const float *zeros,
                      Room own, float *to) {
    int64_t room = (int64_t)up(s->channels, WIDTH) * WIDTH, line = (int64_t)s->out_width * s->channels;
    int margin = s->kernel_width, apart = margin + (s->width - 1 + s->pad_width) / s->right + 1, rows = 0;
    const float *image = grad + row / s->height * s->out_height * line;
    for (int y = 0; y < s->kernel_height; y++) {
        int out = (int)(row % s->height) + s->pad_height - y;
        if (out < 0 || out % s->down || out / s->down >= s->out_height) continue;
        find(image + out / s->down * line, -margin, s->out_width, s->channels, zeros, apart,
             own.at + (int64_t)rows * apart);
        own.row_of[rows++] = y;
    }
    for (int first = 0; first < least(s->right, s->width); first++) {
        int count = list(s, weights, room, first, rows, own.row_of, own.at, apart, margin, own.taps);
        for (int channel = 0; channel < s->channels; channel += WIDTH)
            if (s->channels - channel >= WIDTH) write_pixels(WIDTH, s, channel, first, count, own.taps, to);
            else write_pixels(s->channels - channel, s, channel, first, count, own.taps, to);
    }
}

/* The images' gradient (batch, height, width, channels) from the output's (batch, out_height, out_width, channels) and
 * weights (kernel_height, kernel_width, channels rounded up to WIDTH), aligned to 32 bytes. Returns 0, and writes
 * nothing, where memory ran out.
 */
int image_gradient(const float *grad, const float *weights, float *result, const Shape *s, int threads) {
    int64_t apart = s->kernel_width + (s->width - 1 + s->pad_width) / s->right + 1, rows = (int64_t)s->batch * s->height;
    int64_t places = apart * s->kernel_height, taps = s->kernel_height * s->kernel_width;
    const float **at = malloc(threads * places * sizeof *at);
    int *row_of = malloc((int64_t)threads * s->kernel_height * sizeof *row_of);
    Tap *all = malloc(threads * taps * sizeof *all);
    float *zeros = calloc(up(s->channels, WIDTH) * WIDTH, sizeof *zeros);
    int is_done = at && row_of && all && zeros;
    if (is_done) {
#pragma omp parallel num_threads(threads)
        {
            int thread = omp_get_thread_num();
            Room own = {at + thread * places, row_of + (int64_t)thread * s->kernel_height, all + thread * taps};
#pragma omp for schedule(dynamic, 16)
            for (int64_t row = 0; row < rows; row++)
                write_row(s, grad, weights, row, zeros, own, result + row * s->width * s->channels);
        }
    }
    free(at);
    free(row_of);
    free(all);
    free(zeros);
    return is_done;
}
