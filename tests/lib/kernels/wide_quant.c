/* Its quantised rows. */
#include "vector_wide.h"
#include "vector_wide_quant.h"

#include "isas.h"
#define VECTOR_PREFIX wide
#include "kernels/vector_quant_table.h"
