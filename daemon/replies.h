/* Replies kept for resends: what one layer of one stream was answered, until the producer confirms it.
 * Belongs to the gateway. */
#ifndef ATTND_DAEMON_REPLIES_H
#define ATTND_DAEMON_REPLIES_H

#include "daemon/buffer.h"
#include <stdbool.h>
#include <stdint.h>

struct reply {
    uint64_t first, n; /* tokens */
    struct buffer *buffer;
    size_t bytes;          /* what it counts for: of the buffer it holds */
    size_t out_at, lse_at; /* floats; lse_at SIZE_MAX: none */
    struct reply *next;
};

struct replies {
    struct reply *first, *last; /* by token */
};

/* Keeps outputs (n_out floats from out_at on) and lse (n_lse; 0: none) of a buffer that other streams' replies may share: a
 * reference when the buffer is all this reply's, else a copy, so that a stream that falls silent does not hold the outputs of
 * others, and a reply counts for what it holds. Returns the bytes that count; 0 when memory is out: then a resend is answered with not_kept. */
size_t replies_keep(struct replies *replies, uint64_t first, uint64_t n, struct buffer *buffer, size_t out_at, size_t n_out,
                    size_t lse_at, size_t n_lse);

/* Drops what ends at or before `confirmed`; returns the bytes that counted. */
size_t replies_confirm(struct replies *replies, uint64_t confirmed);

/* Drops the oldest one; returns the bytes that counted, 0 when there is none. */
size_t replies_drop_oldest(struct replies *replies);

/* Copies tokens [first, first + n): out (n, out_width), and lse (n, lse_width) unless NULL. False when some are not kept. */
bool replies_copy(const struct replies *replies, uint64_t first, uint64_t n, size_t out_width, float *out, size_t lse_width,
                  float *lse);

#endif
