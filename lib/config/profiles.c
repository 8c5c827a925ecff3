/* Profiles: named lists of rules; the first rule that matches a head says its policy and settings. */
#include "config/section.h"

#include "base/word.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char attention_form[] = "softmax, tensor, or a list of them";

static read_value read_attention, read_layers, read_heads, read_rules;

static const struct field rule_fields[] = {
    {.key = {.name = "attention", .offset = 0, .initial = "[softmax, tensor]", .help = "Layers of this kind."},
     .read = read_attention,
     .form = attention_form},
    {.key = {.name = "layers", .offset = 0, .initial = "all", .help = "Layers in this range; the first is 0."},
     .read = read_layers,
     .form = range_form},
    {.key = {.name = "heads", .offset = 0, .initial = "all", .help = "kv heads in this range; the first is 0."},
     .read = read_heads,
     .form = range_form},
    {.key = {.name = "policy",
             .offset = offsetof(struct rule, policy),
             .initial = "",
             .help = "How these heads keep their cache; further keys of the rule are the policy's settings."},
     .read = read_name,
     .form = "the name of a policy"},
};
const struct section rule_section = {rule_fields, sizeof rule_fields / sizeof *rule_fields};

static const struct field profile_fields[] = {
    {.key = {.name = "name",
             .offset = offsetof(struct profile, name),
             .initial = "",
             .help = "What streams ask for when they open."},
     .read = read_name,
     .form = name_form},
    {.key = {.name = "rules", .offset = 0, .initial = "", .help = "The first rule that matches a head is the one that counts."},
     .section = &rule_section,
     .read = read_rules,
     .form = "a list of rules"},
};
const struct section profile_section = {profile_fields, sizeof profile_fields / sizeof *profile_fields};

static const unsigned all_kinds = (1u << N_ATTENTION) - 1;

static unsigned kind_of(struct reader *r, const struct node *node, const struct place *place)
{
    const char *text = expect_text(r, node, place, attention_form);
    int kind = text ? attention_from_name(text) : 0;
    if (kind < 0)
        report_error(&r->reporter, node->line, place, NULL, "must be %s, not '%.63s'", attention_form, text);
    return kind < 0 || !text ? all_kinds : 1u << kind;
}

static void read_attention(struct reader *r, const struct node *node, const struct place *place, void *target)
{
    struct rule *rule = target;
    if (node->kind != NODE_LIST) {
        rule->kinds = kind_of(r, node, place);
        return;
    }
    rule->kinds = 0;
    for (const struct node *child = node->child; child; child = child->next)
        rule->kinds |= kind_of(r, child, place);
    if (!rule->kinds)
        report_error(&r->reporter, node->line, place, NULL, "must be %s", attention_form);
}

static void read_range(struct reader *r, const struct node *node, const struct place *place, uint64_t max, uint64_t *first,
                       uint64_t *last)
{
    const char *text = expect_text(r, node, place, range_form);
    if (text && !parse_range(text, max, first, last))
        report_error(&r->reporter, node->line, place, NULL, "must be %s, not '%.63s'", range_form, text);
}

static void read_layers(struct reader *r, const struct node *node, const struct place *place, void *target)
{
    struct rule *rule = target;
    read_range(r, node, place, SHAPE_LAYERS_MAX - 1, &rule->first_layer, &rule->last_layer);
}

static void read_heads(struct reader *r, const struct node *node, const struct place *place, void *target)
{
    struct rule *rule = target;
    read_range(r, node, place, SHAPE_HEADS_MAX - 1, &rule->first_head, &rule->last_head);
}

/* Everything else in a rule is the policy's; the caller's check knows what it may be. */
static void read_setting(struct reader *r, const struct node *node, const struct place *place, void *target)
{
    struct rule *rule = target;
    struct setting setting = {.line = node->line};
    if (strlen(node->key) >= sizeof setting.key) {
        report_error(&r->reporter, node->line, place, NULL, "unknown key");
        return;
    }
    if (rule->n_settings == RULE_SETTINGS_MAX) {
        report_error(&r->reporter, node->line, place, NULL, "is one setting too many; %d are allowed", RULE_SETTINGS_MAX);
        return;
    }
    if (!read_setting_text(r, node, place, "a single value of at most 63 bytes or a pair of numbers", setting.value))
        return;
    snprintf(setting.key, sizeof setting.key, "%s", node->key);
    rule->setting[rule->n_settings++] = setting;
}

static const char *nearby_rule_key(const char *word)
{
    const char *names[sizeof rule_fields / sizeof *rule_fields];
    for (size_t i = 0; i < rule_section.n; i++)
        names[i] = rule_fields[i].key.name;
    return word_closest(word, names, rule_section.n);
}

static void report_setting(struct reader *r, const struct setting *s, const struct place *place, const char *reason)
{
    const char *meant = nearby_rule_key(s->key);
    report_error(&r->reporter, s->line, place, s->key, "%s%s%s%s", reason, meant ? "; did you mean " : "", meant ? meant : "",
                 meant ? "?" : "");
}

/* The check names one culprit at a time: take it out and ask again, so that all are told in one run. */
static void check_rule(struct reader *r, const struct rule *rule, const struct place *place)
{
    struct rule left = *rule;
    while (r->check) {
        const struct setting *culprit = NULL;
        struct fault fault = {0};
        if (!r->check(&left, &culprit, &fault))
            return;
        if (!culprit) {
            report_error(&r->reporter, rule->line, place, NULL, "%s", fault.text);
            return;
        }
        size_t i = (size_t)(culprit - left.setting);
        assert(i < left.n_settings);
        report_setting(r, culprit, place, fault.text);
        left.n_settings--;
        memmove(&left.setting[i], &left.setting[i + 1], (left.n_settings - i) * sizeof *left.setting);
    }
}

