/* Engine: heads of streams, sharded over OpenMP pools; parts go in, finished parts come out. No sockets: the daemon and the
 * tools (in-process work) use the same engine.
 *
 * A head (one kv head of one layer of one stream) has a cache, a FIFO of tasks and a turn: only the holder of the turn changes
 * the cache, tasks of one head run in the order in which they were submitted, different heads run side by side. A long
 * attention is split into units (attention/attend.h) that idle threads of the pool take; they join before the turn ends.
 * Outputs are bit-identical for every number of pools and threads.
 *
 * Threads: open, close, submit and part_* come from one thread (the gateway) at a time; `done` is called on pool threads and
 * must not block. Lock order: a head's lock, then its pool's. */
#ifndef ATTND_WORKERS_ENGINE_H
#define ATTND_WORKERS_ENGINE_H

#include "base/profile.h"
#include "base/shape.h"
#include "cache/policy.h"
#include "config/config.h"
#include "kernels/kernels.h"
#include "stats/histogram.h"

struct engine;
struct engine_stream;

/* What a part asks for. */
enum part_flag { PART_APPEND = 1, PART_ATTEND = 2, PART_PARTIAL = 4, PART_OBSERVE = 8 };

/* One stream's tokens of one layer. The caller fills the first group and keeps inputs and outputs alive until done. */
struct part {
    struct engine_stream *stream;
    uint32_t layer, n_tokens;
    unsigned flags;
    uint64_t first_token;          /* append: equals the layer's count when its turn comes; attend alone: the count */
    const void *q;                 /* (n_tokens, H, d) in the stream's element type, any alignment */
    const void *key[2], *value[2]; /* (n_tokens, Hkv, d | e) */
    float *out;                    /* (n_tokens, H, e) */
    float *lse;                    /* (n_tokens, H); with PART_PARTIAL */
    bool patient;                  /* whoever submits calls engine_help soon: if it is small, no thread is woken for it alone */
    void *owner;                   /* the caller's */

    float key_magnitude[2], value_magnitude[2]; /* filled by engine_check_part: the largest, appended ones only */

    /* Filled by the engine when done. */
    atomic_int err;                            /* 0, or why the stream is FAILED */
    uint64_t submit_ns, end_ns;                /* monotonic: submitted, last head ended */
    atomic_uint_fast64_t append_ns, attend_ns; /* summed over heads */
    atomic_uint heads_left;
    struct head_task *task; /* (n_tasks), of which a stream takes Hkv */
    size_t n_tasks;
};

typedef void engine_done(void *context, struct part *part);

/* Live totals of a pool or of a profile; readable by anyone at any time. */
struct engine_totals {
    atomic_size_t allocated, resident, control, full_bf16; /* bytes */
    atomic_size_t audited;                                 /* bytes of audits, not in allocated */
    atomic_uint_fast64_t streams, tokens;                  /* tokens: of one kv head of one layer each */
    atomic_uint_fast64_t queued;                           /* head tasks waiting now */
    atomic_uint_fast64_t busy_ns;                          /* of all threads */
    struct histogram wait, append, attend;                 /* seconds per head task */
    struct histogram error; /* relative error of audited heads, 1 for one second; profiles only */
};

int engine_create(struct engine **out, const struct config *config, const struct kernels *kernels, engine_done *done,
                  void *context, struct fault *fault);
void engine_destroy(struct engine *engine); /* drains first; NULL is allowed */

/* Takes over the pools and profiles of another configuration: starts its teams, drains, moves every head to them and stops the old
 * ones; open streams keep the rules that they were opened with. All or nothing. No output changes by a bit. Nobody may look at
 * pools meanwhile; pools that keep their names go on counting. *n_moved: heads. */
int engine_reload(struct engine *engine, const struct config *config, size_t *n_moved, struct fault *fault);

/* A stream's heads under a profile with overrides ("window,budget_fraction=0.125"). Takes no ownership of shape. */
int engine_open(struct engine *engine, const struct shape *shape, const char *profile, struct engine_stream **out,
                struct fault *fault);
/* The same, within so many bytes of caches and control: ERR_NO_MEMORY before more is taken. */
int engine_open_within(struct engine *engine, const struct shape *shape, const char *profile, size_t room,
                       struct engine_stream **out, struct fault *fault);
