/* The two matrix products of attention as micro-kernels: m queries by VECTORS(m) vectors of rows (score) or of value columns
 * (accumulate) live in registers. Include after a vector_<isa>.h.
 *
 * Accumulators are an array that only constants index (EACH expands a statement for t = 0..23, and those past m * nv vanish),
 * because compilers keep such an array in registers at -O2, and don't when a loop variable indexes it. m and nv are constants
 * wherever these functions are inlined. A sum is one chain of FMAs in the order of its index, whatever the tile: so results
 * don't depend on how many queries or rows share a call. */
#ifndef ATTND_KERNELS_VECTOR_TILE_H
#define ATTND_KERNELS_VECTOR_TILE_H

#include "base/shape.h"
#include "kernels/kernels.h"

#define EACH_8(X, n) X(n) X((n) + 1) X((n) + 2) X((n) + 3) X((n) + 4) X((n) + 5) X((n) + 6) X((n) + 7)
#define EACH(X) EACH_8(X, 0) EACH_8(X, 8) EACH_8(X, 16)

enum {
    MAX_VECTORS = 8,
    MAX_ACCUMULATORS = 24,
    SCORE_AHEAD = 4096,   /* bytes that panels are fetched before they are used */
    STREAM_BYTES = 16384, /* values that stay in the first-level cache for all columns, while as many are fetched */
    BLOCK_BYTES = 32768,  /* the same where several blocks of queries use them, and storing sums in between costs more */
};

/* Two coordinates of W rows, from pairs of 16-bit elements: the even one in the low half of each lane, the odd one in the high
 * half. A bf16 is the upper half of an f32. A half's exponent and fraction moved to an f32's place stand for the number times
 * 2^-112 (see element.h); the arithmetic shift repeats the sign, and the mask drops the repetitions. */
INLINE vf v_even(enum storage_id id, vi pair)
{
    pair = v_shift_left(pair, 16);
    if (id == STORAGE_BF16)
        return v_floats(pair);
    return v_mul(v_floats(v_and(v_shift_right(pair, 3), v_set1_bits((int32_t)0x8fffe000))), v_set1(0x1p112f));
}

INLINE vf v_odd(enum storage_id id, vi pair)
{
    if (id == STORAGE_BF16)
        return v_floats(v_shift_left(v_shift_right(pair, 16), 16));
    return v_mul(v_floats(v_and(v_shift_right(pair, 3), v_set1_bits((int32_t)0x8fffe000))), v_set1(0x1p112f));
}

/* s[i*lds + v*W + lane] = <q_i, row v*W + lane>, i < m, v < nv. panel: the rows' first panel. */
INLINE void score_tile(enum storage_id id, size_t m, size_t nv, const float *q, size_t d, const char *panel, size_t panel_bytes,
                       float *s, size_t lds)
{
    vf acc[MAX_ACCUMULATORS], k[MAX_VECTORS];
#define ROWS_AT(v) (panel + (v)*W / PANEL * panel_bytes + (v)*W % PANEL * 4)
#define CLEAR(t)                                                                                                               \
    if ((t) < m * nv)                                                                                                          \
        acc[t] = v_set1(0);
#define LOAD(v)                                                                                                                \
    if ((v) < nv)                                                                                                              \
        k[v] = v_load((const float *)ROWS_AT(v));
#define LOAD_EVEN(v)                                                                                                           \
    if ((v) < nv)                                                                                                              \
        k[v] = v_even(id, v_load_bits(ROWS_AT(v)));
#define LOAD_ODD(v)                                                                                                            \
    if ((v) < nv)                                                                                                              \
        k[v] = v_odd(id, v_load_bits(ROWS_AT(v)));
#define MULTIPLY(t)                                                                                                            \
    if ((t) < m * nv)                                                                                                          \
        acc[t] = v_fma(v_set1(q[(t) / nv * d + c]), k[(t) % nv], acc[t]);
#define STORE(t)                                                                                                               \
    if ((t) < m * nv)                                                                                                          \
        v_store(s + (t) / nv * lds + (t) % nv * W, acc[t]);

#define PREFETCH(v)                                                                                                            \
    if ((v)*PANEL < nv * W)                                                                                                    \
        v_prefetch(panel + (v)*panel_bytes + SCORE_AHEAD);
    EACH(CLEAR)
    size_t c = 0;
    if (id == STORAGE_F32) {
        for (; c < d; c++, panel += PANEL * 4) {
            EACH_8(PREFETCH, 0)
            EACH_8(LOAD, 0)
            EACH(MULTIPLY)
        }
    } else {
        for (; c + 1 < d; c++, panel += PANEL * 4) {
            EACH_8(PREFETCH, 0)
            EACH_8(LOAD_EVEN, 0)
            EACH(MULTIPLY)
            c++;
            __asm__("" : "+r"(panel));
            EACH_8(LOAD_ODD, 0)
            EACH(MULTIPLY)
        }
        if (c < d) {
            EACH_8(LOAD_EVEN, 0)
            EACH(MULTIPLY)
        }
    }
    EACH(STORE)
#undef ROWS_AT
#undef CLEAR
#undef LOAD
#undef PREFETCH
#undef LOAD_EVEN
#undef LOAD_ODD
#undef MULTIPLY
#undef STORE
}

