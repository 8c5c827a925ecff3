#include "kernels/storage.h"

#include "kernels/kivi.h"
#include <string.h>

static size_t key_bytes_f32(size_t d)
{
    return d * 4;
}

/* Coordinates come in pairs; an odd last one has a zero beside it. */
static size_t key_bytes_16(size_t d)
{
    return (d + 1) / 2 * 4;
}

static size_t value_bytes_f32(size_t e)
{
    return e * 4;
}

static size_t value_bytes_16(size_t e)
{
    return e * 2;
}

#define BYTES_OF(id, x)                                                                                                        \
    static size_t key_bytes_##x(size_t d)                                                                                      \
    {                                                                                                                          \
        return quant_key_bytes(id, d);                                                                                         \
    }                                                                                                                          \
    static size_t value_bytes_##x(size_t e)                                                                                    \
    {                                                                                                                          \
        return quant_value_bytes(id, e);                                                                                       \
    }
BYTES_OF(STORAGE_Q8_0, q8_0)
BYTES_OF(STORAGE_Q4_0, q4_0)
BYTES_OF(STORAGE_ROT8, rot8)
BYTES_OF(STORAGE_ROT4, rot4)
BYTES_OF(STORAGE_ROT3, rot3)
BYTES_OF(STORAGE_ROT2, rot2)

/* Elements: the float just below the tie between the largest finite number and the next power of two, which rounds up. Scales in
 * f16: the largest half times the largest level; where the row is rotated first, a coordinate grows by sqrt(SHAPE_DIM_MAX) at
 * most. Scales in f32: sums of 2^20 rotated
 * rows stay finite before they are rotated back. */
#define HALF_MAX 65504.0f
#define ROTATED_MAX 0x1p64f
const struct storage storage_table[N_STORAGE] = {
    [STORAGE_F32] = {"f32", STORAGE_F32, 0x1.fffffep127f, key_bytes_f32, value_bytes_f32, 1, false},
    [STORAGE_BF16] = {"bf16", STORAGE_BF16, 0x1.fefffep127f, key_bytes_16, value_bytes_16, 1, false},
    [STORAGE_F16] = {"f16", STORAGE_F16, 0x1.ffdffep15f, key_bytes_16, value_bytes_16, 1, false},
    [STORAGE_Q8_0] = {"q8_0", STORAGE_Q8_0, HALF_MAX * 127, key_bytes_q8_0, value_bytes_q8_0, 1, false},
    [STORAGE_Q4_0] = {"q4_0", STORAGE_Q4_0, HALF_MAX * 8, key_bytes_q4_0, value_bytes_q4_0, 1, false},
    [STORAGE_Q4_0H] = {"q4_0h", STORAGE_Q4_0H, HALF_MAX / 4, key_bytes_q4_0, value_bytes_q4_0, 1, false},
    [STORAGE_ROT8] = {"rot8", STORAGE_ROT8, ROTATED_MAX, key_bytes_rot8, value_bytes_rot8, 1, false},
    [STORAGE_ROT4] = {"rot4", STORAGE_ROT4, ROTATED_MAX, key_bytes_rot4, value_bytes_rot4, 1, false},
    [STORAGE_ROT3] = {"rot3", STORAGE_ROT3, ROTATED_MAX, key_bytes_rot3, value_bytes_rot3, 1, false},
    [STORAGE_ROT2] = {"rot2", STORAGE_ROT2, ROTATED_MAX, key_bytes_rot2, value_bytes_rot2, 1, false},
    [STORAGE_KIVI2] = {"kivi2", STORAGE_KIVI2, HALF_MAX, kivi_bytes, kivi_bytes, KIVI_ROWS, false},
    [STORAGE_ROT4S] = {"rot4s", STORAGE_ROT4S, ROTATED_MAX, key_bytes_rot4, value_bytes_rot4, 1, true},
    [STORAGE_ROT3S] = {"rot3s", STORAGE_ROT3S, ROTATED_MAX, key_bytes_rot3, value_bytes_rot3, 1, true},
    [STORAGE_ROT2S] = {"rot2s", STORAGE_ROT2S, ROTATED_MAX, key_bytes_rot2, value_bytes_rot2, 1, true},
};

const struct storage *storage_find(const char *name)
{
    for (size_t i = 0; i < N_STORAGE; i++)
        if (strcmp(name, storage_table[i].name) == 0)
            return &storage_table[i];
    return NULL;
}
