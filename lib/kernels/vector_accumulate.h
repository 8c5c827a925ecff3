/* accumulate: weights times values. Include after a vector_<isa>.h.
 *
 * Two vectors of bf16 columns are read as one of 2 W halves: the even columns and the odd ones, which costs one operation each
 * instead of two. So these sums lie in even and odd lanes while they are in registers. */
#ifndef ATTND_KERNELS_VECTOR_ACCUMULATE_H
#define ATTND_KERNELS_VECTOR_ACCUMULATE_H

#include "kernels/vector_tile.h"

enum {
    STREAM_BYTES = 16384, /* values that stay in the first-level cache for all columns, while as many are fetched */
    BLOCK_BYTES = 32768,  /* the same where several blocks of queries use them, and storing sums in between costs more */
};

/* W values of a row, or the first `lanes` of them (the others 0) without a touch on what follows. */
INLINE vf load_values(enum storage_id id, const char *at, size_t lanes)
{
    if (id == STORAGE_F32)
        return lanes < W ? v_load_lanes((const float *)at, 0, lanes) : v_load((const float *)at);
    uint16_t buffer[W] = {0};
    if (lanes < W)
        at = memcpy(buffer, at, lanes * sizeof buffer[0]);
    return id == STORAGE_BF16 ? v_load_bf16(at) : v_load_f16(at);
}

/* acc[i*lda + v*W + lane] += sum_(j<n) p[i*ldp + j] value(j, v*W + lane), i < m, v < nv, of `lanes` lanes (W, but for nv = 1). */
INLINE void accumulate_tile(enum storage_id id, size_t m, size_t nv, size_t lanes, const float *p, size_t ldp,
                            const char *values, size_t row_bytes, size_t n, struct fetch fetch, float *acc_at, size_t lda)
{
    size_t element = id == STORAGE_F32 ? 4 : 2;
    bool pairs = id == STORAGE_BF16 && nv > 1;
    vf acc[MAX_ACCUMULATORS], x[MAX_VECTORS];
#define PLACE(t) (acc_at + (t) / nv * lda + (t) % nv * W)
#define READ(t)                                                                                                                \
    if ((t) < m * nv)                                                                                                          \
        acc[t] = lanes < W ? v_load_lanes(PLACE(t), 0, lanes) : v_load(PLACE(t));
#define SPLIT(t)                                                                                                               \
    if (pairs && (t) < m * nv && (t) % 2 == 0)                                                                                 \
        v_split(&acc[t], &acc[(t) | 1]);
#define LOAD(v)                                                                                                                \
    if ((v) < nv) {                                                                                                            \
        if (!pairs)                                                                                                            \
            x[v] = load_values(id, values + (v)*W * element, lanes);                                                           \
        else if ((v) % 2 == 0)                                                                                                 \
            x[v] = v_low_bf16(values + (v)*W * element);                                                                       \
        else                                                                                                                   \
            x[v] = v_high_bf16(x[(v) & ~1u], values + ((v) & ~1u) * W * element);                                              \
    }
#define MULTIPLY(t)                                                                                                            \
    if ((t) < m * nv)                                                                                                          \
        acc[t] = v_fma(v_set1(p[(t) / nv * ldp + j]), x[(t) % nv], acc[t]);
#define JOIN(t)                                                                                                                \
    if (pairs && (t) < m * nv && (t) % 2 == 0)                                                                                 \
        v_join(&acc[t], &acc[(t) | 1]);
#define WRITE(t)                                                                                                               \
    if ((t) < m * nv) {                                                                                                        \
        if (lanes < W)                                                                                                         \
            v_store_lanes(PLACE(t), 0, lanes, acc[t]);                                                                         \
        else                                                                                                                   \
            v_store(PLACE(t), acc[t]);                                                                                         \
    }
#define PREFETCH(v)                                                                                                            \
    if ((v)*2 * LINE_BYTES < step * nv * W * element) {                                                                        \
        v_prefetch_far(fetch.at);                                                                                              \
        v_prefetch_far(fetch.at + fetch.apart);                                                                                \
        fetch_next(&fetch);                                                                                                    \
    }
#define ROW                                                                                                                    \
    EACH_8(LOAD, 0)                                                                                                            \
    EACH(MULTIPLY)                                                                                                             \
    values += row_bytes;                                                                                                       \
    j++;
    EACH(READ)
    EACH(SPLIT)
    size_t j = 0, step = nv * W * element < LINE_BYTES ? 4 : 2; /* rows to two lines, but for nv = 1 */
    while (j + step <= n) {
        EACH_8(PREFETCH, 0)
        ROW ROW if (step > 2)
        {
            ROW ROW
        }
    }
    while (j < n) {
        ROW
    }
    EACH(JOIN)
    EACH(WRITE)
#undef PLACE
#undef READ
#undef SPLIT
#undef LOAD
#undef PREFETCH
#undef ROW
#undef MULTIPLY
#undef JOIN
#undef WRITE
}

