/* Tensors of files as arrays of float or double. */
#include "io/safetensors.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Tensors may be unaligned, so elements are copied out; compilers turn that into plain loads. */
static inline const void *element(const void *data, size_t i, size_t bytes)
{
    return (const unsigned char *)data + i * bytes;
}

static inline double from_f32(const void *data, size_t i)
{
    float x;
    memcpy(&x, element(data, i, sizeof x), sizeof x);
    return x;
}

static inline float float_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* f16: 5 bits of exponent (bias 15), 10 of fraction. f32: 8 (bias 127) and 23. */
static inline double from_f16(const void *data, size_t i)
{
    uint16_t half;
    memcpy(&half, element(data, i, sizeof half), sizeof half);
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7FFF;
    if (magnitude >= 0x7C00) /* infinity and NaN keep their fraction */
        return float_of_bits(sign | 0x7F800000 | (magnitude & 0x3FF) << 13);
    /* Moved into place the exponent is 127 - 15 too small; the product also normalises subnormal numbers. */
    return float_of_bits(sign | magnitude << 13) * 0x1p112f;
}

static inline double from_bf16(const void *data, size_t i)
{
    uint16_t upper;
    memcpy(&upper, element(data, i, sizeof upper), sizeof upper);
    return float_of_bits((uint32_t)upper << 16);
}

static double from_f64(const void *data, size_t i)
{
    double x;
    memcpy(&x, element(data, i, sizeof x), sizeof x);
    return x;
}

static double from_i64(const void *data, size_t i)
{
    int64_t x;
    memcpy(&x, element(data, i, sizeof x), sizeof x);
    return (double)x;
}

static double from_i32(const void *data, size_t i)
{
    int32_t x;
    memcpy(&x, element(data, i, sizeof x), sizeof x);
    return x;
}

static double from_u8(const void *data, size_t i)
{
    return ((const unsigned char *)data)[i];
}

/* Every type's numbers are exact in double but large I64. */
static double (*const element_of[])(const void *data, size_t i) = {
    [TENSOR_F32] = from_f32, [TENSOR_F16] = from_f16, [TENSOR_BF16] = from_bf16, [TENSOR_F64] = from_f64,
    [TENSOR_I64] = from_i64, [TENSOR_I32] = from_i32, [TENSOR_U8] = from_u8,
};
_Static_assert(sizeof element_of / sizeof *element_of == N_TENSOR_TYPE, "one reader per tensor type");

static int new_array(const struct tensor *t, size_t element_bytes, void **out, struct fault *fault)
{
    *out = NULL;
    if (t->type >= N_TENSOR_TYPE) {
        fault_set(fault, ERR_UNSUPPORTED, "tensor %.80s: unknown type", t->name);
        return ERR_UNSUPPORTED;
    }
    size_t bytes;
    if (!__builtin_mul_overflow(t->n, element_bytes, &bytes))
        *out = malloc(bytes ? bytes : 1);
    if (*out)
        return 0;
    fault_set(fault, ERR_NO_MEMORY, "tensor %.80s: %zu numbers", t->name, t->n);
    return ERR_NO_MEMORY;
}

int tensor_to_f32(const struct tensor *t, float **out, struct fault *fault)
{
    void *array;
    int err = new_array(t, sizeof **out, &array, fault);
    float *x = *out = array;
    if (err)
        return err;
    switch (t->type) { /* models are large: what they are stored in is converted without a call per number */
    case TENSOR_F32:
        if (t->n)
            memcpy(x, t->data, t->bytes);
        break;
    case TENSOR_BF16:
        for (size_t i = 0; i < t->n; i++)
            x[i] = (float)from_bf16(t->data, i);
        break;
    case TENSOR_F16:
        for (size_t i = 0; i < t->n; i++)
            x[i] = (float)from_f16(t->data, i);
        break;
    default:
        for (size_t i = 0; i < t->n; i++)
            x[i] = (float)element_of[t->type](t->data, i);
    }
    return 0;
}

int tensor_to_f64(const struct tensor *t, double **out, struct fault *fault)
{
    void *array;
    int err = new_array(t, sizeof **out, &array, fault);
    *out = array;
    for (size_t i = 0; !err && i < t->n; i++)
        (*out)[i] = element_of[t->type](t->data, i);
    return err;
}
