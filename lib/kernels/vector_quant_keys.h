/* Scores of quantised keys by products of 16 bits, in vectors of any width: include after a vector_<isa>_quant.h.
 *
 * Queries are whole numbers (vector_quant_query.h). A lane is a row. Its 32 bits hold the levels of 4 coordinates; even and odd ones
 * are widened to pairs of 16 bits and meet pairs of the query. Codes of less than 8 bits become such units first, a panel at a time,
 * once for all queries. */
#ifndef ATTND_KERNELS_VECTOR_QUANT_KEYS_H
#define ATTND_KERNELS_VECTOR_QUANT_KEYS_H

#include "kernels/vector_quant_query.h"

/* m queries: pairs of whole numbers, for each unit of levels the even pair and the odd one, and what to multiply sums with. */
struct quant_queries {
    int32_t pair[QUANT_QUERIES][SHAPE_DIM_MAX / 2];
    float unit[QUANT_QUERIES];
};

/* Query i of them. factor: of the rotation, where there is one. */
INLINE void quant_query(enum storage_id id, const float *q, size_t d, const float *factor, size_t i, struct quant_queries *out)
{
    int32_t whole[QUANT_ROOM], *pair = out->pair[i];
    out->unit[i] = round_query(id, q, d, factor, whole);
    for (size_t c = 0; c < quant_blocks(d) * QUANT_BLOCK; c += 4, pair += 2) {
        pair[0] = (int32_t)(((uint32_t)whole[c] & 0xffffu) | (uint32_t)whole[c + 2] << 16);
        pair[1] = (int32_t)(((uint32_t)whole[c + 1] & 0xffffu) | (uint32_t)whole[c + 3] << 16);
    }
}

/* ---- levels of a panel: units of 4 coordinates of PANEL rows, [unit][PANEL] */

INLINE void levels_of_4(const int8_t *table, const char *codes, char *levels)
{
    vi mask = v_set1_bits(0x0f0f0f0f);
    for (size_t l = 0; l < (size_t)4 * PANEL * 4; l += W * 4) { /* 4 units of codes: coordinates 0..15 low, 16..31 high */
        vi x = v_load_bits(codes + l);
        v_prefetch(codes + l + CODES_AHEAD(4));
        v_store_bits(levels + l, v_lookup(table, v_and(x, mask)));
        v_store_bits(levels + l + (size_t)4 * PANEL * 4, v_lookup(table, v_and(v_shift_down(x, 4), mask)));
    }
}

INLINE void levels_of_2(bool third, const int8_t *table, const char *codes, char *levels)
{
    vi two = v_set1_bits(0x03030303), four = v_set1_bits(0x04040404);
    for (size_t l = 0; l < PANEL * 4; l += W * 4) {
        vi x0 = v_load_bits(codes + l), x1 = v_load_bits(codes + PANEL * 4 + l), x2 = two;
        if (third)
            x2 = v_load_bits(codes + (size_t)2 * PANEL * 4 + l);
        for (size_t line = 0; line < (third ? 3 : 2) * PANEL * 4; line += PANEL * 4)
            v_prefetch(codes + line + CODES_AHEAD(third ? 3 : 2));
#define LEVELS(unit, code, bit)                                                                                                \
    v_store_bits(levels + (size_t)(unit)*PANEL * 4 + l,                                                                        \
                 v_lookup(table, third ? v_or(v_and(code, two), v_and(bit, four)) : v_and(code, two)));
        EACH_UNIT_OF_2(LEVELS, x0, x1, x2)
#undef LEVELS
    }
}

INLINE const char *levels_of_panel(enum storage_id id, const char *panel, size_t d, char *buffer)
{
    size_t bits = quant_bits(id);
    if (bits == 8)
        return panel;
    for (size_t b = 0; b < quant_blocks(d); b++) {
        const char *codes = panel + b * bits * PANEL * 4;
        char *levels = buffer + b * UNITS_OF_BLOCK * PANEL * 4;
        if (bits == 4)
            levels_of_4(quant_levels(id), codes, levels);
        else
            levels_of_2(bits == 3, quant_levels(id), codes, levels);
    }
    return buffer;
}

/* ---- m queries against one panel */

INLINE void score_levels(enum storage_id id, size_t m, const struct quant_queries *q, size_t d, const char *levels,
                         const char *scales, float *s, size_t lds)
{
    enum { NV = PANEL_VECTORS };
    vi acc[8], even[NV], odd[NV];
    size_t n_blocks = quant_blocks(d), k = 0, at = 0;
#define CLEAR(t)                                                                                                               \
    if ((t) < m * NV)                                                                                                          \
        acc[t] = v_set1_bits(0);
#define LOAD(v)                                                                                                                \
    if ((v) < NV) {                                                                                                            \
        vi x = v_load_bits(levels + (at * PANEL + (v)*W) * 4);                                                                 \
        even[(v) % NV] = v_even_bytes(x);                                                                                      \
        odd[(v) % NV] = v_odd_bytes(x);                                                                                        \
    }
#define MULTIPLY_EVEN(t)                                                                                                       \
    if ((t) < m * NV)                                                                                                          \
        acc[t] = v_pin(v_add_pairs(acc[t], even[(t) % NV], v_set1_bits(q->pair[(t) / NV % QUANT_QUERIES][2 * at])));
#define MULTIPLY_ODD(t)                                                                                                        \
    if ((t) < m * NV)                                                                                                          \
        acc[t] = v_pin(v_add_pairs(acc[t], odd[(t) % NV], v_set1_bits(q->pair[(t) / NV % QUANT_QUERIES][2 * at + 1])));
#define SCALE(t)                                                                                                               \
    if ((t) < m * NV) {                                                                                                        \
        float *to = s + (t) / NV * lds + (t) % NV * W;                                                                         \
        vf term = v_mul(v_to_floats(acc[t]), scales_of_rows(id, scales + (t) % NV * W * 4, k));                                \
        term = v_mul(term, v_set1(q->unit[(t) / NV % QUANT_QUERIES]));                                                         \
        v_store(to, first ? term : v_add(v_load(to), term));                                                                   \
    }
    bool first = true;
    for (size_t b = 0, end; b < n_blocks; b = end, k++) {
        end = quant_scale_end(id, d, b);
        for (size_t from = b, until; from < end; from = until) {
            until = exact_end(from, end);
            EACH_8(CLEAR, 0)
            for (; at < until * UNITS_OF_BLOCK; at++) {
                if (quant_bits(id) == 8)
                    v_prefetch(levels + at * PANEL * 4 + CODES_AHEAD(8));
                LOAD(0)
                LOAD(1)
                EACH_8(MULTIPLY_EVEN, 0)
                EACH_8(MULTIPLY_ODD, 0)
            }
            EACH_8(SCALE, 0)
            first = false;
        }
    }
#undef CLEAR
#undef LOAD
#undef MULTIPLY_EVEN
#undef MULTIPLY_ODD
#undef SCALE
}

/* The same where the panel's codes may have less than 8 bits. */
INLINE void score_panel(enum storage_id id, size_t m, const struct quant_queries *q, size_t d, const char *panel,
                        const char *scales, float *s, size_t lds)
{
    char buffer[SHAPE_DIM_MAX * PANEL];
    score_levels(id, m, q, d, levels_of_panel(id, panel, d, buffer), scales, s, lds);
}

#endif
