#include "tools/remote.h"

#include "base/clock.h"
#include "client/attnd_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* A long prompt of tensor attention may take minutes in one message. */
static const double step_timeout_seconds = 900;

struct remote {
    struct attention_service base;
    struct attnd_client *client;
    struct attnd_stream stream;
    unsigned n_opened;
};

static int open_remote(struct attention_service *service, const struct shape *shape, const char *profile, struct fault *fault)
{
    struct remote *r = (struct remote *)service;
    char name[CONTROL_NAME_BYTES]; /* unique in the daemon, also when a process id comes again */
    snprintf(name, sizeof name, "attn-%ld-%llx-%u", (long)getpid(), (unsigned long long)clock_ns(), r->n_opened++);
    return attnd_open(r->client, name, shape, profile, false, &r->stream, fault);
}

static int step_remote(struct attention_service *service, uint32_t layer, size_t n_tokens, const float *q,
                       const float *const key[2], const float *const value[2], float *out, struct fault *fault)
{
    struct remote *r = (struct remote *)service;
    struct attnd_part part = {.stream = &r->stream,
                              .n_tokens = (uint32_t)n_tokens,
                              .flags = WIRE_APPEND | WIRE_ATTEND,
                              .q = q,
                              .key = {key[0], key[1]},
                              .value = {value[0], value[1]}};
    part.out = out;
    return attnd_step(r->client, layer, &part, 1, fault);
}

static int close_remote(struct attention_service *service, struct service_totals *totals, struct fault *fault)
{
    struct remote *r = (struct remote *)service;
    struct control_close last;
    int err = attnd_close(r->client, &r->stream, &last, fault);
    if (!err)
        *totals = (struct service_totals){
            .bytes = last.bytes, .bytes_full_bf16 = last.bytes_full_bf16, .head_seconds = last.attention_seconds};
    return err;
}

static void destroy_remote(struct attention_service *service)
{
    struct remote *r = (struct remote *)service;
    attnd_disconnect(r->client);
    free(r);
}

static const struct service_ops ops_remote = {open_remote, step_remote, close_remote, destroy_remote};

int remote_create(struct attention_service **out, const char *endpoint, struct fault *fault)
{
    *out = NULL;
    struct remote *r = calloc(1, sizeof *r);
    if (!r)
        return fault_set(fault, ERR_NO_MEMORY, "the connection to the daemon");
    r->base.ops = &ops_remote;
    int err = attnd_connect(&r->client, endpoint, NULL, fault);
    if (err) {
        free(r);
        return err;
    }
    attnd_set_timeout(r->client, step_timeout_seconds);
    const struct control_hello *hello = attnd_hello(r->client);
    service_set_limits(&r->base, hello->tokens_per_message, hello->message_bytes, hello->credit_bytes);
    *out = &r->base;
    return 0;
}
