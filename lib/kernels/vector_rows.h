/* Packing, unpacking and widening, in vectors of any width: include after a vector_<isa>.h.
 *
 * A panel interleaves 32-bit units: an f32 coordinate, or a pair of 16-bit ones. So packing keys is narrowing a row, and then
 * spreading its units over the panel, PANEL apart. */
#ifndef ATTND_KERNELS_VECTOR_ROWS_H
#define ATTND_KERNELS_VECTOR_ROWS_H

#include "base/shape.h"
#include "kernels/element.h"
#include "kernels/kernels.h"
#include <math.h>

/* As bf16_of_f32 in element.h, the result in the low half of each lane. */
INLINE vi v_to_bf16(vf x)
{
    vi u = v_bits(x), magnitude = v_and(u, v_set1_bits(0x7fffffff)), infinity = v_set1_bits(0x7f800000);
    vi odd = v_and(v_shift_right(u, 16), v_set1_bits(1)), rounded = v_add_bits(v_add_bits(u, v_set1_bits(0x7fff)), odd);
    vi quiet = v_or(u, v_set1_bits(0x400000));
    return v_and(v_shift_right(v_select_above(magnitude, infinity, quiet, rounded), 16), v_set1_bits(0xffff));
}

INLINE void store_element(enum element element, void *out, vf x)
{
    if (element == ELEMENT_F32)
        v_store(out, x);
    else if (element == ELEMENT_BF16)
        v_store_low(out, v_to_bf16(x));
    else
        v_store_f16(out, x);
}

INLINE vf load_element(enum element element, const void *in)
{
    if (element == ELEMENT_F32) {
        return v_load(in);
    }
    return element == ELEMENT_BF16 ? v_load_bf16(in) : v_load_f16(in);
}

INLINE size_t bytes_of(enum element element)
{
    return element == ELEMENT_F32 ? 4 : 2;
}

/* n numbers to elements, and back; the last W through a buffer. */
INLINE void narrow_run(enum element element, const float *x, size_t n, void *out)
{
    size_t i = 0, size = bytes_of(element);
    for (; i + W <= n; i += W)
        store_element(element, (char *)out + i * size, v_load(x + i));
    if (i < n) {
        float buffer[W];
        store_element(element, buffer, v_load_lanes(x + i, 0, n - i));
        memcpy((char *)out + i * size, buffer, (n - i) * size);
    }
}

INLINE void widen_run(enum element element, const void *in, size_t n, float factor, float *out)
{
    size_t i = 0, size = bytes_of(element);
    for (; i + W <= n; i += W)
        v_store(out + i, v_mul(load_element(element, (const char *)in + i * size), v_set1(factor)));
    if (i < n) {
        float buffer[W] = {0};
        memcpy(buffer, (const char *)in + i * size, (n - i) * size);
        v_store_lanes(out + i, 0, n - i, v_mul(load_element(element, buffer), v_set1(factor)));
    }
}

INLINE enum element element_of(enum storage_id id)
{
    return id == STORAGE_BF16 ? ELEMENT_BF16 : id == STORAGE_F16 ? ELEMENT_F16 : ELEMENT_F32;
}

/* Units are integers or floats, whatever they are declared as elsewhere. */
INLINE void copy_unit(void *to, const void *from)
{
    memcpy(to, from, 4);
}

/* Units of W rows, `stride` bytes apart, to W neighbouring lanes of a panel; and back, `stride` units apart. */
INLINE void spread_units(const void *units, size_t stride, size_t n_units, uint32_t *lanes)
{
    const char *rows = units;
    size_t u = 0;
    for (; u + W <= n_units; u += W) {
        vf x[W];
        for (size_t l = 0; l < W; l++)
            x[l] = v_floats(v_load_bits(rows + l * stride + u * 4));
        v_transpose(x);
        for (size_t l = 0; l < W; l++)
            v_store_bits(lanes + (u + l) * PANEL, v_bits(x[l]));
    }
    for (; u < n_units; u++)
        for (size_t l = 0; l < W; l++)
            copy_unit(lanes + u * PANEL + l, rows + l * stride + u * 4);
}

INLINE void gather_units(const uint32_t *lanes, size_t n_units, uint32_t *units, size_t stride)
{
    size_t u = 0;
    for (; u + W <= n_units; u += W) {
        vf x[W];
        for (size_t l = 0; l < W; l++)
            x[l] = v_floats(v_load_bits(lanes + (u + l) * PANEL));
        v_transpose(x);
        for (size_t l = 0; l < W; l++)
            v_store_bits(units + l * stride + u, v_bits(x[l]));
    }
    for (; u < n_units; u++)
        for (size_t l = 0; l < W; l++)
            copy_unit(units + l * stride + u, lanes + u * PANEL + l);
}

