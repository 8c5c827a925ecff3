/* The AVX2 table: the kernels of vector_*.h on this instruction set's vectors. */
#ifdef __x86_64__

#include "kernels/vector_avx2.h"
#include "kernels/vector_avx2_quant.h"

#include "kernels/vector_accumulate.h"
#include "kernels/vector_math.h"
#include "kernels/vector_rows.h"
#include "kernels/vector_score.h"

#include "kernels/avx2_values.h"
#include "kernels/vector_quant_keys.h"

#include "kernels/tables.h"
#define VECTOR_TABLE kernels_avx2
#define VECTOR_ISA "avx2"
#define VECTOR_WHOLE_VALUES
#include "kernels/vector_table.h"

#else
typedef int no_avx2_here; /* a file must not be empty */
#endif
