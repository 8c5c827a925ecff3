/* The kernels of kivi2 (kernels/kivi.h) in vectors of any width: include after a vector_<isa>_quant.h and the kernels of f32 rows.
 * Rows are packed and read back to the bit as scalar_kivi.c does. A group has but four numbers, so a code is looked up in a table of
 * them, which one operation does for a vector, and attention works on f32 from there. */
#ifndef ATTND_KERNELS_VECTOR_KIVI_H
#define ATTND_KERNELS_VECTOR_KIVI_H

#include "kernels/kivi.h"
#include "kernels/vector_accumulate.h"
#include "kernels/vector_nearest.h"
#include "kernels/vector_quant_code.h"
#include "kernels/vector_rows.h"
#include "kernels/vector_score.h"

/* Floats that values are widened to at a time: half of a first-level cache. */
enum { KIVI_FLOATS = 4 * SHAPE_DIM_MAX, KIVI_QUERIES = 64 };

INLINE uint32_t kivi_word(const char *at, size_t i)
{
    uint32_t word;
    memcpy(&word, at + 4 * i, sizeof word);
    return word;
}

/* Extremes of lanes to parameters, as they are stored and as they are read back. */
struct kivi_lanes {
    vf zero, scale, inverse;
};

INLINE struct kivi_lanes kivi_lanes_of(vf low, vf high, void *scale, void *zero)
{
    float lows[W], highs[W], inverse[W], scales[W], zeros[W];
    v_store(lows, low);
    v_store(highs, high);
    for (size_t l = 0; l < W; l++) {
        struct kivi_group group = kivi_group_of(lows[l], highs[l]);
        memcpy((char *)scale + 2 * l, &group.scale, 2);
        memcpy((char *)zero + 2 * l, &group.zero, 2);
        scales[l] = f16_to_f32(group.scale);
        zeros[l] = f16_to_f32(group.zero);
        inverse[l] = kivi_inverse(scales[l]);
    }
    return (struct kivi_lanes){v_load(zeros), v_load(scales), v_load(inverse)};
}

INLINE vi kivi_codes(vf x, const struct kivi_lanes *by)
{
    vf at = v_add(v_mul(v_sub(x, by->zero), by->inverse), v_set1(0.5f));
    return v_truncate(v_min(v_max(at, v_set1(0)), v_set1(3)));
}

/* Lanes are channels, the last ones of d perhaps absent: they get 0. */
INLINE void kivi_pack_channels(const float *rows, size_t n, size_t d, size_t c, char *panel)
{
    size_t padded = kivi_padded(d), there = d - c < W ? d - c : W;
    char *second = panel + kivi_panel_bytes(d);
    vf low = v_set1(INFINITY), high = v_set1(-INFINITY);
    for (size_t j = 0; j < n; j++) {
        vf x = v_load_lanes(rows + j * d + c, 0, there);
        low = v_min(x, low);
        high = v_max(x, high);
    }
    struct kivi_lanes by = kivi_lanes_of(low, high, panel + 4 * padded + 2 * c, second + 4 * padded + 2 * c);
    for (size_t p = 0; p < 2; p++) {
        vi word = v_set1_bits(0);
        for (size_t j = p * PANEL; j < (p + 1) * PANEL; j++) {
            word = v_shift_down(word, 2);
            if (j < n)
                word = v_or(word, v_shift_left(kivi_codes(v_load_lanes(rows + j * d + c, 0, there), &by), 30));
        }
        v_store_bits((p ? second : panel) + 4 * c, word);
    }
}

TARGET void SLOT(pack_keys_kivi2)(const float *rows, size_t n, size_t d, void *keys, size_t row)
{
    size_t padded = kivi_padded(d);
    for (size_t j = 0; j < n; j += KIVI_ROWS, rows += KIVI_ROWS * d) {
        char *panel = (char *)keys + (row + j) / PANEL * kivi_panel_bytes(d);
        for (size_t c = 0; c < d; c += W)
            kivi_pack_channels(rows, n - j < KIVI_ROWS ? n - j : KIVI_ROWS, d, c, panel);
        for (size_t p = 0; p < 2; p++, panel += kivi_panel_bytes(d)) {
            memset(panel + 4 * d, 0, 4 * (padded - d));
            memset(panel + 4 * padded + 2 * d, 0, 2 * (padded - d));
        }
    }
}

/* 16 bytes of codes to 32 bits. */
INLINE uint32_t kivi_word_of_bytes(const uint8_t *code)
{
    uint32_t word = 0;
    for (size_t i = 0; i < 16; i++)
        word |= (uint32_t)code[i] << 2 * i;
    return word;
}

