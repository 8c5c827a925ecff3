/* Cover: how many clusters SubGen's normaliser needs for a stream of keys at a radius: a key that lies within delta of no centre
 * becomes one. Counted by the policy `subgen` itself, through its gauge `clusters`, without a budget, sink tokens or recent rows. */
#ifndef ATTND_TOOLS_LIMITS_COVER_H
#define ATTND_TOOLS_LIMITS_COVER_H

#include "tools/eval/trial.h"

/* key (n, d) in their order. clusters[i]: after the first at[i] keys, at rising and at most n. ERR_UNSUPPORTED where this build has no
 * policy subgen. */
int cover_count(struct trial *trial, const float *key, size_t n, size_t d, double delta, const size_t *at, size_t n_at,
                double *clusters, struct fault *fault);

#endif
