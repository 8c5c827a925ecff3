/* How far the next-token distributions under one cache are from those under the full cache:
 *
 *     KL(full || other) = sum_i p_i (log p_i - log q_i) nats,   p = softmax(full's logits), q = softmax(the other's logits)
 *
 * and whether both hold the same token for the most likely one. Everything is summed in float64.
 * Threads: one at a time. */
#ifndef ATTND_TOOLS_LM_DIVERGENCE_H
#define ATTND_TOOLS_LM_DIVERGENCE_H

#include "base/err.h"

/* KL(full || other) of two sets of n logits, which must be finite. */
double lm_kl(const float *full, const float *other, size_t n);

struct lm_divergence;

struct lm_divergence_summary {
    double kl_mean, kl_p50, kl_p999; /* nats, over positions */
    double same_top;                 /* share of positions whose most likely token (the first of equals) is the same */
};

/* Room for n_max positions, 8 bytes each. */
int lm_divergence_create(struct lm_divergence **out, size_t n_max, struct fault *fault);
void lm_divergence_destroy(struct lm_divergence *d); /* NULL is allowed */

/* One more position, of at most n_max: logits of n tokens under either cache. */
void lm_divergence_add(struct lm_divergence *d, const float *full, const float *other, size_t n);

/* Over the positions that were added, at least one. Sorts them: nothing is added afterwards. */
void lm_divergence_summary(struct lm_divergence *d, struct lm_divergence_summary *out);

#endif
