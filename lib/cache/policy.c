#include "cache/policy.h"

#include <stdio.h>
#include <string.h>

/* In the order of storage_table, which a test compares. */
static const char *const storage_names[] = {"f32",  "bf16", "f16",   "q8_0",  "q4_0",  "q4_0h", "rot8", "rot4",
                                            "rot3", "rot2", "kivi2", "rot4s", "rot3s", "rot2s", NULL};

static const char *const compute_names[] = {[COMPUTE_F32] = "f32", [COMPUTE_BF16] = "bf16", NULL};

#define COMMON(field) .name = #field, .offset = offsetof(struct policy_settings, field)

const struct key policy_common_keys[] = {
    {COMMON(storage), .type = KEY_CHOICE, .unit = "", .initial = "f32", .choices = storage_names,
     .help = "how keys and values are stored"},
    {COMMON(key_storage), .type = KEY_CHOICE, .unit = "", .initial = "f32", .choices = storage_names,
     .help = "how keys are stored"},
    {COMMON(value_storage), .type = KEY_CHOICE, .unit = "", .initial = "f32", .choices = storage_names,
     .help = "how values are stored"},
    {COMMON(compute), .type = KEY_CHOICE, .unit = "", .initial = "f32", .choices = compute_names,
     .help = "what tensor attention is computed in; bf16: within a hundredth, faster where the CPU multiplies pairs of bf16"},
    {COMMON(seed), .type = KEY_COUNT, .min = 0, .max = 0x1p64, .unit = "", .initial = "0", .help = "of every random choice"},
    {COMMON(audit), .type = KEY_NUMBER, .min = 0, .max = 1, .unit = "", .initial = "0",
     .help = "share of the heads whose full bf16 cache is kept beside, so that their relative error is measured live"},
    {COMMON(budget_bytes), .type = KEY_COUNT, .min = 0, .max = 0x1p48, .unit = "bytes", .initial = "0",
     .help = "the most that one kv head's pages may take; 0: no such budget"},
    {COMMON(budget_fraction), .type = KEY_NUMBER, .min = 0, .max = 16, .unit = "", .initial = "0",
     .help = "the same as a share of what the full cache takes in bf16 at expected_tokens; 0: no such budget"},
    {COMMON(sink_tokens), .type = KEY_COUNT, .min = 0, .max = 1 << 20, .unit = "tokens", .initial = "4",
     .help = "the first tokens, which are always kept"},
    {COMMON(recent_tokens), .type = KEY_COUNT, .min = 0, .max = 0x1p64, .unit = "tokens", .initial = "18446744073709551615",
     .help = "the last tokens, which are always kept; by default the policy's own share of its rows"},
};
const size_t n_policy_common_keys = sizeof policy_common_keys / sizeof *policy_common_keys;

/* Whether a common key means anything to a policy. */
static bool key_applies(const struct cache_ops *ops, const struct key *common)
{
    switch (common->offset) {
    case offsetof(struct policy_settings, compute): return ops->kinds & 1u << ATTENTION_TENSOR && !ops->product_rows;
    case offsetof(struct policy_settings, budget_bytes):
    case offsetof(struct policy_settings, budget_fraction):
    case offsetof(struct policy_settings, sink_tokens): return ops->takes_budget;
    case offsetof(struct policy_settings, recent_tokens): return ops->takes_recent;
    default: return true;
    }
}

static const struct key *common_key(const struct cache_ops *ops, const char *name)
{
    const struct key *key = key_find(policy_common_keys, n_policy_common_keys, name);
    return key && key_applies(ops, key) ? key : NULL;
}

static bool has_key(const struct cache_ops *ops, const char *name)
{
    return common_key(ops, name) || key_find(ops->keys, ops->n_keys, name);
}

/* Whether a key means anything to a rule. */
static bool rule_has_key(const struct rule *rule, const char *name)
{
    const struct cache_ops *ops = cache_find(rule->policy);
    return ops && has_key(ops, name) && (strcmp(name, "compute") != 0 || rule->kinds & 1u << ATTENTION_TENSOR);
}

static int set_one(struct policy *policy, struct policy_settings *common, const struct setting *setting, struct fault *fault)
{
    const struct cache_ops *ops = policy->ops;
    const struct key *key = common_key(ops, setting->key);
    if (key)
        return key_set(key, common, setting->value, fault);
    key = key_find(ops->keys, ops->n_keys, setting->key);
    if (key)
        return key_set(key, policy->params, setting->value, fault);
    return fault_set(fault, ERR_INVALID, "policy '%s' has no such key", ops->name);
}

/* One level of settings (a rule's, or the overrides): whatever the order in which they stand, `storage` goes first, so that
 * key_storage and value_storage change what it set. Those that the policy hasn't are left out where `skip` says so. */
static int set_level(struct policy *policy, struct policy_settings *common, const struct setting *setting, size_t n, bool skip,
                     struct setting const **culprit, struct fault *fault)
{
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < n; i++) {
            bool is_storage = strcmp(setting[i].key, "storage") == 0;
            if (is_storage != (pass == 0) || (skip && !has_key(policy->ops, setting[i].key)))
                continue;
            int err = set_one(policy, common, &setting[i], fault);
            if (err) {
                *culprit = &setting[i];
                return err;
            }
            if (is_storage)
                common->key_storage = common->value_storage = common->storage;
        }
    }
    return 0;
}

