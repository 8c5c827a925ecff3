/* Element conversions, one number at a time: what every faster conversion must agree with to the bit.
 *
 * bf16 is the upper half of an f32, f16 is IEEE 754 binary16. Narrowing rounds to nearest, ties to even; what is too large
 * becomes infinity, f16 results below 2^-14 are denormal. A NaN stays a NaN: it keeps its sign and the upper bits of its
 * payload and becomes quiet. Widening is exact. */
#ifndef ATTND_KERNELS_ELEMENT_H
#define ATTND_KERNELS_ELEMENT_H

#include <stdint.h>
#include <string.h>

static inline uint32_t f32_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float f32_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float bf16_to_f32(uint16_t h)
{
    return f32_of_bits((uint32_t)h << 16);
}

static inline uint16_t bf16_of_f32(float x)
{
    uint32_t u = f32_bits(x);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 0x40u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

/* A half's exponent and fraction, moved into an f32's place, stand for the number times 2^-112: one exact product puts that
 * right, denormals included. Infinity and NaN (exponent 31) get their exponent filled up instead. */
static inline float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = (uint32_t)(h & 0x7fffu) << 13;
    if (rest >= 0x0f800000u)
        return f32_of_bits(sign | rest | 0x70000000u | (rest > 0x0f800000u ? 0x400000u : 0u));
    return f32_of_bits(sign | f32_bits(f32_of_bits(rest) * 0x1p112f));
}

static inline uint16_t f16_of_f32(float x)
{
    uint32_t u = f32_bits(x), sign = u >> 16 & 0x8000u, rest = u & 0x7fffffffu;
    if (rest > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | (rest >> 13 & 0x3ffu));
    if (rest >= 0x477ff000u) /* 65520, the tie between 65504 and what would be 65536 */
        return (uint16_t)(sign | 0x7c00u);
    if (rest < 0x38800000u) /* below 2^-14: adding 0.5 leaves the result, rounded to a multiple of 2^-24, in the low bits */
        return (uint16_t)(sign | (f32_bits(f32_of_bits(rest) + 0.5f) - 0x3f000000u));
    return (uint16_t)(sign | ((rest - 0x38000000u + 0xfffu + (rest >> 13 & 1u)) >> 13));
}

#endif
