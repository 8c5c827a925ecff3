/* Every way in which a file can be wrong, with the exact report. */
#include "tests/lib/config/fixture.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct messages messages;

/* The text is refused with exactly these messages, "f:" left out, in this order. */
static void expect_refusal(const char *text, const char *const *expected)
{
    config_destroy(parse(text, &messages));
    size_t n = 0;
    for (; expected[n]; n++) {
        const char *got = n < messages.n ? messages.text[n] : "f:(nothing)";
        int same = strncmp(got, "f:", 2) == 0 && strcmp(got + 2, expected[n]) == 0;
        if (!same)
            printf("\n  expected %s\n  got      %s", expected[n], got + 2);
        CU_ASSERT(same);
    }
    for (size_t i = n; i < messages.n; i++)
        printf("\n  too many %s", messages.text[i]);
    CU_ASSERT_EQUAL(messages.n, n);
}
#define REFUSED(text, ...) expect_refusal(text, (const char *const[]){__VA_ARGS__, NULL})

static void unknown_keys_come_with_what_was_probably_meant(void)
{
    REFUSED("ingst: {}\n", "1: ingst: unknown key; did you mean ingest?");
    REFUSED("telemetry: {interval_second: 1}\n", "1: telemetry.interval_second: unknown key; did you mean interval_seconds?");
    REFUSED("pools:\n- {naem: a}\n", "2: pools[0].naem: unknown key; did you mean name?");
    REFUSED("limits:\n  zebra: 1\n", "2: limits.zebra: unknown key");
    REFUSED("profiles:\n- name: a\n  rule: [{policy: full}]\n", "3: profiles[a].rule: unknown key; did you mean rules?",
            "2: profiles[a].rules: must have at least one rule");
}

static void wrong_types_say_what_is_expected_and_what_is_there(void)
{
    REFUSED("[a, b]\n", "1: file: must be a map of keys, not a list");
    REFUSED("hello\n", "1: file: must be a map of keys, not a single value");
    REFUSED("ingest: [\"ipc:///a\"]\n", "1: ingest: must be a map of keys, not a list");
    REFUSED("ingest: {endpoints: \"ipc:///a\"}\n",
            "1: ingest.endpoints: must be a list of endpoints like ipc://${runtime}/x.sock, tcp://127.0.0.1:5701 or "
            "inproc://name, not a single value");
    REFUSED("ingest:\n  endpoints:\n  - {a: 1}\n", "3: ingest.endpoints[0]: must be a text, not a map of keys");
    REFUSED("isa: [auto]\n", "1: isa: must be one of auto, scalar, avx2, avx512, avx512_vnni, avx512_bf16, neon, not a list");
    REFUSED("limits: {parts: {}}\n", "1: limits.parts: must be a whole number from 1 to 4096 parts, not a map of keys");
    REFUSED("pools: {name: a}\n", "1: pools: must be a list of pools, not a map of keys");
    REFUSED("pools: [a]\n", "1: pools[0]: must be a map of keys, not a single value");
    REFUSED("pools: [{name: [a]}]\n",
            "1: pools[0].name: must be a name of at most 39 letters, digits, '.', '_' or '-', not a list");
    REFUSED("profiles: full\n", "1: profiles: must be a list of profiles, not a single value");
    REFUSED("profiles: [{name: a, rules: {policy: full}}]\n",
            "1: profiles[a].rules: must be a list of rules, not a map of keys");
    REFUSED("profiles: [{name: a, rules: [full]}]\n", "1: profiles[a].rules[0]: must be a map of keys, not a single value",
            "1: profiles[a].rules[0].policy: is missing; a rule needs one");
}

