/* Pixels of three channels, side by side in memory, on x86 processors with AVX2: resized and normalised with the very
 * bits of torch's own functions, cut and mirrored. pixels.py calls it.
 */

#include <immintrin.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline)) /* a loop of its own for each number of taps */

enum {
    CHANNELS = 3,
    SUMS = 8,            /* 32-bit sums in a register, in two halves that bytes can't be moved between */
    HALF = SUMS / 2,     /* values of a half */
    REACH = 16,          /* bytes that a half reads at a time */
    GROUP = 4,           /* registers whose values are written together */
    BYTES = GROUP * SUMS /* that is, a register of bytes; each half of it has the values of the same half of all */
};

/* Antialiased bilinear interpolation along one axis: the weights of the source's pixels in each of the result's. */
typedef struct {
    int taps;         /* source pixels that one of the result is made of, at most */
    int bits;         /* of a weight, after the binary point */
    int *first;       /* (side,) the first of these source pixels */
    int *last;        /* (side,) the last of them */
    int16_t *weights; /* (side, taps) fixed-point numbers that sum to one */
} Axis;

/* What a register of sums takes from a source row: of two source pixels next to each other, for each of its values. */
typedef struct {
    __m256i bytes;   /* which of those read, for each of 16 16-bit numbers */
    __m256i weights; /* of these numbers */
    int start[2];    /* the first byte that each half reads */
} Step;

static void *aligned(size_t size) { return aligned_alloc(BYTES, (size + BYTES - 1) / BYTES * BYTES); }

static void free_axis(Axis *axis) {
    free(axis->first);
    free(axis->last);
    free(axis->weights);
}

/* Fill `axis` as torch and Pillow do, by doubles that are rounded to 16 bits; 0 where memory ran out. */
static int fill_axis(Axis *axis, int length, int side) {
    double scale = (double)length / side, reach = scale > 1 ? scale : 1, largest = 0;
    int most = 2 * (int)reach + 3;
    double *exact = calloc((size_t)side * most, sizeof *exact);
    axis->first = malloc(side * sizeof *axis->first);
    axis->last = malloc(side * sizeof *axis->last);
    if (!exact || !axis->first || !axis->last) {
        free(exact);
        return 0;
    }
    axis->taps = 1;
    for (int place = 0; place < side; place++) {
        double centre = scale * (place + 0.5), sum = 0, *row = exact + (size_t)place * most;
        int first = (int)(centre - reach + 0.5), end = (int)(centre + reach + 0.5);
        if (first < 0) first = 0;
        if (end > length) end = length;
        for (int tap = 0; tap < end - first; tap++) {
            double distance = (tap + first - centre + 0.5) * (1 / reach);
            distance = distance < 0 ? -distance : distance;
            row[tap] = distance < 1 ? 1 - distance : 0;
            sum += row[tap];
        }
        for (int tap = 0; tap < end - first; tap++) {
            row[tap] /= sum;
            if (row[tap] > largest) largest = row[tap];
        }
        axis->first[place] = first;
        axis->last[place] = end - 1;
        if (end - first > axis->taps) axis->taps = end - first;
    }
    axis->bits = 0; /* as many as let the largest weight stay within 16 */
    while (axis->bits < 22 && (int)(0.5 + largest * (1 << (axis->bits + 1))) < 1 << 15) axis->bits++;
    axis->weights = malloc((size_t)side * axis->taps * sizeof *axis->weights);
    if (axis->weights)
        for (int place = 0; place < side; place++)
            for (int tap = 0; tap < axis->taps; tap++)
                axis->weights[place * axis->taps + tap] =
                    (int16_t)(0.5 + exact[(size_t)place * most + tap] * (1 << axis->bits));
    free(exact);
    return axis->weights != NULL;
}

/* Fill the `pairs` steps of each register of a row's sums, whose source has `width` pixels; 0 where one would have to
 * read bytes that lie too far from each other.
 */
