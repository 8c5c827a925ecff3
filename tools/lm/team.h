/* A few threads that share out the items of one job at a time, and sleep between jobs.
 *
 * Attention is computed by other threads on the same CPUs (the engine's, or the daemon's) while the language model waits for it,
 * so a team must cost nothing then: OpenMP's threads spin for milliseconds after each region, and at its end each waits for all,
 * also for one that other processes keep from running. Here who is awake takes the next item, and a thread that wakes up late
 * finds nothing to do and is not waited for.
 * Threads: one at a time calls lm_team_run. */
#ifndef ATTND_TOOLS_LM_TEAM_H
#define ATTND_TOOLS_LM_TEAM_H

#include "base/err.h"

struct lm_team;

/* n_threads 0: one for each CPU that this process may use. The caller of lm_team_run is one of them. */
int lm_team_create(struct lm_team **out, size_t n_threads, struct fault *fault);
void lm_team_destroy(struct lm_team *team); /* NULL is allowed */

/* run(context, i) for each i < n, in any order, and waits for all. team NULL: in the calling thread. */
void lm_team_run(struct lm_team *team, size_t n, void (*run)(void *context, size_t i), void *context);

#endif
