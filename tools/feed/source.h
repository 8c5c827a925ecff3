/* Source: the tokens of all streams, ready to be sent, in the element type of the wire.
 *
 * They are made, or read from a trace, before the first is sent, and a message borrows them from here, so that feeding costs no
 * more than sending does. A synthetic source holds at most SOURCE_BYTES of tokens; a stream begins at a row of its own and goes on
 * at the first after the last.
 * Threads: read only once it is made. */
#ifndef ATTND_TOOLS_FEED_SOURCE_H
#define ATTND_TOOLS_FEED_SOURCE_H

#include "tools/eval/trace.h"
#include "tools/feed/synthetic.h"

#include <stdbool.h>

#define SOURCE_BYTES ((uint64_t)256 << 20)

struct source {
    const struct shape *shape;
    uint64_t n_rows; /* different tokens */
    uint64_t tail;   /* rows after them that are the first ones again, so that any run up to tail + 1 lies in one piece */
    uint64_t seed;
    bool same_start;                            /* a trace: all streams begin at its first token */
    void *(*tensor)[SHAPE_STREAMS_MAX_TENSORS]; /* (n_layers): q, k1, v1, k2, v2; (n_rows + tail, heads, width) */
};

/* Rows that a synthetic source of this shape holds for streams of n tokens. */
uint64_t source_rows_for(const struct shape *shape, uint64_t n_tokens);

/* run: tokens that are asked for in one piece. shape must outlive the source. ERR_NO_MEMORY. */
int source_from_synthetic(struct source *source, const struct shape *shape, const struct synthetic *synthetic, uint64_t run,
                          struct fault *fault);
/* ERR_INVALID when a number of the trace is too large for the element. */
int source_from_trace(struct source *source, const struct shape *shape, const struct trace *trace, struct fault *fault);
void source_free(struct source *source); /* a half made one, too */

/* The numbers of a tensor from this token of this stream on. */
const void *source_at(const struct source *source, uint64_t stream, uint32_t layer, size_t tensor, uint64_t token);

/* Tokens [0, n) of a stream's layer as f32, (n, heads, width): what full attention is computed from. NULL without memory. */
float *source_widened(const struct source *source, uint64_t stream, uint32_t layer, size_t tensor, uint64_t n);

/* Tensors of a layer, 3 or 5, and numbers of one token in one of them. */
size_t source_tensors(const struct shape *shape, uint32_t layer);
size_t source_numbers(const struct shape *shape, size_t tensor);

#endif
