/* Scores of keys whose levels are codes - 8 and whose blocks of 32 have a scale each (q4_0, q4_0h), in vectors of any width: include
 * after a vector_<isa>_quant.h.
 *
 * A block of a query is rounded to 8 bits of its largest coordinate, so one instruction multiplies the codes of four coordinates, or two
 * pairs. A block's sum starts with -8 times the query's, in 16 bits: what overflows on the way has come back at the end, where no half of
 * a lane is beyond 8 * 127 * 16. Off by max |q| / 254 in a coordinate, or of normal ones by 4e-5 of |q|^2, where storing keys has cost 8e-3. */
#ifndef ATTND_KERNELS_VECTOR_BYTE_KEYS_H
#define ATTND_KERNELS_VECTOR_BYTE_KEYS_H

#include "kernels/vector_quant_keys.h"

/* m queries: bytes of 4 coordinates, for each block of 32 what halves of a lane start with, and what to multiply sums with. */
struct byte_queries {
    int32_t four[QUANT_QUERIES][SHAPE_DIM_MAX / 4];
    int32_t low[QUANT_QUERIES][QUANT_BLOCKS_MAX], high[QUANT_QUERIES][QUANT_BLOCKS_MAX];
    float unit[QUANT_QUERIES][QUANT_BLOCKS_MAX];
};

INLINE void byte_query(enum storage_id id, const float *q, size_t d, const float *factor, struct byte_queries *to, size_t i)
{
    float x[QUANT_ROOM];
    size_t padded = query_as_keys(id, q, d, factor, x);
    for (size_t b = 0; b < padded / QUANT_BLOCK; b++) {
        const float *block = x + b * QUANT_BLOCK;
        int8_t *bytes = (int8_t *)to->four[i] + b * QUANT_BLOCK;
        int32_t lane[W], low = 0, high = 0;
        vf most = v_set1(0);
        vi sum = v_set1_bits(0);
        for (size_t c = 0; c < QUANT_BLOCK; c += W)
            most = v_max(v_magnitude(v_load(block + c)), most);
        float largest = v_max_lanes(most), inverse = largest > 0x1p-100f ? 127 / largest : 0;
        for (size_t c = 0; c < QUANT_BLOCK; c += W) {
            vi whole = v_to_integers(v_mul(v_load(block + c), v_set1(inverse)));
            v_store_bytes(bytes + c, whole);
            sum = v_add_bits(sum, whole);
        }
        v_store_bits(lane, sum);
        for (size_t l = 0; l < W; l += 4) {
            low += lane[l] + lane[l + 1];
            high += lane[l + 2] + lane[l + 3];
        }
        to->low[i][b] = -8 * low;
        to->high[i][b] = -8 * high;
        to->unit[i][b] = inverse > 0 ? largest / 127 : 0;
    }
}

/* m queries against one panel. A unit of codes has coordinates 4 u ... in its low bits, 16 + 4 u ... in its high bits. */
INLINE void score_byte_panel(enum storage_id id, size_t m, const struct byte_queries *q, size_t d, const char *panel,
                             const char *scales, float *s, size_t lds)
{
    enum { NV = PANEL_VECTORS, UNITS = UNITS_OF_BLOCK / 2 };
    vi acc[8], low[NV], high[NV], mask = v_set1_bits(0x0f0f0f0f);
    vf scale[NV];
#define QUERY(t) ((t) / NV % QUANT_QUERIES)
#define START(t)                                                                                                               \
    if ((t) < m * NV)                                                                                                          \
        acc[t] = v_start_bytes(q->low[QUERY(t)][b], q->high[QUERY(t)][b]);
#define LOAD(v)                                                                                                                \
    if ((v) < NV) {                                                                                                            \
        vi x = v_load_bits(panel + ((b * UNITS + u) * PANEL + (v)*W) * 4);                                                     \
        low[(v) % NV] = v_and(x, mask);                                                                                        \
        high[(v) % NV] = v_and(v_shift_down(x, 4), mask);                                                                      \
    }
#define ADD_LOW(t)                                                                                                             \
    if ((t) < m * NV)                                                                                                          \
        acc[t] = v_pin(v_add_bytes(acc[t], low[(t) % NV], v_set1_bits(q->four[QUERY(t)][b * UNITS_OF_BLOCK + u])));
#define ADD_HIGH(t)                                                                                                            \
    if ((t) < m * NV)                                                                                                          \
        acc[t] = v_pin(v_add_bytes(acc[t], high[(t) % NV], v_set1_bits(q->four[QUERY(t)][b * UNITS_OF_BLOCK + UNITS + u])));
#define SCALES(v)                                                                                                              \
    if ((v) < NV)                                                                                                              \
        scale[(v) % NV] = scales_of_rows(id, scales + (v) % NV * W * 4, b);
#define SCALE(t)                                                                                                               \
    if ((t) < m * NV) {                                                                                                        \
        float *to = s + (t) / NV * lds + (t) % NV * W;                                                                         \
        vf term = v_mul(v_to_floats(v_byte_sums(acc[t])), v_set1(q->unit[QUERY(t)][b]));                                       \
        term = v_mul(term, scale[(t) % NV]);                                                                                   \
        v_store(to, b ? v_add(v_load(to), term) : term);                                                                       \
    }
    for (size_t b = 0; b < quant_blocks(d); b++) {
        EACH_8(START, 0)
        for (size_t u = 0; u < UNITS; u++) {
            v_prefetch(panel + (b * UNITS + u) * PANEL * 4 + CODES_AHEAD(4));
            LOAD(0)
            LOAD(1)
            EACH_8(ADD_LOW, 0)
            EACH_8(ADD_HIGH, 0)
        }
        SCALES(0)
        SCALES(1)
        EACH_8(SCALE, 0)
    }
#undef QUERY
#undef START
#undef LOAD
#undef ADD_LOW
#undef ADD_HIGH
#undef SCALES
#undef SCALE
}

INLINE void score_bytes(enum storage_id id, const float *q, size_t n_q, size_t d, const void *keys, size_t row, size_t n,
                        float *s, size_t lds)
{
    struct byte_queries queries;
    float factor[SHAPE_DIM_MAX];
    size_t panel_bytes = PANEL * quant_key_bytes(id, d), n_panels = (n + PANEL - 1) / PANEL;
    size_t scales_at = quant_code_units(id, d) * PANEL * 4, m;
    if (quant_rotates(id))
        rotate_factors(d, factor);
    for (; n_q; n_q -= m, q += m * d, s += m * lds) { /* four, or one: each size is code for each type */
        m = n_q >= QUANT_QUERIES ? QUANT_QUERIES : 1;
        for (size_t i = 0; i < m; i++)
            byte_query(id, q + i * d, d, factor, &queries, i);
        const char *panel = (const char *)keys + row / PANEL * panel_bytes;
        for (size_t i = 0; i < n_panels; i++, panel += panel_bytes)
            if (m == 1)
                score_byte_panel(id, 1, &queries, d, panel, panel + scales_at, s + i * PANEL, lds);
            else
                score_byte_panel(id, QUANT_QUERIES, &queries, d, panel, panel + scales_at, s + i * PANEL, lds);
    }
}

#endif