static bool covers(const struct rule *wide, const struct rule *narrow)
{
    return (narrow->kinds & ~wide->kinds) == 0 && wide->first_layer <= narrow->first_layer &&
           narrow->last_layer <= wide->last_layer && wide->first_head <= narrow->first_head &&
           narrow->last_head <= wide->last_head;
}

static void read_rule(struct reader *r, const struct node *node, const struct place *place, struct profile *profile)
{
    struct rule *rule = &profile->rule[profile->n_rules];
    size_t errors = r->reporter.n_errors;
    *rule = (struct rule){.kinds = all_kinds, .last_layer = UINT64_MAX, .last_head = UINT64_MAX, .line = node->line};
    section_read(r, node, place, &rule_section, rule, read_setting);
    bool readable = r->reporter.n_errors == errors;
    if (!rule->policy[0] && !node_find(node, "policy")) {
        report_error(&r->reporter, rule->line, place, "policy", "is missing; a rule needs one");
        for (size_t i = 0; i < rule->n_settings; i++)
            if (nearby_rule_key(rule->setting[i].key))
                report_setting(r, &rule->setting[i], place, "unknown key");
    } else if (rule->policy[0]) {
        check_rule(r, rule, place);
    }
    for (size_t i = 0; readable && i < profile->n_rules; i++)
        if (covers(&profile->rule[i], rule)) {
            report_error(&r->reporter, rule->line, place, NULL,
                         "can never apply: rules[%zu] in line %d takes every head that it would take", i,
                         profile->rule[i].line);
            break;
        }
    profile->n_rules++;
}

static void read_rules(struct reader *r, const struct node *node, const struct place *place, void *target)
{
    struct profile *profile = target;
    size_t index = 0;
    if (!expect_list(r, node, place, "a list of rules"))
        return;
    for (const struct node *child = node->child; child; child = child->next, index++) {
        struct place here = place_index(place, index);
        if (profile->n_rules == PROFILE_RULES_MAX) {
            report_error(&r->reporter, child->line, &here, NULL, "is one too many; %d are allowed", PROFILE_RULES_MAX);
            return;
        }
        read_rule(r, child, &here, profile);
    }
}

/* A slot at the end of the array, not counted yet; NULL after an error. */
static struct profile *new_slot(struct reader *r, const struct node *node, const struct place *place)
{
    struct config *config = r->config;
    if (config->n_profiles == CONFIG_PROFILES_MAX) {
        report_error(&r->reporter, node->line, place, NULL, "is one too many; %d are allowed", CONFIG_PROFILES_MAX);
        return NULL;
    }
    if (config->n_profiles == r->profile_capacity) {
        size_t capacity = r->profile_capacity ? 2 * r->profile_capacity : 8;
        struct profile *grown = realloc(config->profile, capacity * sizeof *grown);
        if (!grown) {
            r->reporter.no_memory = true;
            return NULL;
        }
        config->profile = grown;
        r->profile_capacity = capacity;
    }
    struct profile *slot = &config->profile[config->n_profiles];
    memset(slot, 0, sizeof *slot);
    slot->line = node->line;
    return slot;
}

static bool read_profile(struct reader *r, const struct node *node, const struct place *list, size_t index,
                         struct profile *profile)
{
    const struct node *name = node->kind == NODE_MAP ? node_find(node, "name") : NULL;
    struct place place =
        name && name->kind == NODE_SCALAR && *name->text ? place_name(list, name->text) : place_index(list, index);
    section_read(r, node, &place, &profile_section, profile, NULL);
    if (node->kind == NODE_MAP && !name)
        report_error(&r->reporter, node->line, &place, "name", "is missing; a profile needs one");
    const struct node *rules = node->kind == NODE_MAP ? node_find(node, "rules") : NULL;
    if (node->kind == NODE_MAP && (!rules || node_is_empty(rules) || (rules->kind == NODE_LIST && !rules->child)))
        report_error(&r->reporter, node->line, &place, "rules", "must have at least one rule");
    return profile->name[0] != '\0';
}

static size_t find_profile(const struct config *config, const char *name)
{
    size_t i = 0;
    while (i < config->n_profiles && strcmp(config->profile[i].name, name) != 0)
        i++;
    return i;
}

void read_profiles(struct reader *r, const struct node *node, const struct place *place, void *target)
{
    struct config *config = r->config;
    bool from_here[CONFIG_PROFILES_MAX] = {false};
    size_t index = 0;
    (void)target;
    if (!expect_list(r, node, place, "a list of profiles"))
        return;
    for (const struct node *child = node->child; child; child = child->next, index++) {
        struct place here = place_index(place, index);
        struct profile *slot = new_slot(r, child, &here);
        if (!slot)
            return;
        if (!read_profile(r, child, place, index, slot))
            continue;
        size_t same = find_profile(config, slot->name);
        if (same == config->n_profiles) {
            config->n_profiles++;
        } else if (from_here[same]) {
            here = place_name(place, slot->name);
            report_error(&r->reporter, child->line, &here, "name", "is used by the profile in line %d already",
                         config->profile[same].line);
        } else {
            config->profile[same] = *slot; /* of the same name as a built-in one: replaces it */
        }
        from_here[same] = true;
    }
}
