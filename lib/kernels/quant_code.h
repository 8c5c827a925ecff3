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

/* ---- codes of one block and their bytes */

static inline void quant_put_codes(size_t bits, const uint8_t code[QUANT_BLOCK], uint8_t *bytes)
{
    for (size_t c = 0; bits == 8 && c < QUANT_BLOCK; c++)
        bytes[c] = code[c];
    for (size_t c = 0; bits == 4 && c < 16; c++)
        bytes[c] = (uint8_t)(code[c] | code[c + 16] << 4);
    for (size_t c = 0; bits < 4 && c < 8; c++)
        bytes[c] = (uint8_t)((code[c] & 3) | (code[c + 8] & 3) << 2 | (code[c + 16] & 3) << 4 | (code[c + 24] & 3) << 6);
    for (size_t c = 0; bits == 3 && c < 4; c++) {
        unsigned byte = 0;
        for (unsigned s = 0; s < 4; s++)
            byte |= (unsigned)code[8 * s + c] >> 2 << 2 * s | (unsigned)code[8 * s + 4 + c] >> 2 << (2 * s + 1);
        bytes[8 + c] = (uint8_t)byte;
    }
}

static inline unsigned quant_get_code(size_t bits, const uint8_t *bytes, size_t c)
{
    if (bits == 8)
        return bytes[c];
    if (bits == 4)
        return bytes[c % 16] >> 4 * (c / 16) & 15u;
    unsigned low = bytes[c % 8] >> 2 * (c / 8) & 3u;
    return bits == 2 ? low : low | (bytes[8 + c % 4] >> (c % 8 / 4 + 2 * (c / 8)) & 1u) << 2;
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

/* ggml's rule: the largest magnitude gets 127, or the number with the largest magnitude -8. Where the scale is too small for a
 * half, the block is 0. */
static inline float quant_block_q8(const float *x, uint8_t *code)
{
    float most = 0;
    for (size_t c = 0; c < QUANT_BLOCK; c++)
        most = fabsf(x[c]) > most ? fabsf(x[c]) : most;
    float d = most / 127, stored = f16_to_f32(f16_of_f32(d)), inverse = stored > 0 ? 1 / d : 0;
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
        float at = x[c] * inverse + 8.5f;
        code[c] = (uint8_t)(!(at > 0) ? 0 : at < 15 ? at : 15);
    }
    return stored;
}

/* n > 0 coordinates that share a scale. */
static inline float quant_span_8(const float *x, size_t n, uint8_t *code)
{
    float most = 0;
    for (size_t c = 0; c < n; c++)
        most = fabsf(x[c]) > most ? fabsf(x[c]) : most;
    float scale = quant_short(most / 127), inverse = scale > 0x1p-126f ? 1 / scale : 0;
    for (size_t c = 0; c < n; c++)
        code[c] = quant_round(x[c] * inverse, 127);
    return scale;
}

/* The coordinates as deviates of norm sqrt(n), each to the nearest level; then the scale that gives the levels the row's norm. */
static inline float quant_span_levels(enum storage_id id, const float *x, size_t n, uint8_t *code)
{
    const int8_t *level = quant_levels(id);
    size_t n_levels = (size_t)1 << quant_bits(id);
    double squares = 0, levels = 0;
    for (size_t c = 0; c < n; c++)
        squares += (double)x[c] * x[c];
    float norm = (float)sqrt(squares), factor = norm > 0 ? quant_unit(id) * sqrtf((float)n) / norm : 0;
    factor = factor < INFINITY ? factor : 0;
    for (size_t c = 0; c < n; c++) {
        float at = x[c] * factor;
        unsigned k = 0;
        for (size_t l = 1; l < n_levels; l++)
            k += at > 0.5f * (float)(level[l - 1] + level[l]);
        code[c] = (uint8_t)k;
        levels += level[k] * level[k];
    }
    return factor > 0 ? quant_short(norm / (float)sqrt(levels)) : 0;
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
        for (size_t c = 0; c < QUANT_BLOCK; c++)
            row->code[b * QUANT_BLOCK + c] = (uint8_t)quant_get_code(quant_bits(id), in + quant_value_codes(id, e, b), c);
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
        for (size_t c = 0; c < QUANT_BLOCK; c++)
            row->code[b * QUANT_BLOCK + c] = (uint8_t)quant_get_code(units, bytes, c);
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
