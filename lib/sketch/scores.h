/* Scores: the probability that queries give to rows, for policies that learn from attention.
 *
 *     p_ij = exp(<q_i, k_j> + w_j) / sum_l exp(<q_i, k_l> + w_l)          (q scaled; w the rows' log weights, or 0)
 *
 * Up to 8,192 rows are looked at once, their scores held on the stack (160 KB). Of more rows the largest score and the sum come
 * first, the probabilities then, so that the room needed does not depend on their number. Bits depend on the rows, the queries
 * and the instruction set alone: tiles are cut at row numbers and added in order. Queries of any number share the looks, eight
 * at a time, or as many as there is room for. */
#ifndef ATTND_SKETCH_SCORES_H
#define ATTND_SKETCH_SCORES_H

#include "kernels/kernels.h"

/* Rows [0, n) of a block. */
struct score_rows {
    const struct storage *storage;
    const void *keys;
    const float *log_weight; /* (n,) or NULL */
    size_t n;
};

/* What is added of the sum over the queries: itself, or its root, by which many queries that give a little count for more than
 * one that gives much. */
enum score_power { SCORE_PLAIN, SCORE_ROOT };

/* total[j * stride] += sum_i p_ij, or its root, j < rows->n. q (n_q, d), n_q <= SHAPE_HEADS_MAX. A query whose weights are all
 * -inf adds nothing. */
void scores_add(const struct kernels *kernels, const struct score_rows *rows, const float *q, size_t n_q, size_t d,
                enum score_power power, float *total, size_t stride);

#endif
