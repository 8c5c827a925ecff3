#include "cache/policy.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct cache_dims softmax_dims = {
    .kind = ATTENTION_SOFTMAX, .d = 64, .e = 32, .group = 4, .expected_tokens = 1000};
static const struct cache_dims tensor_dims = {.kind = ATTENTION_TENSOR, .d = 64, .e = 32, .group = 4, .expected_tokens = 1000};

static bool says(const struct fault *fault, const char *words)
{
    bool there = strstr(fault->text, words) != NULL;
    if (!there)
        printf("\n'%s' does not say '%s'", fault->text, words);
    return there;
}

static struct rule rule_of(unsigned kinds, const char *policy)
{
    struct rule rule = {.kinds = kinds, .last_layer = UINT64_MAX, .last_head = UINT64_MAX};
    snprintf(rule.policy, sizeof rule.policy, "%s", policy);
    return rule;
}

static void add(struct rule *rule, const char *key, const char *value)
{
    struct setting *setting = &rule->setting[rule->n_settings++];
    *setting = (struct setting){.line = 7};
    snprintf(setting->key, sizeof setting->key, "%s", key);
    snprintf(setting->value, sizeof setting->value, "%s", value);
}

enum {
    BOTH = 1 << ATTENTION_SOFTMAX | 1 << ATTENTION_TENSOR,
    SOFTMAX = 1 << ATTENTION_SOFTMAX,
    TENSOR = 1 << ATTENTION_TENSOR
};

static void the_table_is_well_formed(void)
{
    unsigned char params[POLICY_PARAMS_BYTES];
    for (size_t i = 0; cache_table[i]; i++) {
        const struct cache_ops *ops = cache_table[i];
        CU_ASSERT_PTR_EQUAL(cache_find(ops->name), ops);
        CU_ASSERT(strlen(ops->name) > 0 && strlen(ops->name) < PROFILE_NAME_BYTES && strlen(ops->help) > 0);
        CU_ASSERT(ops->control_bytes > 0 && ops->control_bytes < CACHE_CONTROL_MAX);
        CU_ASSERT(ops->create && ops->destroy && ops->worst_bytes && ops->run_max && ops->append && ops->view &&
                  ops->check_state);
        CU_ASSERT(ops->kinds != 0 && (ops->kinds & ~(unsigned)BOTH) == 0);
        if (ops->kinds != BOTH) /* a profile named after it must serve every layer */
            CU_ASSERT((cache_find(ops->companion)->kinds | ops->kinds) == BOTH);
        for (size_t k = 0; k < ops->n_keys; k++) {
            const struct key *key = &ops->keys[k];
            CU_ASSERT_EQUAL(key_set(key, params, key->initial, NULL), 0);
            CU_ASSERT(strlen(key->help) > 0);
            CU_ASSERT_PTR_NULL(key_find(policy_common_keys, n_policy_common_keys, key->name));
        }
        ops->destroy(NULL);
    }
    CU_ASSERT_PTR_NULL(cache_find("nonsense"));
}

static void common_keys_have_good_defaults_and_know_every_storage(void)
{
    struct policy_settings settings;
    for (size_t i = 0; i < n_policy_common_keys; i++)
        CU_ASSERT_EQUAL(key_set(&policy_common_keys[i], &settings, policy_common_keys[i].initial, NULL), 0);
    CU_ASSERT(settings.recent_tokens == UINT64_MAX && settings.sink_tokens == 4);
    CU_ASSERT(settings.budget_bytes == 0 && settings.budget_fraction == 0);
    const struct key *storage = key_find(policy_common_keys, n_policy_common_keys, "storage");
    for (size_t i = 0; i < N_STORAGE; i++)
        CU_ASSERT_STRING_EQUAL(storage->choices[i], storage_table[i].name);
    CU_ASSERT_PTR_NULL(storage->choices[N_STORAGE]);
}

static void choices_are_taken_apart(void)
{
    struct profile_choice c;
    CU_ASSERT_EQUAL(profile_choice_parse(&c, "window", NULL), 0);
    CU_ASSERT(strcmp(c.name, "window") == 0 && c.n_overrides == 0);
    CU_ASSERT_EQUAL(profile_choice_parse(&c, "window,budget_fraction=0.125,window_tokens=512x32", NULL), 0);
    CU_ASSERT(c.n_overrides == 2 && strcmp(c.override[0].key, "budget_fraction") == 0 && c.override[0].line == 0);
    CU_ASSERT(strcmp(c.override[0].value, "0.125") == 0 && strcmp(c.override[1].value, "512x32") == 0);
}