TARGET void SLOT(pack_values_kivi2)(const float *rows, size_t n, size_t e, void *values, size_t row)
{
    char *to = (char *)values + row * kivi_bytes(e);
    for (size_t j = 0; j < n; j++, rows += e)
        for (size_t c = 0; c < e; c += QUANT_BLOCK, to += KIVI_BLOCK_BYTES) {
            size_t here = e - c < QUANT_BLOCK ? e - c : QUANT_BLOCK;
            float x[QUANT_BLOCK];
            uint8_t code[QUANT_BLOCK];
            char scale[2 * W], zero[2 * W];
            vf low = v_set1(INFINITY), high = v_set1(-INFINITY);
            memcpy(x, rows + c, here * sizeof *x);
            for (size_t i = here; i < QUANT_BLOCK; i++)
                x[i] = NAN; /* which is no extreme, and has code 0 */
            for (size_t i = 0; i < QUANT_BLOCK; i += W) {
                low = v_min(v_load(x + i), low);
                high = v_max(v_load(x + i), high);
            }
            float least = -v_max_lanes(v_sub(v_set1(0), low));
            struct kivi_lanes by = kivi_lanes_of(v_set1(least), v_set1(v_max_lanes(high)), scale, zero);
            for (size_t i = 0; i < QUANT_BLOCK; i += W)
                v_store_bytes(code + i, kivi_codes(v_load(x + i), &by));
            uint32_t word[2] = {kivi_word_of_bytes(code), kivi_word_of_bytes(code + 16)};
            memcpy(to, scale, 2);
            memcpy(to + 2, zero, 2);
            memcpy(to + 4, word, sizeof word);
        }
}

/* What the codes of a group stand for: zero + scale * 0, 1, 2, 3. Writes W numbers, of which 4 count. */
INLINE void kivi_table(float scale, float zero, vf steps, float *table)
{
    v_store(table, v_add(v_set1(zero), v_mul(v_set1(scale), steps)));
}

INLINE vf kivi_steps(void)
{
    float steps[W];
    for (size_t l = 0; l < W; l++)
        steps[l] = (float)(l % 4);
    return v_load(steps);
}

enum { KIVI_TABLES = 4 * SHAPE_DIM_MAX + 16 }; /* of all channels, and W numbers */

/* Those of each channel of the group of a row, 4 numbers after 4. */
INLINE void kivi_tables(const void *keys, size_t d, size_t row, float *tables)
{
    struct kivi_params params = kivi_params_of(keys, d, row);
    vf steps = kivi_steps();
    for (size_t c = 0; c < d; c += W) { /* padded to whole blocks */
        float scale[W], zero[W];
        v_store(scale, v_load_f16(params.scale + 2 * c));
        v_store(zero, v_load_f16(params.zero + 2 * c));
        for (size_t l = 0; l < W && c + l < d; l++)
            kivi_table(scale[l], zero[l], steps, tables + 4 * (c + l));
    }
}

/* A panel as one of f32. */
INLINE void kivi_panel_to_f32(const void *keys, size_t d, size_t row, float *panel)
{
    const char *codes = kivi_panel(keys, d, row);
    float tables[KIVI_TABLES];
    kivi_tables(keys, d, row, tables);
    for (size_t c = 0; c < d; c++, panel += PANEL)
        for (size_t l = 0; l < PANEL; l += W)
            v_store(panel + l, v_lookup_pairs(tables + 4 * c, kivi_word(codes, c), l));
}

TARGET void SLOT(unpack_keys_kivi2)(const void *keys, size_t row, size_t n, size_t d, float *rows)
{
    float panel[PANEL * SHAPE_DIM_MAX];
    for (size_t j = 0; j < n; j++, row++) {
        if (j == 0 || row % PANEL == 0)
            kivi_panel_to_f32(keys, d, row, panel);
        for (size_t c = 0; c < d; c++)
            rows[j * d + c] = panel[c * PANEL + row % PANEL];
    }
}

/* A block's 32 columns. */
INLINE void kivi_block_to_f32(const char *block, vf steps, float *x)
{
    float table[W];
    uint16_t half[2];
    memcpy(half, block, sizeof half);
    kivi_table(f16_to_f32(half[0]), f16_to_f32(half[1]), steps, table);
    for (size_t i = 0; i < QUANT_BLOCK; i += W)
        v_store(x + i, v_lookup_pairs(table, kivi_word(block + 4, i / 16), i % 16));
}

TARGET void SLOT(unpack_values_kivi2)(const void *values, size_t row, size_t n, size_t e, float *rows)
{
    const char *block = (const char *)values + row * kivi_bytes(e);
    vf steps = kivi_steps();
    for (size_t j = 0; j < n; j++, rows += e) {
        size_t c = 0;
        for (; c + QUANT_BLOCK <= e; c += QUANT_BLOCK, block += KIVI_BLOCK_BYTES)
            kivi_block_to_f32(block, steps, rows + c);
        if (c < e) {
            float x[QUANT_BLOCK];
            kivi_block_to_f32(block, steps, x);
            memcpy(rows + c, x, (e - c) * sizeof *x);
            block += KIVI_BLOCK_BYTES;
        }
    }
}

