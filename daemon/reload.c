#include "daemon/reload.h"

#include "base/clock.h"
#include "cache/policy.h"
#include "config/live.h"

#include <stdio.h>
#include <string.h>

/* The errors of a configuration, as many as fit. */
struct errors {
    char text[200];
    size_t n;
};

static void note(void *context, const char *message)
{
    struct errors *e = context;
    size_t used = strlen(e->text);
    if (used + strlen(message) + 3 < sizeof e->text)
        snprintf(e->text + used, sizeof e->text - used, "%s%s", e->n ? "; " : "", message);
    else if (e->n == 0)
        snprintf(e->text, sizeof e->text, "%s", message);
    e->n++;
}

static int read_config(const struct config *running, const char *file, const char *text, struct config **out,
                       struct fault *fault)
{
    struct errors errors = {.n = 0};
    int err = config_reread(out, running, file, text, policy_check_rule, note, &errors);
    return err ? fault_set(fault, err, "%s (%zu in all)", errors.n ? errors.text : "the configuration", errors.n) : 0;
}

int reload(struct gateway *gateway, const char *file, const char *text, struct control_reload *out, struct fault *fault)
{
    struct config *config;
    size_t n_moved = 0;
    *out = (struct control_reload){0};
    int err = read_config(gateway->config, file, text, &config, fault);
    if (err)
        return err;
    uint64_t start = clock_ns();
    err = config_check_fixed(gateway->config, config, fault);
    if (!err) {
        engine_drain(gateway->engine); /* before the lock: telemetry goes on meanwhile */
        pthread_mutex_lock(&gateway->streams.lock);
        err = engine_reload(gateway->engine, config, &n_moved, fault);
        pthread_mutex_unlock(&gateway->streams.lock);
    }
    if (err) {
        config_destroy(config);
        return err;
    }
    log_set_level(gateway->log, (enum log_level)log_level_from_name(config->log_level));
    gateway->config = config;
    config_destroy(gateway->reloaded);
    gateway->reloaded = config;
    for (size_t i = 0; i < engine_n_pools(gateway->engine); i++)
        out->threads += engine_pool_threads(gateway->engine, i);
    out->pools = engine_n_pools(gateway->engine);
    out->profiles = config->n_profiles;
    out->heads_moved = n_moved;
    out->seconds = (double)(clock_ns() - start) * 1e-9;
    log_event(gateway->log, LOG_INFO, "reloaded", LOG_COUNT("pools", out->pools), LOG_COUNT("threads", out->threads),
              LOG_COUNT("heads", out->heads_moved), LOG_NUMBER("seconds", out->seconds));
    return 0;
}

void reload_ask(struct gateway *gateway)
{
    atomic_store(&gateway->reload_asked, true);
    gateway_wake(gateway);
}

void reload_if_asked(struct gateway *gateway)
{
    struct control_reload answer;
    struct fault fault = {0};
    if (!atomic_exchange(&gateway->reload_asked, false))
        return;
    if (reload(gateway, NULL, NULL, &answer, &fault))
        log_event(gateway->log, LOG_ERROR, "reload_refused", LOG_ERR("reason", fault.err), LOG_TEXT("detail", fault.text));
}