/* Frees the heads. The stream must be drained (no part in flight). Takes it: *stream becomes NULL. */
void engine_close(struct engine *engine, struct engine_stream **stream);

/* Tokens that the layer's caches hold once everything submitted is done. */
uint64_t engine_next_token(const struct engine_stream *stream, uint32_t layer);

/* Bytes that the layer's caches allocate now. */
size_t engine_layer_bytes(const struct engine_stream *stream, uint32_t layer);

/* Worst-case bytes that appending n tokens to a layer adds: what admission reserves. */
size_t engine_worst_growth(const struct engine_stream *stream, uint32_t layer, uint64_t n_tokens);

/* Checks that need a look at the numbers: finite, within what the layer's row storages hold, and results finite too, beside all
 * that was appended before. ERR_NOT_FINITE, ERR_OVERFLOW, ERR_NEEDS_QUERIES with the tensor's name. Changes only the part. */
int engine_check_part(struct part *part, struct fault *fault);

/* Memory for parts, with room for a stream's heads. */
int part_create(struct part **out, struct engine *engine, const struct engine_stream *stream);
bool part_fits(const struct part *part, const struct engine_stream *stream); /* it may serve this stream too */
void part_destroy(struct part *part);

/* For the pools: n more heads of the part are done; the last one reports the part. */
void part_heads_done(struct part *part, unsigned n);

/* Hands a part to the pools. Never fails: everything was checked before. `done` may be called before it returns. */
void engine_submit(struct engine *engine, struct part *part);
/* The same for many parts: each is lined up, counts as submitted, and goes to the pools when there is enough for a thread of theirs, or
 * all is handed over, at the latest before the submitting thread does anything else with the engine. */
void engine_line_up(struct engine *engine, struct part *part);
void engine_hand_over(struct engine *engine);

/* Does a little of what waits, on the submitting thread: tasks of one head that together take some microseconds. False when there is
 * nothing so small: then the pools' threads are awake for what there is. */
bool engine_help(struct engine *engine);

/* Waits until nothing is queued or running. */
void engine_drain(struct engine *engine);

/* What is known of a stream now. */
struct engine_stream_state {
    uint64_t allocated, resident, control, audited, full_bf16, tokens;
    uint64_t append_ns, attend_ns;
    int err; /* 0, or why it is FAILED */
};
void engine_stream_state(const struct engine_stream *stream, struct engine_stream_state *out);
const struct shape *engine_stream_shape(const struct engine_stream *stream);
const char *engine_stream_profile(const struct engine_stream *stream);
uint64_t engine_stream_seed(const struct engine_stream *stream);
uint64_t engine_stream_tokens(const struct engine_stream *stream); /* of the longest layer, applied */
/* The resolved rules, one line per run of equal heads; valid as long as the stream. */
const char *engine_stream_rules(const struct engine_stream *stream);

/* Relative errors of the stream's audited heads. */
const struct histogram *engine_stream_error(const struct engine_stream *stream);

/* What the policies of a stream's heads tell of their state: one entry per policy that has gauges, summed over its heads. Adds to
 * the n entries that are there already (of other streams) and returns how many there are then. */
struct engine_policy_state {
    const struct cache_ops *ops;
    size_t n_heads;
    double sum[CACHE_GAUGES_MAX];
};
size_t engine_stream_policies(const struct engine_stream *stream, struct engine_policy_state *states, size_t n, size_t max);

/* Totals: pools 0..n_pools-1 by name, profiles by name as they are first opened. */
size_t engine_n_pools(const struct engine *engine);
const char *engine_pool_name(const struct engine *engine, size_t pool);
size_t engine_pool_threads(const struct engine *engine, size_t pool);
const struct engine_totals *engine_pool_totals(const struct engine *engine, size_t pool);
size_t engine_n_profiles(const struct engine *engine);
const char *engine_profile_name(const struct engine *engine, size_t i);
const struct engine_totals *engine_profile_totals(const struct engine *engine, size_t i);
const struct kernels *engine_kernels(const struct engine *engine);
struct slabs *engine_slabs(const struct engine *engine); /* what its caches take pages from (base/slabs.h) */

#endif
