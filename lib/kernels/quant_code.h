/* From numbers to codes and back, one row at a time: what every faster version must agree with to the bit. The row is rotated
 * already where its storage rotates. See kernels/quant.h for what codes mean and where they lie. */
#ifndef ATTND_KERNELS_QUANT_CODE_H
#define ATTND_KERNELS_QUANT_CODE_H

#include "kernels/element.h"
#include "kernels/quant.h"
#include <math.h>

/* A row taken apart. Codes of 8 bits are levels. */
struct quant_row {
    uint8_t code[QUANT_CODES_MAX];
    float scale[QUANT_BLOCKS_MAX]; /* of blocks or spans, as they will be read back */
};

/* ---- codes of one block and their bytes: eight at a time, whatever the order of a word's bytes */

#define QUANT_EACH_BYTE UINT64_C(0x0101010101010101)

static inline uint64_t quant_word(const uint8_t *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

static inline void quant_put_word(uint64_t word, uint8_t *bytes)
{
    memcpy(bytes, &word, sizeof word);
}

static inline void quant_put_codes(size_t bits, const uint8_t code[QUANT_BLOCK], uint8_t *bytes)
{
    uint64_t c0 = quant_word(code), c1 = quant_word(code + 8), c2 = quant_word(code + 16), c3 = quant_word(code + 24);
    if (bits == 8) {
        memcpy(bytes, code, QUANT_BLOCK);
        return;
    }
    if (bits == 4) {
        quant_put_word(c0 | c2 << 4, bytes);
        quant_put_word(c1 | c3 << 4, bytes + 8);
        return;
    }
    uint64_t low = 3 * QUANT_EACH_BYTE, third = QUANT_EACH_BYTE;
    quant_put_word((c0 & low) | (c1 & low) << 2 | (c2 & low) << 4 | (c3 & low) << 6, bytes);
    if (bits == 3) {
        uint32_t half[2];
        c0 = (c0 >> 2 & third) | (c1 >> 2 & third) << 2 | (c2 >> 2 & third) << 4 | (c3 >> 2 & third) << 6;
        memcpy(half, &c0, sizeof half);
        half[0] |= half[1] << 1;
        memcpy(bytes + 8, half, sizeof *half);
    }
}

static inline void quant_get_codes(size_t bits, const uint8_t *bytes, uint8_t code[QUANT_BLOCK])
{
    if (bits == 8) {
        memcpy(code, bytes, QUANT_BLOCK);
        return;
    }
    uint64_t x = quant_word(bytes), low = 3 * QUANT_EACH_BYTE;
    if (bits == 4) {
        uint64_t y = quant_word(bytes + 8), nibble = 15 * QUANT_EACH_BYTE;
        quant_put_word(x & nibble, code);
        quant_put_word(y & nibble, code + 8);
        quant_put_word(x >> 4 & nibble, code + 16);
        quant_put_word(y >> 4 & nibble, code + 24);
        return;
    }
    uint64_t third = 0;
    if (bits == 3) {
        uint32_t half[2];
        memcpy(half, bytes + 8, sizeof *half);
        half[1] = half[0] >> 1;
        memcpy(&third, half, sizeof third);
    }
    for (size_t s = 0; s < 4; s++)
        quant_put_word((x >> 2 * s & low) | (third >> 2 * s & QUANT_EACH_BYTE) << 2, code + 8 * s);
}

static inline float quant_level(enum storage_id id, unsigned code)
{
    return quant_bits(id) == 8 ? (float)(int8_t)code : (float)quant_levels(id)[code];
}

/* ---- rounding */

/* x rounded to nearest, ties away from 0, within [-most, most]; what is no number: -most. */
static inline uint8_t quant_round(float x, float most)
{
    x = !(x > -most) ? -most : x > most ? most : x;
    return (uint8_t)(int8_t)(int)(x + (x < 0 ? -0.5f : 0.5f));
}

/* To 12 significant bits. */
static inline float quant_short(float x)
{
    uint32_t u = f32_bits(x);
    return f32_of_bits((u + 0x7ffu + (u >> 12 & 1u)) & ~0xfffu);
}

static inline float quant_magnitude(const float *x, size_t n)
{
    float most = 0;
    for (size_t c = 0; c < n; c++)
        most = fabsf(x[c]) > most ? fabsf(x[c]) : most;
    return most;
}

/* ggml's rule: the largest magnitude gets 127, or the number with the largest magnitude -8. Where the scale is too small for a
 * half, the block is 0. */
static inline float quant_block_q8(const float *x, uint8_t *code)
{
    float d = quant_magnitude(x, QUANT_BLOCK) / 127, stored = f16_to_f32(f16_of_f32(d)), inverse = stored > 0 ? 1 / d : 0;
    for (size_t c = 0; c < QUANT_BLOCK; c++)
        code[c] = quant_round(x[c] * inverse, 127);
    return stored;
}

static inline float quant_block_q4(const float *x, uint8_t *code)
{
    float most = 0, extreme = 0;
    for (size_t c = 0; c < QUANT_BLOCK; c++)
        if (fabsf(x[c]) > most) {
            most = fabsf(x[c]);
            extreme = x[c];
        }
    float d = extreme / -8, stored = f16_to_f32(f16_of_f32(d)), inverse = stored != 0 ? 1 / d : 0;
    for (size_t c = 0; c < QUANT_BLOCK; c++) {
        float level = x[c] * inverse, at = level + 8.5f;
        code[c] = (uint8_t)(!(at > 0) ? 0 : at < 15 ? at : 15);
    }
    return stored;
}

static inline float quant_scale_8(float most)
{
    return quant_short(most / 127);
}

static inline float quant_inverse_8(float scale)
{
    return scale > 0x1p-126f ? 1 / scale : 0;
}

/* n > 0 coordinates that share a scale. */
static inline float quant_span_8(const float *x, size_t n, uint8_t *code)
{
    float scale = quant_scale_8(quant_magnitude(x, n)), inverse = quant_inverse_8(scale);
    for (size_t c = 0; c < n; c++)
        code[c] = quant_round(x[c] * inverse, 127);
    return scale;
}

/* What brings numbers of this magnitude near 1, whose squares neither overflow nor vanish: a power of two, and exact. */
static inline float quant_near_one(float most)
{
    return f32_of_bits(0x7f000000u - (f32_bits(most) & 0x7f800000u));
}

/* Squares are summed in QUANT_LANES chains, number c in chain c % QUANT_LANES, which are then added up as a tree: the order that
 * vectors of any width can keep. */
enum { QUANT_LANES = 16 };

static inline float quant_sum_lanes(float lane[QUANT_LANES])
{
    for (size_t h = QUANT_LANES / 2; h > 0; h /= 2)
        for (size_t l = 0; l < h; l++)
            lane[l] += lane[l + h];
    return lane[0];
}

static inline float quant_norm(const float *x, size_t n)
{
    float near_one = quant_near_one(quant_magnitude(x, n)), lane[QUANT_LANES] = {0};
    for (size_t c = 0; c < n; c++) {
        float y = x[c] * near_one, square = y * y;
        lane[c % QUANT_LANES] += square;
    }
    return sqrtf(quant_sum_lanes(lane)) / near_one;
}

/* What n coordinates of this norm are multiplied with to be deviates in units of half a level, in which the thresholds between
 * levels are whole; 0 where they are too small or too large for that, or no numbers. */
static inline float quant_factor(enum storage_id id, float norm, size_t n)
{
    float factor = norm > 0 ? 2 * quant_unit(id) * sqrtf((float)n) / norm : 0;
    return factor < INFINITY ? factor : 0;
}

/* The scale that gives the levels, whose squares add up to this, the row's norm. */
static inline float quant_level_scale(float norm, int32_t squares)
{
    return quant_short(norm / (float)sqrt((double)squares));
}

/* Levels lie symmetrically: the code of a negative number is the mirrored one of its magnitude. Of two levels equally near the
 * farther from 0 is taken. */
static inline unsigned quant_nearest_level(enum storage_id id, float halves)
{
    const int8_t *level = quant_levels(id);
    unsigned n_levels = 1u << quant_bits(id), k = n_levels / 2, magnitude = fabsf(halves) < 255 ? (unsigned)fabsf(halves) : 255;
    while (k + 1 < n_levels && (int)magnitude >= level[k] + level[k + 1])
        k++;
    return f32_bits(halves) >> 31 ? n_levels - 1 - k : k;
}

/* Each coordinate to the nearest level; where there is no factor, to the least. */
static inline float quant_span_levels(enum storage_id id, const float *x, size_t n, uint8_t *code)
{
    const int8_t *level = quant_levels(id);
    float norm = quant_norm(x, n), factor = quant_factor(id, norm, n);
    int32_t squares = 0;
    for (size_t c = 0; c < n; c++) {
        code[c] = (uint8_t)(factor > 0 ? quant_nearest_level(id, x[c] * factor) : 1u << (quant_bits(id) - 1));
        squares += level[code[c]] * level[code[c]];
    }
    return factor > 0 ? quant_level_scale(norm, squares) : 0;
}

/* x (n,) to row; codes beyond n are of a coordinate 0. */
static inline void quant_encode(enum storage_id id, const float *x, size_t n, struct quant_row *row)
{
    size_t k = 0;
    for (size_t b = 0, end; b < quant_blocks(n); b = end, k++) {
        size_t at = b * QUANT_BLOCK, here = n - at;
        uint8_t *code = row->code + at;
        end = quant_scale_end(id, n, b);
        if (quant_scales_blocks(id)) {
            float block[QUANT_BLOCK] = {0};
            memcpy(block, x + at, (here < QUANT_BLOCK ? here : QUANT_BLOCK) * sizeof *x);
            row->scale[k] = quant_bits(id) == 8 ? quant_block_q8(block, code) : quant_block_q4(block, code);
            continue;
        }
        here = here < (end - b) * QUANT_BLOCK ? here : (end - b) * QUANT_BLOCK;
        row->scale[k] = quant_bits(id) == 8 ? quant_span_8(x + at, here, code) : quant_span_levels(id, x + at, here, code);
        memset(code + here, 0, (end - b) * QUANT_BLOCK - here);
    }
}

static inline void quant_decode(enum storage_id id, const struct quant_row *row, size_t n, float *x)
{
    size_t k = 0;
    for (size_t b = 0, end; b < quant_blocks(n); b = end, k++) {
        end = quant_scale_end(id, n, b);
        for (size_t c = b * QUANT_BLOCK; c < n && c < end * QUANT_BLOCK; c++)
            x[c] = row->scale[k] * quant_level(id, row->code[c]);
    }
}

/* ---- rows in memory */

static inline void quant_put_value(enum storage_id id, const struct quant_row *row, size_t e, uint8_t *out)
{
    for (size_t b = 0; b < quant_blocks(e); b++)
        quant_put_codes(quant_bits(id), row->code + b * QUANT_BLOCK, out + quant_value_codes(id, e, b));
    for (size_t k = 0; k < quant_scales(id, e); k++) {
        uint16_t half = f16_of_f32(row->scale[k]);
        uint8_t *to = out + quant_value_scale(id, k);
        if (quant_scales_blocks(id))
            memcpy(to, &half, sizeof half);
        else
            memcpy(to, &row->scale[k], sizeof row->scale[k]);
    }
}

static inline void quant_get_value(enum storage_id id, const uint8_t *in, size_t e, struct quant_row *row)
{
    for (size_t b = 0; b < quant_blocks(e); b++)
        quant_get_codes(quant_bits(id), in + quant_value_codes(id, e, b), row->code + b * QUANT_BLOCK);
    for (size_t k = 0; k < quant_scales(id, e); k++) {
        uint16_t half;
        memcpy(&half, in + quant_value_scale(id, k), sizeof half);
        if (quant_scales_blocks(id))
            row->scale[k] = f16_to_f32(half);
        else
            memcpy(&row->scale[k], in + quant_value_scale(id, k), sizeof row->scale[k]);
    }
}

/* Where a key row's first unit lies, in units from the block's row 0; its others are PANEL units apart. */
static inline size_t quant_key_unit(enum storage_id id, size_t d, size_t row)
{
    return row / PANEL * PANEL * (quant_key_bytes(id, d) / 4) + row % PANEL;
}

static inline void quant_put_key(enum storage_id id, const struct quant_row *row, size_t d, uint32_t *to)
{
    uint8_t bytes[QUANT_BLOCK];
    size_t units = quant_bits(id), n_scales = quant_scales(id, d);
    for (size_t b = 0; b < quant_blocks(d); b++) {
        quant_put_codes(units, row->code + b * QUANT_BLOCK, bytes);
        for (size_t u = 0; u < units; u++)
            memcpy(to + (b * units + u) * PANEL, bytes + 4 * u, 4);
    }
    to += quant_code_units(id, d) * PANEL;
    for (size_t k = 0; k < n_scales; k += quant_scales_blocks(id) ? 2 : 1, to += PANEL) {
        uint16_t half[2] = {f16_of_f32(row->scale[k]), k + 1 < n_scales ? f16_of_f32(row->scale[k + 1]) : 0};
        memcpy(to, quant_scales_blocks(id) ? (const void *)half : &row->scale[k], 4);
    }
}

static inline void quant_get_key(enum storage_id id, const uint32_t *from, size_t d, struct quant_row *row)
{
    uint8_t bytes[QUANT_BLOCK];
    size_t units = quant_bits(id), n_scales = quant_scales(id, d);
    for (size_t b = 0; b < quant_blocks(d); b++) {
        for (size_t u = 0; u < units; u++)
            memcpy(bytes + 4 * u, from + (b * units + u) * PANEL, 4);
        quant_get_codes(units, bytes, row->code + b * QUANT_BLOCK);
    }
    from += quant_code_units(id, d) * PANEL;
    for (size_t k = 0; k < n_scales; k++)
        if (quant_scales_blocks(id)) {
            uint16_t half[2];
            memcpy(half, from + k / 2 * PANEL, 4);
            row->scale[k] = f16_to_f32(half[k % 2]);
        } else {
            memcpy(&row->scale[k], from + k * PANEL, 4);
        }
}

#endif
