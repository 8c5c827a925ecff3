/* Quantised rows: how the storages with less than 16 bits per coordinate are laid out, and what their codes mean.
 *
 * A row of n coordinates is cut into blocks of 32 (the last one padded), a block into codes of `bits` each. A code stands for a
 * whole number, its level; coordinate = scale * level.
 *     q8_0, q4_0, q4_0h   one f16 scale per block, ggml's rule: level = code (8 bits, signed) or code - 8 (4 bits)
 *     rot8                one f32 scale per 128 coordinates of a span, or what is left; level = code (8 bits, signed), the largest
 *                         coordinate has 127
 *     rot4 rot3 rot2      one f32 scale per span; level = the Lloyd-Max codebook of N(0,1) in whole numbers, quant_levels
 * Before it is cut, a row of q4_0h and rot* is rotated (kernels/rotate.h), piece by piece of a power of two. A span is a piece of 32
 * coordinates or more, or all that is left after those: within a span coordinates are alike, so one scale serves. A span's scale
 * keeps its norm and has 12 significant bits, so that storing what was read back gives the same bytes.
 *
 * Why rot8 has no codebook: 256 levels placed as Lloyd and Max would (Panter and Dite: sqrt(3) pi/2 4^-8 = 4.15e-5 of the variance)
 * serve every row alike, tails included; a whole-number level times the row's own largest magnitude ends where the row does. Of
 * 64 coordinates it loses 3.5e-5, of 128 4.2e-5, of 256 would be 4.8e-5 and of 1024 6.2e-5, so a scale goes with 128. Levels that
 * are bytes as they are need no lookup, which AVX2 has only for 16 entries.
 *
 * Codes of a block, 4 * bits bytes; code c lies in
 *     8 bits   byte c
 *     4 bits   byte c % 16, from bit 4 (c / 16)                                   (ggml's order)
 *     2 bits   byte c % 8, from bit 2 (c / 8)
 *     3 bits   the low two as with 2 bits; the third in byte 8 + c % 4, bit c % 8 / 4 + 2 (c / 8)
 * A value row:  f16 scale and codes, block after block (ggml's blocks of 34 and 18 bytes); or the f32 scales, then the codes.
 * A key row:    the codes of all blocks, then the scales (a pair of f16 to a unit of 32 bits), interleaved with the other rows
 *               of its panel in units of 32 bits.
 * Sources: Max, Quantizing for minimum distortion, 1960; rotation: TurboQuant, arXiv 2504.19874; blocks: ggml. */
#ifndef ATTND_KERNELS_QUANT_H
#define ATTND_KERNELS_QUANT_H

#include "base/shape.h"
#include "kernels/storage.h"
#include <stdbool.h>
#include <stdint.h>

enum {
    QUANT_BLOCK = 32,
    QUANT_BLOCKS_MAX = SHAPE_DIM_MAX / QUANT_BLOCK,
    QUANT_CODES_MAX = SHAPE_DIM_MAX,
    QUANT_BLOCKS_OF_8 = 4
};

/* ---- what a storage is; constants wherever the id is one */

static inline bool quant_is(enum storage_id id)
{
    return id >= STORAGE_Q8_0;
}

static inline size_t quant_bits(enum storage_id id)
{
    return id == STORAGE_ROT2 ? 2 : id == STORAGE_ROT3 ? 3 : id == STORAGE_Q8_0 || id == STORAGE_ROT8 ? 8 : 4;
}

static inline bool quant_rotates(enum storage_id id)
{
    return id >= STORAGE_Q4_0H;
}

/* One f16 scale per block; else one f32 per span. */
static inline bool quant_scales_blocks(enum storage_id id)
{
    return id <= STORAGE_Q4_0H;
}

/* The levels of codes 0, 1, ... of at most 4 bits, ascending. Those of rot* are the Lloyd-Max levels of a normal deviate times
 * quant_unit, rounded: unit and rounding chosen together, they lose less than 0.1 % against the exact ones. */
static inline const int8_t *quant_levels(enum storage_id id)
{
    static const int8_t rot2[16] = {-90, -27, 27, 90};
    static const int8_t rot3[16] = {-114, -71, -40, -13, 13, 40, 71, 114};
    static const int8_t rot4[16] = {-104, -79, -62, -48, -36, -25, -15, -5, 5, 15, 25, 36, 48, 62, 79, 104};
    static const int8_t q4[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
    return id == STORAGE_ROT2 ? rot2 : id == STORAGE_ROT3 ? rot3 : id == STORAGE_ROT4 ? rot4 : q4;
}

static inline float quant_unit(enum storage_id id)
{
    return id == STORAGE_ROT2 ? 59.58617f : id == STORAGE_ROT3 ? 52.94158f : 38.13661f;
}

/* ---- blocks and spans of a row of n coordinates */

static inline size_t quant_blocks(size_t n)
{
    return (n + QUANT_BLOCK - 1) / QUANT_BLOCK;
}

/* The block that ends the span which begins with block `first`. */
static inline size_t quant_span_end(size_t n, size_t first)
{
    size_t whole = n / QUANT_BLOCK - first, piece = 1;
    while (2 * piece <= whole)
        piece *= 2;
    return first + piece;
}

/* The block that ends the blocks which share their scale with block `first`. */
static inline size_t quant_scale_end(enum storage_id id, size_t n, size_t first)
{
    size_t end = quant_scales_blocks(id) ? first + 1 : quant_span_end(n, first), most = first + QUANT_BLOCKS_OF_8;
    return quant_bits(id) == 8 && end > most ? most : end;
}

static inline size_t quant_scales(enum storage_id id, size_t n)
{
    size_t count = 0;
    for (size_t b = 0; b < quant_blocks(n); b = quant_scale_end(id, n, b))
        count++;
    return count;
}

/* ---- bytes */

static inline size_t quant_block_bytes(enum storage_id id)
{
    return quant_bits(id) * QUANT_BLOCK / 8;
}

/* Units of codes of a key row; its scales follow. */
static inline size_t quant_code_units(enum storage_id id, size_t d)
{
    return quant_blocks(d) * quant_bits(id);
}

static inline size_t quant_key_bytes(enum storage_id id, size_t d)
{
    size_t scales = quant_scales(id, d);
    return 4 * (quant_code_units(id, d) + (quant_scales_blocks(id) ? (scales + 1) / 2 : scales));
}

static inline size_t quant_value_bytes(enum storage_id id, size_t e)
{
    return quant_blocks(e) * quant_block_bytes(id) + quant_scales(id, e) * (quant_scales_blocks(id) ? 2 : 4);
}

/* Where in a value row block b's codes lie, and its scale, the row's number `scale`. */
static inline size_t quant_value_codes(enum storage_id id, size_t e, size_t b)
{
    size_t codes = quant_block_bytes(id);
    return quant_scales_blocks(id) ? b * (2 + codes) + 2 : quant_scales(id, e) * 4 + b * codes;
}

static inline size_t quant_value_scale(enum storage_id id, size_t scale)
{
    return quant_scales_blocks(id) ? scale * (2 + quant_block_bytes(id)) : scale * 4;
}

#endif