/* m queries against np panels of one group: the sums of score_tile in vector_score.h, in the same order. */
INLINE void kivi_score_panels(size_t m, size_t np, const float *q, size_t d, const float *tables, const char *codes, float *s,
                              size_t lds)
{
    enum { NV = PANEL / W };
    size_t nv = np * NV, panel_bytes = kivi_panel_bytes(d);
    vf acc[MAX_ACCUMULATORS], k[MAX_VECTORS];
#define CLEAR(t)                                                                                                               \
    if ((t) < m * nv)                                                                                                          \
        acc[t] = v_set1(0);
#define LOAD(v)                                                                                                                \
    if ((v) < nv)                                                                                                              \
        k[v] = v_lookup_pairs(tables + 4 * c, kivi_word(codes + (v) / NV * panel_bytes, c), (v) % NV * W);
#define MULTIPLY(t)                                                                                                            \
    if ((t) < m * nv)                                                                                                          \
        acc[t] = v_fma(v_set1(q[(t) / nv * d + c]), k[(t) % nv], acc[t]);
#define STORE(t)                                                                                                               \
    if ((t) < m * nv)                                                                                                          \
        v_store(s + (t) / nv * lds + (t) % nv * W, acc[t]);
    EACH(CLEAR)
    for (size_t c = 0; c < d; c++) {
        EACH_8(LOAD, 0)
        EACH(MULTIPLY)
    }
    EACH(STORE)
#undef CLEAR
#undef LOAD
#undef MULTIPLY
#undef STORE
}

/* A panel, or both of a group, against all queries: few at a time, so that the codes are read as they are. One or two take both panels,
 * that there be enough sums side by side. */
INLINE void kivi_score_few(const float *q, size_t n_q, size_t d, const float *tables, const char *codes, size_t np, float *s,
                           size_t lds)
{
    size_t n_blocks = (n_q + TILE_QUERIES - 1) / TILE_QUERIES;
    for (size_t b = 0, m; b < n_blocks; b++, q += m * d, s += m * lds) {
        m = block_of(n_q, b, n_blocks);
#define OF(m, np, at) kivi_score_panels(m, np, q, d, tables, codes + (at)*kivi_panel_bytes(d), s + (at)*PANEL, lds)
        if (m <= 2 && np == 2) {
            if (m == 1)
                OF(1, 2, 0);
            else
                OF(2, 2, 0);
            continue;
        }
        for (size_t at = 0; at < np; at++)
            switch (m) {
            case 1: OF(1, 1, at); break;
            case 2: OF(2, 1, at); break;
            case 3: OF(3, 1, at); break;
            case 4: OF(4, 1, at); break;
            case 5: OF(5, 1, at); break;
            default: OF(6, 1, at); break;
            }
#undef OF
    }
}

/* Few queries meet codes; more are worth a panel of f32. */
TARGET void SLOT(score_kivi2)(const float *q, size_t n_q, size_t d, const void *keys, size_t row, size_t n, float *s,
                              size_t lds)
{
    float tables[KIVI_TABLES];
    _Alignas(64) float panel[PANEL * SHAPE_DIM_MAX];
    for (size_t j = 0, now; j < n; j += now, row += now) {
        now = row % KIVI_ROWS == 0 && n - j > PANEL ? KIVI_ROWS : PANEL;
        if (n_q <= 2 * TILE_QUERIES) {
            if (j == 0 || row % KIVI_ROWS == 0)
                kivi_tables(keys, d, row, tables);
            kivi_score_few(q, n_q, d, tables, kivi_panel(keys, d, row), now / PANEL, s + j, lds);
            continue;
        }
        for (size_t at = 0; at < now; at += PANEL) {
            kivi_panel_to_f32(keys, d, row + at, panel);
            score_f32(q, n_q, d, panel, 0, PANEL, s + j + at, lds);
        }
    }
}

TARGET void SLOT(accumulate_kivi2)(const float *p, size_t ldp, const float *f, size_t n_q, const void *values, size_t row,
                                   size_t n, size_t e, float *acc, size_t lda)
{
    _Alignas(64) float rows[KIVI_FLOATS];
    float one[KIVI_QUERIES];
    size_t most = KIVI_FLOATS / e, now;
    rescale(f, n_q, e, acc, lda);
    for (size_t i = 0; i < KIVI_QUERIES; i++)
        one[i] = 1;
    for (size_t j = 0; j < n; j += now) {
        now = n - j < most ? n - j : most;
        SLOT(unpack_values_kivi2)(values, row + j, now, e, rows);
        for (size_t i = 0; i < n_q; i += KIVI_QUERIES)
            accumulate_f32(p + i * ldp + j, ldp, one, n_q - i < KIVI_QUERIES ? n_q - i : KIVI_QUERIES, rows, 0, now, e,
                           acc + i * lda, lda);
    }
}

TARGET size_t SLOT(nearest_kivi2)(const float *key, size_t d, const void *keys, size_t n, float *distance)
{
    float panel[PANEL * SHAPE_DIM_MAX];
    struct nearest_lanes best = nearest_none();
    for (size_t row = 0; row < n; row += PANEL) {
        kivi_panel_to_f32(keys, d, row, panel);
        nearest_tile(STORAGE_F32, PANEL / W, key, d, (const char *)panel, 0, row, n, &best);
    }
    return nearest_of_lanes(&best, distance);
}

#endif
