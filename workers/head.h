/* Head: one kv head of one layer of one stream: its cache, its FIFO, and how a task runs on it. */
#ifndef ATTND_WORKERS_HEAD_H
#define ATTND_WORKERS_HEAD_H

#include "workers/audit.h"
#include "workers/pool.h"

struct head {
    struct engine_stream *stream;
    struct pool *pool;
    struct cache *cache;
    enum compute compute; /* what its attention is computed in */
    struct audit audit;   /* empty where the head is not audited */
    uint32_t layer, kv_head;
    _Atomic(double) *gauge; /* (ops->n_gauges): what the policy tells of its state, as of the last task; anyone reads */

    /* Guarded by the pool's lock. */
    struct head_task *first, *last;
    struct head *next_ready;
    bool in_turn; /* in the inbox or running */

    size_t allocated, resident, audited; /* bytes, as last added to the totals; the turn's holder writes */
};

/* Runs turns one after the other (a pool_run); of each its tasks, or a part of a long one: for each run of tokens append, then attend.
 * The times are added to the parts, a failure is left in the part and the stream. */
void head_run(struct worker *worker, struct turn *turn, size_t n, uint64_t *now);

/* Takes the cache's bytes out of all totals and frees it. The head must be idle. */
void head_retire(struct head *head);

#endif
