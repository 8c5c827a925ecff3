/* Tests run on the tables of this machine; `wide` is tested where CUnit is. */
#include "../lib/kernels/isas.h"

size_t test_isas(const struct kernels *out[TEST_ISAS_MAX])
{
    return kernels_runnable(out);
}