static int fill_steps(Step *steps, int pairs, const Axis *axis, int side, int width, int mirrored) {
    int halves = (side * CHANNELS + BYTES - 1) / BYTES * BYTES / HALF;
    int last_start = width * CHANNELS > REACH ? width * CHANNELS - REACH : 0;
    for (int half = 0; half < halves; half++) { /* in the order of the values */
        int in_group = half % (2 * GROUP), upper = in_group / GROUP;
        int number = half / (2 * GROUP) * GROUP + in_group % GROUP;
        for (int pair = 0; pair < pairs; pair++) {
            Step *step = steps + number * pairs + pair;
            uint8_t bytes[REACH];
            int16_t weights[REACH / 2] = {0};
            int places[REACH / 2], start = INT_MAX; /* places: of the bytes in the row */
            for (int place = 0; place < REACH / 2; place++) {
                int value = half * HALF + place / 2, tap = 2 * pair + place % 2, column = value / CHANNELS;
                int pixel = mirrored ? side - 1 - column : column;
                places[place] = INT_MAX;
                if (column >= side || axis->first[pixel] + tap > axis->last[pixel]) continue;
                places[place] = (axis->first[pixel] + tap) * CHANNELS + value % CHANNELS;
                weights[place] = axis->weights[pixel * axis->taps + tap];
                if (places[place] < start) start = places[place];
            }
            if (start > last_start) start = last_start; /* nothing behind the last pixel is touched */
            for (int place = 0; place < REACH / 2; place++) {
                int byte = places[place] == INT_MAX ? 0 : places[place] - start;
                if (byte >= REACH) return 0;
                bytes[2 * place] = (uint8_t)byte;
                bytes[2 * place + 1] = 0x80; /* gives 0 */
            }
            step->start[upper] = start;
            memcpy((uint8_t *)&step->bytes + upper * REACH, bytes, sizeof bytes);
            memcpy((uint8_t *)&step->weights + upper * REACH, weights, sizeof weights);
        }
    }
    return 1;
}

/* Sums of fixed-point numbers as bytes: of a half's values those of the first register come first. */
static __m256i rounded(const __m256i *sums, __m128i bits) {
    __m256i low = _mm256_packs_epi32(_mm256_sra_epi32(sums[0], bits), _mm256_sra_epi32(sums[1], bits));
    __m256i high = _mm256_packs_epi32(_mm256_sra_epi32(sums[2], bits), _mm256_sra_epi32(sums[3], bits));
    return _mm256_packus_epi16(low, high);
}

/* One source row resized across, by so many steps a register. */
INLINE void across_by(const uint8_t *row, const Step *steps, int groups, int pairs, int bits, uint8_t *to) {
    const __m256i half = _mm256_set1_epi32(1 << (bits - 1));
    const __m128i shift = _mm_cvtsi32_si128(bits);
    for (int group = 0; group < groups; group++, to += BYTES) {
        __m256i sums[GROUP];
        for (int number = 0; number < GROUP; number++) {
            sums[number] = half;
            for (int pair = 0; pair < pairs; pair++, steps++) {
                __m256i two = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(row + steps->start[0])));
                two = _mm256_inserti128_si256(two, _mm_loadu_si128((const __m128i *)(row + steps->start[1])), 1);
                two = _mm256_madd_epi16(_mm256_shuffle_epi8(two, steps->bytes), steps->weights);
                sums[number] = _mm256_add_epi32(sums[number], two);
            }
        }
        _mm256_store_si256((__m256i *)to, rounded(sums, shift));
    }
}

static void across(const uint8_t *row, const Step *steps, int groups, int pairs, int bits, uint8_t *to) {
    switch (pairs) {
    case 1: return across_by(row, steps, groups, 1, bits, to);
    case 2: return across_by(row, steps, groups, 2, bits, to);
    default: return across_by(row, steps, groups, pairs, bits, to);
    }
}