static void values_out_of_range_name_the_bounds(void)
{
    REFUSED("telemetry: {interval_seconds: 0}\n",
            "1: telemetry.interval_seconds: must be a number from 0.01 to 3600 seconds, not '0'");
    REFUSED("spin_seconds: fast\n", "1: spin_seconds: must be a number from 0 to 1 seconds, not 'fast'");
    REFUSED("pools: [{threads: 1025}]\n", "1: pools[0].threads: must be a whole number from 0 to 1024 threads, not '1025'");
    REFUSED("pools: [{threads: -1}]\n", "1: pools[0].threads: must be a whole number from 0 to 1024 threads, not '-1'");
    REFUSED("limits: {message_bytes: 1 KiB}\n",
            "1: limits.message_bytes: must be a number of bytes from 4 KiB to 64 GiB, not '1 KiB'");
    REFUSED("log_level: loud\n", "1: log_level: must be one of error, warning, info, debug, not 'loud'");
    REFUSED("isa:\n", "1: isa: must be one of auto, scalar, avx2, avx512, avx512_vnni, avx512_bf16, neon, not ''");
}

static void limits_leave_room_for_the_largest_message(void)
{
    REFUSED("limits:\n  message_bytes: 2 GiB\n  queued_bytes: 1 GiB\n",
            "2: limits.credit_bytes: must be at least message_bytes (2147483648), not 268435456, or the largest message never "
            "gets through",
            "3: limits.queued_bytes: must be at least message_bytes (2147483648), not 1073741824, or the largest message never "
            "gets through");
}

static void keys_given_twice_are_told_with_both_lines(void)
{
    REFUSED("isa: auto\nlog_level: info\nisa: scalar\n", "3: isa: is given twice, first in line 1");
    REFUSED("limits:\n  parts: 1\n  parts: x\n", "3: limits.parts: is given twice, first in line 2");
}

static void endpoints_need_a_transport_an_address_and_a_place_of_their_own(void)
{
    REFUSED("ingest: {endpoints: [\"udp://x:1\", \"/tmp/x\"]}\n",
            "1: ingest.endpoints[0]: must begin with ipc://, tcp:// or inproc://, not 'udp://x:1'",
            "1: ingest.endpoints[1]: must begin with ipc://, tcp:// or inproc://, not '/tmp/x'");
    REFUSED("ingest: {endpoints: [\"tcp://localhost\", \"tcp://:1\", \"tcp://a:70000\", \"tcp://a:1x\", \"ipc://\", "
            "\"inproc://\"]}\n",
            "1: ingest.endpoints[0]: needs host:port after tcp://, the port a number up to 65535 or *, not 'tcp://localhost'",
            "1: ingest.endpoints[1]: needs host:port after tcp://, the port a number up to 65535 or *, not 'tcp://:1'",
            "1: ingest.endpoints[2]: needs host:port after tcp://, the port a number up to 65535 or *, not 'tcp://a:70000'",
            "1: ingest.endpoints[3]: needs host:port after tcp://, the port a number up to 65535 or *, not 'tcp://a:1x'",
            "1: ingest.endpoints[4]: needs a path of at most 107 bytes after ipc://, not 'ipc://'",
            "1: ingest.endpoints[5]: needs a name after inproc://, not 'inproc://'");
    REFUSED("outputs:\n  endpoints:\n  - tcp://127.0.0.1:5\n  - ipc:///tmp/a\n  - tcp://127.0.0.1:5\n",
            "5: outputs.endpoints[2]: 'tcp://127.0.0.1:5' is taken by outputs.endpoints[0]");
    REFUSED("outputs:\n  endpoints: [inproc://a]\ntelemetry:\n  endpoints: [inproc://b, inproc://a]\n",
            "4: telemetry.endpoints[1]: 'inproc://a' is taken by outputs.endpoints[0]");
    REFUSED("ingest: {endpoints: []}\n",
            "1: ingest.endpoints: must have at least one endpoint, or nobody can reach the daemon");
    REFUSED(
        "ingest: {endpoints: [inproc://1, inproc://2, inproc://3, inproc://4, inproc://5, inproc://6, inproc://7, inproc://8,\n"
        "  inproc://9]}\n",
        "2: ingest.endpoints[8]: is one too many; 8 are allowed");
}

