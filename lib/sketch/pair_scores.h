/* Pair scores: the probability that tensor attention gives to the rows of either stream.
 *
 *     p_ij = exp(s_ij + w1_i + w2_j) / sum,    s_ij = sum_c q_c k1_ic k2_jc,    sum over all pairs
 *     row i of stream 1 gets sum_j p_ij, row j of stream 2 gets sum_i p_ij
 *
 * As attention/tensor.c does it, row i of stream 1 asks stream 2 the query q * k1_i: two passes of matrix products, the largest
 * score and the sum first. Nothing is kept but a tile; bits depend on rows, queries and the instruction set alone. */
#ifndef ATTND_SKETCH_PAIR_SCORES_H
#define ATTND_SKETCH_PAIR_SCORES_H

#include "sketch/scores.h"

/* Adds over all queries q (n_q, d), scaled: total[s][i * stride] for row i of stream s. */
void pair_scores_add(const struct kernels *kernels, const struct score_rows rows[2], const float *q, size_t n_q, size_t d,
                     float *const total[2], size_t stride);

#endif
