/* The NEON table: the kernels of vector_*.h on AArch64's vectors; quantised rows are scalar.c's there. */
#ifdef __aarch64__

#include "kernels/vector_neon.h"

#include "kernels/vector_accumulate.h"
#include "kernels/vector_math.h"
#include "kernels/vector_rows.h"
#include "kernels/vector_score.h"

#include "kernels/tables.h"
#define VECTOR_TABLE kernels_neon
#define VECTOR_ISA "neon"
#define VECTOR_WITHOUT_QUANT
#include "kernels/vector_table.h"

#else
typedef int no_neon_here; /* a file must not be empty */
#endif
