/* Audit: a head's full cache in bf16, kept beside its compressed one, and the relative error that it shows, live.
 *
 * For a share of a profile's heads (`audit: 0.25`) every token is appended to both caches and every query attends to both:
 *     error = |out - full|_2 / |full|_2          per token and query head
 * goes into the histogram of the profile and of the stream. The memory and the time of an audit are counted apart.
 * Threads: belongs to its head; called with the turn held. */
#ifndef ATTND_WORKERS_AUDIT_H
#define ATTND_WORKERS_AUDIT_H

#include "cache/policy.h"
#include "stats/histogram.h"
#include "workers/pool.h"

struct audit {
    struct cache *full;
};

/* Whether head i of n is audited when `share` of them are: spread evenly, the same for every stream of the shape. */
bool audit_picks(double share, size_t i);

int audit_create(struct audit *audit, const struct cache_dims *dims, const struct kernels *kernels);
void audit_destroy(struct audit *audit);
size_t audit_bytes(const struct audit *audit);
size_t audit_worst_bytes(const struct cache_dims *dims, uint64_t n_tokens);

int audit_append(struct audit *audit, const struct token_run *run);

/* attend: the plan that was just carried out on the compressed cache. Adds one error per token and query head to each histogram:
 * an error of 1 is one second in struct histogram's units. */
int audit_compare(struct worker *worker, const struct audit *audit, const struct attend *attend, struct histogram *profile,
                  struct histogram *stream);

#endif
