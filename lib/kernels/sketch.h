/* Keys with a sketch: rot4s, rot3s, rot2s. Of b bits per coordinate b - 1 are a rotated code, the last one is the sign of a projection
 * of what the code leaves over, so that inner products with queries are unbiased. A key takes the bytes of plain rot<b>; values are
 * stored as rot<b>: a sum of values has no use for a sketch.
 *
 *     x = R k          the rotation of rotate.h, span by span (quant.h)
 *     x' = a * level   b - 1 bits: Lloyd-Max levels, or signs; a = <x,level> / <level,level>, the least squares
 *     y = S (x - x')   the projection: two more randomised Hadamard transforms, signs of their own
 *     r' = g * S^T sign(y),  g = |y|^2 / sum |y_c|
 *     k' = R^T (x' + r')     and the score is <q,k'> = a <R q, level> + g <S R q, sign(y)>: sign(y) is one more rotated code
 *
 * Why g: <y, g sign(y)> = |y|^2, the estimate is exact in the residual's own direction. What is left lies across it, and over random
 * orthogonal S in every direction across alike: E r' = x - x' whatever the key and the query are, E <q,k'> = <q,k>. The expectation of
 * g is sqrt(pi/2) |y| / sqrt(n), the constant of a dense Gaussian projection; what g of the row itself saves is the spread of
 * sum |y_c| (RaBitQ's argument, arXiv 2405.12497; the sketch: QJL, 2406.03482, and TurboQuant_prod, 2504.19874).
 * Which randomness: R and S are one draw, the same for every row, so for one key and query the error is a fixed number; it has mean 0
 * over draws, or as well over keys and queries in random directions, and the tests measure both. One Hadamard transform is too
 * regular an S: all its entries have one magnitude, so that the third order of sign() leaves a share of sum r_c^3 x'_c, and what a
 * code leaves over is skewed at its outermost levels: 0.1 % of <q,k> was measured. After two of them entries are near normal.
 * Plain rot<b> keeps norms and shrinks inner products to sqrt(1 - D(b)) of them (D: 0.363, 0.1175,
 * 0.03454, 0.009497 at 1, 2, 3, 4 bits).
 *
 * The price (derived): |r'|^2 = g^2 n ~ pi/2 |y|^2, so E |k' - k|^2 = (pi/2 - 1) D(b-1) |k|^2: 0.207, 0.0671, 0.0197 for rot2s, rot3s,
 * rot4s, about twice that of plain rot<b>; a query in another direction meets |q|^2/d of it. Bias is paid once per key, variance
 * once per row: softmax turns it into e^(var/2). Since r' is noise, what is read back is longer than the key and must not be stored
 * again and again: policies that store what they read refuse these.
 *
 * A key row, in units of 32 bits: codes of b - 1 bits block after block (quant.h; 1 bit: as signs), a unit of signs for each block:
 * coordinate c in byte c % 4, bit c / 4, set for -1; then a and g of each span, a pair of bf16. */
#ifndef ATTND_KERNELS_SKETCH_H
#define ATTND_KERNELS_SKETCH_H

#include "kernels/quant_code.h"
#include "kernels/rotate.h"

#define PROJECTION_SEED UINT64_C(0x70726f6a656374)

/* What rotate (rotate.h) takes for R and for the two steps of S. */
struct sketch_maps {
    float rotation[SHAPE_DIM_MAX], projection[2][SHAPE_DIM_MAX];
};

static inline void sketch_maps_of(size_t d, struct sketch_maps *maps)
{
    rotate_factors(d, maps->rotation);
    for (uint64_t step = 0; step < 2; step++)
        rotate_factors_of(PROJECTION_SEED + (step << 32), d, maps->projection[step]);
}

/* The plain storage of as many bits: a key's bytes, and the values. */
static inline enum storage_id sketch_plain(enum storage_id id)
{
    return id == STORAGE_ROT4S ? STORAGE_ROT4 : id == STORAGE_ROT3S ? STORAGE_ROT3 : STORAGE_ROT2;
}

static inline size_t sketch_code_bits(enum storage_id id)
{
    return quant_bits(sketch_plain(id)) - 1;
}

/* The storage whose levels the codes have, of more than 1 bit. */
static inline enum storage_id sketch_base(size_t code_bits)
{
    return code_bits == 3 ? STORAGE_ROT3 : STORAGE_ROT2;
}

#define SKETCH_SPANS STORAGE_ROT2 /* all storages of less than 8 bits have these spans */

/* A key taken apart, scales as they will be read back. */
struct sketch_key {
    struct quant_row base, sign; /* codes and a; signs and g. A sign is 1 for -1 */
};

static inline int32_t sketch_level(size_t code_bits, unsigned code)
{
    return code_bits == 1 ? 1 - 2 * (int32_t)code : quant_levels(sketch_base(code_bits))[code];
}

static inline float sketch_short(float x)
{
    return x < INFINITY && x > -INFINITY ? bf16_to_f32(bf16_of_f32(x)) : 0;
}

/* Signs of n coordinates; whole blocks of codes. */
static inline void sketch_signs(const float *x, size_t n, uint8_t *code)
{
    for (size_t c = 0; c < n; c++)
        code[c] = x[c] < 0;
    memset(code + n, 0, quant_blocks(n) * QUANT_BLOCK - n);
}

