/* Scores of quantised keys by products of bytes (AVX-512 VNNI and VBMI). Include after vector_avx512_quant.h.
 *
 * A query is rotated and rounded as in vector_quant_query.h, and its whole numbers of 16 bits are cut into bytes: q = 256 high + low,
 * both signed. Levels of keys are counted from the lowest one, so that they are bytes without a sign. A lane is a row, and one
 * instruction adds the products of its 4 coordinates with high or low bytes: 256 high sum + low sum + lowest level * sum of q is the
 * exact sum over coordinates that share a scale. */
#ifndef ATTND_KERNELS_VNNI_KEYS_H
#define ATTND_KERNELS_VNNI_KEYS_H

#include "kernels/quant.h"
#include "kernels/vector_quant_query.h"
#include "kernels/vnni_levels.h"

struct quant_queries {
    struct {
        int32_t high[QUANT_QUERIES], low[QUANT_QUERIES];
    } unit_of_4[SHAPE_DIM_MAX / 4];                 /* bytes of 4 coordinates */
    int32_t start[QUANT_QUERIES][QUANT_BLOCKS_MAX]; /* lowest level * sum of q, over the run of blocks that begins here */
    float unit[QUANT_QUERIES];
};

/* Query i of them. factor: of the rotation, where there is one. */
INLINE void quant_query(enum storage_id id, const float *query, size_t d, const float *factor, size_t i,
                        struct quant_queries *q)
{
    int32_t whole[QUANT_ROOM];
    size_t n_blocks = quant_blocks(d);
    q->unit[i] = round_query(id, query, d, factor, whole);
    for (size_t c = 0; c < n_blocks * QUANT_BLOCK; c += W) {
        int32_t high[W / 4], low[W / 4];
        vi x = v_add_bits(v_load_bits(whole + c), v_set1_bits(128));
        v_store_bytes(high, v_shift_right(x, 8));
        v_store_bytes(low, v_sub_bits(x, v_set1_bits(128)));
        for (size_t u = 0; u < W / 4; u++) {
            q->unit_of_4[c / 4 + u].high[i] = high[u];
            q->unit_of_4[c / 4 + u].low[i] = low[u];
        }
    }
    for (size_t b = 0, scale_end, end; b < n_blocks; b = scale_end) {
        scale_end = quant_scale_end(id, d, b);
        for (size_t from = b; from < scale_end; from = end) {
            int32_t sum = 0;
            end = exact_end(from, scale_end);
            for (size_t c = from * QUANT_BLOCK; c < end * QUANT_BLOCK; c++)
                sum += whole[c];
            q->start[i][from] = lowest_level(id) * sum;
        }
    }
}

/* m queries against one panel, [unit][PANEL] of codes. */
INLINE void score_panel(enum storage_id id, size_t m, const struct quant_queries *q, size_t d, const char *codes,
                        const char *scales, float *s, size_t lds)
{
    enum { UNIT_BYTES = PANEL * 4 };
    vi high[QUANT_QUERIES], low[QUANT_QUERIES], table = levels_above_lowest(id);
    vf total[QUANT_QUERIES];
    size_t n_blocks = quant_blocks(d), bits = quant_bits(id), k = 0;
#define NOTHING(i) total[i] = v_set1(0);
#define START(i)                                                                                                               \
    if ((i) < m) {                                                                                                             \
        high[i] = v_set1_bits(0);                                                                                              \
        low[i] = v_set1_bits(q->start[i][from]);                                                                               \
    }
#define MULTIPLY(i)                                                                                                            \
    if ((i) < m) {                                                                                                             \
        high[i] = v_pin(_mm512_dpbusd_epi32(high[i], x, v_set1_bits(q->unit_of_4[at].high[i])));                               \
        low[i] = v_pin(_mm512_dpbusd_epi32(low[i], x, v_set1_bits(q->unit_of_4[at].low[i])));                                  \
    }
/* unit: of the block, a constant; level: levels of its coordinates */
#define UNIT(unit, level)                                                                                                      \
    {                                                                                                                          \
        vi x = level;                                                                                                          \
        size_t at = b * UNITS_OF_BLOCK + (unit);                                                                               \
        EACH_OF_4(MULTIPLY)                                                                                                    \
    }
#define CODES(unit) v_load_bits(codes + (b * bits + (unit)) * UNIT_BYTES)
#define FETCH(unit) v_prefetch(codes + (b * bits + (unit)) * UNIT_BYTES + CODES_AHEAD(bits))
#define BYTES(unit)                                                                                                            \
    FETCH(unit);                                                                                                               \
    UNIT(unit, bytes_plus_128(CODES(unit)))
#define NIBBLES(unit)                                                                                                          \
    FETCH(unit);                                                                                                               \
    UNIT(unit, levels_of_nibbles(id, table, CODES(unit)))                                                                      \
    UNIT((unit) + 4, levels_of_nibbles(id, table, v_shift_down(CODES(unit), 4)))
#define PAIRS(unit, code, third) UNIT(unit, levels_of_pairs(id, table, code, third))
#define SCALE(i)                                                                                                               \
    if ((i) < m)                                                                                                               \
        total[i] = v_fma(v_to_floats(v_add_bits(v_shift_left(high[i], 8), low[i])), scale, total[i]);
#define STORE(i)                                                                                                               \
    if ((i) < m)                                                                                                               \
        v_store(s + (i)*lds, v_mul(total[i], v_set1(q->unit[i])));
    EACH_OF_4(NOTHING)
    for (size_t first = 0, scale_end, end; first < n_blocks; first = scale_end, k++) {
        vf scale = scales_of_rows(id, scales, k);
        scale_end = quant_scale_end(id, d, first);
        for (size_t from = first; from < scale_end; from = end) {
            end = exact_end(from, scale_end);
            EACH_OF_4(START)
            for (size_t b = from; b < end; b++) {
                if (bits == 8) {
                    BYTES(0) BYTES(1) BYTES(2) BYTES(3) BYTES(4) BYTES(5) BYTES(6) BYTES(7)
                } else if (bits == 4) {
                    NIBBLES(0) NIBBLES(1) NIBBLES(2) NIBBLES(3)
                } else {
                    vi x0 = CODES(0), x1 = CODES(1), x2 = bits == 3 ? CODES(2) : x0;
                    FETCH(0);
                    FETCH(1);
                    EACH_UNIT_OF_2(PAIRS, x0, x1, x2)
                }
            }
            EACH_OF_4(SCALE)
        }
    }
    EACH_OF_4(STORE)
#undef NOTHING
#undef START
#undef MULTIPLY
#undef UNIT
#undef CODES
#undef FETCH
#undef BYTES
#undef NIBBLES
#undef PAIRS
#undef SCALE
#undef STORE
}

#endif
