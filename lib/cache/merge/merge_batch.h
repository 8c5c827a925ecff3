/* Merge batch: makes room for an interval in rows that are full, by merging rows into others that are near them under the metric
 * of the queries, and by dropping those that have none. What `merge` does to each stream; the head comment of merge.c has the
 * mathematics. */
#ifndef ATTND_CACHE_MERGE_BATCH_H
#define ATTND_CACHE_MERGE_BATCH_H

#include "cache/held.h"
#include "cache/merge/metric.h"

struct merge_batch {
    struct held *held; /* weighted rows; float 0 of a side is the row's mass */
    const struct held_plan *plan;
    struct metric metric;
    float within;       /* rows at most so far apart merge */
    float distinctness; /* how much distinctive keys count beside mass */
};

/* Which candidates are gone, gone (plan->interval,) in ascending order; what was merged is in other rows by then. Returns how many
 * of them were merged, not dropped. */
size_t merge_batch_run(const struct merge_batch *b, uint32_t *gone);

#endif
