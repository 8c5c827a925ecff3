#include "tests/lib/config/fixture.h"
#include "tests/test.h"

#include <stdio.h>
#include <string.h>

void collect_message(void *context, const char *text)
{
    struct messages *m = context;
    if (m->n < MESSAGES_MAX)
        snprintf(m->text[m->n], MESSAGE_MAX, "%s", text);
    m->n++;
}

static bool is_one_of(const char *word, const char *const *list)
{
    while (*list && strcmp(*list, word) != 0)
        list++;
    return *list != NULL;
}

int fake_check_rule(const struct rule *rule, struct setting const **culprit, struct fault *fault)
{
    static const char *const policies[] = {"full", "window", "merge", "two_cache", NULL};
    static const char *const keys[] = {
        "window_tokens", "storage", "key_storage", "value_storage", "seed", "sink_tokens", "unmasked", "budget_fraction", NULL};
    static const char *const storages[] = {"f32", "bf16", NULL};
    static const struct key window = {"window_tokens", KEY_PAIR, 0, 0, 4096, "tokens", "1024", "", NULL};
    *culprit = NULL;
    if (!is_one_of(rule->policy, policies))
        return fault_set(fault, ERR_INVALID, "no policy is called '%s'", rule->policy);
    for (size_t i = 0; i < rule->n_settings; i++) {
        const struct setting *s = &rule->setting[i];
        uint64_t pair[2];
        *culprit = s;
        if (!is_one_of(s->key, keys))
            return fault_set(fault, ERR_INVALID, "%s has no such setting", rule->policy);
        if (strcmp(s->key, "storage") == 0 && !is_one_of(s->value, storages))
            return fault_set(fault, ERR_INVALID, "must be f32 or bf16, not '%s'", s->value);
        if (strcmp(s->key, "window_tokens") == 0 && key_set(&window, pair, s->value, fault))
            return ERR_INVALID;
    }
    *culprit = NULL;
    if (strcmp(rule->policy, "two_cache") == 0 && (rule->kinds & 1u << ATTENTION_SOFTMAX))
        return fault_set(fault, ERR_UNSUPPORTED, "two_cache serves tensor attention only");
    return 0;
}

struct config *parse(const char *text, struct messages *messages)
{
    struct config *config;
    messages->n = 0;
    int err = config_parse(&config, "f", text, strlen(text), fake_check_rule, collect_message, messages);
    CU_ASSERT_EQUAL(err, messages->n ? ERR_INVALID : 0);
    CU_ASSERT_EQUAL(config == NULL, err != 0);
    return config;
}
