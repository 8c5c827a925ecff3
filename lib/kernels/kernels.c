#include "kernels/kernels.h"

#include "kernels/tables.h"
#include <string.h>

static bool always(void)
{
    return true;
}

/* Slowest first. */
static const struct {
    const struct kernels *kernels;
    bool (*runs_here)(void);
} table[] = {
    {&kernels_scalar, always},
};

enum { N_TABLE = sizeof table / sizeof table[0] };
_Static_assert((int)N_TABLE <= (int)KERNELS_MAX, "kernels_runnable fills an array of KERNELS_MAX");

size_t kernels_runnable(const struct kernels *out[KERNELS_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < N_TABLE; i++)
        if (table[i].runs_here())
            out[n++] = table[i].kernels;
    return n;
}

const struct kernels *kernels_best(void)
{
    const struct kernels *runnable[KERNELS_MAX];
    return runnable[kernels_runnable(runnable) - 1];
}

const struct kernels *kernels_find(const char *isa)
{
    const struct kernels *runnable[KERNELS_MAX];
    size_t n = kernels_runnable(runnable);
    for (size_t i = 0; i < n; i++)
        if (strcmp(isa, runnable[i]->isa) == 0)
            return runnable[i];
    return NULL;
}
