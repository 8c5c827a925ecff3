/* Dot products of a few numbers in f32, for the small work beside the kernels. In eight sums that are added up in pairs at the end:
 * no sum waits for the one before, and the bits are the same everywhere. */
#ifndef ATTND_SKETCH_DOT_H
#define ATTND_SKETCH_DOT_H

#include <stddef.h>

float dot(const float *a, const float *b, size_t n);

/* 1 / |a|, or 0 where |a| is 0. */
float inverse_norm(const float *a, size_t n);

#endif
