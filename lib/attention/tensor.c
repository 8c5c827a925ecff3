/* Tensor attention of one query over a piece of stream 1: row i asks stream 2 the query q*k1_i, so the piece is a matrix of
 * queries, and each tile of stream 2 costs a matrix product, exp, and a matrix product. Rows i keep running maxima, sums and
 * numerators over the tiles (online softmax). The end joins them with v1 and the weights of stream 1:
 *
 *     acc = sum_i e^(num1_i + a_i - A) v1_i * N_i      sum = sum_i e^(den1_i + b_i - B) Z_i
 *
 * where N_i, Z_i are row i's sums over stream 2 relative to their maxima a_i, b_i; A, B the largest num1_i + a_i, den1_i + b_i. */
#include "attention/plan.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 48, TILE = 256, LDS = TILE + 2 * PANEL };

struct scratch {
    float *q;                       /* (R, d) q * k1_i */
    float *v;                       /* (R, e) v1_i */
    float *n;                       /* (R, e) N_i */
    float *s;                       /* (BLOCK, LDS) scores, then the numerator's weights */
    float *den;                     /* (LDS,) the denominator's, where they differ */
    float *max_num, *max_den, *sum; /* (R,) a_i, b_i, Z_i; max_num unused while numerator and denominator share weights */
    float *rebase;                  /* (R,) */
    float *w;                       /* (R,) */
};

static struct scratch lay_out(const struct attend *a, struct carve *c)
{
    size_t r = TENSOR_CHUNK;
    return (struct scratch){
        .q = carve(c, r * a->d),
        .v = carve(c, r * a->e),
        .n = carve(c, r * a->e),
        .s = carve(c, (size_t)BLOCK * LDS),
        .den = carve(c, LDS),
        .max_num = carve(c, r),
        .max_den = carve(c, r),
        .sum = carve(c, r),
        .rebase = carve(c, r),
        .w = carve(c, r),
    };
}

size_t tensor_scratch_floats(const struct attend *a)
{
    struct carve c = {0};
    lay_out(a, &c);
    return c.floats;
}

/* Rows [lo, hi) of a segment of stream 2, all within one tile, for all rows of the piece. */
static void tile(const struct attend *a, const struct scratch *t, size_t n_rows, const struct segment *seg, size_t lo,
                 size_t hi, bool one_weight)
{
    const struct kernels *k = a->kernels;
    size_t base = lo / PANEL * PANEL, n = hi - base;
    const float *log_num = seg->log_num ? seg->log_num + base : NULL, *log_den = seg->log_den ? seg->log_den + base : NULL;
    for (size_t first = 0, rows; first < n_rows; first += rows) {
        rows = min_size(BLOCK, n_rows - first);
        k->score[seg->key_storage->id](t->q + first * a->d, rows, a->d, seg->keys, base, n, t->s, LDS);
        for (size_t r = 0; r < rows; r++) {
            float *s = t->s + r * LDS, unused = 0;
            size_t i = first + r;
            if (one_weight) {
                t->rebase[i] = k->weigh(s, lo - base, hi - base, n, log_den, &t->max_den[i], &t->sum[i]);
                continue;
            }
            memcpy(t->den, s, n * sizeof *s);
            k->weigh(t->den, lo - base, hi - base, n, log_den, &t->max_den[i], &t->sum[i]);
            if (seg->values)
                t->rebase[i] = k->weigh(s, lo - base, hi - base, n, log_num, &t->max_num[i], &unused);
        }
        if (seg->values)
            k->accumulate[seg->value_storage->id](t->s + (lo - base), LDS, t->rebase + first, rows, seg->values, lo, hi - lo,
                                                  a->e, t->n + first * a->e, a->e);
    }
}

/* w_i = exp(max_i + log_w_i - m) with m the largest exponent, which it returns; all 0 when that is -inf. */
static float weights(const struct kernels *k, const float *max, const float *log_w, size_t n, float *x, float *w)
{
    float m = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        x[i] = max[i] + (log_w ? log_w[i] : 0);
        m = x[i] > m ? x[i] : m;
    }
    for (size_t i = 0; i < n; i++)
        x[i] = m > -INFINITY ? x[i] - m : -INFINITY;
    k->exponential(x, n, w);
    return m;
}

bool tensor_piece(const struct attend *a, const struct segment *piece, size_t query, float *partial, float *scratch)
{
    const struct kernels *k = a->kernels;
    struct carve c = {.at = scratch};
    struct scratch t = lay_out(a, &c);
    uint64_t token = attend_token(a, query / a->group);
    const float *q = a->q + query * a->d;
    size_t lo, hi;

    partial_clear(partial, a->e);
    segment_visible(piece, token, &lo, &hi);
    size_t n_rows = hi - lo;
    if (n_rows == 0)
        return false;
    k->unpack_keys[piece->key_storage->id](piece->keys, lo, n_rows, a->d, t.q);
    for (size_t i = 0; i < n_rows; i++) {
        k->multiply(t.q + i * a->d, q, a->d, t.q + i * a->d);
        t.max_num[i] = t.max_den[i] = -INFINITY;
        t.sum[i] = 0;
    }

    bool one_weight = view_has_one_weight(&a->view[1]);
    for (size_t i = 0; i < a->view[1].n_seg; i++) {
        const struct segment *seg = &a->view[1].seg[i];
        size_t from, to;
        segment_visible(seg, token, &from, &to);
        while (from < to) { /* tiles end at multiples of TILE of the absolute index */
            size_t end = from + TILE - (size_t)((seg->first + (from - seg->row)) % TILE);
            end = min_size(end, to);
            tile(a, &t, n_rows, seg, from, end, one_weight);
            from = end;
        }
    }

    float *x = t.rebase;
    partial[PARTIAL_MAX_DEN] = weights(k, t.max_den, piece->log_den ? piece->log_den + lo : NULL, n_rows, x, t.w);
    for (size_t i = 0; i < n_rows; i++)
        partial[PARTIAL_SUM] += t.w[i] * t.sum[i];
    if (!piece->values)
        return true;
    const float *max_num = one_weight ? t.max_den : t.max_num;
    partial[PARTIAL_MAX_NUM] = weights(k, max_num, piece->log_num ? piece->log_num + lo : NULL, n_rows, x, t.w);
    const float *v = t.v;
    if (piece->value_storage->id == STORAGE_F32)
        v = (const float *)piece->values + lo * a->e;
    else
        k->unpack_values[piece->value_storage->id](piece->values, lo, n_rows, a->e, t.v);
    for (size_t i = 0; i < n_rows; i++)
        if (t.w[i] > 0) /* else N_i may not even have been written */
            k->multiply_add(t.w[i], v + i * a->e, t.n + i * a->e, a->e, partial + PARTIAL_HEAD);
    return true;
}
