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
    /* In bf16: pairs, as kernels.h has them. */
    uint32_t *q_pairs; /* (R, d / 2) of q * k1_i */
    uint32_t *keys;    /* (LDS, d / 2) panels of a tile's keys, if it does not lie so already */
    uint32_t *values;  /* (LDS / 2, e) panels of its values */
    uint32_t *weights; /* (BLOCK, LDS / 2) */
    float *rows;       /* (LDS, max(d, e)) of the tile's rows, widened */
};

/* Where a row of N_i begins after another: bf16 writes whole panels. */
static size_t numerator_stride(const struct attend *a)
{
    return round_up(a->e, PANEL);
}

static size_t pairs(size_t n)
{
    return (n + 1) / 2;
}

static uint32_t *carve_pairs(struct carve *c, size_t n)
{
    _Static_assert(sizeof(uint32_t) == sizeof(float), "scratch is counted in floats");
    return (void *)carve(c, n);
}

static struct scratch lay_out(const struct attend *a, struct carve *c)
{
    size_t r = TENSOR_CHUNK;
    struct scratch t = {
        .q = carve(c, r * a->d),
        .v = carve(c, r * a->e),
        .n = carve(c, r * numerator_stride(a)),
        .s = carve(c, (size_t)BLOCK * LDS),
        .den = carve(c, LDS),
        .max_num = carve(c, r),
        .max_den = carve(c, r),
        .sum = carve(c, r),
        .rebase = carve(c, r),
        .w = carve(c, r),
    };
    if (a->compute == COMPUTE_BF16) {
        t.q_pairs = carve_pairs(c, r * pairs(a->d));
        t.keys = carve_pairs(c, LDS * pairs(a->d));
        t.values = carve_pairs(c, LDS / 2 * numerator_stride(a));
        t.weights = carve_pairs(c, (size_t)BLOCK * LDS / 2);
        t.rows = carve(c, LDS * (a->d > a->e ? a->d : a->e));
    }
    return t;
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
                                                  a->e, t->n + first * numerator_stride(a), numerator_stride(a));
    }
}

/* Panels of the keys of rows [lo, hi), from the start of their first panel. */
static const uint32_t *pair_keys(const struct attend *a, const struct scratch *t, const struct segment *seg, size_t lo,
                                 size_t hi)
{
    size_t base = lo / PANEL * PANEL, n_pairs = pairs(a->d);
    enum storage_id id = seg->key_storage->id;
    if (id == STORAGE_BF16)
        return (const uint32_t *)seg->keys + base * n_pairs;
    if (id == STORAGE_F32) {
        for (size_t row = base; row < hi; row += PANEL)
            a->kernels->pair_rows((const float *)seg->keys + row * a->d, a->d, PANEL, t->keys + (row - base) * n_pairs);
    } else {
        a->kernels->unpack_keys[id](seg->keys, lo, hi - lo, a->d, t->rows);
        a->kernels->pack_keys[STORAGE_BF16](t->rows, hi - lo, a->d, t->keys, lo - base);
    }
    return t->keys;
}

/* Panels of the values of rows [lo, hi); lo even, or an empty row comes first. */
static void pair_values(const struct attend *a, const struct scratch *t, const struct segment *seg, size_t lo, size_t hi)
{
    size_t empty = lo % 2;
    const float *rows = (const float *)seg->values + lo * a->e;
    if (empty || seg->value_storage->id != STORAGE_F32) {
        memset(t->rows, 0, empty * a->e * sizeof *t->rows);
        a->kernels->unpack_values[seg->value_storage->id](seg->values, lo, hi - lo, a->e, t->rows + empty * a->e);
        rows = t->rows;
    }
    a->kernels->pair_rows(rows, empty + hi - lo, a->e, t->values);
}

/* As tile, in bf16. */
static void tile_bf16(const struct attend *a, const struct scratch *t, size_t n_rows, const struct segment *seg, size_t lo,
                      size_t hi, bool one_weight)
{
    const struct kernels *k = a->kernels;
    size_t base = lo / PANEL * PANEL, n = hi - base, d_pairs = pairs(a->d), stride = numerator_stride(a);
    const float *log_num = seg->log_num ? seg->log_num + base : NULL, *log_den = seg->log_den ? seg->log_den + base : NULL;
    const uint32_t *keys = pair_keys(a, t, seg, lo, hi);
    if (seg->values)
        pair_values(a, t, seg, lo, hi);
    for (size_t first = 0, rows; first < n_rows; first += rows) {
        rows = min_size(BLOCK, n_rows - first);
        k->product_bf16(t->q_pairs + first * d_pairs, d_pairs, rows, keys, d_pairs, n, NULL, t->s, LDS);
        for (size_t r = 0; r < rows; r++) {
            const float *s = t->s + r * LDS;
            uint32_t *w = t->weights + r * (LDS / 2);
            float unused = 0, *f = &t->rebase[first + r];
            *f = k->weigh_bf16(s, lo - base, hi - base, n, log_den, &t->max_den[first + r], &t->sum[first + r], w);
            if (!one_weight && seg->values)
                *f = k->weigh_bf16(s, lo - base, hi - base, n, log_num, &t->max_num[first + r], &unused, w);
        }
        size_t from = lo / 2 * 2;
        if (seg->values)
            k->product_bf16(t->weights + (from - base) / 2, LDS / 2, rows, t->values, pairs(hi - from), a->e, t->rebase + first,
                            t->n + first * stride, stride);
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
        if (a->compute == COMPUTE_BF16) {
            t->q_pairs[(i + 1) * pairs(a->d) - 1] = 0; /* what an odd d leaves of the last pair */
            a->kernels->pack_values[STORAGE_BF16](t->q + i * a->d, 1, a->d, t->q_pairs + i * pairs(a->d), 0);
        }
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
            (a->compute == COMPUTE_BF16 ? tile_bf16 : tile)(a, t, n_rows, seg, from, end, one_weight);
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
                a->kernels->multiply_add(t->w[n + i], v + i * a->e, t->n + (n + i) * numerator_stride(a), a->e, acc);
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
