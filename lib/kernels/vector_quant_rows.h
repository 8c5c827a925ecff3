/* Quantised rows in memory, packed, unpacked and searched in vectors of any width: include after a vector_<isa>_quant.h and
 * vector_rows.h. Functions of their own, whatever the storage: what costs is within a row. */
#ifndef ATTND_KERNELS_VECTOR_QUANT_ROWS_H
#define ATTND_KERNELS_VECTOR_QUANT_ROWS_H

#include "kernels/tables.h"
#include "kernels/vector_nearest.h"
#include "kernels/vector_quant_code.h"
#include "kernels/vector_rotate.h"
#include "kernels/vector_rows.h"

#define APART TARGET static __attribute__((noinline))

APART void pack_quant(enum storage_id id, bool keys, const float *rows, size_t n, size_t width, void *block, size_t row)
{
    float factor[SHAPE_DIM_MAX], x[QUANT_ROOM];
    struct quant_row codes;
    struct level_finder finder = {{0}, {0}};
    if (quant_rotates(id))
        rotate_factors(width, factor);
    if (quant_bits(id) < 8)
        find_levels(id, &finder);
    for (size_t j = 0; j < n; j++, rows += width) {
        row_to_cut(id, rows, width, factor, x);
        encode_row(id, &finder, x, width, &codes);
        if (keys)
            quant_put_key(id, &codes, width, (uint32_t *)block + quant_key_unit(id, width, row + j));
        else
            quant_put_value(id, &codes, width, (uint8_t *)block + (row + j) * quant_value_bytes(id, width));
    }
}

APART void unpack_quant(enum storage_id id, bool keys, const void *block, size_t row, size_t n, size_t width, float *rows)
{
    float factor[SHAPE_DIM_MAX], x[QUANT_ROOM];
    struct quant_row codes;
    if (quant_rotates(id))
        rotate_factors(width, factor);
    for (size_t j = 0; j < n; j++, rows += width) {
        if (keys)
            quant_get_key(id, (const uint32_t *)block + quant_key_unit(id, width, row + j), width, &codes);
        else
            quant_get_value(id, (const uint8_t *)block + (row + j) * quant_value_bytes(id, width), width, &codes);
        decode_row(id, &codes, width, x);
        if (quant_rotates(id))
            unrotate_row(x, width, factor, rows);
        else
            memcpy(rows, x, width * sizeof *x);
    }
}

INLINE void unpack_quant_keys(enum storage_id id, const void *keys, size_t row, size_t n, size_t d, float *rows)
{
    unpack_quant(id, true, keys, row, n, d, rows);
}

/* A panel becomes one of f32. */
INLINE size_t nearest_unpacked(void (*unpack_rows)(enum storage_id id, const void *keys, size_t row, size_t n, size_t d,
                                                   float *rows),
                               enum storage_id id, const float *x, size_t d, const void *keys, size_t n, float *distance)
{
    float rows[W * SHAPE_DIM_MAX], panel[PANEL * SHAPE_DIM_MAX];
    struct nearest_lanes best = nearest_none();
    for (size_t row = 0; row < n; row += PANEL) {
        for (size_t lane = 0; lane < PANEL; lane += W) {
            unpack_rows(id, keys, row + lane, W, d, rows);
            spread_units(rows, d * 4, d, (uint32_t *)panel + lane);
        }
        nearest_tile(STORAGE_F32, PANEL / W, x, d, (const char *)panel, 0, row, n, &best);
    }
    return nearest_of_lanes(&best, distance);
}

APART size_t nearest_quant(enum storage_id id, const float *x, size_t d, const void *keys, size_t n, float *distance)
{
    return nearest_unpacked(unpack_quant_keys, id, x, d, keys, n, distance);
}

#define QUANT_ROWS_OF(id, x)                                                                                                   \
    TARGET void SLOT(pack_keys_##x)(const float *rows, size_t n, size_t d, void *keys, size_t row)                             \
    {                                                                                                                          \
        pack_quant(id, true, rows, n, d, keys, row);                                                                           \
    }                                                                                                                          \
    TARGET void SLOT(pack_values_##x)(const float *rows, size_t n, size_t e, void *values, size_t row)                         \
    {                                                                                                                          \
        pack_quant(id, false, rows, n, e, values, row);                                                                        \
    }                                                                                                                          \
    TARGET void SLOT(unpack_keys_##x)(const void *keys, size_t row, size_t n, size_t d, float *rows)                           \
    {                                                                                                                          \
        unpack_quant(id, true, keys, row, n, d, rows);                                                                         \
    }                                                                                                                          \
    TARGET void SLOT(unpack_values_##x)(const void *values, size_t row, size_t n, size_t e, float *rows)                       \
    {                                                                                                                          \
        unpack_quant(id, false, values, row, n, e, rows);                                                                      \
    }                                                                                                                          \
    TARGET size_t SLOT(nearest_##x)(const float *key, size_t d, const void *keys, size_t n, float *distance)                   \
    {                                                                                                                          \
        return nearest_quant(id, key, d, keys, n, distance);                                                                   \
    }
QUANT_ROWS_OF(STORAGE_Q8_0, q8_0)
QUANT_ROWS_OF(STORAGE_Q4_0, q4_0)
QUANT_ROWS_OF(STORAGE_Q4_0H, q4_0h)
QUANT_ROWS_OF(STORAGE_ROT8, rot8)
QUANT_ROWS_OF(STORAGE_ROT4, rot4)
QUANT_ROWS_OF(STORAGE_ROT3, rot3)
QUANT_ROWS_OF(STORAGE_ROT2, rot2)
#undef QUANT_ROWS_OF

#endif
