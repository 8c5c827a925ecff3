/* What softmax.c and tensor.c share: pieces of segments, what a query sees of them, and how scratch is laid out. For
 * lib/attention only.
 *
 * A piece is a segment cut down to the rows of one chunk of absolute indices, [k chunk, (k + 1) chunk). */
#ifndef ATTND_ATTENTION_PLAN_H
#define ATTND_ATTENTION_PLAN_H

#include "attention/attend.h"
#include "attention/partial.h"

enum { CACHE_LINE_FLOATS = 16 };

static inline size_t round_up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static inline size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Floats of one partial: the stride of arrays of partials. */
static inline size_t partial_floats(const struct attend *a)
{
    return PARTIAL_HEAD + a->e;
}

/* The token at which query token i stands. */
static inline uint64_t attend_token(const struct attend *a, size_t i)
{
    return a->first_token + a->token_step * i;
}

/* How many pieces a view has; *per_segment: how many each segment but the last, or 0 where they differ. Empty segments have none. */
size_t view_pieces(const struct view *view, size_t chunk, size_t *per_segment);
/* Piece number `index`, found at once when per_segment is not 0: long views have thousands of segments. */
struct segment view_piece(const struct view *view, size_t chunk, size_t per_segment, size_t index);

/* The rows [*lo, *hi) of the segment's block that a query of this token sees; both equal when none. */
void segment_visible(const struct segment *seg, uint64_t token, size_t *lo, size_t *hi);

/* True when every segment has values and one array of weights: then numerator and denominator share their maximum. */
bool segment_has_one_weight(const struct segment *seg);
bool view_has_one_weight(const struct view *view);

/* Hands out n floats of a scratch block, 64-byte aligned. With a NULL block it only counts. */
struct carve {
    float *at;
    size_t floats;
};
float *carve(struct carve *c, size_t n);

/* Softmax over one piece: the queries of tokens [token, token + n_tokens) of the plan, group queries each, into as many
 * partials. At most SOFTMAX_QUERIES queries, or those of one token. False when they see no row: all partials are empty. */
enum { SOFTMAX_QUERIES = 64 };
size_t softmax_scratch_floats(const struct attend *a);
bool softmax_piece(const struct attend *a, const struct segment *piece, size_t token, size_t n_tokens, float *partials,
                   float *scratch);

/* Tensor attention of one query over one piece of stream 1 and all of stream 2, into one partial; false as above. */
size_t tensor_scratch_floats(const struct attend *a);
bool tensor_piece(const struct attend *a, const struct segment *piece, size_t query, float *partial, float *scratch);

#endif
