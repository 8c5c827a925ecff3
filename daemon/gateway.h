/* Gateway: the one thread that owns the ingest ROUTER and the outputs XPUB. ingress is its way in, egress its way out, control
 * answers JSON. Everything in struct gateway belongs to this thread, but for what says otherwise. */
#ifndef ATTND_DAEMON_GATEWAY_H
#define ATTND_DAEMON_GATEWAY_H

#include "base/log.h"
#include "config/config.h"
#include "daemon/counters.h"
#include "daemon/message.h"
#include "daemon/stream.h"

struct identity {      /* what the daemon says of itself in hello, status and telemetry */
    char instance[40]; /* new at every start */
    char ingest[CONFIG_ENDPOINT_BYTES];
    struct config_socket outputs, telemetry; /* as bound */
};

struct gateway {
    const struct config *config; /* the caller's, or */
    struct config *reloaded;     /* owned: taken over since */
    struct log *log;
    struct identity *identity;
    struct engine *engine;
    struct counters counters; /* atomics: anyone reads */
    struct streams streams;
    struct message_shelf shelf;
    struct buffer_shelf *buffers;
    void *ingest, *outputs;
    size_t subscriptions;  /* on outputs */
    bool look_outputs;     /* somebody may have subscribed */
    bool used_outputs;     /* sending may have taken in that somebody did */
    uint64_t next_subs_ns; /* when to look in any case */
    uint64_t now_ns;       /* when this turn began */
    size_t in_flight;      /* data messages that have not left */
    size_t queued_bytes;   /* of those */
    size_t promised_bytes; /* of their replies */
    size_t reserved_bytes; /* worst case of all caches, and their control */
    uint64_t next_look_ns; /* after leases */

    /* Finished messages: pushed by the pools, popped by the gateway. */
    pthread_mutex_t done_lock;
    struct message *done_first, *done_last;
    atomic_bool any_done, sleeping, stopping, reload_asked;
    int wake_fd; /* eventfd: written when something is done while the gateway sleeps */
};

/* Runs until `stopping` is set and everything taken has left. */
void gateway_run(struct gateway *gateway);

/* The engine's callback, on pool threads. */
void gateway_part_done(void *context, struct part *part);

/* From any thread: makes gateway_run look at `stopping`. */
void gateway_wake(struct gateway *gateway);

#endif
