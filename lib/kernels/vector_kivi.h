/* The kernels of kivi2 (kernels/kivi.h) in vectors of any width: include after a vector_<isa>_quant.h and the kernels of f32 rows.
 * Rows are packed and read back to the bit as scalar_kivi.c does; attention reads them back a panel or some rows at a time, and then
 * works on f32. */
#ifndef ATTND_KERNELS_VECTOR_KIVI_H
#define ATTND_KERNELS_VECTOR_KIVI_H

#include "kernels/kivi.h"
#include "kernels/vector_accumulate.h"
#include "kernels/vector_nearest.h"
#include "kernels/vector_quant_code.h"
#include "kernels/vector_rows.h"
#include "kernels/vector_score.h"

enum { KIVI_FLOATS = 16 * SHAPE_DIM_MAX, KIVI_QUERIES = 64 };

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

TARGET static void pack_keys_kivi2(const float *rows, size_t n, size_t d, void *keys, size_t row)
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

TARGET static void pack_values_kivi2(const float *rows, size_t n, size_t e, void *values, size_t row)
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

/* A panel as one of f32. */
INLINE void kivi_panel_to_f32(const void *keys, size_t d, size_t row, float *panel)
{
    const char *codes = kivi_panel(keys, d, row);
    struct kivi_params params = kivi_params_of(keys, d, row);
    float scale[SHAPE_DIM_MAX], zero[SHAPE_DIM_MAX];
    for (size_t c = 0; c < d; c += W) {
        v_store(scale + c, v_load_f16(params.scale + 2 * c));
        v_store(zero + c, v_load_f16(params.zero + 2 * c));
    }
    for (size_t c = 0; c < d; c++, panel += PANEL) {
        uint32_t word = kivi_word(codes, c);
        for (size_t l = 0; l < PANEL; l += W)
            v_store(panel + l, v_add(v_set1(zero[c]), v_mul(v_set1(scale[c]), v_to_floats(v_pairs_of_bits(word, l)))));
    }
}

TARGET static void unpack_keys_kivi2(const void *keys, size_t row, size_t n, size_t d, float *rows)
{
    float panel[PANEL * SHAPE_DIM_MAX];
    for (size_t j = 0; j < n; j++, row++) {
        if (j == 0 || row % PANEL == 0)
            kivi_panel_to_f32(keys, d, row, panel);
        for (size_t c = 0; c < d; c++)
            rows[j * d + c] = panel[c * PANEL + row % PANEL];
    }
}

TARGET static void unpack_values_kivi2(const void *values, size_t row, size_t n, size_t e, float *rows)
{
    const char *block = (const char *)values + row * kivi_bytes(e);
    for (size_t j = 0; j < n; j++, rows += e)
        for (size_t c = 0; c < e; c += QUANT_BLOCK, block += KIVI_BLOCK_BYTES) {
            uint16_t half[2];
            float x[QUANT_BLOCK];
            memcpy(half, block, sizeof half);
            vf scale = v_set1(f16_to_f32(half[0])), zero = v_set1(f16_to_f32(half[1]));
            for (size_t i = 0; i < QUANT_BLOCK; i += W)
                v_store(x + i, v_add(zero, v_mul(scale, v_to_floats(v_pairs_of_bits(kivi_word(block + 4, i / 16), i % 16)))));
            memcpy(rows + c, x, (e - c < QUANT_BLOCK ? e - c : QUANT_BLOCK) * sizeof *x);
        }
}

TARGET static void score_kivi2(const float *q, size_t n_q, size_t d, const void *keys, size_t row, size_t n, float *s,
                               size_t lds)
{
    _Alignas(64) float panel[PANEL * SHAPE_DIM_MAX];
    for (size_t j = 0; j < n; j += PANEL) {
        kivi_panel_to_f32(keys, d, row + j, panel);
        score_f32(q, n_q, d, panel, 0, PANEL, s + j, lds);
    }
}

TARGET static void accumulate_kivi2(const float *p, size_t ldp, const float *f, size_t n_q, const void *values, size_t row,
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
        unpack_values_kivi2(values, row + j, now, e, rows);
        for (size_t i = 0; i < n_q; i += KIVI_QUERIES)
            accumulate_f32(p + i * ldp + j, ldp, one, n_q - i < KIVI_QUERIES ? n_q - i : KIVI_QUERIES, rows, 0, now, e,
                           acc + i * lda, lda);
    }
}

TARGET static size_t nearest_kivi2(const float *key, size_t d, const void *keys, size_t n, float *distance)
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
