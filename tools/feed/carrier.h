/* Carrier: what takes messages and answers them, behind one interface: a daemon (carrier_remote.c), or its engine in this process
 * (carrier_local.c), which gives the same bits.
 *
 * Streams and parts are the client library's (attnd_client.h), and mean the same with both: send moves the streams' next indices
 * on, a part that is refused says why and has its stream set back. Threads: one at a time for each carrier. */
#ifndef ATTND_TOOLS_FEED_CARRIER_H
#define ATTND_TOOLS_FEED_CARRIER_H

#include "client/attnd_client.h"

#include <stdatomic.h>

struct part;

/* One message: n parts of one layer. */
struct flight {
    bool used;
    uint32_t layer;
    size_t n;
    size_t *stream;  /* (n) number of the stream among the line's */
    uint64_t *first; /* (n) tokens [first, first + part.n_tokens) */
    struct attnd_part *part;
    float *out;      /* of all parts, one after the other */
    size_t n_floats; /* that out has room for */
    double begun;    /* clock_seconds(): sent, or should have been */

    uint64_t ticket;    /* remote */
    struct part **task; /* local: (n) */
    atomic_size_t left; /* local: parts that are not done yet */
};

struct carrier;

struct carrier_ops {
    int (*open)(struct carrier *carrier, const char *name, const struct shape *shape, const char *profile, bool resume,
                struct attnd_stream *stream, struct fault *fault);
    /* Frees what the stream owns whatever the result is. last: not NULL. */
    int (*close)(struct carrier *carrier, struct attnd_stream *stream, struct control_close *last, struct fault *fault);
    int (*send)(struct carrier *carrier, struct flight *flight, struct fault *fault);
    /* Waits at most so long for an answer. 0, ERR_TIMEOUT, or the connection is lost. */
    int (*receive)(struct carrier *carrier, double seconds, struct fault *fault);
    /* Whether the flight is answered; take then ends it: its parts have outputs or faults. */
    bool (*answered)(struct carrier *carrier, struct flight *flight);
    int (*take)(struct carrier *carrier, struct flight *flight, struct fault *fault);
    /* What the stream was answered before its next tokens is not wanted any more; NULL: nothing is kept. */
    int (*confirm)(struct carrier *carrier, struct attnd_stream *stream, struct fault *fault);
    /* Gives up what is in flight and connects anew, once; NULL: there is no connection to lose. */
    int (*renew)(struct carrier *carrier, struct fault *fault);
    void (*destroy)(struct carrier *carrier);
};

/* The head of every implementation. */
struct carrier {
    const struct carrier_ops *ops;
    char isa[16]; /* the kernels that answer */
};

/* endpoint NULL: the user's own daemon. past_credit: sends more than it may. spin: seconds to look for an answer before sleeping.
 * timeout: of control requests, and of credit that is used up. */
int carrier_remote_create(struct carrier **out, const char *endpoint, bool past_credit, double spin, double timeout,
                          struct fault *fault);

/* config: a YAML file or NULL for the built-in default; isa: of the kernels, NULL as the configuration says. */
int carrier_local_create(struct carrier **out, const char *config, const char *isa, struct fault *fault);

#endif
