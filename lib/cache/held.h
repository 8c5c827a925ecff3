/* Held rows: a block of rows in the order of their tokens, of which some are dropped now and then. What the policies that keep
 * part of the rows are built from.
 *
 *     row     0 .. sinks - 1 | candidates, oldest first       | the last `recent` tokens
 *             never dropped  | what the policy chooses among  | never dropped
 *
 * Rows come in at the end until `limit` of them are held; the next append first drops `interval` candidates and closes the
 * gaps. So rows are dropped at absolute indices (limit, limit + interval, ...), whatever the batches, the rows of the interval
 * lie within the limit, and each row waits until it is `recent` tokens old before it may go. The order stays, and so does the
 * meaning of a row's place: the last rows are those of the last tokens, which is what makes a run of tokens causal. The block
 * starts small and doubles while the stream is short; nothing grows once it holds `limit` rows.
 * Threads: whoever holds the head's turn. Failing: held_reserve only, with nothing changed. */
#ifndef ATTND_CACHE_HELD_H
#define ATTND_CACHE_HELD_H

#include "cache/policy.h"
#include "cache/rows.h"

enum { HELD_INTERVAL_MAX = 256 };

/* Settings that policies of this kind take, first in their own structs of parameters. 0: by default. */
struct held_params {
    uint64_t rows, interval;
};

#define HELD_KEY_ROWS                                                                                                          \
    {                                                                                                                          \
        .name = "rows", .type = KEY_COUNT, .offset = offsetof(struct held_params, rows), .min = 0, .max = 1 << 30,             \
        .unit = "rows", .initial = "0",                                                                                        \
        .help = "rows held at most, sink and recent ones included; 0: as many as the budget holds, 1024 without one. With a "  \
                "budget too the smaller holds"                                                                                 \
    }
#define HELD_KEY_INTERVAL                                                                                                      \
    {                                                                                                                          \
        .name = "interval", .type = KEY_COUNT, .offset = offsetof(struct held_params, interval), .min = 0,                     \
        .max = HELD_INTERVAL_MAX, .unit = "tokens", .initial = "0",                                                            \
        .help = "rows are dropped every so many tokens; 0: a power of two near a sixteenth of the rows, at most 64"            \
    }

/* What the settings come to for one stream of rows. */
struct held_plan {
    struct row_format format;
    size_t limit, capacity; /* rows held at most; rows of the block by then, in whole panels */
    size_t sinks, recent, interval;
};

/* What a policy asks of its plan. */
struct held_wish {
    double recent_share;   /* of the limit, where recent_tokens isn't given; and */
    size_t recent_most;    /* no more than so many and an eighth of the limit; 0: no such bound */
    size_t extra_bytes;    /* pages beside the rows, of all streams */
    size_t n_streams;      /* that share the budget evenly */
    size_t least_interval; /* of the default one */
};

/* ERR_INVALID with the reason when the rows don't hold sinks, recent rows, an interval and one candidate more. */
int held_plan_make(struct held_plan *plan, const struct row_format *format, const struct policy *policy,
                   const struct cache_dims *dims, const struct held_wish *wish, struct fault *fault);

/* What the block counts once n_tokens have come: exact. */
size_t held_bytes(const struct held_plan *plan, uint64_t n_tokens);

/* Candidates when the limit is reached: rows [sinks, sinks + held_candidates). */
size_t held_candidates(const struct held_plan *plan);

struct held {
    struct rows rows;
    size_t n; /* rows held */
};

void held_release(struct held *held);

/* Room for the rows up to token n_tokens, in a block of this owner alone. ERR_NO_MEMORY. */
int held_reserve(struct held *held, const struct held_plan *plan, struct page_account *account, uint64_t n_tokens);

/* Rows that may come before some must be dropped; at least 1, since a full block is emptied first. */
size_t held_room(const struct held *held, const struct held_plan *plan);

/* n rows (keys (n, d), values (n, e)) after the last; their weights and sides are 0. At most held_room, reserved. */
void held_append(struct held *held, const struct held_plan *plan, const struct kernels *kernels, size_t n, const float *keys,
                 const float *values);

/* Drops the rows gone[0] < gone[1] < ... and closes the gaps. */
void held_drop(struct held *held, const struct held_plan *plan, const uint32_t *gone, size_t n_gone);

/* All rows as a segment; n_tokens have come. */
struct segment held_segment(const struct held *held, const struct held_plan *plan, uint64_t n_tokens);

/* Rows that the query of a token sees. */
size_t held_seen(const struct held *held, uint64_t n_tokens, uint64_t token);

bool held_check(const struct held *held, const struct held_plan *plan, uint64_t n_tokens, const char **reason);

#endif
