#include "isas.h"
#include "tests/test.h"

#include <string.h>

static void the_best_table_is_the_last_that_runs_here_and_scalar_is_the_first(void)
{
    const struct kernels *runnable[KERNELS_MAX];
    size_t n = kernels_runnable(runnable);
    CU_ASSERT(n >= 1);
    CU_ASSERT_STRING_EQUAL(runnable[0]->isa, "scalar");
    CU_ASSERT_PTR_EQUAL(kernels_best(), runnable[n - 1]);
}

static void a_table_is_found_by_its_name_and_others_are_not(void)
{
    const struct kernels *runnable[KERNELS_MAX];
    size_t n = kernels_runnable(runnable);
    for (size_t i = 0; i < n; i++)
        CU_ASSERT_PTR_EQUAL(kernels_find(runnable[i]->isa), runnable[i]);
    CU_ASSERT_PTR_NULL(kernels_find("sse9"));
    CU_ASSERT_PTR_NULL(kernels_find(""));
}

static void every_slot_of_every_table_is_filled(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n = test_isas(isa);
    for (size_t i = 0; i < n; i++) {
        const struct kernels *k = isa[i];
        CU_ASSERT(k->weigh && k->multiply && k->multiply_add && k->combine && k->exponential);
        for (size_t id = 0; id < N_STORAGE; id++)
            CU_ASSERT(k->score[id] && k->accumulate[id] && k->pack_keys[id] && k->pack_values[id] && k->unpack_keys[id] &&
                      k->unpack_values[id] && k->nearest[id]);
        for (size_t element = 0; element < N_ELEMENT; element++)
            CU_ASSERT(k->widen[element] && k->magnitude[element]);
    }
}

static void a_storage_is_found_by_its_name_and_others_are_not(void)
{
    for (size_t i = 0; i < N_STORAGE; i++) {
        CU_ASSERT_PTR_EQUAL(storage_find(storage_table[i].name), &storage_table[i]);
        CU_ASSERT_EQUAL(storage_table[i].id, i);
    }
    CU_ASSERT_PTR_NULL(storage_find("f8"));
}

TEST_SUITE("lib/kernels/kernels", TEST(the_best_table_is_the_last_that_runs_here_and_scalar_is_the_first),
           TEST(a_table_is_found_by_its_name_and_others_are_not), TEST(every_slot_of_every_table_is_filled),
           TEST(a_storage_is_found_by_its_name_and_others_are_not))