static void an_endpoint_that_a_default_has_is_told_at_the_files_line(void)
{
    /* Later sockets against earlier ones and the other way round. */
    config_destroy(parse("telemetry:\n  endpoints: [\"ipc://${runtime}/ingest.sock\"]\n", &messages));
    CU_ASSERT_EQUAL(messages.n, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(messages.text[0], "f:2: telemetry.endpoints[0]: "));
    CU_ASSERT_PTR_NOT_NULL(strstr(messages.text[0], "is taken by ingest.endpoints[0] (the default)"));
    config_destroy(parse("ingest:\n  endpoints: [inproc://a, \"ipc://${runtime}/outputs.sock\"]\n", &messages));
    CU_ASSERT_EQUAL(messages.n, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(messages.text[0], "f:2: ingest.endpoints[1]: "));
    CU_ASSERT_PTR_NOT_NULL(strstr(messages.text[0], "is taken by outputs.endpoints[0] (the default)"));
}

static void pools_need_names_heads_and_cpus_that_do_not_collide(void)
{
    REFUSED("pools: []\n", "1: pools: must have at least one pool, or nothing computes");
    REFUSED("pools:\n- {name: a}\n- {name: a}\n", "3: pools[1].name: pools[0] is called 'a' already");
    REFUSED("pools:\n- {name: pool1}\n- {}\n", "3: pools[1].name: pools[0] is called 'pool1' already");
    REFUSED("pools:\n- {heads: 0-3}\n- {heads: 3-5}\n- {heads: auto}\n- {heads: 4-}\n",
            "3: pools[1].heads: overlaps with the heads of pools[0]", "5: pools[3].heads: overlaps with the heads of pools[1]");
    REFUSED("pools: [{heads: 5-2}]\n",
            "1: pools[0].heads: must be auto, a number from 0 to 1023, or a range like 0-3 or 4- (to "
            "the end), not '5-2'");
    REFUSED("pools: [{heads: 1024}]\n",
            "1: pools[0].heads: must be auto, a number from 0 to 1023, or a range like 0-3 or 4- (to "
            "the end), not '1024'");
    REFUSED("pools: [{cpus: [0, 0, 1023, x, [1]]}]\n", "1: pools[0].cpus[1]: names CPU 0 twice",
            "1: pools[0].cpus[2]: CPU 1023 is not there, or not for this process to use",
            "1: pools[0].cpus[3]: must be a CPU number or a range like 4-7, not 'x'",
            "1: pools[0].cpus[4]: must be a CPU number or a range of them, not a list");
    REFUSED("pools: [{name: \"a b\"}]\n",
            "1: pools[0].name: must be a name of at most 39 letters, digits, '.', '_' or '-', not 'a b'");
}

static void profiles_need_one_name_each_and_rules(void)
{
    REFUSED("profiles:\n- rules: [{policy: full}]\n", "2: profiles[0].name: is missing; a profile needs one");
    REFUSED("profiles: [{name: a}]\n", "1: profiles[a].rules: must have at least one rule");
    REFUSED("profiles: [{name: a, rules: []}]\n", "1: profiles[a].rules: must have at least one rule");
    REFUSED("profiles:\n- name: a\n  rules:\n  # - {policy: full}\n", "2: profiles[a].rules: must have at least one rule");
    REFUSED("profiles:\n- {name: a, rules: [{policy: full}]}\n- {name: a, rules: [{policy: full}]}\n",
            "3: profiles[a].name: is used by the profile in line 2 already");
    REFUSED("profiles: [{name: \"a,b\", rules: [{policy: full}]}]\n",
            "1: profiles[a,b].name: must be a name of at most 39 letters, digits, '.', '_' or '-', not 'a,b'");
}

