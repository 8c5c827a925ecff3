/* libFuzzer target: any bytes as a configuration. Either it is refused with at least one message, each one line of the form
 * file:line: key: reason, or the config holds what its header promises.
 * Build: clang -fsanitize=fuzzer,address,undefined; seeds in tests/fuzz/corpus/config. */
#include "config/config.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool fact)
{
    if (!fact)
        abort();
}

static void check_message(void *context, const char *text)
{
    size_t *n = context;
    const char *colon = strchr(text, ':');
    must(colon && strchr(colon + 1, ':') && !strchr(text, '\n'));
    ++*n;
}

/* Refuses some settings, so that the search for every culprit of a rule is walked. */
static int check_rule(const struct rule *rule, struct setting const **culprit, struct fault *fault)
{
    must(rule->n_settings <= RULE_SETTINGS_MAX && rule->policy[0]);
    *culprit = NULL;
    for (size_t i = 0; i < rule->n_settings; i++)
        if (rule->setting[i].key[0] == 'x') {
            *culprit = &rule->setting[i];
            return fault_set(fault, ERR_INVALID, "must not begin with x, as '%s'", rule->setting[i].value);
        }
    if (rule->policy[0] == 'x')
        return fault_set(fault, ERR_INVALID, "must not be '%s'", rule->policy);
    return 0;
}

static void check_config(const struct config *c)
{
    must(c->ingest.n_endpoints >= 1 && c->ingest.n_endpoints <= CONFIG_ENDPOINTS_MAX);
    must(c->outputs.n_endpoints <= CONFIG_ENDPOINTS_MAX && c->telemetry.n_endpoints <= CONFIG_ENDPOINTS_MAX);
    must(c->n_pools >= 1 && c->n_pools <= CONFIG_POOLS_MAX);
    for (size_t i = 0; i < c->n_pools; i++) {
        const struct config_pool *p = &c->pool[i];
        must(p->name[0] && p->threads <= 1024 && p->n_cpus <= CONFIG_CPUS_MAX);
        must(p->heads_auto || p->first_head <= p->last_head);
    }
    must(c->n_profiles >= 5 && c->n_profiles <= CONFIG_PROFILES_MAX); /* the built-in ones stay */
    for (size_t i = 0; i < c->n_profiles; i++) {
        const struct profile *p = &c->profile[i];
        must(p->name[0] && p->n_rules >= 1 && p->n_rules <= PROFILE_RULES_MAX);
        for (size_t k = 0; k < p->n_rules; k++) {
            const struct rule *r = &p->rule[k];
            must(r->policy[0] && r->kinds >= 1 && r->kinds <= 3);
            must(r->first_layer <= r->last_layer && r->first_head <= r->last_head);
        }
    }
    must(c->telemetry_interval_seconds >= 0.01 && c->spin_seconds >= 0 && c->spin_seconds <= 1);
    must(c->limits.credit_bytes >= c->limits.message_bytes && c->limits.queued_bytes >= c->limits.message_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config *config;
    size_t n_messages = 0;
    int err = config_parse(&config, "f", (const char *)data, size, check_rule, check_message, &n_messages);
    must((err == 0) == (config != NULL) && (err == ERR_INVALID) == (n_messages > 0));
    if (config)
        check_config(config);
    config_destroy(config);
    return 0;
}
