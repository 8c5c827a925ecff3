/* The NEON table: the kernels of vector_*.h on AArch64's vectors; quantised rows are scalar.c's there. */
#ifdef __aarch64__

#include "kernels/vector_neon.h"

#define VECTOR_PREFIX neon
#include "kernels/vector_table.h"

const struct kernels kernels_neon = VECTOR_TABLE("neon", false, false, scalar, scalar, neon);

#else
typedef int no_neon_here; /* a file must not be empty */
#endif
