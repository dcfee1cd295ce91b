/* Pixels of three channels, side by side in memory, on x86 processors with AVX-512 VBMI: resized and normalised with
 * the very bits of torch's own functions. pixels.py calls it.
 */

#include <immintrin.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CHANNELS = 3, LANES = 16 /* values of the result computed at a time */, BYTES = 64 /* of a register */ };

/* Antialiased bilinear interpolation along one axis: the weights of the source's pixels in each of the result's. */
typedef struct {
    int taps;         /* source pixels that one of the result is made of, at most */
    int bits;         /* of a weight, after the binary point */
    int *first;       /* (side,) the first of these source pixels */
    int *last;        /* (side,) the last of them */
    int16_t *weights; /* (side, taps) fixed-point numbers that sum to one */
} Axis;

/* Where 16 values of a resized row come from: two source pixels each in every pair, the first byte that is read. */
typedef struct {
    int start;
    uint8_t *bytes;   /* (pairs, 64) of those that are read, for each of 32 16-bit numbers; every other one stays 0 */
    int16_t *weights; /* (pairs, 32) */
} Part;

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

/* Cut a row of the result into parts; 0 where one needs source pixels that lie too far from each other. */
static int fill_parts(Part *parts, int count, int pairs, const Axis *axis, int side, int mirrored, uint8_t *tables) {
    int values = side * CHANNELS;
    memset(tables, 0, (size_t)count * pairs * 2 * BYTES);
    for (int value = 0; value < values; value++) {
        Part *part = parts + value / LANES;
        int lane = value % LANES, channel = value % CHANNELS;
        int pixel = mirrored ? side - 1 - value / CHANNELS : value / CHANNELS;
        if (lane == 0) {
            int last = value + LANES <= values ? value + LANES - 1 : values - 1;
            part->start = axis->first[mirrored ? side - 1 - last / CHANNELS : pixel] * CHANNELS;
            part->bytes = tables + (size_t)(value / LANES) * pairs * 2 * BYTES;
            part->weights = (int16_t *)(part->bytes + (size_t)pairs * BYTES);
        }
        for (int tap = 0; tap <= axis->last[pixel] - axis->first[pixel]; tap++) {
            int byte = (axis->first[pixel] + tap) * CHANNELS + channel - part->start;
            int number = tap / 2 * 2 * LANES + lane * 2 + tap % 2; /* the pair, the value, and which of the two */
            if (byte >= BYTES) return 0;
            part->bytes[2 * number] = (uint8_t)byte;
            part->weights[number] = axis->weights[pixel * axis->taps + tap];
        }
    }
    return 1;
}

/* One source row of `bytes` bytes, resized across. */
static void across(const uint8_t *row, int bytes, const Part *parts, int count, int pairs, int bits, uint8_t *to) {
    const __m512i half = _mm512_set1_epi32(1 << (bits - 1));
    const __m128i shift = _mm_cvtsi32_si128(bits);
    for (int number = 0; number < count; number++) {
        const Part *part = parts + number;
        int left = bytes - part->start;
        __mmask64 there = left >= BYTES ? ~0ULL : (1ULL << left) - 1; /* nothing behind the last pixel is touched */
        __m512i source = _mm512_maskz_loadu_epi8(there, row + part->start), sum = half;
        for (int pair = 0; pair < pairs; pair++) {
            __m512i bytes_of = _mm512_load_si512(part->bytes + pair * BYTES);
            __m512i two = _mm512_maskz_permutexvar_epi8(0x5555555555555555ULL, bytes_of, source);
            sum = _mm512_add_epi32(sum, _mm512_madd_epi16(two, _mm512_load_si512(part->weights + pair * 2 * LANES)));
        }
        _mm_storeu_si128((__m128i *)(to + number * LANES), _mm512_cvtusepi32_epi8(_mm512_sra_epi32(sum, shift)));
    }
}

