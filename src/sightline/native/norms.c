/* Batch norm of bfloat16 images, a pixel's channels side by side, with the activation behind it, on x86 processors with
 * AVX-512 BF16: each pass about as fast as memory gives and takes the values. batch_norm.py calls it.
 */

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline)) /* a loop of its own for each activation */

enum {
    LANES = 16,
    BLOCK = 64, /* pixels whose values are added up in registers before they join the others' */
    SAMPLES = 16 /* pixels whose mean is taken off before squares are added up */
};

typedef enum { NOTHING, RELU, SILU } Activation; /* batch_norm.py has the numbers too */

typedef struct { /* (channels,) each, with room for whole registers; what the backward pass needs of the forward */
    float *mean, *inverse, *scale, *offset;
} Saved;

typedef struct { /* pixels from the first on, to before the second */
    int64_t begin, end;
} Share;

/* 1 / (1 + exp(-x)), to 1e-4 of itself: bfloat16 holds no more than 4e-3. */
INLINE __m512 sigmoid(__m512 x) {
    const float taylor[] = {9.61812911e-3f, 5.55041087e-2f, 0.240226507f, 0.693147181f, 1}; /* of two to a power */
    __m512 power = _mm512_mul_ps(x, _mm512_set1_ps(-1.44269504f));
    __m512 nearest = _mm512_roundscale_ps(power, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 rest = _mm512_sub_ps(power, nearest), sum = _mm512_set1_ps(taylor[0]);
    for (int term = 1; term < 5; term++) sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(taylor[term]));
    return _mm512_rcp14_ps(_mm512_add_ps(_mm512_scalef_ps(sum, nearest), _mm512_set1_ps(1)));
}

INLINE __m512 activated(__m512 x, Activation activation) {
    switch (activation) {
    case RELU: return _mm512_max_ps(_mm512_setzero_ps(), x); /* the second operand is what max gives beside NaN */
    case SILU: return _mm512_mul_ps(x, sigmoid(x));
    default: return x;
    }
}

/* The gradient before the activation of x, from that behind it. */
INLINE __m512 before(__m512 x, __m512 grad, Activation activation) {
    __m512 part;
    switch (activation) {
    case RELU: return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_NLE_UQ), grad);
    case SILU: /* s (1 + x (1 - s)) */
        part = sigmoid(x);
        x = _mm512_fmadd_ps(_mm512_mul_ps(x, part), _mm512_sub_ps(_mm512_set1_ps(1), part), part);
        return _mm512_mul_ps(grad, x);
    default: return grad;
    }
}

static int whole(int channels) { return (channels + LANES - 1) / LANES * LANES; }

static Saved split(float *saved, int channels) {
    int64_t room = whole(channels);
    Saved parts = {saved, saved + room, saved + 2 * room, saved + 3 * room};
    return parts;
}

static __mmask16 lanes(int channels, int channel) {
    return channels - channel >= LANES ? 0xFFFF : (__mmask16)((1U << (channels - channel)) - 1);
}

static __m512 load(const uint16_t *from, __mmask16 there) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, from)), 16));
}

/* Past the cache where whole registers are written: the next layer reads more than a cache holds. */
static void store(uint16_t *to, __m512 values, __mmask16 there, int past) {
    __m256i rounded = (__m256i)_mm512_cvtneps_pbh(values);
    if (past) _mm256_stream_si256((__m256i *)to, rounded);
    else _mm256_mask_storeu_epi16(to, there, rounded);
}

static int goes_past(const uint16_t *to, int channels) { return channels % LANES == 0 && (uintptr_t)to % 32 == 0; }

static void add_to(float *sum, __m512 values) { _mm512_storeu_ps(sum, _mm512_add_ps(_mm512_loadu_ps(sum), values)); }

/* A thread's pixels. */
static Share share(int64_t pixels, int thread, int threads) {
    Share part = {pixels * thread / threads, pixels * (thread + 1) / threads};
    return part;
}

/* Sums over pixels of (value - shift) and of its square: one thread's. */
static void add_squares(const uint16_t *x, Share of, int channels, const float *shift, float *sums) {
    int room = whole(channels);
    for (int64_t begin = of.begin; begin < of.end; begin += BLOCK) {
        int64_t count = of.end - begin < BLOCK ? of.end - begin : BLOCK;
        for (int channel = 0; channel < channels; channel += LANES) {
            __mmask16 there = lanes(channels, channel);
            __m512 off = _mm512_loadu_ps(shift + channel);
            __m512 sum = _mm512_setzero_ps(), sum2 = sum, square = sum, square2 = sum;
            const uint16_t *at = x + begin * channels + channel;
            int64_t pixel = 0;
            for (; pixel + 1 < count; pixel += 2, at += 2 * channels) {
                __m512 one = _mm512_sub_ps(load(at, there), off), two = _mm512_sub_ps(load(at + channels, there), off);
                sum = _mm512_add_ps(sum, one);
                sum2 = _mm512_add_ps(sum2, two);
                square = _mm512_fmadd_ps(one, one, square);
                square2 = _mm512_fmadd_ps(two, two, square2);
            }
            if (pixel < count) {
                __m512 one = _mm512_sub_ps(load(at, there), off);
                sum = _mm512_add_ps(sum, one);
                square = _mm512_fmadd_ps(one, one, square);
            }
            add_to(sums + channel, _mm512_add_ps(sum, sum2));
            add_to(sums + room + channel, _mm512_add_ps(square, square2));
        }
    }
}

