/* Lifetime: one policy's cache over a long stream, on this thread: what a token costs early and late, and what it holds.
 *
 * Every token is appended and observed; every ASK_EVERY-th query attends as well. Times are of the thread's own CPU clock, so that
 * other programs disturb them little. The stream is cut into 100 windows; a window's time is its mean (a policy's rare work, as
 * regrouping, counts), and "at 5 %" and "in the last 10 %" are medians over the windows from 3 to 7 and from 90 to 99. */
#ifndef ATTND_TOOLS_BENCH_LIFETIME_H
#define ATTND_TOOLS_BENCH_LIFETIME_H

#include "cache/cache.h"
#include "tools/bench/planted.h"

enum { LIFETIME_WINDOWS = 100, LIFETIME_ASK_EVERY = 64, LIFETIME_ASKED = 64 /* last queries, for the error */ };

struct lifetime_plan {
    const struct cache_ops *ops;
    const struct kernels *kernels;
    const struct planted *stream;
    const double *reference; /* planted_reference's for LIFETIME_ASKED; NULL: no error */
    uint64_t n_tokens;       /* at least LIFETIME_WINDOWS * LIFETIME_ASK_EVERY */
    uint64_t budget_bytes;
};

/* Of windows at 5 % and in the last tenth. */
struct lifetime_pace {
    double append, attend; /* seconds per token, and per query */
    uint64_t resident;     /* bytes of the process, at 5 % and at the end */
};

struct lifetime {
    struct lifetime_pace early, late;
    uint64_t allocated; /* bytes at the end */
    double error_mean;  /* of the last queries against the reference */
    double gauge[CACHE_GAUGES_MAX];
};

/* progress as in planted.h. Refusals of the budget and lack of memory come with a reason; ERR_FAILED: progress ended it. */
int lifetime_run(const struct lifetime_plan *plan, planted_progress *progress, struct lifetime *out, struct fault *fault);

/* Bytes of this process in RAM. */
uint64_t process_resident(void);

#endif
