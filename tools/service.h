/* Where a tool's attention is computed, behind one interface: in this process (local.h) or in a daemon (remote.h). A test puts a
 * naive double behind the same interface.
 *
 *     struct attention_service *s;
 *     service_create(&s, &options, &fault);
 *     service_open(s, &shape, "window,budget_fraction=0.125", &fault);
 *     for each run of tokens, for each layer:  service_step(s, layer, n_tokens, q, key, value, out, &fault);
 *     service_close(s, &totals, &fault);                                 then the next stream, or service_destroy(s)
 *
 * One stream at a time. Token t of a step attends to everything appended before and to the step's tokens up to itself.
 * Threads: one at a time. */
#ifndef ATTND_TOOLS_SERVICE_H
#define ATTND_TOOLS_SERVICE_H

#include "base/shape.h"
#include "tools/command.h"

struct service_totals {
    uint64_t bytes;           /* that all heads together allocate at the end */
    uint64_t bytes_full_bf16; /* of the full cache in bf16 at the same length */
    double head_seconds;      /* append and attend, summed over heads (and so over threads) */
};

struct attention_service;

struct service_ops {
    int (*open)(struct attention_service *service, const struct shape *shape, const char *profile, struct fault *fault);
    /* One layer of at most tokens_max tokens. H = heads, Hkv = kv_heads: q (n, H, d), key (n, Hkv, d), value (n, Hkv, e), out
     * (n, H, e), all f32; key[1], value[1] only for tensor layers. */
    int (*step)(struct attention_service *service, uint32_t layer, size_t n_tokens, const float *q, const float *const key[2],
                const float *const value[2], float *out, struct fault *fault);
    int (*close)(struct attention_service *service, struct service_totals *totals, struct fault *fault);
    void (*destroy)(struct attention_service *service); /* closes what is open */
};

/* The head of every implementation. */
struct attention_service {
    const struct service_ops *ops;
    uint64_t tokens_max, bytes_max; /* of the input of one step, by service_set_limits; longer runs are cut */
    bool is_open;
    struct shape shape; /* of the open stream */
    double seconds;     /* that steps took since open, waiting included */
};

/* The options that choose a service, for command_parse. */
struct service_options {
    bool local;
    const char *endpoint; /* NULL without --local: the user's own daemon */
    const char *config;   /* of the local engine; NULL: the built-in default */
    const char *profile;  /* NULL: "full" */
};
extern const struct command_option service_option_table[];
extern const size_t n_service_options;

/* COMMAND_GO_ON, or COMMAND_USAGE when the options contradict each other. */
int service_check_options(const char *who, const struct service_options *options);

/* For implementations: what one step may carry under a daemon's (or its configuration's) limits. Credit bounds what waits, so it
 * bounds a message too. */
void service_set_limits(struct attention_service *service, uint64_t tokens_per_message, uint64_t message_bytes,
                        uint64_t credit_bytes);

int service_create(struct attention_service **out, const struct service_options *options, struct fault *fault);
int service_open(struct attention_service *service, const struct shape *shape, const char *profile, struct fault *fault);
int service_step(struct attention_service *service, uint32_t layer, size_t n_tokens, const float *q, const float *const key[2],
                 const float *const value[2], float *out, struct fault *fault);
int service_close(struct attention_service *service, struct service_totals *totals, struct fault *fault);
void service_destroy(struct attention_service *service); /* NULL is allowed */

#endif
