/* score: queries times keys. Include after a vector_<isa>.h.
 *
 * f32, bf16   a vector is one coordinate of W rows; a sum is one chain of FMAs over the coordinates.
 * f16         a vector is a pair of coordinates of W / 2 rows, widened at once; a sum is two chains, of the even and of the odd
 *             coordinates, added at the end. */
#ifndef ATTND_KERNELS_VECTOR_SCORE_H
#define ATTND_KERNELS_VECTOR_SCORE_H

#include "kernels/vector_tile.h"

/* Rows of one vector; f16 takes two vectors for W rows, whose sums are joined. */
#define VECTOR_ROWS(id) ((id) == STORAGE_F16 ? W / 2 : W)

/* Where vector v of a tile lies: panel is the first row's place in its panel. */
#define ROWS_AT(v) (panel + (v)*VECTOR_ROWS(id) / PANEL * panel_bytes + (v)*VECTOR_ROWS(id) % PANEL * 4)

/* s[i*lds + row] = <q_i, key row>, i < m, of nv vectors of rows. */
INLINE void score_tile(enum storage_id id, size_t m, size_t nv, const float *q, size_t d, const char *panel, size_t panel_bytes,
                       struct fetch fetch, float *s, size_t lds)
{
    size_t n_panels = nv * VECTOR_ROWS(id) > PANEL ? nv * VECTOR_ROWS(id) / PANEL : 1;
    vf acc[MAX_ACCUMULATORS], k[MAX_VECTORS];
#define CLEAR(t)                                                                                                               \
    if ((t) < m * nv)                                                                                                          \
        acc[t] = v_set1(0);
#define PREFETCH(v)                                                                                                            \
    if (2 * (v) < n_panels) {                                                                                                  \
        v_prefetch(fetch.at);                                                                                                  \
        v_prefetch(fetch.at + fetch.apart);                                                                                    \
        fetch_next(&fetch);                                                                                                    \
    }
#define LOAD(v)                                                                                                                \
    if ((v) < nv)                                                                                                              \
        k[v] = v_load((const float *)ROWS_AT(v));
#define LOAD_EVEN(v)                                                                                                           \
    if ((v) < nv)                                                                                                              \
        k[v] = v_low_bf16(ROWS_AT(v));
#define LOAD_ODD(v)                                                                                                            \
    if ((v) < nv)                                                                                                              \
        k[v] = v_high_bf16(k[v], ROWS_AT(v));
#define LOAD_PAIRS(v)                                                                                                          \
    if ((v) < nv)                                                                                                              \
        k[v] = v_load_f16(ROWS_AT(v));
#define MULTIPLY(t)                                                                                                            \
    if ((t) < m * nv)                                                                                                          \
        acc[t] = v_fma(v_set1(q[(t) / nv * d + c]), k[(t) % nv], acc[t]);
#define MULTIPLY_PAIRS(t)                                                                                                      \
    if ((t) < m * nv)                                                                                                          \
        acc[t] = v_fma(v_set_pair(q + (t) / nv * d + c), k[(t) % nv], acc[t]);
#define STORE(t)                                                                                                               \
    if ((t) < m * nv)                                                                                                          \
        v_store(s + (t) / nv * lds + (t) % nv * W, acc[t]);
#define STORE_PAIRS(t)                                                                                                         \
    if ((t) < m * nv && (t) % 2 == 0)                                                                                          \
        v_store(s + (t) / nv * lds + (t) % nv / 2 * W, v_pair_sums(acc[t], acc[(t) + 1 < MAX_ACCUMULATORS ? (t) + 1 : t]));

    /* The coordinates of one line of each panel. The compiler forgets what lies at the panel and loads it again, as one operand,
     * instead of keeping it in registers that the sums need. */
#define STEP                                                                                                                   \
    if (id == STORAGE_F32) {                                                                                                   \
        EACH_8(LOAD, 0)                                                                                                        \
        EACH(MULTIPLY)                                                                                                         \
        c++;                                                                                                                   \
    } else if (id == STORAGE_F16) {                                                                                            \
        EACH_8(LOAD_PAIRS, 0)                                                                                                  \
        EACH(MULTIPLY_PAIRS)                                                                                                   \
        c += 2;                                                                                                                \
    } else {                                                                                                                   \
        EACH_8(LOAD_EVEN, 0)                                                                                                   \
        EACH(MULTIPLY)                                                                                                         \
        c++;                                                                                                                   \
        __asm__("" : "+r"(panel));                                                                                             \
        EACH_8(LOAD_ODD, 0)                                                                                                    \
        EACH(MULTIPLY)                                                                                                         \
        c++;                                                                                                                   \
    }                                                                                                                          \
    panel += PANEL * 4;