static void rules_are_checked_by_the_policies_and_all_culprits_are_named(void)
{
    REFUSED(
        "profiles:\n- name: m\n  rules:\n  - {policy: full}\n  - policy: window\n    window_tokens: none\n    storage: f64\n"
        "    colour: red\n",
        "6: profiles[m].rules[1].window_tokens: must be one or two whole numbers like 512x32, each from 0 to 4096 tokens, "
        "not 'none'",
        "7: profiles[m].rules[1].storage: must be f32 or bf16, not 'f64'",
        "8: profiles[m].rules[1].colour: window has no such setting",
        "5: profiles[m].rules[1]: can never apply: rules[0] in line 4 takes every head that it would take");
    REFUSED("profiles: [{name: m, rules: [{policy: windov}]}]\n", "1: profiles[m].rules[0]: no policy is called 'windov'");
    REFUSED("profiles: [{name: m, rules: [{policy: two_cache}]}]\n",
            "1: profiles[m].rules[0]: two_cache serves tensor attention only");
    REFUSED("profiles: [{name: m, rules: [{polcy: full, storage: f32}]}]\n",
            "1: profiles[m].rules[0].policy: is missing; a rule needs one",
            "1: profiles[m].rules[0].polcy: unknown key; did you mean policy?");
    REFUSED("profiles: [{name: m, rules: [{policy: full, layer: 1}]}]\n",
            "1: profiles[m].rules[0].layer: full has no such setting; did you mean layers?");
}

static void matches_of_rules_must_be_possible(void)
{
    REFUSED("profiles: [{name: m, rules: [{policy: full, attention: linear, layers: 3-1, heads: 0-1024}]}]\n",
            "1: profiles[m].rules[0].attention: must be softmax, tensor, or a list of them, not 'linear'",
            "1: profiles[m].rules[0].layers: must be all, a number from 0 to 1023, or a range like 0-3 or 4- (to the end), not "
            "'3-1'",
            "1: profiles[m].rules[0].heads: must be all, a number from 0 to 1023, or a range like 0-3 or 4- (to the end), not "
            "'0-1024'");
    REFUSED("profiles: [{name: m, rules: [{policy: full, attention: []}]}]\n",
            "1: profiles[m].rules[0].attention: must be softmax, tensor, or a list of them");
    REFUSED("profiles:\n- name: m\n  rules:\n  - {policy: full, layers: 0-4}\n  - {policy: full, layers: 2-3, heads: 1}\n"
            "  - {policy: full, layers: 4-5}\n",
            "5: profiles[m].rules[1]: can never apply: rules[0] in line 4 takes every head that it would take");
}

static void settings_must_be_single_values_or_pairs(void)
{
    REFUSED(
        "profiles: [{name: m, rules: [{policy: window, window_tokens: [1, 2, 3], storage: {a: b}}]}]\n",
        "1: profiles[m].rules[0].window_tokens: must be a single value of at most 63 bytes or a pair of numbers, not a list",
        "1: profiles[m].rules[0].storage: must be a single value of at most 63 bytes or a pair of numbers, not a map of "
        "keys");
    REFUSED("profiles: [{name: m, rules: [{policy: full, seed: "
            "0123456789012345678901234567890123456789012345678901234567890123}]}]\n",
            "1: profiles[m].rules[0].seed: must be a single value of at most 63 bytes or a pair of numbers, not a text of 64 "
            "bytes");
    REFUSED("profiles: [{name: m, rules: [{policy: full, a123456789012345678901234567890123456789: 1}]}]\n",
            "1: profiles[m].rules[0].a123456789012345678901234567890123456789: unknown key");
}

static void yaml_that_means_something_else_than_it_seems_is_refused(void)
{
    REFUSED("isa: &x auto\n", "1: isa: anchors (&x) are not supported");
    REFUSED("limits: &x\n  parts: 7\npools: [{threads: 1}]\nisa: *x\n", "1: limits: anchors (&x) are not supported",
            "4: isa: aliases (*x) are not supported",
            "4: isa: must be one of auto, scalar, avx2, avx512, avx512_vnni, avx512_bf16, neon, not ''");
    REFUSED("isa: !!str auto\n", "1: isa: tags (tag:yaml.org,2002:str) are not supported");
    REFUSED("isa: auto\n---\nisa: scalar\n", "2: file: holds a second document; only one is read");
    REFUSED("? {a: b}\n: c\n", "1: file: a key must be a plain word");
    REFUSED("isa: \"a\\0b\"\n", "1: isa: holds a zero byte",
            "1: isa: must be one of auto, scalar, avx2, avx512, avx512_vnni, avx512_bf16, neon, not 'a'");
    REFUSED("a: [[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]\n",
            "1: a[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]: is nested too deeply");
}

