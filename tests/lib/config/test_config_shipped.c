/* What is shipped: config/attnd.yaml against the tables of keys and the policies, and the examples beside it. */
#include "cache/cache.h"
#include "cache/policy.h"
#include "config/section.h"
#include "tests/lib/config/fixture.h"
#include "tests/test.h"

#include <ctype.h>
#include <glob.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct messages messages;

static struct node *tree_of_default(void)
{
    struct reporter r = {.file = "config/attnd.yaml"};
    struct node *tree = NULL;
    size_t bytes;
    const char *text = config_builtin_yaml(&bytes);
    CU_ASSERT_EQUAL(tree_parse(&tree, text, bytes, &r), 0);
    CU_ASSERT_EQUAL(r.n_errors, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(tree);
    return tree;
}

static void the_built_in_default_is_the_file_byte_for_byte(void)
{
    size_t bytes;
    const char *text = config_builtin_yaml(&bytes);
    FILE *file = fopen("config/attnd.yaml", "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    char *copy = malloc(bytes + 2);
    CU_ASSERT_PTR_NOT_NULL_FATAL(copy);
    CU_ASSERT_EQUAL(fread(copy, 1, bytes + 1, file), bytes);
    CU_ASSERT_EQUAL(memcmp(copy, text, bytes), 0);
    CU_ASSERT_EQUAL(text[bytes], '\0');
    fclose(file);
    free(copy);
}

/* A value as it would be written in a file: lists in brackets. */
static void as_text(const struct node *node, char *text, size_t size)
{
    if (node->kind == NODE_SCALAR) {
        snprintf(text, size, "%s", node->text);
        return;
    }
    snprintf(text, size, "[");
    for (const struct node *c = node->child; c; c = c->next) {
        size_t used = strlen(text);
        snprintf(text + used, size - used, "%s%s", c->text ? c->text : "?", c->next ? ", " : "");
    }
    strncat(text, "]", size - strlen(text) - 1);
}

/* Every key of the section is in the map. Single values and `initial` texts of lists must be the default. */
static void check_map(const struct section *section, const struct node *map, const char *path)
{
    for (size_t i = 0; i < section->n; i++) {
        const struct field *f = &section->field[i];
        const struct node *node = node_find(map, f->key.name);
        char here[128], value[256];
        snprintf(here, sizeof here, "%s.%s", path, f->key.name);
        if (!node)
            printf("\n  missing: %s", here);
        CU_ASSERT_PTR_NOT_NULL(node);
        if (!node)
            continue;
        if (f->section) {
            check_map(f->section, f->form ? node->child : node, here); /* of a list: its first entry */
            continue;
        }
        as_text(node, value, sizeof value);
        bool named = strcmp(f->key.name, "name") == 0;
        if (f->key.initial && *f->key.initial && !named && strcmp(value, f->key.initial) != 0)
            printf("\n  %s is %s in the file, %s in the table", here, value, f->key.initial);
        CU_ASSERT(!f->key.initial || !*f->key.initial || named || strcmp(value, f->key.initial) == 0);
    }
}

static void attnd_yaml_has_every_key_with_its_default(void)
{
    struct node *tree = tree_of_default();
    check_map(&root_section, tree, "");
    tree_destroy(tree);
}

static void attnd_yaml_has_no_value_that_the_tables_lack(void)
{
    /* Reading it over the tables' defaults changes no single value. */
    struct config *c = NULL;
    CU_ASSERT_EQUAL(config_load(&c, NULL, policy_check_rule, NULL, NULL), 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(c);
    struct config plain = {0};
    section_set_defaults(&root_section, &plain);
    section_set_defaults(&limits_section, &plain.limits);
    CU_ASSERT_EQUAL(memcmp(&plain.limits, &c->limits, sizeof plain.limits), 0);
    CU_ASSERT_EQUAL(plain.telemetry_interval_seconds, c->telemetry_interval_seconds);
    CU_ASSERT_EQUAL(plain.spin_seconds, c->spin_seconds);
    CU_ASSERT_STRING_EQUAL(plain.isa, c->isa);
    CU_ASSERT_STRING_EQUAL(plain.log_level, c->log_level);
    config_destroy(c);
}

static bool is_in_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* Whether the file mentions the word as a whole; says so when it does not. */
static bool mentions(const char *word)
{
    size_t bytes, n = strlen(word);
    const char *text = config_builtin_yaml(&bytes);
    for (const char *at = text; (at = strstr(at, word)); at++)
        if (at > text && !is_in_word(at[-1]) && !is_in_word(at[n]))
            return true;
    printf("\n  not mentioned in config/attnd.yaml: %s", word);
    return false;
}

static void attnd_yaml_explains_every_policy_and_setting(void)
{
    for (size_t i = 0; cache_table[i]; i++) {
        CU_ASSERT(mentions(cache_table[i]->name));
        for (size_t k = 0; k < cache_table[i]->n_keys; k++)
            CU_ASSERT(mentions(cache_table[i]->keys[k].name));
    }
    for (size_t k = 0; k < n_policy_common_keys; k++)
        CU_ASSERT(mentions(policy_common_keys[k].name));
}

static void the_shipped_profiles_serve_every_layer_and_head(void)
{
    struct config *c = NULL;
    CU_ASSERT_EQUAL(config_load(&c, NULL, policy_check_rule, NULL, NULL), 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(c);
    for (size_t i = 0; i < c->n_profiles; i++)
        for (int kind = 0; kind < N_ATTENTION; kind++) {
            struct cache_dims dims = {
                .kind = (enum attention_kind)kind, .d = 64, .e = 64, .group = 2, .scale = 0.125f, .expected_tokens = 4096};
            struct policy policy;
            struct fault fault = {0};
            int err = policy_resolve(&policy, &c->profile[i], NULL, &dims, 7, 3, &fault);
            if (err)
                printf("\n  %s", fault.text);
            CU_ASSERT_EQUAL(err, 0);
        }
    config_destroy(c);
}

/* True where the file pins CPUs that this machine lacks and says nothing else. */
static bool only_cpus_are_missing(void)
{
    size_t n = 0;
    while (n < messages.n && n < MESSAGES_MAX && strstr(messages.text[n], "].cpus[") &&
           strstr(messages.text[n], "is not there"))
        n++;
    return messages.n > 0 && n == messages.n;
}

static void every_example_loads(void)
{
    glob_t files;
    CU_ASSERT_EQUAL_FATAL(glob("config/*.yaml", 0, NULL, &files), 0);
    CU_ASSERT(files.gl_pathc >= 4);
    for (size_t i = 0; i < files.gl_pathc; i++) {
        struct config *c = NULL;
        messages.n = 0;
        int err = config_load(&c, files.gl_pathv[i], policy_check_rule, collect_message, &messages);
        for (size_t m = 0; m < messages.n && m < MESSAGES_MAX; m++)
            printf("\n  %s", messages.text[m]);
        CU_ASSERT(err == 0 || only_cpus_are_missing());
        config_destroy(c);
    }
    globfree(&files);
}

static void mixed_depends_on_the_layer(void)
{
    struct config *c = NULL;
    CU_ASSERT_EQUAL(config_load(&c, "config/mixed.yaml", policy_check_rule, NULL, NULL), 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(c);
    struct profile profile;
    struct policy early, late;
    struct cache_dims dims = {
        .kind = ATTENTION_SOFTMAX, .d = 64, .e = 64, .group = 2, .scale = 0.125f, .expected_tokens = 4096};
    CU_ASSERT_EQUAL(profile_find(&profile, c->profile, c->n_profiles, "mixed", NULL), 0);
    CU_ASSERT_EQUAL(policy_resolve(&early, &profile, NULL, &dims, 1, 0, NULL), 0);
    CU_ASSERT_EQUAL(policy_resolve(&late, &profile, NULL, &dims, 2, 0, NULL), 0);
    CU_ASSERT_STRING_EQUAL(early.ops->name, "window");
    CU_ASSERT_STRING_EQUAL(late.ops->name, "full");
    CU_ASSERT_STRING_EQUAL(late.key_storage->name, "bf16");
    config_destroy(c);
}

static void the_policies_own_check_names_the_setting_at_fault(void)
{
    static const char text[] = "profiles:\n- name: m\n  rules:\n  - policy: window\n    window_tokens: none\n    storage: f64\n"
                               "  - {attention: softmax, policy: two_cache}\n";
    struct config *c;
    messages.n = 0;
    CU_ASSERT_EQUAL(config_parse(&c, "f", text, strlen(text), policy_check_rule, collect_message, &messages), ERR_INVALID);
    CU_ASSERT_EQUAL(messages.n, 4); /* the fourth: the last rule is covered by the first */
    bool window_tokens = false, storage = false, two_cache = false;
    for (size_t i = 0; i < messages.n && i < MESSAGES_MAX; i++) {
        window_tokens |= strstr(messages.text[i], "f:5: profiles[m].rules[0].window_tokens: ") != NULL;
        storage |= strstr(messages.text[i], "f:6: profiles[m].rules[0].storage: ") != NULL;
        two_cache |= strstr(messages.text[i], "f:7: profiles[m].rules[1]: ") && strstr(messages.text[i], "two_cache");
    }
    CU_ASSERT(window_tokens && storage && two_cache);
}

static void count_line(void *context, const char *text)
{
    size_t *n = context;
    CU_ASSERT(strchr(text, ':') && strchr(text, '\n') == NULL);
    ++*n;
}

static void help_has_a_line_for_every_key(void)
{
    size_t n = 0;
    config_print_keys(count_line, &n);
    CU_ASSERT_EQUAL(n, root_section.n + 2 * socket_section.n + telemetry_section.n + http_section.n + pool_section.n +
                           profile_section.n + rule_section.n + limits_section.n);
}

TEST_SUITE("lib/config/shipped", TEST(the_built_in_default_is_the_file_byte_for_byte),
           TEST(attnd_yaml_has_every_key_with_its_default), TEST(attnd_yaml_has_no_value_that_the_tables_lack),
           TEST(attnd_yaml_explains_every_policy_and_setting), TEST(the_shipped_profiles_serve_every_layer_and_head),
           TEST(every_example_loads), TEST(mixed_depends_on_the_layer), TEST(the_policies_own_check_names_the_setting_at_fault),
           TEST(help_has_a_line_for_every_key))