static void broken_choices_are_refused(void)
{
    static const char *const broken[] = {"",
                                         ",a=b",
                                         "window,",
                                         "window,a",
                                         "window,=b",
                                         "window,a=",
                                         "window,a=b,,c=d",
                                         "window,a=b,a=c",
                                         "a-name-that-is-longer-than-any-profile-may-have"};
    struct profile_choice c;
    struct fault fault;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        fault = (struct fault){0};
        CU_ASSERT_EQUAL(profile_choice_parse(&c, broken[i], &fault), ERR_INVALID);
        CU_ASSERT(strlen(fault.text) > 0);
    }
    char text[1024] = "window", key[80];
    for (int i = 0; i <= POLICY_OVERRIDES_MAX; i++) {
        snprintf(key, sizeof key, ",key%d=1", i);
        strcat(text, key);
    }
    CU_ASSERT_EQUAL(profile_choice_parse(&c, text, &fault), ERR_TOO_LARGE);
    snprintf(text, sizeof text, "window,%0200d=1", 1);
    CU_ASSERT_EQUAL(profile_choice_parse(&c, text, &fault), ERR_INVALID);
    snprintf(text, sizeof text, "window,a=%0200d", 1);
    CU_ASSERT_EQUAL(profile_choice_parse(&c, text, &fault), ERR_INVALID);
}

static void profiles_come_from_the_list_or_from_a_policy(void)
{
    struct profile *list = calloc(2, sizeof *list), *found = malloc(sizeof *found);
    struct fault fault = {0};
    strcpy(list[0].name, "mine");
    strcpy(list[1].name, "window"); /* hides the policy */
    list[1].rule[list[1].n_rules++] = rule_of(BOTH, "full");
    CU_ASSERT_EQUAL(profile_find(found, list, 2, "mine", &fault), 0);
    CU_ASSERT_STRING_EQUAL(found->name, "mine");
    CU_ASSERT_EQUAL(profile_find(found, list, 2, "window", &fault), 0);
    CU_ASSERT_STRING_EQUAL(found->rule[0].policy, "full");

    CU_ASSERT_EQUAL(profile_find(found, NULL, 0, "window", &fault), 0);
    CU_ASSERT(found->n_rules == 1 && found->rule[0].kinds == BOTH && strcmp(found->rule[0].policy, "window") == 0);
    CU_ASSERT_EQUAL(profile_find(found, list, 2, "two_cache", &fault), 0);
    CU_ASSERT(found->n_rules == 2 && strcmp(found->name, "two_cache") == 0);
    CU_ASSERT(found->rule[0].kinds == TENSOR && strcmp(found->rule[0].policy, "two_cache") == 0);
    CU_ASSERT(found->rule[1].kinds == SOFTMAX && strcmp(found->rule[1].policy, "full") == 0);

    CU_ASSERT_EQUAL(profile_find(found, list, 2, "nonsense", &fault), ERR_UNKNOWN_PROFILE);
    CU_ASSERT(says(&fault, "nonsense") && says(&fault, "mine"));
    free(list);
    free(found);
}

/* Layers 0-1 keep a window, layers 2-3 of kv head 5 another; the rest of softmax keeps all; tensor layers keep a window. */
static struct profile *mixed_profile(void)
{
    struct profile *p = calloc(1, sizeof *p);
    strcpy(p->name, "mixed");
    struct rule r = rule_of(SOFTMAX, "window");
    r.last_layer = 1;
    add(&r, "storage", "bf16");
    add(&r, "window_tokens", "100");
    p->rule[p->n_rules++] = r;
    r = rule_of(SOFTMAX, "window");
    r.first_layer = 2, r.last_layer = 3, r.first_head = r.last_head = 5;
    add(&r, "value_storage", "f16");
    add(&r, "storage", "bf16");
    add(&r, "sink_tokens", "9");
    p->rule[p->n_rules++] = r;
    p->rule[p->n_rules++] = rule_of(SOFTMAX, "full");
    r = rule_of(TENSOR, "window");
    r.last_layer = 10;
    add(&r, "window_tokens", "512x32");
    add(&r, "unmasked", "yes");
    add(&r, "seed", "77");
    p->rule[p->n_rules++] = r;
    return p;
}

static int resolve(struct policy *out, const char *choice_text, const struct cache_dims *dims, uint64_t layer, uint64_t head,
                   struct fault *fault)
{
    struct profile *p = mixed_profile();
    struct profile_choice choice;
    CU_ASSERT_EQUAL_FATAL(profile_choice_parse(&choice, choice_text, NULL), 0);
    int err = policy_resolve(out, p, &choice, dims, layer, head, fault);
    free(p);
    return err;
}