/* One row of the result, of `values` bytes, from `taps` rows that were resized across. */
static void down(const uint8_t *const *rows, const int16_t *weights, int taps, int bits, uint8_t *to, int values) {
    const __m512i half = _mm512_set1_epi32(1 << (bits - 1));
    const __m128i shift = _mm_cvtsi32_si128(bits);
    for (int value = 0; value < values; value += 2 * LANES) {
        __m512i low = half, high = half;
        for (int tap = 0; tap < taps; tap += 2) {
            int other = tap + 1 < taps ? tap + 1 : tap;
            uint32_t second = other == tap ? 0 : (uint16_t)weights[other];
            __m512i both = _mm512_set1_epi32((int)((uint16_t)weights[tap] | second << 16));
            __m512i one = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(rows[tap] + value)));
            __m512i two = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(rows[other] + value)));
            low = _mm512_add_epi32(low, _mm512_madd_epi16(_mm512_unpacklo_epi16(one, two), both));
            high = _mm512_add_epi32(high, _mm512_madd_epi16(_mm512_unpackhi_epi16(one, two), both));
        }
        __m512i numbers = _mm512_packus_epi32(_mm512_sra_epi32(low, shift), _mm512_sra_epi32(high, shift));
        __mmask32 there = values - value >= 2 * LANES ? ~0U : (1U << (values - value)) - 1;
        _mm256_mask_storeu_epi8(to + value, there, _mm512_cvtusepi16_epi8(numbers));
    }
}

/* Resize a window of height x width pixels, whose rows lie `stride` bytes apart, to side x side pixels at `to`. */
static int resize_one(const uint8_t *from, int64_t stride, int height, int width, int mirrored, uint8_t *to, int side) {
    Axis horizontal = {0}, vertical = {0};
    Part *parts = NULL;
    uint8_t *tables = NULL, *kept = NULL; /* `kept`: rows resized across that are needed again; row r at r % taps */
    const uint8_t **rows = NULL;
    int done = 0;
    if (fill_axis(&horizontal, width, side) && fill_axis(&vertical, height, side)) {
        int values = side * CHANNELS, count = (values + LANES - 1) / LANES, pairs = (horizontal.taps + 1) / 2;
        size_t padded = (size_t)(count + 1) * LANES; /* `down` reads 32 bytes at a time */
        parts = malloc(count * sizeof *parts);
        tables = aligned((size_t)count * pairs * 2 * BYTES);
        kept = aligned(padded * vertical.taps);
        rows = malloc(vertical.taps * sizeof *rows);
        done = parts && tables && kept && rows && fill_parts(parts, count, pairs, &horizontal, side, mirrored, tables);
        for (int y = 0, next = 0; done && y < side; y++) {
            int taps = vertical.last[y] - vertical.first[y] + 1;
            for (; next <= vertical.last[y]; next++)
                across(from + next * stride, width * CHANNELS, parts, count, pairs, horizontal.bits,
                       kept + next % vertical.taps * padded);
            for (int tap = 0; tap < taps; tap++) rows[tap] = kept + (vertical.first[y] + tap) % vertical.taps * padded;
            down(rows, vertical.weights + y * vertical.taps, taps, vertical.bits, to + (size_t)y * values, values);
        }
    }
    free_axis(&horizontal);
    free_axis(&vertical);
    free(parts);
    free(tables);
    free(kept);
    free(rows);
    return done;
}

/* Resize a window of each image to side x side pixels, bilinear and antialiased, mirrored left to right where that is
 * asked for. Images of height x width pixels lie `stride` bytes apart; a window is its top, left, height and width.
 * Returns how many images were done before memory ran out, a window reached beyond its image, or one would shrink to
 * less than some 0.4 of its width.
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

/* (value - mean) * scale of the value's channel, for `count` values from a first channel on. What is written goes past
 * the cache, which a batch of floats doesn't fit into.
 */
int normalize(const uint8_t *from, float *to, int64_t count, const float *mean, const float *scale) {
    enum { PERIOD = CHANNELS * LANES };
    float means[PERIOD], scales[PERIOD];
    int64_t value = 0;
    for (; value < count && (uintptr_t)(to + value) % BYTES; value++)
        to[value] = (from[value] - mean[value % CHANNELS]) * scale[value % CHANNELS];
    for (int place = 0; place < PERIOD; place++) {
        means[place] = mean[(value + place) % CHANNELS];
        scales[place] = scale[(value + place) % CHANNELS];
    }
    for (; value + PERIOD <= count; value += PERIOD)
        for (int place = 0; place < PERIOD; place += LANES) {
            __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(from + value + place)));
            __m512 less = _mm512_sub_ps(_mm512_cvtepi32_ps(bytes), _mm512_loadu_ps(means + place));
            _mm512_stream_ps(to + value + place, _mm512_mul_ps(less, _mm512_loadu_ps(scales + place)));
        }
    for (; value < count; value++) to[value] = (from[value] - mean[value % CHANNELS]) * scale[value % CHANNELS];
    _mm_sfence();
    return 1;
}