/* One row of the result, of `values` bytes, from so many rows that were resized across. */
INLINE void down_by(const uint8_t *const *rows, const int16_t *weights, int taps, int bits, uint8_t *to, int values) {
    const __m256i half = _mm256_set1_epi32(1 << (bits - 1)), zero = _mm256_setzero_si256();
    const __m128i shift = _mm_cvtsi32_si128(bits);
    for (int value = 0; value < values; value += BYTES) {
        __m256i sums[GROUP] = {half, half, half, half};
        for (int tap = 0; tap < taps; tap += 2) {
            int other = tap + 1 < taps ? tap + 1 : tap;
            uint32_t second = other == tap ? 0 : (uint16_t)weights[other];
            __m256i both = _mm256_set1_epi32((int)((uint16_t)weights[tap] | second << 16));
            __m256i one = _mm256_load_si256((const __m256i *)(rows[tap] + value));
            __m256i two = _mm256_load_si256((const __m256i *)(rows[other] + value));
            __m256i low = _mm256_unpacklo_epi8(one, two), high = _mm256_unpackhi_epi8(one, two);
            __m256i pairs[GROUP] = {_mm256_unpacklo_epi8(low, zero), _mm256_unpackhi_epi8(low, zero),
                                    _mm256_unpacklo_epi8(high, zero), _mm256_unpackhi_epi8(high, zero)};
            for (int number = 0; number < GROUP; number++)
                sums[number] = _mm256_add_epi32(sums[number], _mm256_madd_epi16(pairs[number], both));
        }
        __m256i bytes = rounded(sums, shift);
        if (values - value >= BYTES) _mm256_storeu_si256((__m256i *)(to + value), bytes);
        else memcpy(to + value, &bytes, values - value);
    }
}

static void down(const uint8_t *const *rows, const int16_t *weights, int taps, int bits, uint8_t *to, int values) {
    switch (taps) {
    case 2: return down_by(rows, weights, 2, bits, to, values);
    case 3: return down_by(rows, weights, 3, bits, to, values);
    default: return down_by(rows, weights, taps, bits, to, values);
    }
}

/* Resize a window of height x width pixels, whose rows lie `stride` bytes apart, to side x side pixels at `to`. */
static int resize_one(const uint8_t *from, int64_t stride, int height, int width, int mirrored, uint8_t *to, int side) {
    Axis horizontal = {0}, vertical = {0};
    Step *steps = NULL;
    uint8_t *kept = NULL; /* rows resized across that are needed again; row r at r % taps */
    const uint8_t **rows = NULL;
    uint8_t narrow[REACH] = {0}; /* a row that is shorter than what is read at a time */
    int done = 0;
    if (fill_axis(&horizontal, width, side) && fill_axis(&vertical, height, side)) {
        int values = side * CHANNELS, groups = (values + BYTES - 1) / BYTES, pairs = (horizontal.taps + 1) / 2;
        size_t padded = (size_t)groups * BYTES;
        steps = aligned((size_t)groups * GROUP * pairs * sizeof *steps);
        kept = aligned(padded * vertical.taps);
        rows = malloc(vertical.taps * sizeof *rows);
        done = steps && kept && rows && fill_steps(steps, pairs, &horizontal, side, width, mirrored);
        for (int y = 0, next = 0; done && y < side; y++) {
            int taps = vertical.last[y] - vertical.first[y] + 1;
            for (; next <= vertical.last[y]; next++) {
                const uint8_t *row = from + next * stride;
                if (width * CHANNELS < REACH) row = memcpy(narrow, row, width * CHANNELS);
                across(row, steps, groups, pairs, horizontal.bits, kept + next % vertical.taps * padded);
            }
            for (int tap = 0; tap < taps; tap++) rows[tap] = kept + (vertical.first[y] + tap) % vertical.taps * padded;
            down(rows, vertical.weights + y * vertical.taps, taps, vertical.bits, to + (size_t)y * values, values);
        }
    }
    free_axis(&horizontal);
    free_axis(&vertical);
    free(steps);
    free(kept);
    free(rows);
    return done;
}

/* Resize a window of each image to side x side pixels, bilinear and antialiased, mirrored left to right where that is
 * asked for. Images of height x width pixels lie `stride` bytes apart; a window is its top, left, height and width.
 * Returns how many images were done before memory ran out, a window reached beyond its image, or one would shrink to
 * less than a quarter of its width.
 */
int resize(const uint8_t *from, int64_t stride, int height, int width, const int64_t *windows, const uint8_t *mirrored,
           int count, uint8_t *to, int side) {
    int64_t row = (int64_t)width * CHANNELS;
    for (int image = 0; image < count; image++) {
        int64_t top = windows[4 * image], left = windows[4 * image + 1];
        int64_t tall = windows[4 * image + 2], broad = windows[4 * image + 3];
        const uint8_t *corner = from + image * stride + top * row + left * CHANNELS;
        uint8_t *place = to + (size_t)image * side * side * CHANNELS;
        if (top < 0 || left < 0 || tall < 1 || broad < 1 || top + tall > height || left + broad > width) return image;
        if (!resize_one(corner, row, (int)tall, (int)broad, mirrored[image], place, side)) return image;
    }
    return count;
}