static bool described(const struct policy *policy, const char *text)
{
    char got[256];
    policy_describe(policy, got, sizeof got);
    if (strcmp(got, text) != 0)
        printf("\n'%s', not '%s'", got, text);
    return strcmp(got, text) == 0;
}

static void the_first_rule_that_matches_wins(void)
{
    struct policy p;
    CU_ASSERT_EQUAL(resolve(&p, "mixed", &softmax_dims, 1, 5, NULL), 0);
    CU_ASSERT(described(&p, "window(window_tokens=100x100, unmasked=false, sink_tokens=4), keys bf16, values bf16"));
    CU_ASSERT_EQUAL(resolve(&p, "mixed", &softmax_dims, 2, 5, NULL), 0);
    CU_ASSERT(described(&p, "window(window_tokens=0x0, unmasked=false, sink_tokens=9), keys bf16, values f16"));
    CU_ASSERT_EQUAL(resolve(&p, "mixed", &softmax_dims, 2, 4, NULL), 0);
    CU_ASSERT(described(&p, "full, keys f32, values f32"));
    CU_ASSERT_EQUAL(p.seed, 0);
    CU_ASSERT_EQUAL(resolve(&p, "mixed", &tensor_dims, 2, 5, NULL), 0);
    CU_ASSERT(described(&p, "window(window_tokens=512x32, unmasked=true, sink_tokens=4), keys f32, values f32"));
    CU_ASSERT(p.seed == 77 && p.recent_tokens == UINT64_MAX);
    char cut[12];
    policy_describe(&p, cut, sizeof cut);
    CU_ASSERT_STRING_EQUAL(cut, "window(wind");
}

static void overrides_apply_to_every_rule_that_has_the_key(void)
{
    struct policy p;
    static const char choice[] = "mixed,value_storage=f32,window_tokens=7,budget_fraction=0.5";
    CU_ASSERT_EQUAL(resolve(&p, choice, &softmax_dims, 1, 5, NULL), 0);
    CU_ASSERT(
        described(&p, "window(window_tokens=7x7, unmasked=false, sink_tokens=4, budget_fraction=0.5), keys bf16, values f32"));
    CU_ASSERT_EQUAL(policy_budget(&p, &softmax_dims), 96000); /* 1000 (64 + 32) 2 / 2 */
    CU_ASSERT_EQUAL(resolve(&p, choice, &softmax_dims, 4, 5, NULL), 0);
    CU_ASSERT(described(&p, "full, keys f32, values f32")); /* has no window_tokens, no budget */
    CU_ASSERT_EQUAL(policy_budget(&p, &softmax_dims), 0);
    CU_ASSERT_EQUAL(resolve(&p, choice, &tensor_dims, 1, 5, NULL), 0);
    CU_ASSERT_EQUAL(policy_budget(&p, &tensor_dims), 192000);
    CU_ASSERT_EQUAL(resolve(&p, "mixed,budget_bytes=50000,budget_fraction=1", &tensor_dims, 1, 5, NULL), 0);
    CU_ASSERT_EQUAL(policy_budget(&p, &tensor_dims), 50000);                         /* the smaller */
    CU_ASSERT_EQUAL(resolve(&p, "mixed,storage=f16", &softmax_dims, 2, 5, NULL), 0); /* wins over the rule's value_storage */
    CU_ASSERT(p.key_storage->id == STORAGE_F16 && p.value_storage->id == STORAGE_F16);
}

