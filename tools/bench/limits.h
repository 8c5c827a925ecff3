/* Limits: what the machine does at best, measured beside what is benched: reading memory, and multiply-adds.
 *
 * Reading: every thread reads its share of a buffer of so many bytes once, by the fastest of several loops: vector loads from
 * one or several places of the share side by side (one alone may not keep enough lines in flight), huge pages where the system
 * gives them. Multiply-adds: independent chains in registers, as wide as the instruction set has them; one counts as two
 * operations, as everywhere here. */
#ifndef ATTND_TOOLS_BENCH_LIMITS_H
#define ATTND_TOOLS_BENCH_LIMITS_H

#include "kernels/kernels.h"
#include "tools/bench/team.h"

struct limits;

/* bytes: of the reading. ERR_NO_MEMORY, ERR_INVALID. */
int limits_create(struct limits **out, const struct kernels *kernels, size_t n_threads, size_t bytes, struct fault *fault);
void limits_destroy(struct limits *limits); /* NULL is allowed */

/* Seconds to read the bytes once, when they are read so many times in a row. */
double limits_read_seconds(struct limits *limits, size_t n_times);

/* The types that kernels multiply and add in. INT16: products of 16 bits, in pairs, added to sums of 32 bits.
 * BF16: products of bf16, in pairs, added to sums in f32. */
enum limits_type { LIMITS_F32, LIMITS_INT16, LIMITS_BF16, N_LIMITS_TYPE };

/* Operations per second, all threads together. Instruction sets without a loop in a type: as in F32. */
double limits_flops_per_second(struct limits *limits, enum limits_type type);

#endif