/* Sums over pixels of the gradient before the activation and of its product with (value - mean): one thread's. */
INLINE void add_products(const uint16_t *x, const uint16_t *grad, Share of, int channels, Saved saved, float *sums,
                         Activation activation) {
    int room = whole(channels);
    for (int64_t begin = of.begin; begin < of.end; begin += BLOCK) {
        int64_t count = of.end - begin < BLOCK ? of.end - begin : BLOCK;
        for (int channel = 0; channel < channels; channel += LANES) {
            __mmask16 there = lanes(channels, channel);
            __m512 scale = _mm512_loadu_ps(saved.scale + channel), offset = _mm512_loadu_ps(saved.offset + channel);
            __m512 mean = _mm512_loadu_ps(saved.mean + channel), sum = _mm512_setzero_ps(), product = sum;
            const uint16_t *value = x + begin * channels + channel, *behind = grad + begin * channels + channel;
            for (int64_t pixel = 0; pixel < count; pixel++, value += channels, behind += channels) {
                __m512 v = load(value, there);
                __m512 g = before(_mm512_fmadd_ps(v, scale, offset), load(behind, there), activation);
                sum = _mm512_add_ps(sum, g);
                product = _mm512_fmadd_ps(g, _mm512_sub_ps(v, mean), product);
            }
            add_to(sums + channel, sum);
            add_to(sums + room + channel, product);
        }
    }
}

/* The same of SiLU, whose gradients are kept: they take longer to compute again than to read. */
static void keep_products(const uint16_t *x, const uint16_t *grad, uint16_t *kept, Share of, int channels, Saved saved,
                          float *sums) {
    for (int64_t begin = of.begin; begin < of.end; begin += BLOCK) {
        Share block = {begin, begin + BLOCK < of.end ? begin + BLOCK : of.end}; /* small enough to be in a cache yet */
        for (int64_t pixel = block.begin; pixel < block.end; pixel++)
            for (int channel = 0; channel < channels; channel += LANES) {
                __mmask16 there = lanes(channels, channel);
                int64_t at = pixel * channels + channel;
                __m512 value = load(x + at, there), scale = _mm512_loadu_ps(saved.scale + channel);
                value = _mm512_fmadd_ps(value, scale, _mm512_loadu_ps(saved.offset + channel));
                store(kept + at, before(value, load(grad + at, there), SILU), there, 0);
            }
        add_products(x, kept, block, channels, saved, sums, NOTHING);
    }
}

/* Results: one thread's. */
INLINE void write_values(const uint16_t *x, uint16_t *y, Share of, int channels, Saved saved,
                         Activation activation) {
    int past = goes_past(y, channels);
    for (int64_t pixel = of.begin; pixel < of.end; pixel++)
        for (int channel = 0; channel < channels; channel += LANES) {
            __mmask16 there = lanes(channels, channel);
            __m512 value = load(x + pixel * channels + channel, there), scale = _mm512_loadu_ps(saved.scale + channel);
            value = _mm512_fmadd_ps(value, scale, _mm512_loadu_ps(saved.offset + channel));
            store(y + pixel * channels + channel, activated(value, activation), there, past);
        }
    _mm_sfence();
}

/* Gradients of the values, the gradient before the activation times `scale` and a line of the value: one thread's. */
INLINE void write_gradients(const uint16_t *x, const uint16_t *grad, uint16_t *dx, Share of,
                            int channels, Saved saved, const float *slope, const float *intercept,
                            Activation activation) {
    int past = goes_past(dx, channels);
    for (int64_t pixel = of.begin; pixel < of.end; pixel++)
        for (int channel = 0; channel < channels; channel += LANES) {
            __mmask16 there = lanes(channels, channel);
            int64_t at = pixel * channels + channel;
            __m512 v = load(x + at, there), scale = _mm512_loadu_ps(saved.scale + channel);
            __m512 g = load(grad + at, there), line = _mm512_loadu_ps(intercept + channel);
            g = before(_mm512_fmadd_ps(v, scale, _mm512_loadu_ps(saved.offset + channel)), g, activation);
            line = _mm512_fmadd_ps(v, _mm512_loadu_ps(slope + channel), line);
            store(dx + at, _mm512_fmadd_ps(g, scale, line), there, past);
        }
    _mm_sfence();
}

