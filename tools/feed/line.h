/* Line: one connection with its streams, driven by one thread.
 *
 * The streams of a line are number first, first + step, ... of the load. `parts` neighbours make a group; a message carries the next
 * batch of one layer of the streams of a group, layer after layer, group after group, while at most in_flight messages are
 * unanswered, and the client library keeps them within the credit.
 *
 * What is refused. BUSY: the stream's layer waits until nothing of it is in flight, then goes on at the index that was
 * expected; the line holds back until the next answer, or a moment that doubles from 1 to 64 ms. A lost connection (no answer for
 * `timeout` seconds, or the stream is another's or unknown) is made anew and its streams are taken over again: what has no outputs
 * is sent once more in the same batches, which applies nothing twice. Anything else ends the line.
 * Threads: line_run on any one thread, everything else before or after it; `progress` and `stop` are for anybody. */
#ifndef ATTND_TOOLS_FEED_LINE_H
#define ATTND_TOOLS_FEED_LINE_H

#include "tools/feed/carrier.h"
#include "tools/feed/latency.h"
#include "tools/feed/load.h"

/* Where outputs go, those of the warm-up excepted, which has none: (n, H, e) of tokens [first, first + n) of a layer of stream number `stream` of the load. */
typedef void line_sink(void *context, size_t stream, uint32_t layer, uint64_t first, uint32_t n, const float *out);

struct line_options {
    const char *who;       /* in messages on stderr */
    const char *prefix;    /* streams are PREFIX-0, PREFIX-1, ... by their number in the load */
    bool resume;           /* take over streams that are open already */
    double timeout, retry; /* seconds without an answer; of attempts to connect anew */
    line_sink *sink;       /* may be NULL */
    void *sink_context;
    atomic_bool *stop; /* no more is sent; may be NULL */
};

/* One layer of one stream. */
struct lane {
    uint64_t start;    /* tokens that were there when it was opened */
    uint64_t answered; /* tokens [0, answered) are applied */
    uint64_t sent;     /* tokens [0, sent) were sent at least once */
    size_t in_flight;  /* parts */
    bool stalled;      /* refused: nothing leaves before all in flight is answered */
};

struct line {
    const struct load *load;
    const struct line_options *options;
    struct carrier *carrier;
    size_t first, step, n_streams;
    struct attnd_stream *stream; /* (n_streams) */
    struct lane *lane;           /* (n_streams, n_layers) */
    struct flight *flight;       /* (in_flight) a ring: message i is at i mod in_flight */
    uint64_t sent, landed;       /* messages: those in between may be in flight */
    size_t cursor;               /* of (group, layer) */
    uint64_t limit;              /* tokens of each stream that are fed now */
    double rate;                 /* of this line; 0: none */
    double next_due, hold_until, hold, last_heard;
    bool lost;

    /* What it tells. Tokens of one layer count as one each. */
    atomic_uint_fast64_t progress; /* answered */
    uint64_t resent, busy, reconnects;
    double begin, end; /* clock_seconds(): of line_run's start and of the last answer */
    struct latency latency;
};

/* carrier stays the caller's. line_close takes a line that is half made, too. */
int line_create(struct line *line, const struct load *load, const struct line_options *options, struct carrier *carrier,
                size_t first, size_t step, struct fault *fault);
void line_destroy(struct line *line);

int line_open(struct line *line, struct fault *fault);
/* Feeds the first `limit` tokens of every stream, until all are answered or it was stopped, at `rate` tokens per second (0: as fast as
 * they are answered). May be called again, with a higher limit: `begin`, `end` and `latency` are of the last call. */
int line_run(struct line *line, uint64_t limit, double rate, struct fault *fault);
/* Closes the streams, or with keep leaves them open. ERR_WRONG_INDEX when the daemon does not hold exactly the tokens that
 * were answered. */
int line_close(struct line *line, bool keep, struct fault *fault);

/* Tokens through all layers of a stream of this line, in this run: sent, and answered. */
void line_tokens(const struct line *line, uint64_t *sent, uint64_t *answered);

#endif
