#include "tools/service.h"

#include "base/clock.h"
#include "tools/local.h"
#include "tools/remote.h"
#include "wire/message.h"

#define PLACE(field) offsetof(struct service_options, field)

const struct command_option service_option_table[] = {
    {"--local", NULL, OPTION_SWITCH, PLACE(local), 0, 0, false, "compute attention in this process"},
    {"--endpoint", "EP", OPTION_TEXT, PLACE(endpoint), 0, 0, false, "ask the daemon at EP (default: your own daemon)"},
    {"--config", "FILE", OPTION_TEXT, PLACE(config), 0, 0, false, "YAML with the pools and profiles of --local"},
    {"--profile", "P", OPTION_TEXT, PLACE(profile), 0, 0, false, "cache profile, with overrides: window,budget_fraction=0.125"},
};
const size_t n_service_options = sizeof service_option_table / sizeof *service_option_table;

int service_check_options(const char *who, const struct service_options *options)
{
    if (options->local && options->endpoint)
        return command_usage(who, "--local and --endpoint exclude each other");
    return COMMAND_GO_ON;
}

void service_set_limits(struct attention_service *service, uint64_t tokens_per_message, uint64_t message_bytes,
                        uint64_t credit_bytes)
{
    const uint64_t around = WIRE_HEADER_BYTES + WIRE_PART_BYTES,
                   most = message_bytes < credit_bytes ? message_bytes : credit_bytes;
    service->tokens_max = tokens_per_message;
    service->bytes_max = most > around ? most - around : 0;
}

int service_create(struct attention_service **out, const struct service_options *options, struct fault *fault)
{
    return options->local ? local_create(out, options->config, fault) : remote_create(out, options->endpoint, fault);
}

int service_open(struct attention_service *service, const struct shape *shape, const char *profile, struct fault *fault)
{
    if (service->is_open)
        return fault_set(fault, ERR_EXISTS, "a stream is open in this service already");
    int err = shape_check(shape, fault);
    if (!err)
        err = service->ops->open(service, shape, profile ? profile : "full", fault);
    if (err)
        return err;
    service->is_open = true;
    service->shape = *shape;
    service->seconds = 0;
    return 0;
}

/* Tokens that one step may carry: every way cuts at the same places, so that the daemon computes the bits that --local does. */
static size_t step_tokens(const struct attention_service *service, size_t streams)
{
    const struct shape *s = &service->shape;
    uint64_t token_bytes = sizeof(float) * (s->heads * s->key_dim + streams * s->kv_heads * (s->key_dim + s->value_dim));
    uint64_t n = service->bytes_max / token_bytes;
    if (n > service->tokens_max)
        n = service->tokens_max;
    return n > 0 ? (size_t)n : 1;
}

int service_step(struct attention_service *service, uint32_t layer, size_t n_tokens, const float *q, const float *const key[2],
                 const float *const value[2], float *out, struct fault *fault)
{
    const struct shape *s = &service->shape;
    const size_t streams = attention_streams((enum attention_kind)s->kind[layer]), most = step_tokens(service, streams);
    const double start = clock_seconds();
    int err = 0;
    for (size_t t = 0, n; !err && t < n_tokens; t += n) {
        n = n_tokens - t < most ? n_tokens - t : most;
        const float *k[2] = {NULL, NULL}, *v[2] = {NULL, NULL};
        for (size_t i = 0; i < streams; i++) {
            k[i] = key[i] + t * s->kv_heads * s->key_dim;
            v[i] = value[i] + t * s->kv_heads * s->value_dim;
        }
        err = service->ops->step(service, layer, n, q + t * s->heads * s->key_dim, k, v, out + t * s->heads * s->value_dim,
                                 fault);
    }
    service->seconds += clock_seconds() - start;
    return err;
}

int service_close(struct attention_service *service, struct service_totals *totals, struct fault *fault)
{
    struct service_totals ignored;
    if (!service->is_open)
        return fault_set(fault, ERR_UNKNOWN_STREAM, "no stream is open in this service");
    service->is_open = false;
    return service->ops->close(service, totals ? totals : &ignored, fault);
}

void service_destroy(struct attention_service *service)
{
    if (!service)
        return;
    if (service->is_open)
        service_close(service, NULL, NULL);
    service->ops->destroy(service);
}
