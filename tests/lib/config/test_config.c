#include "tests/lib/config/fixture.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct messages messages;

static struct config *parse_good(const char *text)
{
    struct config *config = parse(text, &messages);
    for (size_t i = 0; i < messages.n; i++)
        printf("\n%s", messages.text[i]);
    CU_ASSERT_PTR_NOT_NULL_FATAL(config);
    return config;
}

static const struct profile *profile(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->n_profiles; i++)
        if (strcmp(config->profile[i].name, name) == 0)
            return &config->profile[i];
    CU_FAIL_FATAL("no such profile");
    return NULL;
}

static void nothing_given_gives_the_built_in_default(void)
{
    struct config *a = NULL, *b;
    CU_ASSERT_EQUAL(config_load(&a, NULL, fake_check_rule, NULL, NULL), 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(a);
    CU_ASSERT_EQUAL(a->ingest.n_endpoints, 1);
    CU_ASSERT_EQUAL(strncmp(a->ingest.endpoint[0], "ipc:///", 7), 0); /* ${runtime} is expanded */
    CU_ASSERT_PTR_NOT_NULL(strstr(a->ingest.endpoint[0], "attnd"));
    CU_ASSERT_EQUAL(a->telemetry_interval_seconds, 1);
    CU_ASSERT_EQUAL(a->n_pools, 1);
    CU_ASSERT_STRING_EQUAL(a->pool[0].name, "main");
    CU_ASSERT_EQUAL(a->pool[0].threads, 0);
    CU_ASSERT(a->pool[0].heads_auto);
    CU_ASSERT_EQUAL(a->limits.message_bytes, 256u << 20);
    CU_ASSERT_EQUAL(a->limits.queued_bytes, 1u << 30);
    CU_ASSERT_STRING_EQUAL(a->isa, "auto");
    CU_ASSERT_STRING_EQUAL(a->log_level, "info");
    static const char *const shipped[] = {"full", "bf16", "window", "unmasked", "merge", "two-cache"};
    CU_ASSERT_EQUAL(a->n_profiles, 6);
    for (size_t i = 0; i < 6; i++)
        CU_ASSERT_STRING_EQUAL(a->profile[i].name, shipped[i]);

    b = parse_good("# only a comment\n");
    CU_ASSERT_EQUAL(b->n_profiles, 6);
    CU_ASSERT_STRING_EQUAL(b->ingest.endpoint[0], a->ingest.endpoint[0]);
    config_destroy(a);
    config_destroy(b);
}

static void keys_that_are_absent_keep_the_default(void)
{
    struct config *c = parse_good("telemetry: {interval_seconds: 0.25}\nlimits:\n  parts: 7\n  # streams: 3\noutputs:\n"
                                  "isa: scalar\n");
    CU_ASSERT_EQUAL(c->telemetry_interval_seconds, 0.25);
    CU_ASSERT_EQUAL(c->telemetry.n_endpoints, 1);
    CU_ASSERT_EQUAL(c->outputs.n_endpoints, 1);
    CU_ASSERT_EQUAL(c->limits.parts, 7);
    CU_ASSERT_EQUAL(c->limits.streams, 16384);
    CU_ASSERT_STRING_EQUAL(c->isa, "scalar");
    config_destroy(c);
}

static void endpoints_replace_the_default_ones(void)
{
    struct config *c = parse_good("ingest: {endpoints: [\"ipc:///tmp/x.sock\", 'tcp://127.0.0.1:5701', inproc://here]}\n"
                                  "outputs: {endpoints: [\"tcp://*:*\"]}\ntelemetry: {endpoints: [\"tcp://*:*\"]}\n");
    CU_ASSERT_EQUAL(c->ingest.n_endpoints, 3);
    CU_ASSERT_STRING_EQUAL(c->ingest.endpoint[0], "ipc:///tmp/x.sock");
    CU_ASSERT_STRING_EQUAL(c->ingest.endpoint[1], "tcp://127.0.0.1:5701");
    CU_ASSERT_STRING_EQUAL(c->ingest.endpoint[2], "inproc://here");
    CU_ASSERT_EQUAL(c->outputs.n_endpoints, 1);
    config_destroy(c);
}

static void pools_replace_the_default_ones(void)
{
    struct config *c = parse_good("pools:\n  - {name: a, threads: 3, cpus: [0], heads: \"0-3\"}\n  - threads: 1\n    heads: 5\n"
                                  "  - {heads: 8-}\n  - {heads: auto}\n");
    CU_ASSERT_EQUAL(c->n_pools, 4);
    CU_ASSERT_STRING_EQUAL(c->pool[0].name, "a");
    CU_ASSERT_EQUAL(c->pool[0].threads, 3);
    CU_ASSERT_EQUAL(c->pool[0].n_cpus, 1);
    CU_ASSERT_EQUAL(c->pool[0].cpu[0], 0);
    CU_ASSERT_FALSE(c->pool[0].heads_auto);
    CU_ASSERT_EQUAL(c->pool[0].first_head, 0);
    CU_ASSERT_EQUAL(c->pool[0].last_head, 3);
    CU_ASSERT_STRING_EQUAL(c->pool[1].name, "pool1");
    CU_ASSERT_EQUAL(c->pool[1].first_head, 5);
    CU_ASSERT_EQUAL(c->pool[1].last_head, 5);
    CU_ASSERT_EQUAL(c->pool[1].n_cpus, 0);
    CU_ASSERT_EQUAL(c->pool[2].first_head, 8);
    CU_ASSERT_EQUAL(c->pool[2].last_head, UINT64_MAX);
    CU_ASSERT(c->pool[3].heads_auto);
    config_destroy(c);
}

static void profiles_add_to_the_default_ones_and_replace_by_name(void)
{
    struct config *c = parse_good("profiles:\n"
                                  "  - name: mine\n    rules: [{policy: full, seed: 7}]\n"
                                  "  - name: window\n    rules:\n      - {attention: tensor, policy: window}\n");
    CU_ASSERT_EQUAL(c->n_profiles, 7);
    CU_ASSERT_STRING_EQUAL(c->profile[2].name, "window");
    CU_ASSERT_EQUAL(c->profile[2].n_rules, 1);
    CU_ASSERT_EQUAL(c->profile[2].rule[0].kinds, 1u << ATTENTION_TENSOR);
    CU_ASSERT_STRING_EQUAL(c->profile[6].name, "mine");
    CU_ASSERT_EQUAL(c->profile[6].line, 2);
    config_destroy(c);
}

static void rules_carry_their_match_and_their_settings_as_text(void)
{
    struct config *c = parse_good("profiles:\n"
                                  "- name: mixed\n"
                                  "  rules:\n"
                                  "  - {attention: softmax, layers: \"0-1\", heads: 2, policy: window, storage: bf16,\n"
                                  "     window_tokens: [512, 32], unmasked: true}\n"
                                  "  - {layers: 2-, policy: full}\n"
                                  "  - {attention: [tensor, softmax], layers: all, policy: full}\n");
    const struct profile *p = profile(c, "mixed");
    CU_ASSERT_EQUAL(p->n_rules, 3);
    const struct rule *r = &p->rule[0];
    CU_ASSERT_EQUAL(r->kinds, 1u << ATTENTION_SOFTMAX);
    CU_ASSERT_EQUAL(r->first_layer, 0);
    CU_ASSERT_EQUAL(r->last_layer, 1);
    CU_ASSERT_EQUAL(r->first_head, 2);
    CU_ASSERT_EQUAL(r->last_head, 2);
    CU_ASSERT_STRING_EQUAL(r->policy, "window");
    CU_ASSERT_EQUAL(r->line, 4);
    CU_ASSERT_EQUAL(r->n_settings, 3);
    CU_ASSERT_STRING_EQUAL(r->setting[0].key, "storage");
    CU_ASSERT_STRING_EQUAL(r->setting[0].value, "bf16");
    CU_ASSERT_EQUAL(r->setting[0].line, 4);
    CU_ASSERT_STRING_EQUAL(r->setting[1].value, "512x32");
    CU_ASSERT_EQUAL(r->setting[1].line, 5);
    CU_ASSERT_STRING_EQUAL(r->setting[2].value, "true");
    r = &p->rule[1];
    CU_ASSERT_EQUAL(r->kinds, 3);
    CU_ASSERT_EQUAL(r->first_layer, 2);
    CU_ASSERT_EQUAL(r->last_layer, UINT64_MAX);
    CU_ASSERT_EQUAL(r->first_head, 0);
    CU_ASSERT_EQUAL(r->last_head, UINT64_MAX);
    r = &p->rule[2];
    CU_ASSERT_EQUAL(r->kinds, 3);
    CU_ASSERT_EQUAL(r->first_layer, 0);
    CU_ASSERT_EQUAL(r->last_layer, UINT64_MAX);
    config_destroy(c);
}

static void sizes_may_be_written_with_their_multiple(void)
{
    struct config *c = parse_good("limits: {message_bytes: 8 MiB, credit_bytes: 67108864, queued_bytes: 2GiB}\n");
    CU_ASSERT_EQUAL(c->limits.message_bytes, 8u << 20);
    CU_ASSERT_EQUAL(c->limits.credit_bytes, 64u << 20);
    CU_ASSERT_EQUAL(c->limits.queued_bytes, 2ull << 30);
    config_destroy(c);
}

/* Writes text to a temporary file and gives its name, to be freed. */
static char *temporary(const char *text, size_t bytes)
{
    char *path = strdup("/tmp/attnd-config-XXXXXX");
    int fd = mkstemp(path);
    FILE *file = fdopen(fd, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT_EQUAL(fwrite(text, 1, bytes, file), bytes);
    fclose(file);
    return path;
}

static void a_file_is_read_and_named_in_its_errors(void)
{
    struct config *c = NULL;
    const char *good = "isa: avx2\n", *bad = "log_level: info\nisa: mmx\n";
    char *path = temporary(good, strlen(good));
    messages.n = 0;
    CU_ASSERT_EQUAL(config_load(&c, path, fake_check_rule, collect_message, &messages), 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(c);
    CU_ASSERT_STRING_EQUAL(c->isa, "avx2");
    config_destroy(c);
    remove(path);
    free(path);

    char expected[200];
    path = temporary(bad, strlen(bad));
    CU_ASSERT_EQUAL(config_load(&c, path, fake_check_rule, collect_message, &messages), ERR_INVALID);
    CU_ASSERT_PTR_NULL(c);
    CU_ASSERT_EQUAL(messages.n, 1);
    snprintf(expected, sizeof expected,
             "%s:2: isa: must be one of auto, scalar, avx2, avx512, avx512_vnni, avx512_bf16, neon, not 'mmx'", path);
    CU_ASSERT_STRING_EQUAL(messages.text[0], expected);
    remove(path);
    free(path);
}

static void what_cannot_be_read_says_why(void)
{
    struct config *c;
    messages.n = 0;
    CU_ASSERT_EQUAL(config_load(&c, "/no/such/file", fake_check_rule, collect_message, &messages), ERR_IO);
    CU_ASSERT_PTR_NULL(c);
    CU_ASSERT_STRING_EQUAL(messages.text[0], "/no/such/file:0: file: cannot be read: No such file or directory");
    CU_ASSERT_EQUAL(config_load(&c, "/tmp", fake_check_rule, collect_message, &messages), ERR_IO);
    CU_ASSERT_STRING_EQUAL(messages.text[1], "/tmp:0: file: cannot be read: Is a directory");
    CU_ASSERT_EQUAL(messages.n, 2);
}

static void a_file_has_at_most_a_mebibyte(void)
{
    enum { LIMIT = 1 << 20 };
    struct config *c;
    char *text = malloc(LIMIT + 1);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    memset(text, '\n', LIMIT + 1);
    messages.n = 0;
    CU_ASSERT_EQUAL(config_parse(&c, "f", text, LIMIT, fake_check_rule, collect_message, &messages), 0);
    config_destroy(c);
    char *path = temporary(text, LIMIT + 1);
    CU_ASSERT_EQUAL(config_load(&c, path, fake_check_rule, collect_message, &messages), ERR_INVALID);
    CU_ASSERT_EQUAL(messages.n, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(messages.text[0], "is larger than 1048576 bytes"));
    remove(path);
    free(path);
    free(text);
}

TEST_SUITE("lib/config/config", TEST(nothing_given_gives_the_built_in_default), TEST(keys_that_are_absent_keep_the_default),
           TEST(endpoints_replace_the_default_ones), TEST(pools_replace_the_default_ones),
           TEST(profiles_add_to_the_default_ones_and_replace_by_name), TEST(rules_carry_their_match_and_their_settings_as_text),
           TEST(sizes_may_be_written_with_their_multiple), TEST(a_file_is_read_and_named_in_its_errors),
           TEST(what_cannot_be_read_says_why), TEST(a_file_has_at_most_a_mebibyte))
