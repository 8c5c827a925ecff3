/* The kernels of keys with a sketch (kernels/sketch.h) in vectors of any width: include after vector_quant_keys.h and
 * vector_quant_rows.h. Codes and signs are scored one after the other as rotated codes are: levels against whole numbers of the
 * rotated query, then signs against those of the projected one. Packed and read back to the bit as scalar_sketch.c does. */
#ifndef ATTND_KERNELS_VECTOR_SKETCH_H
#define ATTND_KERNELS_VECTOR_SKETCH_H

#include "kernels/sketch.h"
#include "kernels/vector_quant_keys.h"
#include "kernels/vector_quant_rows.h"

/* Levels 1 and -1 of a unit of signs of PANEL rows. */
INLINE void levels_of_signs(const char *signs, char *levels)
{
    static const int8_t level[16] = {1, -1};
    vi mask = v_set1_bits(0x01010101);
    v_prefetch(signs + CODES_AHEAD(2));
    for (size_t l = 0; l < PANEL * 4; l += W * 4) {
        vi x = v_load_bits(signs + l);
#define LEVELS(unit) v_store_bits(levels + (size_t)(unit)*PANEL * 4 + l, v_lookup(level, v_and(v_shift_down(x, unit), mask)));
        LEVELS(0) LEVELS(1) LEVELS(2) LEVELS(3) LEVELS(4) LEVELS(5) LEVELS(6) LEVELS(7)
#undef LEVELS
    }
}

INLINE void levels_of_sign_units(const char *signs, size_t d, char *levels)
{
    for (size_t b = 0; b < quant_blocks(d); b++)
        levels_of_signs(signs + b * PANEL * 4, levels + b * UNITS_OF_BLOCK * PANEL * 4);
}

/* A panel taken apart for the kernel of rotated codes: levels, and the scales in f32. */
struct sketch_panel {
    char base[SHAPE_DIM_MAX * PANEL], sign[SHAPE_DIM_MAX * PANEL];
    float base_scale[QUANT_BLOCKS_MAX * PANEL], sign_scale[QUANT_BLOCKS_MAX * PANEL];
};

INLINE void sketch_open_panel(size_t bits, const char *panel, size_t d, struct sketch_panel *out)
{
    size_t n_blocks = quant_blocks(d);
    const char *signs = panel + n_blocks * bits * PANEL * 4, *scales = signs + n_blocks * PANEL * 4;
    if (bits == 1)
        levels_of_sign_units(panel, d, out->base);
    else if (bits == 2)
        levels_of_panel(STORAGE_ROT2, panel, d, out->base);
    else
        levels_of_panel(STORAGE_ROT3, panel, d, out->base);
    levels_of_sign_units(signs, d, out->sign);
    for (size_t l = 0; l < quant_scales(SKETCH_SPANS, d) * PANEL; l += W) {
        vi pair = v_load_bits(scales + l * 4);
        v_store(out->base_scale + l, v_even(STORAGE_BF16, pair));
        v_store(out->sign_scale + l, v_odd(STORAGE_BF16, pair));
    }
}

INLINE void sketch_score_panel(size_t m, const struct quant_queries *base, const struct quant_queries *sign, size_t d,
                               const struct sketch_panel *panel, float *s, size_t lds)
{
    float part[QUANT_QUERIES * PANEL] = {0};
    score_levels(SKETCH_SPANS, m, base, d, panel->base, (const char *)panel->base_scale, s, lds);
    score_levels(SKETCH_SPANS, m, sign, d, panel->sign, (const char *)panel->sign_scale, part, PANEL);
    for (size_t i = 0; i < m; i++)
        for (size_t l = 0; l < PANEL; l += W)
            v_store(s + i * lds + l, v_add(v_load(s + i * lds + l), v_load(part + i * PANEL + l)));
}

APART void score_sketch(enum storage_id id, const float *q, size_t n_q, size_t d, const void *keys, size_t row, size_t n,
                        float *s, size_t lds)
{
    struct quant_queries base, sign;
    struct sketch_panel opened;
    struct sketch_maps maps;
    float rotated[QUANT_ROOM];
    size_t bits = sketch_code_bits(id), panel_bytes = PANEL * quant_key_bytes(sketch_plain(id), d), m;
    sketch_maps_of(d, &maps);
    for (; n_q; n_q -= m, q += m * d, s += m * lds) {
        m = n_q >= QUANT_QUERIES ? QUANT_QUERIES : 1;
        for (size_t i = 0; i < m; i++) {
            rotate_row(q + i * d, d, maps.rotation, rotated);
            quant_query(STORAGE_Q8_0, rotated, d, NULL, i, &base); /* rotated already */
            rotate_row(rotated, d, maps.projection[0], rotated);
            quant_query(SKETCH_SPANS, rotated, d, maps.projection[1], i, &sign);
        }
        const char *panel = (const char *)keys + row / PANEL * panel_bytes;
        for (size_t j = 0; j < n; j += PANEL, panel += panel_bytes) {
            sketch_open_panel(bits, panel, d, &opened);
            if (m == 1)
                sketch_score_panel(1, &base, &sign, d, &opened, s + j, lds);
            else
                sketch_score_panel(QUANT_QUERIES, &base, &sign, d, &opened, s + j, lds);
        }
    }
}

