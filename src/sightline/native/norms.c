/* Batch norm of images, a pixel's channels side by side, with the activation behind it, on x86 processors: each pass
 * about as fast as memory gives and takes the values. Of bfloat16 with AVX-512 BF16, or with -DFLOAT32 of float32 with
 * AVX2 and FMA. batch_norm.py calls it.
 */

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline)) /* a loop of its own for each activation */

enum {
    BLOCK = 64,   /* pixels whose values are added up in registers before they join the others' */
    SAMPLES = 16, /* pixels whose mean is taken off before squares are added up */
    FAR = 16,     /* times the variance that the square of what is left of the mean may be */
};

typedef enum { NOTHING, RELU, SILU, GELU } Activation; /* batch_norm.py has the numbers too */

typedef struct { /* (channels,) each, with room for whole registers; what the backward pass needs of the forward */
    float *mean, *inverse, *scale, *offset;
} Saved;

typedef struct { /* pixels from the first on, to before the second */
    int64_t begin, end;
} Share;

/* A register of floats, made of values in memory and written as such: as many as are `left`. Compilers add, multiply
 * and divide registers as they do numbers.
 */
#ifdef FLOAT32

enum { LANES = 8, KEEPS = 0 /* whether SiLU's and GELU's gradients are kept between two passes */ };
typedef float Value;
typedef __m256 Floats;

static __m256i lanes(int left) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(left), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static Floats load(const Value *from, int left) {
    return left >= LANES ? _mm256_loadu_ps(from) : _mm256_maskload_ps(from, lanes(left));
}

static void store(Value *to, Floats values, int left, int past) {
    if (past) _mm256_stream_ps(to, values);
    else if (left >= LANES) _mm256_storeu_ps(to, values); /* some processors write by masks slowly */
    else _mm256_maskstore_ps(to, lanes(left), values);
}

static Floats get(const float *from) { return _mm256_loadu_ps(from); }
static void put(float *to, Floats values) { _mm256_storeu_ps(to, values); }
static Floats all(float value) { return _mm256_set1_ps(value); }
static Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
static Floats larger(Floats a, Floats b) { return _mm256_max_ps(a, b); }

/* `values` where x is above zero or NaN, else 0. */
static Floats where_above(Floats x, Floats values) {
    return _mm256_and_ps(_mm256_cmp_ps(x, all(0), _CMP_NLE_UQ), values);
}

/* e to the power of x, to float32's last bits; of what is beyond its numbers, the last of them. */
INLINE Floats exponential(Floats x) {
    const float taylor[] = {1 / 5040.0f, 1 / 720.0f, 1 / 120.0f, 1 / 24.0f, 1 / 6.0f, 0.5f, 1, 1};
    Floats power = _mm256_min_ps(all(88), _mm256_max_ps(all(-87), x)); /* NaN, the second operand, stays */
    Floats twos = _mm256_round_ps(power * all(1.44269504f), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    Floats rest = multiply_add(twos, all(-0.693145752f), power), sum = all(taylor[0]); /* log 2, in two parts */
    rest = multiply_add(twos, all(-1.42860677e-6f), rest);
    for (int term = 1; term < 8; term++) sum = multiply_add(sum, rest, all(taylor[term]));
    __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(twos), _mm256_set1_epi32(127)), 23);
    return sum * _mm256_castsi256_ps(exponent);
}

static Floats inverse(Floats x) { return all(1) / x; }

#else

enum { LANES = 16, KEEPS = 1 };
typedef uint16_t Value;
typedef __m512 Floats;

static __mmask16 lanes(int left) { return left >= LANES ? 0xFFFF : (__mmask16)((1U << left) - 1); }

static Floats load(const Value *from, int left) {
    __m256i values = _mm256_maskz_loadu_epi16(lanes(left), from);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(values), 16));
}

static void store(Value *to, Floats values, int left, int past) {
    __m256i rounded = (__m256i)_mm512_cvtneps_pbh(values);
    if (past) _mm256_stream_si256((__m256i *)to, rounded);
    else _mm256_mask_storeu_epi16(to, lanes(left), rounded);
}