/* A row of `pixels` pixels, the last one first. */
static void mirror(const uint8_t *from, int pixels, uint8_t *to) {
    enum { FIVE = 5 * CHANNELS }; /* pixels that a register holds; its first byte is of a sixth */
    const __m128i turned = _mm_setr_epi8(13, 14, 15, 10, 11, 12, 7, 8, 9, 4, 5, 6, 1, 2, 3, 0);
    for (; pixels > 5; pixels -= 5, to += FIVE) { /* the byte that is written too many is written again */
        __m128i bytes = _mm_loadu_si128((const __m128i *)(from + pixels * CHANNELS - FIVE - 1));
        _mm_storeu_si128((__m128i *)to, _mm_shuffle_epi8(bytes, turned));
    }
    for (; pixels > 0; pixels--, to += CHANNELS) memcpy(to, from + (pixels - 1) * CHANNELS, CHANNELS);
}

/* A window of high x wide pixels of each image, mirrored left to right where that is asked for. Images of height x
 * width pixels lie `stride` bytes apart, between `padding` black pixels on every side, from which tops and lefts count.
 * Returns how many images were done before a window reached beyond its image's padding.
 */
int cut(const uint8_t *from, int64_t stride, int height, int width, int padding, const int64_t *tops,
        const int64_t *lefts, const uint8_t *mirrored, int count, uint8_t *to, int high, int wide) {
    for (int image = 0; image < count; image++, from += stride) {
        int64_t top = tops[image] - padding, left = lefts[image] - padding;
        if (top < -padding || left < -padding || top + high > height + padding || left + wide > width + padding)
            return image;
        int before = left < 0 ? (int)(-left < wide ? -left : wide) : 0; /* black pixels of each row */
        int end = left + wide > width ? (int)(width - left > 0 ? width - left : 0) : wide;
        for (int64_t row = top; row < top + high; row++, to += wide * CHANNELS) {
            if (row < 0 || row >= height || end <= before) {
                memset(to, 0, wide * CHANNELS);
                continue;
            }
            const uint8_t *seen = from + (row * width + left + before) * CHANNELS;
            int first = mirrored[image] ? wide - end : before, last = mirrored[image] ? wide - before : end;
            memset(to, 0, first * CHANNELS);
            if (mirrored[image]) mirror(seen, end - before, to + first * CHANNELS);
            else memcpy(to + first * CHANNELS, seen, (end - before) * CHANNELS);
            memset(to + last * CHANNELS, 0, (wide - last) * CHANNELS);
        }
    }
    return count;
}

/* (value - mean) * scale of the value's channel, for `count` values from a first channel on. What is written goes past
 * the cache, which a batch of floats doesn't fit into.
 */
int normalize(const uint8_t *from, float *to, int64_t count, const float *mean, const float *scale) {
    enum { PERIOD = CHANNELS * SUMS };
    float means[PERIOD], scales[PERIOD];
    int64_t value = 0;
    for (; value < count && (uintptr_t)(to + value) % sizeof(__m256); value++)
        to[value] = (from[value] - mean[value % CHANNELS]) * scale[value % CHANNELS];
    for (int place = 0; place < PERIOD; place++) {
        means[place] = mean[(value + place) % CHANNELS];
        scales[place] = scale[(value + place) % CHANNELS];
    }
    for (; value + PERIOD <= count; value += PERIOD)
        for (int place = 0; place < PERIOD; place += SUMS) {
            __m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(from + value + place)));
            __m256 less = _mm256_sub_ps(_mm256_cvtepi32_ps(bytes), _mm256_loadu_ps(means + place));
            _mm256_stream_ps(to + value + place, _mm256_mul_ps(less, _mm256_loadu_ps(scales + place)));
        }
    for (; value < count; value++) to[value] = (from[value] - mean[value % CHANNELS]) * scale[value % CHANNELS];
    _mm_sfence();
    return 1;
}
