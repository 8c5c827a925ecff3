/* Random numbers of the experiments: functions of (seed, row, column) alone, made of the library's coins. */
#ifndef ATTND_TOOLS_LIMITS_DRAW_H
#define ATTND_TOOLS_LIMITS_DRAW_H

#include <stddef.h>
#include <stdint.h>

double draw_uniform(uint64_t seed, uint64_t row, uint64_t column); /* [0, 1) */
double draw_sign(uint64_t seed, uint64_t row, uint64_t column);    /* -1 or 1 */
double draw_normal(uint64_t seed, uint64_t row, uint64_t column);  /* mean 0, variance 1 */

/* A point drawn uniformly from the ball of radius 1 in d dimensions; of norm 1 exactly. */
void draw_in_ball(uint64_t seed, uint64_t row, size_t d, float *out);
void draw_on_sphere(uint64_t seed, uint64_t row, size_t d, float *out);

#endif
