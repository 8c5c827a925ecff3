/* Partials: the result of attention over some of the rows, mergeable with the result over others.
 *
 * One flat array of PARTIAL_HEAD + e floats:  max_num, max_den, sum, acc[e]
 *     acc = sum_j exp(s_j + num_j - max_num) v_j      sum = sum_j exp(s_j + den_j - max_den)
 * The two maxima differ as soon as the weights do; scores of real models span 100 nats, so one shared shift would underflow.
 * Merging rebases each part on the larger maximum and is associative up to rounding; callers merge in a fixed order, which
 * makes results bit-identical for every number of threads. Empty is (-inf, -inf, 0, 0...); two empty ones merge to empty.
 *     out = acc / sum * exp(max_num - max_den)        lse = max_den + log(sum)
 * An empty numerator gives out = 0, an empty denominator out = 0 and lse = -inf; never NaN. (Source: design; Flash-decoding's
 * rescaling, arXiv 2307.08691.) */
#ifndef ATTND_ATTENTION_PARTIAL_H
#define ATTND_ATTENTION_PARTIAL_H

#include "kernels/kernels.h"

enum { PARTIAL_MAX_NUM, PARTIAL_MAX_DEN, PARTIAL_SUM, PARTIAL_HEAD };

void partial_clear(float *partial, size_t e);
void partial_merge(const struct kernels *kernels, float *into, const float *from, size_t e);
/* One more row of the denominator with this score and no value: a sink logit. */
void partial_add_logit(float *partial, float logit);
/* out (e,); lse may be NULL. */
void partial_finish(const struct kernels *kernels, const float *partial, size_t e, float *out, float *lse);

#endif
