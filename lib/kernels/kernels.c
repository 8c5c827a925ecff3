#include "kernels/kernels.h"

#include "kernels/tables.h"
#include <string.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif

static bool always(void)
{
    return true;
}

#ifdef __x86_64__
/* clang 14 does not know f16c by name; bit 29 of CPUID 1 in ecx. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c >> 29 & 1);
}

/* GCC and clang ask CPUID, and the operating system whether it saves the registers. */
static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

static bool has_avx512_vnni(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi");
}

static bool has_avx512_bf16(void)
{
    return has_avx512_vnni() && __builtin_cpu_supports("avx512bf16");
}
#endif

/* Slowest first. */
static const struct {
    const struct kernels *kernels;
    bool (*runs_here)(void);
} table[] = {
    {&kernels_scalar, always},
#ifdef __x86_64__
    {&kernels_avx2, has_avx2},
    {&kernels_avx512, has_avx512},
    {&kernels_avx512_vnni, has_avx512_vnni},
    {&kernels_avx512_bf16, has_avx512_bf16},
#endif
#ifdef __aarch64__
    {&kernels_neon, always}, /* part of the architecture */
#endif
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
    const struct kernels *runnable[KERNELS_MAX] = {&kernels_scalar}; /* runs everywhere */
    size_t n = kernels_runnable(runnable);
    return runnable[n > 0 ? n - 1 : 0];
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