/* m queries over all e columns: as many at a time as VECTORS(m) allows, then half as many, ... then one vector, then its part. */
INLINE void accumulate_columns(enum storage_id id, size_t m, const float *p, size_t ldp, const char *values, size_t row_bytes,
                               size_t n, const char *end, size_t e, float *acc, size_t lda)
{
    size_t element = id == STORAGE_F32 ? 4 : 2, c = 0;
    struct fetch none = {values, 0, 0, 0};
#define COLUMNS(nv)                                                                                                            \
    if ((nv) <= VECTORS(m))                                                                                                    \
        for (; c + (nv)*W <= e; c += (nv)*W)                                                                                   \
            accumulate_tile(id, m, nv, W, p, ldp, values + c * element, row_bytes, n,                                          \
                            nv > 1 && end ? fetch_block(values + n * row_bytes, c * element * n, end) : none, acc + c, lda);
    COLUMNS(8)
    COLUMNS(4)
    COLUMNS(2)
    COLUMNS(1)
#undef COLUMNS
    if (c < e)
        accumulate_tile(id, m, 1, e - c, p, ldp, values + c * element, row_bytes, n, none, acc + c, lda);
}

INLINE void rescale(const float *f, size_t n_q, size_t e, float *acc, size_t lda)
{
    for (size_t i = 0; i < n_q; i++, acc += lda) {
        if (f[i] == 1)
            continue;
        if (f[i] == 0) {
            memset(acc, 0, e * sizeof *acc);
            continue;
        }
        size_t c = 0;
        for (; c + W <= e; c += W)
            v_store(acc + c, v_mul(v_load(acc + c), v_set1(f[i])));
        for (; c < e; c++)
            acc[c] *= f[i];
    }
}

INLINE void accumulate_any(enum storage_id id, const float *p, size_t ldp, const float *f, size_t n_q, const void *values,
                           size_t row, size_t n, size_t e, float *acc, size_t lda)
{
    rescale(f, n_q, e, acc, lda);
    size_t row_bytes = storage_table[id].value_bytes(e), n_blocks = (n_q + TILE_QUERIES - 1) / TILE_QUERIES;
    size_t rows = (n_blocks == 1 ? STREAM_BYTES : BLOCK_BYTES) / row_bytes;
    const char *at = (const char *)values + row * row_bytes, *end = at + n * row_bytes;
    for (size_t j = 0; j < n; j += rows, at += rows * row_bytes) {
        size_t now = n - j < rows ? n - j : rows;
        const float *pj = p + j;
        float *to = acc;
        for (size_t b = 0; b < n_blocks; b++) {
            size_t m = block_of(n_q, b, n_blocks);
            const char *fetched = b == 0 && j + now < n ? end : NULL;
#define OF(m) accumulate_columns(id, m, pj, ldp, at, row_bytes, now, fetched, e, to, lda)
            WITH_QUERIES(m, OF)
#undef OF
            pj += m * ldp;
            to += m * lda;
        }
    }
}

#endif
