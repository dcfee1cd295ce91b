/* Images' tiles of 4x4 outputs by their values at 36 places (winograd.h): where their pixels lie, and how many are
 * worked on at a time.
 */

#ifndef WINOGRAD_TILES_H
#define WINOGRAD_TILES_H

#include "winograd.h"

enum {
    SPARE = WIDTH,     /* numbers between places: else all would fall into one set of a cache */
    MOST_TILES = 1024, /* of a block */
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

/* Of WIDTH channels, which lie side by side. */
static int panels(int channels) { return up(channels, WIDTH); }

/* From one place's values of so many rows to the next's, in numbers. */
static int64_t step(int channels, int rows) { return (int64_t)panels(channels) * WIDTH * rows + SPARE; }

/* In blocks of about so many channels of tiles, both sides together; of blocks a multiple of `in_turn`. */
static Tiles cut(const Shape *s, int channels, int least_block, int most_block, int in_turn) {
    Tiles t = {.down = up(s->height, OUT), .right = up(s->width, OUT)};
    t.count = (int64_t)s->batch * t.down * t.right;
    int fit = channels / WIDTH / (panels(s->channels) + panels(s->out_channels));
    fit = least(most(fit, least_block), most_block);
    t.block = up(t.count, up(up(t.count, fit), in_turn) * in_turn);
    t.blocks = up(t.count, t.block);
    return t;
}

static int in_block(const Tiles *t, int block) {
    return least(t->block, t->count - (int64_t)block * t->block);
}

/* A block's tiles in the order in which they are worked on: those that reach beyond the plane's lower edge alone, whole
 * ones, those beyond its right edge alone, those beyond both.
 */
typedef struct {
    int64_t first; /* of all images' tiles */
    int count;
    int whole, right, both; /* where these begin */
    int order[MOST_TILES];  /* from the first, as they lie in the images */
} Block;

static void find_block(const Shape *s, const Tiles *t, int number, Block *b) {
    enum { BELOW, WHOLE, RIGHT, BOTH, KINDS };
    unsigned char kinds[MOST_TILES];
    int at[KINDS + 1] = {0}; /* where each begins */
    b->first = (int64_t)number * t->block;
    b->count = in_block(t, number);
    int column = (int)(b->first % t->right), row = (int)(b->first / t->right % t->down);
    for (int tile = 0; tile < b->count; tile++) {
        int is_below = row == t->down - 1 && s->height % OUT, is_right = column == t->right - 1 && s->width % OUT;
        kinds[tile] = is_right ? (is_below ? BOTH : RIGHT) : (is_below ? BELOW : WHOLE);
        at[kinds[tile] + 1]++;
        column = column + 1 < t->right ? column + 1 : 0;
        if (column == 0) row = row + 1 < t->down ? row + 1 : 0;
    }
    for (int kind = 0; kind < KINDS; kind++) at[kind + 1] += at[kind];
    b->whole = at[WHOLE], b->right = at[RIGHT], b->both = at[BOTH];
    for (int tile = 0; tile < b->count; tile++) b->order[at[kinds[tile]]++] = tile;
}

typedef struct {
    int begin, end;
} Range;

/* The tiles whose value at a place is of use. Of a tile that reaches beyond the edge the last row or column of outputs
 * isn't wanted, and values at infinity go into nothing else (turned_a).
 */
static Range of_use(const Block *b, int place) {
    int is_below = place / IN == IN - 1, is_right = place % IN == IN - 1;
    return (Range){is_below ? b->whole : 0, is_right ? b->right : is_below ? b->both : b->count};
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

/* Tiles [begin, end) of a block, of images with so many channels, by a matrix: (PLACES, panels, count, WIDTH). */
#define GATHER(name, matrix, side)                                                                                     \
    INLINE void name##_channels(const float *const at[], int channel, int here, int64_t apart, float *to) {            \
        BOTH_WAYS(matrix, side, IN, load(at[row * side + column] + channel, here),                                     \
                  _mm256_store_ps(to + PLACE, value));                                                                 \
    }                                                                                                                  \
    static void name(const Shape *s, const Tiles *t, const Block *b, int begin, int end, int channels,                 \
                     const float *images, const float *zeros, float *to) {                                             \
        int64_t apart = step(channels, b->count);                                                                      \
        for (int tile = begin; tile < end; tile++) {                                                                   \
            const float *at[side * side];                                                                              \
            find(s, t, b->first + b->order[tile], side, channels, images, zeros, at);                                  \
            for (int channel = 0; channel < panels(channels) * WIDTH; channel += LANES) {                              \
                float *there = to + ((int64_t)(channel / WIDTH) * b->count + tile) * WIDTH + channel % WIDTH;          \
                for (int place = 0; channel % WIDTH == 0 && place < side * side; place++)                              \
                    if (place % side >= side - OUT) __builtin_prefetch(at[place] + OUT * channels + channel);          \
                if (channels - channel >= LANES) name##_channels(at, channel, LANES, apart, there);                    \
                else name##_channels(at, channel, channels - channel, apart, there);                                   \
            }                                                                                                          \
        }                                                                                                              \
    }
GATHER(gather_pixels, turned_b, IN)
GATHER(gather_slopes, by_a, OUT)

#endif