/* m queries against n_panels panels. */
INLINE void score_panels(enum storage_id id, size_t m, const float *q, size_t d, const char *panel, size_t panel_bytes,
                         size_t n_panels, float *s, size_t lds)
{
    size_t wide = VECTORS(m) * W / PANEL;
    for (; n_panels >= wide; n_panels -= wide, panel += wide * panel_bytes, s += wide * PANEL)
        score_tile(id, m, VECTORS(m), q, d, panel, panel_bytes, s, lds);
    for (; n_panels; n_panels--, panel += panel_bytes, s += PANEL)
        score_tile(id, m, PANEL / W, q, d, panel, panel_bytes, s, lds);
}

/* Queries per block: as equal as possible, at most TILE_QUERIES. */
INLINE size_t block_of(size_t n_q, size_t index, size_t n_blocks)
{
    return n_q / n_blocks + (index < n_q % n_blocks);
}

/* Panels stay in the first-level cache while all queries pass them. */
INLINE void score_any(enum storage_id id, const float *q, size_t n_q, size_t d, const void *keys, size_t row, size_t n,
                      float *s, size_t lds)
{
    if (n_q == 0)
        return;
    size_t panel_bytes = PANEL * storage_table[id].key_bytes(d), n_panels = (n + PANEL - 1) / PANEL;
    size_t most = SCORE_QUERIES(id), n_blocks = (n_q + most - 1) / most, wide = VECTORS(n_q / n_blocks) * W / PANEL;
    const char *panel = (const char *)keys + row / PANEL * panel_bytes;
    for (size_t i = 0; i < n_panels; i += wide, panel += wide * panel_bytes) {
        size_t now = n_panels - i < wide ? n_panels - i : wide;
        const float *at = q;
        float *to = s + i * PANEL;
        for (size_t b = 0; b < n_blocks; b++) {
            size_t m = block_of(n_q, b, n_blocks);
            switch (m) {
            case 1: score_panels(id, 1, at, d, panel, panel_bytes, now, to, lds); break;
            case 2: score_panels(id, 2, at, d, panel, panel_bytes, now, to, lds); break;
            case 3: score_panels(id, 3, at, d, panel, panel_bytes, now, to, lds); break;
            case 4: score_panels(id, 4, at, d, panel, panel_bytes, now, to, lds); break;
            case 5: score_panels(id, 5, at, d, panel, panel_bytes, now, to, lds); break;
            default: score_panels(id, 6, at, d, panel, panel_bytes, now, to, lds); break;
            }
            at += m * d;
            to += m * lds;
        }
    }
}

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
                            const char *values, size_t row_bytes, size_t n, const char *ahead, size_t ahead_step, float *acc_at,
                            size_t lda)
{
    size_t element = id == STORAGE_F32 ? 4 : 2;
    vf acc[MAX_ACCUMULATORS], x[MAX_VECTORS];
#define PLACE(t) (acc_at + (t) / nv * lda + (t) % nv * W)
#define READ(t)                                                                                                                \
    if ((t) < m * nv)                                                                                                          \
        acc[t] = lanes < W ? v_load_lanes(PLACE(t), 0, lanes) : v_load(PLACE(t));
#define LOAD(v)                                                                                                                \
    if ((v) < nv)                                                                                                              \
        x[v] = load_values(id, values + (v)*W * element, lanes);
#define MULTIPLY(t)                                                                                                            \
    if ((t) < m * nv)                                                                                                          \
        acc[t] = v_fma(v_set1(p[(t) / nv * ldp + j]), x[(t) % nv], acc[t]);
#define WRITE(t)                                                                                                               \
    if ((t) < m * nv) {                                                                                                        \
        if (lanes < W)                                                                                                         \
            v_store_lanes(PLACE(t), 0, lanes, acc[t]);                                                                         \
        else                                                                                                                   \
            v_store(PLACE(t), acc[t]);                                                                                         \
    }
#define PREFETCH(v)                                                                                                            \
    if ((v)*64 < nv * W * element)                                                                                             \
        v_prefetch(ahead + (v)*64);
    EACH(READ)
    for (size_t j = 0; j < n; j++, values += row_bytes) {
        EACH_8(PREFETCH, 0)
        ahead += ahead_step;
        EACH_8(LOAD, 0)
        EACH(MULTIPLY)
    }
    EACH(WRITE)
#undef PLACE
#undef READ
#undef LOAD
#undef PREFETCH
#undef MULTIPLY
#undef WRITE
}

