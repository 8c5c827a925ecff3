/* A feed: a load carried to a daemon, or to its engine in this process, over all its connections at once. */
#ifndef ATTND_TOOLS_FEED_RUN_H
#define ATTND_TOOLS_FEED_RUN_H

#include "tools/feed/line.h"

struct feed_target {
    bool local;
    const char *endpoint; /* NULL without local: the user's own daemon */
    const char *config;   /* of the engine in this process; NULL: the built-in default */
    bool keep;            /* leave the streams open */
    bool past_credit;     /* send more than the credit */
    struct line_options line;
};

struct feed_result {
    uint64_t tokens, acknowledged, resent; /* tokens of a stream through all its layers */
    uint64_t busy, reconnects;
    uint64_t measured;      /* of the acknowledged ones, those after the warm-up */
    double seconds;         /* from the first of their messages to the last answer */
    struct latency latency; /* of messages: from when one was sent, or with a rate should have been, to its answer */
    char isa[16];
};

/* Opens the streams, feeds them, each connection on a thread of its own, and closes them; told as progress on stderr. The result says
 * what was done when it fails or is stopped, too. stop (target->line.stop, not NULL) is raised when a connection fails or on Ctrl-C. */
int feed_run(struct feed_result *result, const struct load *load, const struct feed_target *target, struct fault *fault);

#endif