/* A storage that packs rows in groups needs a policy that only ever appends, a key with a sketch one that stores it once. */
static int check_storages(const struct cache_ops *ops, const struct policy_settings *common, struct fault *fault)
{
    const int both[2] = {common->key_storage, common->value_storage};
    for (size_t i = 0; i < 2; i++) {
        const struct storage *s = &storage_table[both[i]];
        if (s->group > 1 && !ops->takes_groups)
            return fault_set(
                fault, ERR_UNSUPPORTED,
                "policy '%s' cannot store rows as %s, which packs %zu tokens together for good: this policy replaces "
                "single rows, 'full' only appends",
                ops->name, s->name, s->group);
        if (i == 0 && s->once && ops->stores_again)
            return fault_set(
                fault, ERR_UNSUPPORTED,
                "policy '%s' cannot store keys as %s, whose error grows each time that a key is read and stored again, "
                "as this policy does: take %.4s",
                ops->name, s->name, s->name);
    }
    return 0;
}

static void set_defaults(struct policy *policy, struct policy_settings *common, const struct cache_ops *ops)
{
    *policy = (struct policy){.ops = ops};
    key_set_defaults(policy_common_keys, n_policy_common_keys, common);
    key_set_defaults(ops->keys, ops->n_keys, policy->params);
}

static void take_settings(struct policy *policy, const struct policy_settings *common)
{
    bool budget = policy->ops->takes_budget;
    policy->key_storage = &storage_table[common->key_storage];
    policy->value_storage = &storage_table[common->value_storage];
    policy->compute = (enum compute)common->compute;
    policy->seed = common->seed;
    policy->audit = common->audit;
    policy->budget_bytes = common->budget_bytes;
    policy->budget_fraction = common->budget_fraction;
    policy->sink_tokens = budget ? common->sink_tokens : 0;
    policy->recent_tokens = common->recent_tokens;
}

int policy_resolve(struct policy *out, const struct profile *profile, const struct profile_choice *choice,
                   const struct cache_dims *dims, uint64_t layer, uint64_t kv_head, struct fault *fault)
{
    const struct rule *rule = NULL;
    for (size_t i = 0; i < profile->n_rules && !rule; i++) {
        const struct rule *r = &profile->rule[i];
        if (r->kinds & 1u << dims->kind && layer >= r->first_layer && layer <= r->last_layer && kv_head >= r->first_head &&
            kv_head <= r->last_head)
            rule = r;
    }
    if (!rule)
        return fault_set(fault, ERR_INVALID, "profile '%s' has no rule for kv head %llu of %s layer %llu", profile->name,
                         (unsigned long long)kv_head, attention_name(dims->kind), (unsigned long long)layer);

    for (size_t o = 0; choice && o < choice->n_overrides; o++) {
        bool known = false;
        for (size_t i = 0; i < profile->n_rules && !known; i++)
            known = rule_has_key(&profile->rule[i], choice->override[o].key);
        if (!known)
            return fault_set(fault, ERR_INVALID, "no rule of profile '%s' has the key '%s'", profile->name,
                             choice->override[o].key);
    }

    const struct cache_ops *ops = cache_find(rule->policy);
    if (!ops)
        return fault_set(fault, ERR_INVALID, "profile '%s' names the policy '%s', which does not exist", profile->name,
                         rule->policy);
    if (!(ops->kinds & 1u << dims->kind))
        return fault_set(fault, ERR_UNSUPPORTED, "policy '%s' does not serve %s layers, and layer %llu is one", ops->name,
                         attention_name(dims->kind), (unsigned long long)layer);

    struct policy_settings common;
    const struct setting *culprit = NULL;
    struct fault why = {0};
    set_defaults(out, &common, ops);
    int err = set_level(out, &common, rule->setting, rule->n_settings, false, &culprit, &why);
    if (!err && choice)
        err = set_level(out, &common, choice->override, choice->n_overrides, true, &culprit, &why);
    if (err)
        return fault_set(fault, err, "profile '%s': %s: %.200s", profile->name, culprit->key, why.text);
    err = check_storages(ops, &common, &why);
    if (err)
        return fault_set(fault, err, "profile '%s': %.200s", profile->name, why.text);
    take_settings(out, &common);
    if (dims->kind != ATTENTION_TENSOR)
        out->compute = COMPUTE_F32; /* a rule may take both kinds */
    if (out->budget_fraction > 0 && dims->expected_tokens == 0)
        return fault_set(fault, ERR_INVALID, "profile '%s': budget_fraction needs the stream's expected_tokens", profile->name);
    err = ops->check ? ops->check(out, dims, &why) : 0;
    if (err)
        return fault_set(fault, err, "profile '%s': %.200s", profile->name, why.text);
    return 0;
}

