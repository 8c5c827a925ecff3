/* Tensors of files as arrays of float or double. */
#include "io/safetensors.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Tensors may be unaligned, so elements are copied out one by one; compilers turn that into plain loads. */
#define LOAD(type)                                                                                                             \
    type x;                                                                                                                    \
    memcpy(&x, (const unsigned char *)data + i * sizeof x, sizeof x)

static double from_f32(const void *data, size_t i)
{
    LOAD(float);
    return x;
}

static double from_f16(const void *data, size_t i)
{
    LOAD(uint16_t);
    int exponent = x >> 10 & 31, fraction = x & 1023;
    double magnitude;
    if (exponent == 31)
        magnitude = fraction ? NAN : INFINITY;
    else
        magnitude = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return x >> 15 ? -magnitude : magnitude;
}

static double from_bf16(const void *data, size_t i)
{
    LOAD(uint16_t);
    uint32_t wide = (uint32_t)x << 16;
    float f;
    memcpy(&f, &wide, sizeof f);
    return f;
}

static double from_f64(const void *data, size_t i)
{
    LOAD(double);
    return x;
}

static double from_i64(const void *data, size_t i)
{
    LOAD(int64_t);
    return (double)x;
}

static double from_i32(const void *data, size_t i)
{
    LOAD(int32_t);
    return x;
}

static double from_u8(const void *data, size_t i)
{
    LOAD(uint8_t);
    return x;
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
    if (t->type >= N_TENSOR_TYPE)
        return fault_set(fault, ERR_UNSUPPORTED, "tensor %.80s: unknown type", t->name);
    size_t bytes;
    if (!__builtin_mul_overflow(t->n, element_bytes, &bytes))
        *out = malloc(bytes ? bytes : 1);
    return *out ? 0 : fault_set(fault, ERR_NO_MEMORY, "tensor %.80s: %zu numbers", t->name, t->n);
}

int tensor_to_f32(const struct tensor *t, float **out, struct fault *fault)
{
    void *array;
    int err = new_array(t, sizeof **out, &array, fault);
    *out = array;
    for (size_t i = 0; !err && i < t->n; i++)
        (*out)[i] = (float)element_of[t->type](t->data, i);
    return err;
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
