/* Every instruction set that tests run on: those of this CPU, scalar first, and `wide`, the logic of AVX-512 on plain arrays. */
#ifndef ATTND_TESTS_ISAS_H
#define ATTND_TESTS_ISAS_H

#include "kernels/kernels.h"
#include "kernels/tables.h"

enum { TEST_ISAS_MAX = KERNELS_MAX + 1 };
extern const struct kernels kernels_wide;
QUANT_SLOTS(wide)
BF16_SLOTS(wide)

size_t test_isas(const struct kernels *out[TEST_ISAS_MAX]);

#endif