int policy_check_rule(const struct rule *rule, struct setting const **culprit, struct fault *fault)
{
    *culprit = NULL;
    if (!rule->policy[0])
        return fault_set(fault, ERR_INVALID, "a rule must name its policy");
    const struct cache_ops *ops = cache_find(rule->policy);
    if (!ops)
        return fault_set(fault, ERR_INVALID, "there is no policy '%s'", rule->policy);
    if (rule->first_layer > rule->last_layer || rule->first_head > rule->last_head)
        return fault_set(fault, ERR_INVALID, "a range of layers or heads ends before it begins");
    for (unsigned kind = 0; kind < N_ATTENTION; kind++)
        if (rule->kinds & 1u << kind && !(ops->kinds & 1u << kind))
            return fault_set(fault, ERR_UNSUPPORTED, "policy '%s' does not serve %s layers", ops->name, attention_name(kind));
    if (rule->kinds == 0)
        return fault_set(fault, ERR_INVALID, "the rule matches no kind of attention");
    for (size_t i = 0; i < rule->n_settings; i++)
        if (has_key(ops, rule->setting[i].key) && !rule_has_key(rule, rule->setting[i].key)) {
            *culprit = &rule->setting[i];
            return fault_set(fault, ERR_UNSUPPORTED, "is of tensor attention, and this rule takes no tensor layers");
        }
    for (size_t i = 0; i < rule->n_settings; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(rule->setting[i].key, rule->setting[j].key) == 0) {
                *culprit = &rule->setting[i];
                return fault_set(fault, ERR_INVALID, "given twice in one rule");
            }
    struct policy policy;
    struct policy_settings common;
    set_defaults(&policy, &common, ops);
    int err = set_level(&policy, &common, rule->setting, rule->n_settings, false, culprit, fault);
    return err ? err : check_storages(ops, &common, fault);
}

uint64_t policy_budget(const struct policy *policy, const struct cache_dims *dims)
{
    uint64_t bytes = policy->budget_bytes;
    if (policy->budget_fraction > 0) {
        double full = 2.0 * (double)(dims->d + dims->e) * (double)attention_streams(dims->kind) * (double)dims->expected_tokens;
        uint64_t share = (uint64_t)(policy->budget_fraction * full);
        share = share > 0 ? share : 1; /* 0 would be none */
        bytes = bytes == 0 || share < bytes ? share : bytes;
    }
    return bytes;
}

/* Text that ends where the room does. */
struct writer {
    char *text;
    size_t size, at;
};

static void write_text(struct writer *w, const char *text)
{
    size_t n = strlen(text), room = w->size > w->at ? w->size - w->at - 1 : 0;
    n = n < room ? n : room;
    memcpy(w->text + w->at, text, n);
    w->at += n;
    w->text[w->at] = '\0';
}

static void write_key(struct writer *w, const struct key *key, const void *source, bool *any)
{
    char value[KEY_TEXT_BYTES];
    key_print(key, source, value, sizeof value);
    write_text(w, *any ? ", " : "(");
    write_text(w, key->name);
    write_text(w, "=");
    write_text(w, value);
    *any = true;
}

void policy_describe(const struct policy *policy, char *text, size_t size)
{
    const struct cache_ops *ops = policy->ops;
    struct policy_settings common = {
        .seed = policy->seed,
        .budget_bytes = policy->budget_bytes,
        .budget_fraction = policy->budget_fraction,
        .sink_tokens = policy->sink_tokens,
        .recent_tokens = policy->recent_tokens,
    };
    const struct {
        const char *name;
        bool shown;
    } shown[] = {{"sink_tokens", true},
                 {"recent_tokens", policy->recent_tokens != UINT64_MAX},
                 {"budget_bytes", policy->budget_bytes > 0},
                 {"budget_fraction", policy->budget_fraction > 0}};
    struct writer w = {text, size, 0};
    bool any = false;
    if (size == 0)
        return;
    bool all = !ops->takes_groups || policy->key_storage->group > 1 || policy->value_storage->group > 1;
    write_text(&w, ops->name);
    for (size_t i = 0; all && i < ops->n_keys; i++) /* those of groups only where there are some */
        write_key(&w, &ops->keys[i], policy->params, &any);
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        const struct key *key = common_key(ops, shown[i].name);
        if (key && shown[i].shown)
            write_key(&w, key, &common, &any);
    }
    write_text(&w, any ? "), keys " : ", keys ");
    write_text(&w, policy->key_storage->name);
    write_text(&w, ", values ");
    write_text(&w, policy->value_storage->name);
    if (policy->compute != COMPUTE_F32) {
        write_text(&w, ", compute ");
        write_text(&w, compute_names[policy->compute]);
    }
}

bool policy_same(const struct policy *a, const struct policy *b)
{
    return a->ops == b->ops && a->key_storage == b->key_storage && a->value_storage == b->value_storage &&
           a->compute == b->compute && a->seed == b->seed && a->budget_bytes == b->budget_bytes &&
           a->budget_fraction == b->budget_fraction && a->sink_tokens == b->sink_tokens &&
           a->recent_tokens == b->recent_tokens && a->audit == b->audit && memcmp(a->params, b->params, sizeof a->params) == 0;
}
