/* One number of a stored row, for the scalar kernels: where it lies (kernels/storage.h) and how it is coded (element.h). */
#ifndef ATTND_KERNELS_SCALAR_ROWS_H
#define ATTND_KERNELS_SCALAR_ROWS_H

#include "base/shape.h"
#include "kernels/element.h"
#include "kernels/storage.h"

/* Element i of wire data or of value rows, which may be unaligned. */
static inline float element_get(enum element element, const void *in, size_t i)
{
    float x;
    uint16_t h;
    switch (element) {
    case ELEMENT_BF16: memcpy(&h, (const char *)in + 2 * i, sizeof h); return bf16_to_f32(h);
    case ELEMENT_F16: memcpy(&h, (const char *)in + 2 * i, sizeof h); return f16_to_f32(h);
    default: memcpy(&x, (const char *)in + 4 * i, sizeof x); return x;
    }
}

static inline void element_put(enum element element, void *out, size_t i, float x)
{
    switch (element) {
    case ELEMENT_BF16: ((uint16_t *)out)[i] = bf16_of_f32(x); break;
    case ELEMENT_F16: ((uint16_t *)out)[i] = f16_of_f32(x); break;
    default: ((float *)out)[i] = x; break;
    }
}

static inline enum element storage_element(enum storage_id id)
{
    return id == STORAGE_BF16 ? ELEMENT_BF16 : id == STORAGE_F16 ? ELEMENT_F16 : ELEMENT_F32;
}

/* Where coordinate c of a key row lies in its block, in elements. */
static inline size_t key_place(enum storage_id id, size_t d, size_t row, size_t c)
{
    size_t panel = row / PANEL, lane = row % PANEL;
    if (id == STORAGE_F32)
        return (panel * d + c) * PANEL + lane;
    return ((panel * ((d + 1) / 2) + c / 2) * PANEL + lane) * 2 + c % 2;
}

static inline float key_get(enum storage_id id, const void *keys, size_t d, size_t row, size_t c)
{
    return element_get(storage_element(id), keys, key_place(id, d, row, c));
}

static inline void key_put(enum storage_id id, void *keys, size_t d, size_t row, size_t c, float x)
{
    element_put(storage_element(id), keys, key_place(id, d, row, c), x);
}

static inline float value_get(enum storage_id id, const void *values, size_t e, size_t row, size_t c)
{
    return element_get(storage_element(id), values, row * e + c);
}

static inline void value_put(enum storage_id id, void *values, size_t e, size_t row, size_t c, float x)
{
    element_put(storage_element(id), values, row * e + c, x);
}

#endif
