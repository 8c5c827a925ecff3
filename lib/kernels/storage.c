#include "kernels/storage.h"

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

/* The limits are the floats just below the tie between the largest finite number and the next power of two, which rounds up. */
const struct storage storage_table[N_STORAGE] = {
    [STORAGE_F32] = {"f32", STORAGE_F32, 0x1.fffffep127f, key_bytes_f32, value_bytes_f32},
    [STORAGE_BF16] = {"bf16", STORAGE_BF16, 0x1.fefffep127f, key_bytes_16, value_bytes_16},
    [STORAGE_F16] = {"f16", STORAGE_F16, 0x1.ffdffep15f, key_bytes_16, value_bytes_16},
};

const struct storage *storage_find(const char *name)
{
    for (size_t i = 0; i < N_STORAGE; i++)
        if (strcmp(name, storage_table[i].name) == 0)
            return &storage_table[i];
    return NULL;
}
