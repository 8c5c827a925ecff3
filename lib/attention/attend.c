/* The plan: which units there are, where their partials lie, and the merge at the end.
 *
 * Few queries: a unit is a piece of rows (tensor: and one query), its partials go to `shared`, laid out [piece][query], and
 * attend_finish merges them. Many queries: a unit is a block of queries that walks over all pieces and writes its outputs
 * itself. Both merge the same pieces in the same order, so the bits agree. */
#include "attention/plan.h"

#include <assert.h>

enum { TENSOR_QUERIES = 16 }; /* more than these are many */

/* Whether attend_units came first. */
static bool is_planned(const struct attend *a)
{
    return a->plan.n_queries == a->n_tokens * a->group;
}

static size_t chunk_of(const struct attend *a)
{
    return a->n_views == 2 ? TENSOR_CHUNK : CHUNK;
}

static struct segment piece_of(const struct attend *a, size_t index)
{
    return view_piece(&a->view[0], chunk_of(a), a->plan.pieces_per_segment, index);
}

size_t attend_units(struct attend *a)
{
    struct attend_plan p = {.n_queries = a->n_tokens * a->group};
    p.n_pieces = view_pieces(&a->view[0], chunk_of(a), &p.pieces_per_segment);
    if (a->n_views == 2) {
        p.many = p.n_queries > TENSOR_QUERIES;
        p.n_units = p.many ? p.n_queries : p.n_queries * p.n_pieces;
    } else {
        p.block_tokens = a->group < SOFTMAX_QUERIES ? SOFTMAX_QUERIES / a->group : 1;
        p.many = a->n_tokens > p.block_tokens;
        p.n_units = p.many ? (a->n_tokens + p.block_tokens - 1) / p.block_tokens : a->n_tokens ? p.n_pieces : 0;
    }
    a->plan = p;
    return p.n_units;
}

static void finish_query(const struct attend *a, size_t query, float *partial)
{
    size_t token = query / a->group, head = query % a->group;
    if (a->sink_logit)
        partial_add_logit(partial, a->sink_logit[head]);
    partial_finish(a->kernels, partial, a->e, a->out + token * a->out_stride + head * a->e,
                   a->lse ? a->lse + token * a->lse_stride + head : NULL);
}

/* One partial to merge in, and those of the units. */
size_t attend_shared_bytes(const struct attend *a)
{
    const struct attend_plan *p = &a->plan;
    assert(is_planned(a));
    size_t partials = 1 + (p->many ? 0 : p->n_pieces * p->n_queries);
    return round_up(partials * partial_floats(a), CACHE_LINE_FLOATS) * sizeof(float);
}

/* A block's queries: what was merged so far, and the partials of one piece. */
static size_t block_floats(const struct attend *a, const struct attend_plan *p)
{
    size_t n = a->n_views == 2 ? 1 : p->block_tokens * a->group;
    return p->many ? round_up(n * partial_floats(a), CACHE_LINE_FLOATS) : 0;
}

size_t attend_scratch_bytes(const struct attend *a)
{
    const struct attend_plan *p = &a->plan;
    assert(is_planned(a));
    size_t work = a->n_views == 2 ? tensor_scratch_floats(a) : softmax_scratch_floats(a);
    return (work + 2 * block_floats(a, p)) * sizeof(float);
}

static void unit_of_many(const struct attend *a, size_t unit, float *scratch)
{
    const struct attend_plan *p = &a->plan;
    size_t slot = partial_floats(a), block = block_floats(a, p), first = unit, n = 1, token = 0, n_tokens = 0;
    float *merged = scratch, *partials = scratch + block, *work = scratch + 2 * block;
    if (a->n_views == 1) {
        token = unit * p->block_tokens;
        n_tokens = min_size(p->block_tokens, a->n_tokens - token);
        first = token * a->group;
        n = n_tokens * a->group;
    }
    for (size_t i = 0; i < n; i++)
        partial_clear(merged + i * slot, a->e);
    for (size_t i = 0; i < p->n_pieces; i++) {
        struct segment piece = piece_of(a, i);
        bool seen = a->n_views == 2 ? tensor_piece(a, &piece, unit, partials, work)
                                    : softmax_piece(a, &piece, token, n_tokens, partials, work);
        for (size_t j = 0; j < n && seen; j++)
            partial_merge(a->kernels, merged + j * slot, partials + j * slot, a->e);
    }
    for (size_t i = 0; i < n; i++)
        finish_query(a, first + i, merged + i * slot);
}

void attend_unit(const struct attend *a, size_t unit, void *shared, void *scratch)
{
    const struct attend_plan *p = &a->plan;
    if (p->many) {
        unit_of_many(a, unit, scratch);
        return;
    }
    float *partials = (float *)shared + partial_floats(a);
    if (a->n_views == 2) {
        struct segment piece = piece_of(a, unit / p->n_queries);
        tensor_piece(a, &piece, unit % p->n_queries, partials + unit * partial_floats(a), scratch);
    } else {
        struct segment piece = piece_of(a, unit);
        softmax_piece(a, &piece, 0, a->n_tokens, partials + unit * p->n_queries * partial_floats(a), scratch);
    }
}

void attend_finish(const struct attend *a, void *shared)
{
    const struct attend_plan *p = &a->plan;
    if (p->many)
        return;
    size_t slot = partial_floats(a);
    float *merged = shared, *partials = merged + slot;
    for (size_t query = 0; query < p->n_queries; query++) {
        partial_clear(merged, a->e);
        for (size_t i = 0; i < p->n_pieces; i++)
            partial_merge(a->kernels, merged, partials + (i * p->n_queries + query) * slot, a->e);
        finish_query(a, query, merged);
    }
}

/* Rows of a view that a query of this token sees. */
static double rows_seen(const struct view *view, uint64_t token)
{
    double n = 0;
    for (size_t i = 0; i < view->n_seg; i++) {
        size_t lo, hi;
        segment_visible(&view->seg[i], token, &lo, &hi);
        n += (double)(hi - lo);
    }
    return n;
}

double attend_flops(const struct attend *a)
{
    double pairs = 0;
    for (size_t i = 0; i < a->n_tokens; i++) {
        uint64_t token = attend_token(a, i);
        pairs += rows_seen(&a->view[0], token) * (a->n_views == 2 ? rows_seen(&a->view[1], token) : 1);
    }
    return 2.0 * (double)(a->d + a->e) * (double)a->group * pairs;
}

double attend_row_bytes(const struct attend *a)
{
    double bytes = 0;
    for (size_t v = 0; v < a->n_views; v++)
        for (size_t i = 0; i < a->view[v].n_seg && a->n_tokens; i++) {
            const struct segment *seg = &a->view[v].seg[i];
            size_t lo, hi, last_lo, last_hi;
            segment_visible(seg, attend_token(a, 0), &lo, &hi);
            segment_visible(seg, attend_token(a, a->n_tokens - 1), &last_lo, &last_hi);
            size_t from = lo < hi ? lo : last_lo;
            double rows = last_hi > from ? (double)(last_hi - from) : (double)(hi - lo);
            bytes +=
                rows * (double)(seg->key_storage->key_bytes(a->d) + (seg->values ? seg->value_storage->value_bytes(a->e) : 0));
        }
    return bytes;
}