/* m queries over all e columns: as many at a time as VECTORS(m) allows, then half as many, ... then one vector, then its part. */
INLINE void accumulate_columns(enum storage_id id, size_t m, const float *p, size_t ldp, const char *values, size_t row_bytes,
                               size_t n, bool first, size_t e, float *acc, size_t lda)
{
    size_t element = id == STORAGE_F32 ? 4 : 2, c = 0;
    const char *ahead = values + n * row_bytes;
#define COLUMNS(nv)                                                                                                            \
    if ((nv) <= VECTORS(m))                                                                                                    \
        for (; c + (nv)*W <= e; c += (nv)*W)                                                                                   \
            accumulate_tile(id, m, nv, W, p, ldp, values + c * element, row_bytes, n,                                          \
                            first ? ahead + c * element * n : values, first ? (nv)*W * element : row_bytes, acc + c, lda);
    COLUMNS(8)
    COLUMNS(4)
    COLUMNS(2)
    COLUMNS(1)
#undef COLUMNS
    if (c < e)
        accumulate_tile(id, m, 1, e - c, p, ldp, values + c * element, row_bytes, n, values, 0, acc + c, lda);
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
    const char *at = (const char *)values + row * row_bytes;
    for (size_t j = 0; j < n; j += rows, at += rows * row_bytes) {
        size_t now = n - j < rows ? n - j : rows;
        const float *pj = p + j;
        float *to = acc;
        for (size_t b = 0; b < n_blocks; b++) {
            size_t m = block_of(n_q, b, n_blocks);
            switch (m) {
            case 1: accumulate_columns(id, 1, pj, ldp, at, row_bytes, now, b == 0, e, to, lda); break;
            case 2: accumulate_columns(id, 2, pj, ldp, at, row_bytes, now, b == 0, e, to, lda); break;
            case 3: accumulate_columns(id, 3, pj, ldp, at, row_bytes, now, b == 0, e, to, lda); break;
            case 4: accumulate_columns(id, 4, pj, ldp, at, row_bytes, now, b == 0, e, to, lda); break;
            case 5: accumulate_columns(id, 5, pj, ldp, at, row_bytes, now, b == 0, e, to, lda); break;
            default: accumulate_columns(id, 6, pj, ldp, at, row_bytes, now, b == 0, e, to, lda); break;
            }
            pj += m * ldp;
            to += m * lda;
        }
    }
}

#endif
