/* Teams: the engine's pools, and which heads live in which. A reload starts new teams, moves every head to them, and stops the old
 * ones; the engine must be drained for it. Threads: the submitting one; totals are atomics that anyone reads. */
#ifndef ATTND_WORKERS_TEAMS_H
#define ATTND_WORKERS_TEAMS_H

#include "workers/head.h"
#include "workers/placement.h"

struct teams {
    struct pool *pool[CONFIG_POOLS_MAX];
    struct placement_pool place[CONFIG_POOLS_MAX];
    size_t n;
};

/* All pools of the configuration, or none: the error names the pool. */
int teams_start(struct teams *teams, const struct config *config, struct fault *fault);
void teams_stop(struct teams *teams); /* nothing may be queued; of zeros: nothing */

/* Chooses the head's pool, and counts there what the head holds. The head must be idle. */
void teams_take(struct teams *teams, struct head *head);
/* Takes the head out of its pool's counts, but for the bytes of its pages: stream_account does those. */
void teams_drop(struct teams *teams, const struct head *head);

/* What the old pools have counted so far goes on counting in those of the same names, or else in the first. */
void teams_inherit(struct teams *teams, const struct teams *old);

#endif