static Floats get(const float *from) { return _mm512_loadu_ps(from); }
static void put(float *to, Floats values) { _mm512_storeu_ps(to, values); }
static Floats all(float value) { return _mm512_set1_ps(value); }
static Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
static Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }

static Floats where_above(Floats x, Floats values) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, all(0), _CMP_NLE_UQ), values);
}

/* e to the power of x, and 1 / x, to 1e-4 of themselves: bfloat16 holds no more than 4e-3. */
INLINE Floats exponential(Floats x) {
    const float taylor[] = {9.61812911e-3f, 5.55041087e-2f, 0.240226507f, 0.693147181f, 1}; /* of two to a power */
    Floats power = x * all(1.44269504f);
    Floats nearest = _mm512_roundscale_ps(power, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    Floats rest = power - nearest, sum = all(taylor[0]);
    for (int term = 1; term < 5; term++) sum = multiply_add(sum, rest, all(taylor[term]));
    return _mm512_scalef_ps(sum, nearest);
}

static Floats inverse(Floats x) { return _mm512_rcp14_ps(x); }

#endif

INLINE Floats sigmoid(Floats x) { return inverse(exponential(all(0) - x) + all(1)); }

/* How much of the normal distribution lies below x, to 1e-7, and its `density` there. Source: Handbook of Mathematical
 * Functions (Abramowitz and Stegun, 1964), 7.1.26.
 */
INLINE Floats below(Floats x, Floats *density) {
    const float terms[] = {1.061405429f, -1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f};
    Floats bell = exponential(all(-0.5f) * x * x), size = larger(x, all(0) - x);
    Floats t = inverse(multiply_add(size, all(0.3275911f * 0.707106781f), all(1))), sum = all(terms[0]);
    for (int term = 1; term < 5; term++) sum = multiply_add(sum, t, all(terms[term]));
    Floats beyond = all(0.5f) * sum * t * bell; /* what is further from zero, on one side */
    *density = all(0.398942280f) * bell;
    return beyond + where_above(x, all(1) - all(2) * beyond);
}

INLINE Floats activated(Floats x, Activation activation) {
    Floats density;
    switch (activation) {
    case RELU: return larger(all(0), x); /* the second operand is what it gives beside NaN */
    case GELU: return x * below(x, &density);
    case SILU: return x * sigmoid(x);
    default: return x;
    }
}

/* The gradient before the activation of x, from that behind it. */
INLINE Floats before(Floats x, Floats grad, Activation activation) {
    Floats part, density;
    switch (activation) {
    case RELU: return where_above(x, grad);
    case SILU: /* s (1 + x (1 - s)) */
        part = sigmoid(x);
        return grad * multiply_add(x * part, all(1) - part, part);
    case GELU:
        part = below(x, &density);
        return grad * multiply_add(x, density, part);
    default: return grad;
    }
}

static int whole(int channels) { return (channels + LANES - 1) / LANES * LANES; }

static Saved split(float *saved, int channels) {
    int64_t room = whole(channels);
    Saved parts = {saved, saved + room, saved + 2 * room, saved + 3 * room};
    return parts;
}

/* Whether results go past the cache, which whole registers can: the next layer reads more than a cache holds. */
static int goes_past(const Value *to, int channels) {
    return channels % LANES == 0 && (uintptr_t)to % (LANES * sizeof *to) == 0;
}

static void add_to(float *sum, Floats values) { put(sum, get(sum) + values); }

/* A thread's pixels. */
static Share share(int64_t pixels, int thread, int threads) {
    Share part = {pixels * thread / threads, pixels * (thread + 1) / threads};
    return part;
}

/* Sums over pixels of (value - shift) and of its square: one thread's. */
static void add_squares(const Value *x, Share of, int channels, const float *shift, float *sums) {
    int room = whole(channels);
    for (int64_t begin = of.begin; begin < of.end; begin += BLOCK) {
        int64_t count = of.end - begin < BLOCK ? of.end - begin : BLOCK;
        for (int channel = 0; channel < channels; channel += LANES) {
            int left = channels - channel;
            Floats off = get(shift + channel);
            Floats sum = all(0), sum2 = sum, square = sum, square2 = sum;
            const Value *at = x + begin * channels + channel;
            int64_t pixel = 0;
            for (; pixel + 1 < count; pixel += 2, at += 2 * channels) {
                Floats one = load(at, left) - off, two = load(at + channels, left) - off;
                sum += one;
                sum2 += two;
                square = multiply_add(one, one, square);
                square2 = multiply_add(two, two, square2);
            }
            if (pixel < count) {
                Floats one = load(at, left) - off;
                sum += one;
                square = multiply_add(one, one, square);
            }
            add_to(sums + channel, sum + sum2);
            add_to(sums + room + channel, square + square2);
        }
    }
}

/* Sums over pixels of the gradient before the activation and of its product with (value - mean): one thread's. */
INLINE void add_products(const Value *x, const Value *grad, Share of, int channels, Saved saved, float *sums,
                         Activation activation) {
    int room = whole(channels);
    for (int64_t begin = of.begin; begin < of.end; begin += BLOCK) {
        int64_t count = of.end - begin < BLOCK ? of.end - begin : BLOCK;
        for (int channel = 0; channel < channels; channel += LANES) {
            int left = channels - channel;
            Floats scale = get(saved.scale + channel), offset = get(saved.offset + channel);
            Floats mean = get(saved.mean + channel), sum = all(0), product = sum;
            const Value *value = x + begin * channels + channel, *behind = grad + begin * channels + channel;
            for (int64_t pixel = 0; pixel < count; pixel++, value += channels, behind += channels) {
                Floats v = load(value, left);
                Floats g = before(multiply_add(v, scale, offset), load(behind, left), activation);
                sum += g;
                product = multiply_add(g, v - mean, product);
            }
            add_to(sums + channel, sum);
            add_to(sums + room + channel, product);
        }
    }
}

/* The same of SiLU and GELU, whose gradients are kept: in bfloat16 they take longer to compute again than to read. */
INLINE void keep_products(const Value *x, const Value *grad, Value *kept, Share of, int channels, Saved saved,
                          float *sums, Activation activation) {
    for (int64_t begin = of.begin; begin < of.end; begin += BLOCK) {
        Share block = {begin, begin + BLOCK < of.end ? begin + BLOCK : of.end}; /* small enough to be in a cache yet */
        for (int64_t pixel = block.begin; pixel < block.end; pixel++)
            for (int channel = 0; channel < channels; channel += LANES) {
                int left = channels - channel;
                int64_t at = pixel * channels + channel;
                Floats value = load(x + at, left), scale = get(saved.scale + channel);
                value = multiply_add(value, scale, get(saved.offset + channel));
                store(kept + at, before(value, load(grad + at, left), activation), left, 0);
            }
        add_products(x, kept, block, channels, saved, sums, NOTHING);
    }
}

/* Results: one thread's. */
INLINE void write_values(const Value *x, Value *y, Share of, int channels, Saved saved, Activation activation) {
    int past = goes_past(y, channels);
    for (int64_t pixel = of.begin; pixel < of.end; pixel++)
        for (int channel = 0; channel < channels; channel += LANES) {
            int left = channels - channel;
            Floats value = load(x + pixel * channels + channel, left), scale = get(saved.scale + channel);
            value = multiply_add(value, scale, get(saved.offset + channel));
            store(y + pixel * channels + channel, activated(value, activation), left, past);
        }
    _mm_sfence();
}

/* Gradients of the values, the gradient before the activation times `scale` and a line of the value: one thread's. */
INLINE void write_gradients(const Value *x, const Value *grad, Value *dx, Share of, int channels, Saved saved,
                            const float *slope, const float *intercept, Activation activation) {
    int past = goes_past(dx, channels);
    for (int64_t pixel = of.begin; pixel < of.end; pixel++)
        for (int channel = 0; channel < channels; channel += LANES) {
            int left = channels - channel;
            int64_t at = pixel * channels + channel;
            Floats v = load(x + at, left), scale = get(saved.scale + channel);
            Floats g = load(grad + at, left), line = get(intercept + channel);
            g = before(multiply_add(v, scale, get(saved.offset + channel)), g, activation);
            line = multiply_add(v, get(slope + channel), line);
            store(dx + at, multiply_add(g, scale, line), left, past);
        }
    _mm_sfence();
}

/* A running statistic so much of the way to a batch's; all the way is the batch's own. */
static float towards(float running, double now, float momentum) {
    return (1 - momentum) * running + momentum * (float)now;
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

/* Each thread's sums of every channel, of values less `shift` and of their squares. */
static void add_all(const Value *x, int64_t pixels, int channels, const float *shift, float *sums, int threads) {
    int64_t room = whole(channels);
    memset(sums, 0, 2 * room * threads * sizeof *sums);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int thread = 0; thread < threads; thread++)
        add_squares(x, share(pixels, thread, threads), channels, shift, sums + 2 * room * thread);
}

/* Move `shift` to the mean in channels where it lies so far off that their variance drowns in what the squares have in
 * common, as where one sample is an outlier. Returns how many there are.
 */
static int centre(const float *sums, int64_t pixels, int channels, float *shift, int threads) {
    int moved = 0;
    for (int channel = 0; channel < channels; channel++) {
        double sum, square;
        total(sums, threads, channels, channel, &sum, &square);
        double off = sum / pixels;
        if (isnan(square) || off * off <= FAR * (square / pixels - off * off)) continue;
        shift[channel] += (float)off;
        moved++;
    }
    return moved;
}

/* Values x, (pixels, channels), normalised over pixels into y. `weight`, `bias`, `running_mean` and `running_var` are
 * (channels,) or NULL; the last two go `momentum` of the way to this batch's. `saved` has 4 x whole(channels) numbers
 * for the backward pass. Returns 0, and writes nothing, where memory ran out.
 */
int batch_norm(const Value *x, Value *y, int64_t pixels, int channels, const float *weight, const float *bias,
               float *running_mean, float *running_var, float momentum, float eps, float *saved, int activation,
               int threads) {
    int64_t room = whole(channels);
    Saved to = split(saved, channels);
    float *sums = calloc(room * (2 * threads + 1), sizeof *sums), *shift = sums + 2 * room * threads;
    if (!sums) return 0;
    for (int sample = 0; sample < SAMPLES; sample++)
        for (int channel = 0; channel < channels; channel += LANES)
            add_to(shift + channel, all(1.0f / SAMPLES) * load(x + pixels * sample / SAMPLES * channels + channel,
                                                               channels - channel));
    add_all(x, pixels, channels, shift, sums, threads);
    if (centre(sums, pixels, channels, shift, threads)) add_all(x, pixels, channels, shift, sums, threads);
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
        if (running_mean) running_mean[channel] = towards(running_mean[channel], mean, momentum);
        if (running_var)
            running_var[channel] = towards(running_var[channel], variance * pixels / (pixels - 1), momentum);
    }
    free(sums);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int thread = 0; thread < threads; thread++) {
        Share part = share(pixels, thread, threads);
        if (activation == RELU) write_values(x, y, part, channels, to, RELU);
        else if (activation == SILU) write_values(x, y, part, channels, to, SILU);
        else if (activation == GELU) write_values(x, y, part, channels, to, GELU);
        else write_values(x, y, part, channels, to, NOTHING);
    }
    return 1;
}

/* Gradients from that of the result, (pixels, channels): of x into `dx` unless that is NULL, of weight and bias, which
 * are (channels,). Returns 0, and writes nothing, where memory ran out.
 */
int batch_norm_backward(const Value *x, const Value *grad, Value *dx, int64_t pixels, int channels,
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
        else if (KEEPS && dx && activation == SILU) keep_products(x, grad, dx, part, channels, from, own, SILU);
        else if (KEEPS && dx) keep_products(x, grad, dx, part, channels, from, own, GELU);
        else if (activation == SILU) add_products(x, grad, part, channels, from, own, SILU);
        else add_products(x, grad, part, channels, from, own, GELU);
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
            int kept = KEEPS && activation >= SILU;
            if (activation == RELU) write_gradients(x, grad, dx, part, channels, from, slope, intercept, RELU);
            else if (activation == NOTHING || kept)
                write_gradients(x, kept ? dx : grad, dx, part, channels, from, slope, intercept, NOTHING);
            else if (activation == SILU) write_gradients(x, grad, dx, part, channels, from, slope, intercept, SILU);
            else write_gradients(x, grad, dx, part, channels, from, slope, intercept, GELU);
        }
    }
    free(sums);
    return 1;
}