enum { UNITS_MAX = SHAPE_DIM_MAX / 2 }; /* of a row of 16-bit elements; rows of f32 are units as they are */

INLINE void pack_keys_any(enum storage_id id, const float *rows, size_t n, size_t d, void *keys, size_t row)
{
    uint32_t buffer[W * UNITS_MAX];
    size_t n_units = storage_table[id].key_bytes(d) / 4;
    for (size_t j = row, now; j < row + n; j += now, rows += now * d) {
        uint32_t *lanes = (uint32_t *)keys + j / PANEL * PANEL * n_units + j % PANEL;
        now = j % W == 0 && j + W <= row + n ? W : 1;
        const uint32_t *units = buffer;
        if (id == STORAGE_F32)
            units = (const uint32_t *)rows;
        else
            for (size_t l = 0; l < now; l++) {
                buffer[(l + 1) * n_units - 1] = 0; /* what an odd d leaves of the last pair */
                narrow_run(element_of(id), rows + l * d, d, buffer + l * n_units);
            }
        if (now == W)
            spread_units(units, n_units * 4, n_units, lanes);
        else
            for (size_t u = 0; u < n_units; u++)
                copy_unit(lanes + u * PANEL, units + u);
    }
}

TARGET static inline void copy_keys(const void *in, size_t n, size_t row_bytes, size_t stride, void *keys, size_t row)
{
    const char *at = in;
    size_t whole = row_bytes / 4, n_units = (row_bytes + 3) / 4;
    for (size_t j = row, now; j < row + n; j += now, at += now * stride) {
        uint32_t *lanes = (uint32_t *)keys + j / PANEL * PANEL * n_units + j % PANEL;
        now = j % W == 0 && j + W <= row + n ? W : 1;
        if (now == W)
            spread_units(at, stride, whole, lanes);
        else
            for (size_t u = 0; u < whole; u++)
                copy_unit(lanes + u * PANEL, at + u * 4);
        for (size_t l = 0; l < now && whole < n_units; l++) { /* an odd number of 16-bit elements */
            uint32_t unit = 0;
            memcpy(&unit, at + l * stride + whole * 4, row_bytes % 4);
            lanes[whole * PANEL + l] = unit;
        }
    }
}

INLINE void unpack_keys_any(enum storage_id id, const void *keys, size_t row, size_t n, size_t d, float *rows)
{
    uint32_t buffer[W * UNITS_MAX];
    size_t n_units = storage_table[id].key_bytes(d) / 4;
    for (size_t j = row, now; j < row + n; j += now, rows += now * d) {
        const uint32_t *lanes = (const uint32_t *)keys + j / PANEL * PANEL * n_units + j % PANEL;
        now = j % W == 0 && j + W <= row + n ? W : 1;
        uint32_t *units = id == STORAGE_F32 ? (uint32_t *)rows : buffer;
        if (now == W)
            gather_units(lanes, n_units, units, n_units);
        else
            for (size_t u = 0; u < n_units; u++)
                copy_unit(units + u, lanes + u * PANEL);
        for (size_t l = 0; l < now && id != STORAGE_F32; l++)
            widen_run(element_of(id), buffer + l * n_units, d, 1, rows + l * d);
    }
}

/* Rows of one head lie far apart in a message, where a CPU's own prefetching does not see the next one. */
enum { WIDEN_AHEAD = 8 };

INLINE void widen_any(enum element element, const void *in, size_t n, size_t width, size_t stride, float factor, float *out)
{
    const char *row = in;
    for (size_t i = 0; i < n; i++, row += stride * bytes_of(element)) {
        for (size_t at = 0; at < width * bytes_of(element); at += 64)
            v_prefetch(row + WIDEN_AHEAD * stride * bytes_of(element) + at);
        widen_run(element, row, width, factor, out + i * width);
    }
}

/* As integers, magnitudes of floats are ordered, infinity above all numbers and NaN above infinity. */
INLINE float magnitude_any(enum element element, const void *in, size_t n)
{
    vi largest = v_set1_bits(0), mask = v_set1_bits(0x7fffffff);
    size_t i = 0, size = bytes_of(element);
    for (; i + W <= n; i += W)
        largest = v_max_bits(largest, v_and(v_bits(load_element(element, (const char *)in + i * size)), mask));
    float buffer[W] = {0};
    if (i < n) {
        memcpy(buffer, (const char *)in + i * size, (n - i) * size);
        largest = v_max_bits(largest, v_and(v_bits(load_element(element, buffer)), mask));
    }
    int32_t lane[W], m = 0;
    v_store_bits(lane, largest);
    for (i = 0; i < W; i++)
        m = lane[i] > m ? lane[i] : m;
    return m < 0x7f800000 ? f32_of_bits((uint32_t)m) : INFINITY;
}

#endif
