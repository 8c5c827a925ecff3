/* Softmax attention over one piece: score all queries against the rows, weigh each query's scores, accumulate the values.
 *
 * A query's partial has the same bits whatever other queries share the pass and wherever the causal edge of the others lies:
 * a score is one chain of multiply-adds over the coordinates, and rows that a query doesn't see have weight 0. */
#include "attention/plan.h"

#include <math.h>
#include <string.h>

enum { LDS = CHUNK + 2 * PANEL }; /* a piece's rows, from the start of their first panel to the end of their last */

struct scratch {
    float *s;      /* (n_q, LDS) scores, then the numerator's weights */
    float *den;    /* (LDS,) the denominator's, where they differ */
    float *rebase; /* (n_q,) all 0: a piece starts from nothing */
};

static size_t max_queries(const struct attend *a)
{
    size_t all = a->n_tokens * a->group;
    return min_size(all, a->group > SOFTMAX_QUERIES ? a->group : SOFTMAX_QUERIES);
}

static struct scratch lay_out(const struct attend *a, struct carve *c)
{
    size_t n_q = max_queries(a);
    return (struct scratch){.s = carve(c, n_q * LDS), .den = carve(c, LDS), .rebase = carve(c, n_q)};
}

size_t softmax_scratch_floats(const struct attend *a)
{
    struct carve c = {0};
    lay_out(a, &c);
    return c.floats;
}

bool softmax_piece(const struct attend *a, const struct segment *piece, size_t token, size_t n_tokens, float *partials,
                   float *scratch)
{
    const struct kernels *k = a->kernels;
    struct carve c = {.at = scratch};
    struct scratch t = lay_out(a, &c);
    size_t n_q = n_tokens * a->group, slot = partial_floats(a), first = SIZE_MAX, end = 0;

    for (size_t i = 0; i < n_q; i++)
        partial_clear(partials + i * slot, a->e);
    for (size_t i = 0; i < n_tokens; i++) { /* the rows that any of the tokens sees: [first, end) */
        size_t lo, hi;
        segment_visible(piece, attend_token(a, token + i), &lo, &hi);
        if (lo < hi) {
            first = min_size(first, lo);
            end = hi > end ? hi : end;
        }
    }
    if (first >= end)
        return false;

    size_t base = first / PANEL * PANEL, n = end - base;
    const float *log_num = piece->log_num ? piece->log_num + base : NULL;
    const float *log_den = piece->log_den ? piece->log_den + base : NULL;
    bool one_weight = segment_has_one_weight(piece);
    k->score[piece->key_storage->id](a->q + token * a->group * a->d, n_q, a->d, piece->keys, base, n, t.s, LDS);
    for (size_t i = 0; i < n_q; i++) {
        float *s = t.s + i * LDS, *partial = partials + i * slot, unused = 0;
        size_t lo, hi;
        segment_visible(piece, attend_token(a, token + i / a->group), &lo, &hi);
        bool any = lo < hi; /* of this piece a query of the block may see nothing */
        lo = any ? lo - base : 0;
        hi = any ? hi - base : 0;
        if (one_weight) {
            k->weigh(s, lo, hi, n, log_den, &partial[PARTIAL_MAX_DEN], &partial[PARTIAL_SUM]);
            partial[PARTIAL_MAX_NUM] = partial[PARTIAL_MAX_DEN];
        } else {
            memcpy(t.den, s, n * sizeof *s);
            k->weigh(t.den, lo, hi, n, log_den, &partial[PARTIAL_MAX_DEN], &partial[PARTIAL_SUM]);
            if (piece->values)
                k->weigh(s, lo, hi, n, log_num, &partial[PARTIAL_MAX_NUM], &unused);
        }
        t.rebase[i] = 0;
    }
    if (piece->values)
        k->accumulate[piece->value_storage->id](t.s + (first - base), LDS, t.rebase, n_q, piece->values, first, end - first,
                                                a->e, partials + PARTIAL_HEAD, slot);
    return true;
}