/* Each thread's two sums of every channel added up, by doubles. */
static void total(const float *sums, int threads, int channels, int channel, double *first, double *second) {
    int64_t room = whole(channels);
    *first = *second = 0;
    for (int thread = 0; thread < threads; thread++) {
        *first += sums[2 * room * thread + channel];
        *second += sums[2 * room * thread + room + channel];
    }
}

/* Values x, (pixels, channels), normalised over pixels into y. `weight`, `bias`, `running_mean` and `running_var` are
 * (channels,) or NULL; the last two go `momentum` of the way to this batch's. `saved` has 4 x whole(channels) numbers
 * for the backward pass. Returns 0, and writes nothing, where memory ran out.
 */
int batch_norm(const uint16_t *x, uint16_t *y, int64_t pixels, int channels, const float *weight, const float *bias,
               float *running_mean, float *running_var, float momentum, float eps, float *saved, int activation,
               int threads) {
    int64_t room = whole(channels);
    Saved to = split(saved, channels);
    float *sums = calloc(room * (2 * threads + 1), sizeof *sums), *shift = sums + 2 * room * threads;
    if (!sums) return 0;
    for (int sample = 0; sample < SAMPLES; sample++)
        for (int channel = 0; channel < channels; channel += LANES)
            add_to(shift + channel, _mm512_mul_ps(_mm512_set1_ps(1.0f / SAMPLES),
                                                  load(x + pixels * sample / SAMPLES * channels + channel,
                                                       lanes(channels, channel))));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int thread = 0; thread < threads; thread++)
        add_squares(x, share(pixels, thread, threads), channels, shift, sums + 2 * room * thread);
    memset(saved, 0, 4 * room * sizeof *saved);
    for (int channel = 0; channel < channels; channel++) {
        double sum, square;
        total(sums, threads, channels, channel, &sum, &square);
        double off = sum / pixels, mean = shift[channel] + off, variance = square / pixels - off * off;
        if (variance < 0) variance = 0; /* but for rounding it isn't; NaN stays */
        to.mean[channel] = (float)mean;
        to.inverse[channel] = (float)(1 / sqrt(variance + eps));
        to.scale[channel] = to.inverse[channel] * (weight ? weight[channel] : 1);
        to.offset[channel] = (bias ? bias[channel] : 0) - to.mean[channel] * to.scale[channel];
        if (running_mean) running_mean[channel] += momentum * ((float)mean - running_mean[channel]);
        if (running_var)
            running_var[channel] += momentum * ((float)(variance * pixels / (pixels - 1)) - running_var[channel]);
    }
    free(sums);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int thread = 0; thread < threads; thread++) {
        Share part = share(pixels, thread, threads);
        if (activation == RELU) write_values(x, y, part, channels, to, RELU);
        else if (activation == SILU) write_values(x, y, part, channels, to, SILU);
        else write_values(x, y, part, channels, to, NOTHING);
    }
    return 1;
}

/* Gradients from that of the result, (pixels, channels): of x into `dx` unless that is NULL, of weight and bias, which
 * are (channels,). Returns 0, and writes nothing, where memory ran out.
 */
int batch_norm_backward(const uint16_t *x, const uint16_t *grad, uint16_t *dx, int64_t pixels, int channels,
                        float *saved, float *dweight, float *dbias, int activation, int threads) {
    int64_t room = whole(channels);
    Saved from = split(saved, channels);
    float *sums = calloc(room * (2 * threads + 2), sizeof *sums);
    float *slope = sums + 2 * room * threads, *intercept = slope + room;
    if (!sums) return 0;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int thread = 0; thread < threads; thread++) {
        Share part = share(pixels, thread, threads);
        float *own = sums + 2 * room * thread;
        if (activation == RELU) add_products(x, grad, part, channels, from, own, RELU);
        else if (activation == NOTHING) add_products(x, grad, part, channels, from, own, NOTHING);
        else if (dx) keep_products(x, grad, dx, part, channels, from, own);
        else add_products(x, grad, part, channels, from, own, SILU);
    }
    for (int channel = 0; channel < channels; channel++) {
        double sum, product, inverse = from.inverse[channel], scale = from.scale[channel];
        total(sums, threads, channels, channel, &sum, &product);
        dbias[channel] = (float)sum;
        dweight[channel] = (float)(product * inverse);
        /* scale * (gradient - its mean - normalised value * mean of both's product), as a line of the value */
        slope[channel] = (float)(-scale * inverse * inverse * product / pixels);
        intercept[channel] = (float)(-scale * sum / pixels - (double)slope[channel] * from.mean[channel]);
    }
    if (dx) {
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int thread = 0; thread < threads; thread++) {
            Share part = share(pixels, thread, threads);
            const uint16_t *behind = activation == SILU ? dx : grad;
            if (activation == RELU) write_gradients(x, grad, dx, part, channels, from, slope, intercept, RELU);
            else write_gradients(x, behind, dx, part, channels, from, slope, intercept, NOTHING);
        }
    }
    free(sums);
    return 1;
}