    EACH(CLEAR)
    size_t c = 0, line = id == STORAGE_F32 ? 1 : 2, two = 2 * line;
    for (; c + two <= d;) {
        EACH_8(PREFETCH, 0)
        STEP if (n_panels > 1){EACH_8(PREFETCH, 0)} STEP
    }
    if (c + line <= d) {
        STEP
    }
    if (c < d) { /* the last of an odd number, with a 0 beside it */
        if (id == STORAGE_F16) {
            EACH_8(LOAD_PAIRS, 0)
        } else {
            EACH_8(LOAD_EVEN, 0)
        }
        EACH(MULTIPLY)
    }
    if (id == STORAGE_F16) {
        EACH(STORE_PAIRS)
    } else {
        EACH(STORE)
    }
#undef CLEAR
#undef STEP
#undef PREFETCH
#undef LOAD
#undef LOAD_EVEN
#undef LOAD_ODD
#undef LOAD_PAIRS
#undef MULTIPLY
#undef MULTIPLY_PAIRS
#undef STORE
#undef STORE_PAIRS
}
#undef ROWS_AT

/* m queries against one tile of nv vectors or a panel, whichever is more. */
INLINE void score_panels(enum storage_id id, size_t m, size_t nv, const float *q, size_t d, const char *panel,
                         size_t panel_bytes, size_t n_panels, struct fetch fetch, float *s, size_t lds)
{
    size_t rows = nv * VECTOR_ROWS(id), wide = rows > PANEL ? rows / PANEL : 1;
    struct fetch none = {panel, 0, 0, 0};
    for (; n_panels >= wide; n_panels -= wide, panel += wide * panel_bytes, s += wide * PANEL) {
        score_tile(id, m, nv, q, d, panel, panel_bytes, fetch, s, lds);
        for (size_t row = rows; row < PANEL; row += rows)
            score_tile(id, m, nv, q, d, panel + row * 4, panel_bytes, none, s + row, lds);
    }
    for (; n_panels; n_panels--, panel += panel_bytes, s += PANEL)
        score_tile(id, m, PANEL / VECTOR_ROWS(id), q, d, panel, panel_bytes, none, s, lds);
}

/* Panels stay in the first-level cache while all queries pass them. */
INLINE void score_any(enum storage_id id, const float *q, size_t n_q, size_t d, const void *keys, size_t row, size_t n,
                      float *s, size_t lds)
{
    if (n_q == 0)
        return;
    size_t panel_bytes = PANEL * storage_table[id].key_bytes(d), n_panels = (n + PANEL - 1) / PANEL;
    size_t n_blocks = (n_q + TILE_QUERIES - 1) / TILE_QUERIES;
    size_t rows = SCORE_VECTORS(id, n_q / n_blocks) * VECTOR_ROWS(id), wide = rows > PANEL ? rows / PANEL : 1;
    const char *first = (const char *)keys + row / PANEL * panel_bytes, *end = first + n_panels * panel_bytes, *panel = first;
    if (n_panels * panel_bytes >= 4 * AHEAD_BYTES)
        end += AHEAD_BYTES; /* a long run goes on in what follows: in a page of rows these are its values */
    for (size_t i = 0; i < n_panels; i += wide, panel += wide * panel_bytes) {
        size_t now = n_panels - i < wide ? n_panels - i : wide;
        struct fetch fetch = fetch_ahead(first, (size_t)(panel - first), end, wide * panel_bytes);
        const float *at = q;
        float *to = s + i * PANEL;
        for (size_t b = 0; b < n_blocks; b++) {
            size_t m = block_of(n_q, b, n_blocks);
#define OF(m) score_panels(id, m, SCORE_VECTORS(id, m), at, d, panel, panel_bytes, now, fetch, to, lds)
            WITH_QUERIES(m, OF)
#undef OF
            at += m * d;
            to += m * lds;
            fetch = (struct fetch){panel, 0, 0, 0};
        }
    }
}

#endif
