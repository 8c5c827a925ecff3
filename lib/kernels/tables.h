/* The tables behind kernels_find, one file each; for lib/kernels only. */
#ifndef ATTND_KERNELS_TABLES_H
#define ATTND_KERNELS_TABLES_H

#include "kernels/kernels.h"

extern const struct kernels kernels_scalar;

#endif