static void what_cannot_be_resolved_is_refused_by_name(void)
{
    struct policy p;
    struct fault f;
    struct cache_dims unknown_length = softmax_dims;
    unknown_length.expected_tokens = 0;
    CU_ASSERT_EQUAL(resolve(&p, "mixed,nonsense=1", &softmax_dims, 0, 0, &f), ERR_INVALID);
    CU_ASSERT(says(&f, "nonsense") && says(&f, "mixed"));
    CU_ASSERT_EQUAL(resolve(&p, "mixed,recent_tokens=8", &softmax_dims, 0, 0, &f), ERR_INVALID); /* no rule's policy has it */
    CU_ASSERT(says(&f, "recent_tokens"));
    CU_ASSERT_EQUAL(resolve(&p, "mixed,window_tokens=many", &softmax_dims, 0, 0, &f), ERR_INVALID);
    CU_ASSERT(says(&f, "window_tokens: must be") && says(&f, "many"));
    CU_ASSERT_EQUAL(resolve(&p, "mixed,storage=q5", &softmax_dims, 0, 0, &f), ERR_INVALID);
    CU_ASSERT(says(&f, "storage: must be one of f32, bf16, f16"));
    CU_ASSERT_EQUAL(resolve(&p, "mixed,budget_bytes=300", &softmax_dims, 0, 0, &f), ERR_INVALID);
    CU_ASSERT(says(&f, "300 bytes") && says(&f, "at least"));
    CU_ASSERT_EQUAL(resolve(&p, "mixed,budget_fraction=0.5", &unknown_length, 0, 0, &f), ERR_INVALID);
    CU_ASSERT(says(&f, "expected_tokens"));
    CU_ASSERT_EQUAL(resolve(&p, "mixed", &tensor_dims, 11, 2, &f), ERR_INVALID);
    CU_ASSERT(says(&f, "no rule") && says(&f, "tensor layer 11") && says(&f, "kv head 2"));

    struct profile *wrong = calloc(1, sizeof *wrong);
    strcpy(wrong->name, "wrong");
    wrong->rule[wrong->n_rules++] = rule_of(BOTH, "two_cache");
    CU_ASSERT_EQUAL(policy_resolve(&p, wrong, NULL, &softmax_dims, 3, 0, &f), ERR_UNSUPPORTED);
    CU_ASSERT(says(&f, "two_cache") && says(&f, "softmax"));
    CU_ASSERT_EQUAL(policy_resolve(&p, wrong, NULL, &tensor_dims, 3, 0, &f), 0);
    wrong->rule[0] = rule_of(BOTH, "nonsense");
    CU_ASSERT_EQUAL(policy_resolve(&p, wrong, NULL, &softmax_dims, 3, 0, &f), ERR_INVALID);
    free(wrong);
}

/* Of rules that serve both kinds the tensor layers take it; where no rule has tensor attention of rows, its name is refused. */
static void compute_is_of_tensor_attention_of_rows(void)
{
    const struct setting *culprit;
    struct policy p;
    struct fault f;
    CU_ASSERT_EQUAL(resolve(&p, "mixed", &tensor_dims, 0, 0, NULL), 0);
    CU_ASSERT_EQUAL(p.compute, COMPUTE_F32);
    CU_ASSERT_EQUAL(resolve(&p, "mixed,compute=bf16", &tensor_dims, 0, 0, NULL), 0);
    CU_ASSERT_EQUAL(p.compute, COMPUTE_BF16);
    CU_ASSERT(described(&p, "window(window_tokens=512x32, unmasked=true, sink_tokens=4), keys f32, values f32, compute bf16"));
    struct policy exact = p;
    exact.compute = COMPUTE_F32;
    CU_ASSERT(policy_same(&p, &p) && !policy_same(&p, &exact));
    CU_ASSERT_EQUAL(resolve(&p, "mixed,compute=bf16", &softmax_dims, 0, 0, NULL), 0);
    CU_ASSERT_EQUAL(p.compute, COMPUTE_F32);
    CU_ASSERT_EQUAL(resolve(&p, "mixed,compute=f64", &tensor_dims, 0, 0, &f), ERR_INVALID);
    CU_ASSERT(says(&f, "compute: must be one of f32, bf16"));
    struct profile *products = calloc(1, sizeof *products);
    struct profile_choice choice;
    CU_ASSERT_EQUAL(profile_choice_parse(&choice, "two_cache,compute=bf16", NULL), 0);
    CU_ASSERT_EQUAL(profile_find(products, NULL, 0, "two_cache", NULL), 0);
    CU_ASSERT_EQUAL(policy_resolve(&p, products, &choice, &tensor_dims, 0, 0, &f), ERR_INVALID);
    CU_ASSERT(says(&f, "compute") && says(&f, "two_cache"));
    free(products);

    struct rule rule = rule_of(SOFTMAX, "full");
    add(&rule, "compute", "bf16");
    CU_ASSERT_EQUAL(policy_check_rule(&rule, &culprit, &f), ERR_UNSUPPORTED);
    CU_ASSERT(culprit == &rule.setting[0] && says(&f, "tensor"));
    rule.kinds = BOTH;
    CU_ASSERT_EQUAL(policy_check_rule(&rule, &culprit, &f), 0);
    rule = rule_of(TENSOR, "subgen2");
    add(&rule, "compute", "bf16");
    CU_ASSERT_EQUAL(policy_check_rule(&rule, &culprit, &f), ERR_INVALID);
    CU_ASSERT(culprit == &rule.setting[0] && says(&f, "subgen2"));
}