/* The scales a of the codes in `base`, what they leave over, and its norm in each span. */
static inline void sketch_fit(size_t code_bits, const float *x, size_t n, struct quant_row *base, float *rest, float *norm)
{
    size_t k = 0;
    for (size_t b = 0, end; b < quant_blocks(n); b = end, k++) {
        end = quant_scale_end(SKETCH_SPANS, n, b);
        size_t at = b * QUANT_BLOCK, here = n < end * QUANT_BLOCK ? n - at : end * QUANT_BLOCK - at;
        float lane[QUANT_LANES] = {0};
        int32_t squares = 0;
        for (size_t c = 0; c < here; c++) {
            int32_t level = sketch_level(code_bits, base->code[at + c]);
            float product = x[at + c] * (float)level;
            lane[c % QUANT_LANES] += product;
            squares += level * level;
        }
        base->scale[k] = sketch_short(quant_sum_lanes(lane) / (float)squares);
        for (size_t c = at; c < at + here; c++) {
            float fitted = base->scale[k] * (float)sketch_level(code_bits, base->code[c]);
            rest[c] = x[c] - fitted;
        }
        norm[k] = quant_norm(rest + at, here);
    }
}

/* Signs and scales g of the projected rest y. */
static inline void sketch_project(const float *y, size_t n, const float *norm, struct quant_row *sign)
{
    size_t k = 0;
    sketch_signs(y, n, sign->code);
    for (size_t b = 0, end; b < quant_blocks(n); b = end, k++) {
        end = quant_scale_end(SKETCH_SPANS, n, b);
        float lane[QUANT_LANES] = {0};
        for (size_t c = b * QUANT_BLOCK; c < n && c < end * QUANT_BLOCK; c++)
            lane[c % QUANT_LANES] += fabsf(y[c]);
        float sum = quant_sum_lanes(lane);
        sign->scale[k] = sum > 0 ? sketch_short(norm[k] * (norm[k] / sum)) : 0;
    }
}

/* ---- rows in memory */

static inline uint32_t sketch_sign_unit(const uint8_t code[QUANT_BLOCK])
{
    uint8_t byte[4] = {0};
    uint32_t unit;
    for (size_t c = 0; c < QUANT_BLOCK; c++)
        byte[c % 4] |= (uint8_t)(code[c] << c / 4);
    memcpy(&unit, byte, sizeof unit);
    return unit;
}

static inline void sketch_signs_of_unit(uint32_t unit, uint8_t code[QUANT_BLOCK])
{
    uint8_t byte[4];
    memcpy(byte, &unit, sizeof byte);
    for (size_t c = 0; c < QUANT_BLOCK; c++)
        code[c] = byte[c % 4] >> c / 4 & 1;
}

static inline void sketch_put_key(enum storage_id id, const struct sketch_key *key, size_t d, uint32_t *to)
{
    uint8_t bytes[QUANT_BLOCK];
    size_t bits = sketch_code_bits(id), n_blocks = quant_blocks(d);
    for (size_t b = 0; b < n_blocks; b++) {
        if (bits == 1) {
            to[b * PANEL] = sketch_sign_unit(key->base.code + b * QUANT_BLOCK);
        } else {
            quant_put_codes(bits, key->base.code + b * QUANT_BLOCK, bytes);
            for (size_t u = 0; u < bits; u++)
                memcpy(to + (b * bits + u) * PANEL, bytes + 4 * u, 4);
        }
        to[(n_blocks * bits + b) * PANEL] = sketch_sign_unit(key->sign.code + b * QUANT_BLOCK);
    }
    to += n_blocks * (bits + 1) * PANEL;
    for (size_t k = 0; k < quant_scales(SKETCH_SPANS, d); k++, to += PANEL) {
        uint16_t pair[2] = {bf16_of_f32(key->base.scale[k]), bf16_of_f32(key->sign.scale[k])};
        memcpy(to, pair, sizeof pair);
    }
}

static inline void sketch_get_key(enum storage_id id, const uint32_t *from, size_t d, struct sketch_key *key)
{
    uint8_t bytes[QUANT_BLOCK];
    size_t bits = sketch_code_bits(id), n_blocks = quant_blocks(d);
    for (size_t b = 0; b < n_blocks; b++) {
        if (bits == 1) {
            sketch_signs_of_unit(from[b * PANEL], key->base.code + b * QUANT_BLOCK);
        } else {
            for (size_t u = 0; u < bits; u++)
                memcpy(bytes + 4 * u, from + (b * bits + u) * PANEL, 4);
            quant_get_codes(bits, bytes, key->base.code + b * QUANT_BLOCK);
        }
        sketch_signs_of_unit(from[(n_blocks * bits + b) * PANEL], key->sign.code + b * QUANT_BLOCK);
    }
    from += n_blocks * (bits + 1) * PANEL;
    for (size_t k = 0; k < quant_scales(SKETCH_SPANS, d); k++, from += PANEL) {
        uint16_t pair[2];
        memcpy(pair, from, sizeof pair);
        key->base.scale[k] = bf16_to_f32(pair[0]);
        key->sign.scale[k] = bf16_to_f32(pair[1]);
    }
}

/* x' and g sign(y), still projected, of n coordinates. */
static inline void sketch_decode(enum storage_id id, const struct sketch_key *key, size_t n, float *x, float *y)
{
    size_t k = 0, bits = sketch_code_bits(id);
    for (size_t b = 0, end; b < quant_blocks(n); b = end, k++) {
        end = quant_scale_end(SKETCH_SPANS, n, b);
        for (size_t c = b * QUANT_BLOCK; c < n && c < end * QUANT_BLOCK; c++) {
            x[c] = key->base.scale[k] * (float)sketch_level(bits, key->base.code[c]);
            y[c] = key->sign.scale[k] * (float)sketch_level(1, key->sign.code[c]);
        }
    }
}

#endif