/* What follows "yaml:" is libyaml's and may change with its version. */
static void expect_yaml_error(const char *text, const char *start)
{
    config_destroy(parse(text, &messages));
    CU_ASSERT_EQUAL(messages.n, 1);
    CU_ASSERT_EQUAL(strncmp(messages.text[0], start, strlen(start)), 0);
    CU_ASSERT(strlen(messages.text[0]) > strlen(start));
}

static void text_that_is_no_yaml_is_refused_at_its_line(void)
{
    expect_yaml_error("isa: auto\npools: [\n", "f:3: yaml: ");
    expect_yaml_error("isa: auto\n\tparts: 1\n", "f:2: yaml: ");
    expect_yaml_error("isa: auto\n# \xff\n", "f:2: yaml: ");
}

static void values_in_messages_cannot_break_their_line(void)
{
    REFUSED("isa: \"a\\nb\\e[1m\"\n",
            "1: isa: must be one of auto, scalar, avx2, avx512, avx512_vnni, avx512_bf16, neon, not 'a?b?[1m'");
}

static void more_entries_than_any_configuration_has_are_refused(void)
{
    char *text = malloc(8000);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    strcpy(text, "pools: [");
    for (int i = 0; i < 1025; i++)
        strcat(text, "{},");
    strcat(text, "]\n");
    config_destroy(parse(text, &messages));
    CU_ASSERT_STRING_EQUAL(messages.text[0], "f:1: pools: has too many entries");
    CU_ASSERT_EQUAL(messages.n, 1);
    free(text);
}

static void all_errors_of_a_file_come_in_one_run(void)
{
    REFUSED("isa: mmx\ningest:\n  endpoints: [x]\nlimits:\n  parts: 0\n  bytes: 1\npools:\n- {threads: x}\nprofiles:\n"
            "- {name: a, rules: [{policy: full, storage: f99}]}\n",
            "1: isa: must be one of auto, scalar, avx2, avx512, avx512_vnni, avx512_bf16, neon, not 'mmx'",
            "3: ingest.endpoints[0]: must begin with ipc://, tcp:// or inproc://, not 'x'",
            "5: limits.parts: must be a whole number from 1 to 4096 parts, not '0'", "6: limits.bytes: unknown key",
            "8: pools[0].threads: must be a whole number from 0 to 1024 threads, not 'x'",
            "10: profiles[a].rules[0].storage: must be f32 or bf16, not 'f99'");
}

TEST_SUITE("lib/config/errors", TEST(unknown_keys_come_with_what_was_probably_meant),
           TEST(wrong_types_say_what_is_expected_and_what_is_there), TEST(values_out_of_range_name_the_bounds),
           TEST(limits_leave_room_for_the_largest_message), TEST(keys_given_twice_are_told_with_both_lines),
           TEST(endpoints_need_a_transport_an_address_and_a_place_of_their_own),
           TEST(an_endpoint_that_a_default_has_is_told_at_the_files_line),
           TEST(pools_need_names_heads_and_cpus_that_do_not_collide), TEST(profiles_need_one_name_each_and_rules),
           TEST(rules_are_checked_by_the_policies_and_all_culprits_are_named), TEST(matches_of_rules_must_be_possible),
           TEST(settings_must_be_single_values_or_pairs), TEST(yaml_that_means_something_else_than_it_seems_is_refused),
           TEST(text_that_is_no_yaml_is_refused_at_its_line), TEST(values_in_messages_cannot_break_their_line),
           TEST(more_entries_than_any_configuration_has_are_refused), TEST(all_errors_of_a_file_come_in_one_run))
