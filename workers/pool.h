/* Pool: an OpenMP team that drains an inbox of heads. The only place with OpenMP in it.
 *
 * A pool is one pthread that enters one parallel region for its whole life; the team's threads take heads whose turn has come
 * from the inbox. A head is in the inbox at most once, and runs one task at a time: taking it from the inbox is the turn. Long
 * tasks take several turns, so that the heads of one message read its tensors side by side, and other messages come in between;
 * several small ones make one turn, while only their own stream waits: their rows are warm, and what a turn costs is paid once.
 * A thread takes the turns of several heads at once while they are small, as many as leave enough for the others.
 * Inside a turn, a long attention may be forked: its units are offered to idle threads of the same team and joined before the
 * turn ends.
 * Threads: submit from any thread; everything else inside. One lock per pool, held for a few instructions only; it also
 * guards the FIFOs of the pool's heads. An idle thread spins for a while, then sleeps. */
#ifndef ATTND_WORKERS_POOL_H
#define ATTND_WORKERS_POOL_H

#include "attention/attend.h"
#include "config/config.h"
#include "workers/engine.h"
#include "workers/scratch.h"

struct pool;
struct head;

/* One head's share of a part, done in one turn or in several. */
struct head_task {
    struct part *part;
    struct head *head;
    struct head_task *next;
    size_t n_done; /* tokens, in the turns so far */
    uint64_t wait_ns, append_ns, attend_ns;
    double work;  /* multiply-adds, about */
    bool patient; /* the submitting thread calls pool_help soon: no thread need be woken for this alone */
};

/* What a team's thread works with. */
struct worker {
    struct pool *pool;
    struct scratch input;   /* widened tokens and queries of one run */
    struct scratch shared;  /* the partials of a plan that this thread holds */
    struct scratch scratch; /* of attend_unit */
    struct scratch audit;   /* what an audited head's full cache answers */
};

enum {
    TURN_TASKS_MAX = 16,
    BATCH_TURNS_MAX = 32,
    BATCH_TASKS_MAX = 64,
};

/* A head's turn: its next tasks, which stay linked in its FIFO until the turn ends. */
struct turn {
    struct head_task *first;
    size_t n;
    bool ended; /* by pool_run. False: there is more of the task to do, in another turn; only where n is 1 */
};

/* Called on a team's thread, or a helper's, with the turns of different heads held: runs them in order (head.c). Together they have at
 * most BATCH_TASKS_MAX tasks. *now: the clock when it is called, and when it returns. */
typedef void pool_run(struct worker *worker, struct turn *turn, size_t n, uint64_t *now);

int pool_create(struct pool **out, const struct config_pool *config, double spin_seconds, pool_run *run, struct fault *fault);
void pool_destroy(struct pool *pool); /* the inbox must be empty; NULL is allowed */

void worker_free(struct worker *worker);

/* Hands tasks (linked by next) to the heads' FIFOs, in order. All heads belong to this pool. */
void pool_submit(struct pool *pool, struct head_task *first);

/* Runs some turns on the calling thread, if the next one's task is patient: false, and nothing happened, otherwise. Some microseconds
 * of work that a thread would sooner do than be woken for. */
bool pool_help(struct pool *pool, struct worker *guest);

/* Whoever promised to help does not: wakes the team. */
void pool_hurry(struct pool *pool);

/* Runs a whole plan: its units on this thread and on idle ones of the team, then its finish. Within a turn. ERR_NO_MEMORY. */
int pool_attend(struct worker *worker, struct attend *attend);

const char *pool_name(const struct pool *pool);
size_t pool_threads(const struct pool *pool);
struct engine_totals *pool_totals(struct pool *pool);

#endif