/* The least that a refusal names is enough, and a byte less is not. */
static void the_least_budget_that_is_named_is_the_least(void)
{
    static const char *const settings[] = {"window", "window,unmasked=true", "window,sink_tokens=40,storage=bf16"};
    const struct cache_dims *dims[] = {&softmax_dims, &tensor_dims};
    for (size_t i = 0; i < 3; i++)
        for (size_t k = 0; k < 2; k++) {
            struct policy p;
            struct fault f;
            struct profile_choice choice;
            struct profile *profile = malloc(sizeof *profile);
            char text[100];
            size_t least = 0;
            snprintf(text, sizeof text, "%s,budget_bytes=1", settings[i]);
            profile_choice_parse(&choice, text, NULL);
            profile_find(profile, NULL, 0, choice.name, NULL);
            CU_ASSERT_EQUAL(policy_resolve(&p, profile, &choice, dims[k], 0, 0, &f), ERR_INVALID);
            const char *at = strstr(f.text, "at least ");
            CU_ASSERT_PTR_NOT_NULL_FATAL(at);
            CU_ASSERT_EQUAL(sscanf(at, "at least %zu", &least), 1);
            for (size_t less = 0; less < 2; less++) {
                snprintf(text, sizeof text, "%s,budget_bytes=%zu", settings[i], least - less);
                profile_choice_parse(&choice, text, NULL);
                CU_ASSERT_EQUAL(policy_resolve(&p, profile, &choice, dims[k], 0, 0, &f), less ? ERR_INVALID : 0);
            }
            free(profile);
        }
}

static void rules_are_checked_by_themselves(void)
{
    const struct setting *culprit;
    struct fault f;
    struct rule rule = rule_of(SOFTMAX, "window");
    add(&rule, "window_tokens", "100");
    add(&rule, "budget_fraction", "0.5");
    CU_ASSERT_EQUAL(policy_check_rule(&rule, &culprit, &f), 0);
    CU_ASSERT_PTR_NULL(culprit);

    add(&rule, "window_tokens", "200");
    CU_ASSERT_EQUAL(policy_check_rule(&rule, &culprit, &f), ERR_INVALID);
    CU_ASSERT(culprit == &rule.setting[2] && says(&f, "twice"));
    rule.n_settings = 1;
    strcpy(rule.setting[0].value, "x");
    CU_ASSERT_EQUAL(policy_check_rule(&rule, &culprit, &f), ERR_INVALID);
    CU_ASSERT_PTR_EQUAL(culprit, &rule.setting[0]);
    strcpy(rule.setting[0].key, "nonsense");
    CU_ASSERT_EQUAL(policy_check_rule(&rule, &culprit, &f), ERR_INVALID);
    CU_ASSERT(culprit == &rule.setting[0] && says(&f, "no such key"));

    rule = rule_of(BOTH, "full"); /* takes no budget */
    add(&rule, "budget_bytes", "1000");
    CU_ASSERT_EQUAL(policy_check_rule(&rule, &culprit, &f), ERR_INVALID);
    CU_ASSERT_PTR_EQUAL(culprit, &rule.setting[0]);

    rule = rule_of(BOTH, "two_cache");
    CU_ASSERT_EQUAL(policy_check_rule(&rule, &culprit, &f), ERR_UNSUPPORTED);
    CU_ASSERT(culprit == NULL && says(&f, "softmax"));
    rule = rule_of(BOTH, "nonsense");
    CU_ASSERT_EQUAL(policy_check_rule(&rule, &culprit, &f), ERR_INVALID);
    rule = rule_of(BOTH, "");
    CU_ASSERT_EQUAL(policy_check_rule(&rule, &culprit, &f), ERR_INVALID);
    rule = rule_of(0, "full");
    CU_ASSERT_EQUAL(policy_check_rule(&rule, &culprit, &f), ERR_INVALID);
    rule = rule_of(BOTH, "full");
    rule.first_layer = 3, rule.last_layer = 2;
    CU_ASSERT_EQUAL(policy_check_rule(&rule, &culprit, &f), ERR_INVALID);
}

TEST_SUITE("lib/cache/policy", TEST(the_table_is_well_formed), TEST(common_keys_have_good_defaults_and_know_every_storage),
           TEST(choices_are_taken_apart), TEST(broken_choices_are_refused), TEST(profiles_come_from_the_list_or_from_a_policy),
           TEST(the_first_rule_that_matches_wins), TEST(overrides_apply_to_every_rule_that_has_the_key),
           TEST(what_cannot_be_resolved_is_refused_by_name), TEST(the_least_budget_that_is_named_is_the_least),
           TEST(rules_are_checked_by_themselves), TEST(compute_is_of_tensor_attention_of_rows))
