/* Profiles by name: `--profile NAME,key=value,...` taken apart, and where the name leads. The interface is cache/policy.h. */
#include "cache/policy.h"

#include <stdio.h>
#include <string.h>

/* Copies text[0, n) into a field of `size` bytes; false when it is empty or does not fit. */
static bool copy_field(char *field, size_t size, const char *text, size_t n)
{
    if (n == 0 || n >= size)
        return false;
    memcpy(field, text, n);
    field[n] = '\0';
    return true;
}

static int parse_override(struct profile_choice *out, const char *text, size_t n, struct fault *fault)
{
    struct setting *setting = &out->override[out->n_overrides];
    const char *equals = memchr(text, '=', n);
    if (out->n_overrides == POLICY_OVERRIDES_MAX)
        return fault_set(fault, ERR_TOO_LARGE, "a profile takes at most %d overrides", POLICY_OVERRIDES_MAX);
    setting->line = 0;
    if (!equals || !copy_field(setting->key, sizeof setting->key, text, (size_t)(equals - text)) ||
        !copy_field(setting->value, sizeof setting->value, equals + 1, n - (size_t)(equals - text) - 1))
        return fault_set(fault, ERR_INVALID, "an override must be key=value, not '%.*s'", (int)(n < 100 ? n : 100), text);
    for (size_t i = 0; i < out->n_overrides; i++)
        if (strcmp(out->override[i].key, setting->key) == 0)
            return fault_set(fault, ERR_INVALID, "the override '%s' is given twice", setting->key);
    out->n_overrides++;
    return 0;
}

int profile_choice_parse(struct profile_choice *out, const char *text, struct fault *fault)
{
    size_t n = strcspn(text, ",");
    out->n_overrides = 0;
    if (!copy_field(out->name, sizeof out->name, text, n))
        return fault_set(fault, ERR_INVALID, "a profile's name must have 1 to %zu characters, not %zu", sizeof out->name - 1,
                         n);
    for (const char *at = text + n; *at == ',';) {
        at++;
        n = strcspn(at, ",");
        int err = parse_override(out, at, n, fault);
        if (err)
            return err;
        at += n;
    }
    return 0;
}

/* One rule for the kinds that a policy serves and, where kinds are left, one for its companion's. */
static void profile_of_policy(struct profile *out, const struct cache_ops *ops)
{
    unsigned left = (1u << N_ATTENTION) - 1;
    *out = (struct profile){0};
    snprintf(out->name, sizeof out->name, "%s", ops->name);
    for (int hop = 0; ops && left && hop < N_ATTENTION; hop++) {
        struct rule *rule = &out->rule[out->n_rules];
        if (ops->kinds & left) {
            *rule = (struct rule){.kinds = ops->kinds & left, .last_layer = UINT64_MAX, .last_head = UINT64_MAX};
            snprintf(rule->policy, sizeof rule->policy, "%s", ops->name);
            out->n_rules++;
        }
        left &= ~ops->kinds;
        ops = ops->companion ? cache_find(ops->companion) : NULL;
    }
}

int profile_find(struct profile *out, const struct profile *profiles, size_t n, const char *name, struct fault *fault)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(profiles[i].name, name) == 0) {
            *out = profiles[i];
            return 0;
        }
    const struct cache_ops *ops = cache_find(name);
    if (ops) {
        profile_of_policy(out, ops);
        return 0;
    }
    char list[160] = "";
    for (size_t i = 0, at = 0; i < n && at < sizeof list; i++)
        at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", i ? ", " : "", profiles[i].name);
    return fault_set(fault, ERR_UNKNOWN_PROFILE, "no profile or policy is named '%.60s'; profiles here: %s", name,
                     n ? list : "none");
}