APART void pack_sketch(enum storage_id id, const float *rows, size_t n, size_t d, void *keys, size_t row)
{
    struct sketch_maps maps;
    float x[QUANT_ROOM], rest[QUANT_ROOM], norm[QUANT_BLOCKS_MAX];
    struct sketch_key key = {{{0}, {0}}, {{0}, {0}}};
    struct level_finder finder = {{0}, {0}};
    size_t bits = sketch_code_bits(id), padded = quant_blocks(d) * QUANT_BLOCK;
    sketch_maps_of(d, &maps);
    if (bits > 1)
        find_levels(sketch_base(bits), &finder);
    for (size_t j = 0; j < n; j++, rows += d) {
        rotate_row(rows, d, maps.rotation, x);
        memset(x + d, 0, (padded - d) * sizeof *x);
        if (bits == 1)
            sketch_signs(x, d, key.base.code);
        else
            encode_row(sketch_base(bits), &finder, x, d, &key.base);
        sketch_fit(bits, x, d, &key.base, rest, norm);
        rotate_row(rest, d, maps.projection[0], rest);
        rotate_row(rest, d, maps.projection[1], rest);
        sketch_project(rest, d, norm, &key.sign);
        sketch_put_key(id, &key, d, (uint32_t *)keys + quant_key_unit(sketch_plain(id), d, row + j));
    }
}

APART void unpack_sketch(enum storage_id id, const void *keys, size_t row, size_t n, size_t d, float *rows)
{
    struct sketch_maps maps;
    float x[QUANT_ROOM], y[QUANT_ROOM];
    struct sketch_key key = {{{0}, {0}}, {{0}, {0}}};
    sketch_maps_of(d, &maps);
    for (size_t j = 0; j < n; j++, rows += d) {
        sketch_get_key(id, (const uint32_t *)keys + quant_key_unit(sketch_plain(id), d, row + j), d, &key);
        sketch_decode(id, &key, d, x, y);
        unrotate_row(y, d, maps.projection[1], y);
        unrotate_row(y, d, maps.projection[0], y);
        for (size_t c = 0; c < d; c++)
            x[c] += y[c];
        unrotate_row(x, d, maps.rotation, rows);
    }
}

APART size_t nearest_sketch(enum storage_id id, const float *x, size_t d, const void *keys, size_t n, float *distance)
{
    return nearest_unpacked(unpack_sketch, id, x, d, keys, n, distance);
}

#define SKETCH_OF(id, x)                                                                                                       \
    TARGET void SLOT(score_##x)(const float *q, size_t n_q, size_t d, const void *keys, size_t row, size_t n, float *s,        \
                                size_t lds)                                                                                    \
    {                                                                                                                          \
        score_sketch(id, q, n_q, d, keys, row, n, s, lds);                                                                     \
    }                                                                                                                          \
    TARGET void SLOT(pack_keys_##x)(const float *rows, size_t n, size_t d, void *keys, size_t row)                             \
    {                                                                                                                          \
        pack_sketch(id, rows, n, d, keys, row);                                                                                \
    }                                                                                                                          \
    TARGET void SLOT(unpack_keys_##x)(const void *keys, size_t row, size_t n, size_t d, float *rows)                           \
    {                                                                                                                          \
        unpack_sketch(id, keys, row, n, d, rows);                                                                              \
    }                                                                                                                          \
    TARGET size_t SLOT(nearest_##x)(const float *key, size_t d, const void *keys, size_t n, float *distance)                   \
    {                                                                                                                          \
        return nearest_sketch(id, key, d, keys, n, distance);                                                                  \
    }
SKETCH_OF(STORAGE_ROT4S, rot4s)
SKETCH_OF(STORAGE_ROT3S, rot3s)
SKETCH_OF(STORAGE_ROT2S, rot2s)
#undef SKETCH_OF

#endif
