/* Tensor attention of one query over a piece of stream 1 and all of stream 2: row i of one side asks the other side q * k_i, so the
 * piece is a matrix of queries, and each tile of columns, the other side's rows, costs a matrix product, exp, and a matrix
 * product. Rows keep running maxima, sums and numerators over the tiles (online softmax). The end joins them with their own
 * values and weights:
 *
 *     acc = sum_i e^(num_i + a_i - A) v_i * N_i      sum = sum_i e^(den_i + b_i - B) Z_i
 *
 * where N_i, Z_i are row i's sums over the columns relative to their maxima a_i, b_i; A, B the largest num_i + a_i, den_i + b_i.
 * The equation is the same for both sides, and what it costs beside the products goes with the rows. So the piece's rows ask
 * stream 2, unless a query sees fewer rows there (a short window): then these ask the piece. */
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

/* Rows [lo, hi) of a segment, all within one tile, as columns for all n_rows rows. */
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

/* One side of the product: the rows of these segments that a query of this token sees, one after the other. */
struct side {
    const struct segment *seg;
    size_t n_seg;
    uint64_t token;
};

static size_t side_rows(const struct side *side)
{
    size_t n = 0, lo, hi;
    for (size_t s = 0; s < side->n_seg; s++) {
        segment_visible(&side->seg[s], side->token, &lo, &hi);
        n += hi - lo;
    }
    return n;
}

static bool side_has_one_weight(const struct side *side)
{
    const struct view view = {side->seg, side->n_seg};
    return view_has_one_weight(&view);
}

/* Row i asks q * k_i, of nothing so far. */
static void start_rows(const struct attend *a, const struct scratch *t, const struct side *rows, const float *q)
{
    size_t n = 0, lo, hi;
    for (size_t s = 0; s < rows->n_seg; s++) {
        const struct segment *seg = &rows->seg[s];
        segment_visible(seg, rows->token, &lo, &hi);
        a->kernels->unpack_keys[seg->key_storage->id](seg->keys, lo, hi - lo, a->d, t->q + n * a->d);
        n += hi - lo;
    }
    for (size_t i = 0; i < n; i++) {
        a->kernels->multiply(t->q + i * a->d, q, a->d, t->q + i * a->d);
        t->max_num[i] = t->max_den[i] = -INFINITY;
        t->sum[i] = 0;
    }
}

static void ask(const struct attend *a, const struct scratch *t, size_t n_rows, const struct side *columns)
{
    bool one_weight = side_has_one_weight(columns);
    for (size_t s = 0; s < columns->n_seg; s++) {
        const struct segment *seg = &columns->seg[s];
        size_t from, to;
        segment_visible(seg, columns->token, &from, &to);
        while (from < to) { /* tiles end at multiples of TILE of the absolute index */
            size_t end = from + TILE - (size_t)((seg->first + (from - seg->row)) % TILE);
            end = min_size(end, to);
            tile(a, t, n_rows, seg, from, end, one_weight);
            from = end;
        }
    }
}

/* w_i = exp(max_i + log_w_i - m) with m the largest exponent, which it returns; all 0 when that is -inf. log_w: the rows' weights in
 * the numerator, where rows without values have none, or in the denominator. */
static float weights(const struct kernels *k, const struct side *rows, bool numerator, const float *max, float *x, float *w)
{
    float m = -INFINITY;
    size_t n = 0, lo, hi;
    for (size_t s = 0; s < rows->n_seg; s++) {
        const struct segment *seg = &rows->seg[s];
        const float *log_w = numerator ? seg->log_num : seg->log_den;
        segment_visible(seg, rows->token, &lo, &hi);
        for (size_t j = lo; j < hi; j++, n++) {
            x[n] = numerator && !seg->values ? -INFINITY : max[n] + (log_w ? log_w[j] : 0);
            m = x[n] > m ? x[n] : m;
        }
    }
    for (size_t i = 0; i < n; i++)
        x[i] = m > -INFINITY ? x[i] - m : -INFINITY;
    k->exponential(x, n, w);
    return m;
}

/* acc += sum_i w_i v_i * N_i */
static void join_values(const struct attend *a, const struct scratch *t, const struct side *rows, float *acc)
{
    size_t n = 0, lo, hi;
    for (size_t s = 0; s < rows->n_seg; s++, n += hi - lo) {
        const struct segment *seg = &rows->seg[s];
        segment_visible(seg, rows->token, &lo, &hi);
        if (!seg->values)
            continue;
        const float *v = t->v;
        if (seg->value_storage->id == STORAGE_F32)
            v = (const float *)seg->values + lo * a->e;
        else
            a->kernels->unpack_values[seg->value_storage->id](seg->values, lo, hi - lo, a->e, t->v);
        for (size_t i = 0; i < hi - lo; i++)
            if (t->w[n + i] > 0) /* else N_i may not even have been written */
                a->kernels->multiply_add(t->w[n + i], v + i * a->e, t->n + (n + i) * a->e, a->e, acc);
    }
}

bool tensor_piece(const struct attend *a, const struct segment *piece, size_t query, float *partial, float *scratch)
{
    const struct kernels *k = a->kernels;
    struct carve c = {.at = scratch};
    struct scratch t = lay_out(a, &c);
    uint64_t token = attend_token(a, query / a->group);
    struct side rows = {piece, 1, token}, columns = {a->view[1].seg, a->view[1].n_seg, token};
    size_t n_rows = side_rows(&rows), n_columns = side_rows(&columns);

    partial_clear(partial, a->e);
    if (n_rows == 0 || n_columns == 0)
        return false;
    if (n_columns < n_rows) {
        struct side other = rows;
        rows = columns;
        columns = other;
        n_rows = n_columns;
    }
    start_rows(a, &t, &rows, a->q + query * a->d);
    ask(a, &t, n_rows, &columns);
    partial[PARTIAL_MAX_DEN] = weights(k, &rows, false, t.max_den, t.rebase, t.w);
    for (size_t i = 0; i < n_rows; i++)
        partial[PARTIAL_SUM] += t.w[i] * t.sum[i];
    partial[PARTIAL_MAX_NUM] = weights(k, &rows, true, side_has_one_weight(&columns) ? t.max_den : t.max_num, t.rebase, t.w);
    join_values(a, &t, &rows, partial + PARTIAL_HEAD);
    return true;
}
