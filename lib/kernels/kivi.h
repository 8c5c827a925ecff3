/* Rows of 2 bits with a zero and a scale in f16: coordinate = zero + scale * code, code 0 to 3, zero the smallest number of a group and
 * zero + 3 scale the largest (KIVI: Liu et al., arXiv 2402.02750).
 *
 *     keys     a group is one channel of KIVI_ROWS rows, two panels. They are packed whole, and only there: row a multiple of
 *              KIVI_ROWS; where fewer rows end a call, the rest of their group is void.
 *              a panel: [padded d] codes, 32 bits: row j of the panel from bit 2 j | [padded d] f16: scales in a group's first
 *              panel, zeros in its second
 *     values   a group is a block of 32 columns of one row:  f16 scale | f16 zero | 8 bytes: column c in byte c / 4, from
 *              bit 2 (c % 4)
 * Padded: to whole blocks of QUANT_BLOCK. 3 bits per coordinate either way. */
#ifndef ATTND_KERNELS_KIVI_H
#define ATTND_KERNELS_KIVI_H

#include "kernels/element.h"
#include "kernels/quant.h"

enum {
    KIVI_ROWS = 2 * PANEL,
    KIVI_BLOCK_BYTES = 12, /* of 32 coordinates, keys or values */
};

static inline size_t kivi_padded(size_t n)
{
    return quant_blocks(n) * QUANT_BLOCK;
}

static inline size_t kivi_bytes(size_t n)
{
    return quant_blocks(n) * KIVI_BLOCK_BYTES;
}

static inline size_t kivi_panel_bytes(size_t d)
{
    return PANEL * kivi_bytes(d);
}

/* The panel of a row, and where the parameters of its group begin, zeros behind scales. */
static inline const char *kivi_panel(const void *keys, size_t d, size_t row)
{
    return (const char *)keys + row / PANEL * kivi_panel_bytes(d);
}

struct kivi_params {
    const char *scale, *zero;
};

static inline struct kivi_params kivi_params_of(const void *keys, size_t d, size_t row)
{
    const char *scale = kivi_panel(keys, d, row / KIVI_ROWS * KIVI_ROWS) + 4 * kivi_padded(d);
    return (struct kivi_params){scale, scale + kivi_panel_bytes(d)};
}

/* A group's parameters as they will be read back, from its extremes. Adding 0 makes -0 a 0, so that the order in which extremes are
 * found is no matter. */
struct kivi_group {
    uint16_t scale, zero;
};

static inline struct kivi_group kivi_group_of(float low, float high)
{
    return (struct kivi_group){f16_of_f32((high - low) / 3 + 0.0f), f16_of_f32(low + 0.0f)};
}

static inline float kivi_inverse(float scale)
{
    return scale > 0 ? 1 / scale : 0;
}

#endif
