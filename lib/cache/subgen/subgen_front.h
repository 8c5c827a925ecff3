/* Front: the exact rows of a sketch's stream, sink tokens and a recent window. What leaves the window goes into the sketch.
 *
 *     row     0 .. sinks - 1 | sinks .. sinks + recent - 1          a ring: row of index i is sinks + (i - sinks) mod recent
 *
 * Until the ring is full the row is the index itself, so the block starts small and doubles. recent 0: a token goes into the
 * sketch as it comes; sinks 0 as well: there is no block. One token at a time.
 * Threads: whoever holds the head's turn. Failing: front_reserve only, with nothing changed. */
#ifndef ATTND_CACHE_SUBGEN_FRONT_H
#define ATTND_CACHE_SUBGEN_FRONT_H

#include "cache/rows.h"

struct front_plan {
    struct row_format format;
    uint64_t sinks, recent;
};

/* What the block counts once n_tokens have come: exact. */
size_t front_bytes(const struct front_plan *plan, uint64_t n_tokens);

/* Room for the row of the token that comes next. ERR_NO_MEMORY. */
int front_reserve(struct rows *rows, const struct front_plan *plan, struct page_account *account, uint64_t token);

/* The token that goes into the sketch when `token` comes, with its row: the oldest of a full window, as it was stored, or the one
 * that comes when there is no window. False: none yet. key (d,), value (e,): of the one that comes, replaced by the one that goes
 * in the buffers out_key, out_value. */
bool front_leaving(const struct rows *rows, const struct front_plan *plan, const struct kernels *kernels, uint64_t token,
                   const float *key, const float *value, uint64_t *leaving, float *out_key, float *out_value);

/* Keeps the row of the token that comes, unless it has gone into the sketch at once. */
void front_put(struct rows *rows, const struct front_plan *plan, const struct kernels *kernels, uint64_t token,
               const float *key, const float *value);

/* Tokens that have left, once n_tokens have come. */
uint64_t front_gone(const struct front_plan *plan, uint64_t n_tokens);

/* Segments of the rows that are there; returns their number. */
enum { FRONT_SEGMENTS = 3 };
size_t front_show(const struct rows *rows, const struct front_plan *plan, uint64_t n_tokens, struct segment *seg);

#endif
