/* Team: the same function on several threads at once, timed from when all are there until the last one ends.
 * OpenMP keeps the threads between calls, so a call costs microseconds. */
#ifndef ATTND_TOOLS_BENCH_TEAM_H
#define ATTND_TOOLS_BENCH_TEAM_H

#include "base/err.h"

typedef void team_run(void *context, size_t thread, size_t n_threads);

/* CPUs that this process may use. */
size_t team_cpus(void);

/* 0, or ERR_INVALID when OpenMP does not give so many threads. */
int team_check(size_t n_threads, struct fault *fault);

/* Seconds that it took. */
double team_seconds(size_t n_threads, team_run *run, void *context);

#endif
