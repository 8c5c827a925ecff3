#include "base/key.h"
#include "tests/test.h"

#include <stdint.h>
#include <string.h>

struct sample {
    uint64_t count, bytes, any;
    double number;
    bool on;
    int choice;
    char text[KEY_TEXT_BYTES];
    uint64_t pair[2];
};

static const char *const colours[] = {"red", "green", "blue", NULL};

static const struct key keys[] = {
    {"count", KEY_COUNT, offsetof(struct sample, count), 1, 1024, "tokens", "16", "", NULL},
    {"bytes", KEY_COUNT, offsetof(struct sample, bytes), 0, 0x1p40, "bytes", "1 MiB", "", NULL},
    {"any", KEY_COUNT, offsetof(struct sample, any), 0, 0x1p64, "", "0", "", NULL},
    {"number", KEY_NUMBER, offsetof(struct sample, number), 0, 1, "", "0.125", "", NULL},
    {"on", KEY_SWITCH, offsetof(struct sample, on), 0, 1, "", "false", "", NULL},
    {"choice", KEY_CHOICE, offsetof(struct sample, choice), 0, 2, "", "green", "", colours},
    {"text", KEY_TEXT, offsetof(struct sample, text), 0, 0, "", "hello", "", NULL},
    {"pair", KEY_PAIR, offsetof(struct sample, pair), 1, 4096, "tokens", "512x32", "", NULL},
};
enum { N_KEYS = sizeof keys / sizeof *keys };

static const struct key *key(const char *name)
{
    return key_find(keys, N_KEYS, name);
}

static void defaults_fill_every_type(void)
{
    struct sample s;
    memset(&s, 0xff, sizeof s);
    key_set_defaults(keys, N_KEYS, &s);
    CU_ASSERT_EQUAL(s.count, 16);
    CU_ASSERT_EQUAL(s.bytes, 1 << 20);
    CU_ASSERT_EQUAL(s.number, 0.125);
    CU_ASSERT_FALSE(s.on);
    CU_ASSERT_EQUAL(s.choice, 1);
    CU_ASSERT_STRING_EQUAL(s.text, "hello");
    CU_ASSERT_EQUAL(s.pair[0], 512);
    CU_ASSERT_EQUAL(s.pair[1], 32);
}

static void what_is_printed_reads_back_as_the_same_value(void)
{
    static const char *const values[][2] = {
        {"count", "1024"},  {"bytes", "3 GiB"}, {"any", "18446744073709551615"},
        {"number", "0.1"},  {"number", "1e-3"}, {"on", "yes"},
        {"choice", "blue"}, {"text", ""},       {"text", "a b,c"},
        {"pair", "7"},      {"pair", "1x4096"}, {"number", "0.3333333333333333"},
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        struct sample a, b;
        char text[128];
        memset(&a, 0, sizeof a);
        memset(&b, 0, sizeof b);
        CU_ASSERT_EQUAL(key_set(key(values[i][0]), &a, values[i][1], NULL), 0);
        key_print(key(values[i][0]), &a, text, sizeof text);
        CU_ASSERT_EQUAL(key_set(key(values[i][0]), &b, text, NULL), 0);
        CU_ASSERT_EQUAL(memcmp(&a, &b, sizeof a), 0);
    }
}

static void a_lone_number_sets_both_of_a_pair(void)
{
    struct sample s = {0};
    CU_ASSERT_EQUAL(key_set(key("pair"), &s, "64", NULL), 0);
    CU_ASSERT_EQUAL(s.pair[0], 64);
    CU_ASSERT_EQUAL(s.pair[1], 64);
}

static void bad_text_is_refused_and_changes_nothing(void)
{
    static const char *const bad[][2] = {
        {"count", ""},        {"count", "0"},
        {"count", "1025"},    {"count", "-1"},
        {"count", "1.5"},     {"count", "12 "},
        {"count", " 12"},     {"count", "1 KiB"},
        {"count", "0x10"},    {"count", "99999999999999999999"},
        {"bytes", "1 kB"},    {"bytes", "17179869184 GiB"},
        {"bytes", "2 TiB"},   {"number", "nan"},
        {"number", "inf"},    {"number", "0x1p-1"},
        {"number", "1.0001"}, {"number", "-0.1"},
        {"number", "0.5s"},   {"number", ""},
        {"number", "1e"},     {"on", "1"},
        {"on", ""},           {"choice", "purple"},
        {"choice", "gree"},   {"pair", "512x"},
        {"pair", "x32"},      {"pair", "0x32"},
        {"pair", "512x32x1"}, {"pair", "512x4097"},
        {"pair", "512 x 32"}, {"text", "0123456789012345678901234567890123456789012345678901234567890123"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct sample s, before;
        struct fault f = {0};
        memset(&s, 0x5a, sizeof s);
        before = s;
        CU_ASSERT_EQUAL(key_set(key(bad[i][0]), &s, bad[i][1], &f), ERR_INVALID);
        CU_ASSERT_EQUAL(memcmp(&s, &before, sizeof s), 0);
        CU_ASSERT_EQUAL(strncmp(f.text, "must be ", 8), 0);
    }
}

static void the_reason_names_bounds_unit_and_text(void)
{
    struct sample s;
    struct fault f;
    key_set(key("count"), &s, "x", &f);
    CU_ASSERT_STRING_EQUAL(f.text, "must be a whole number from 1 to 1024 tokens, not 'x'");
    key_set(key("bytes"), &s, "-1", &f);
    CU_ASSERT_STRING_EQUAL(f.text, "must be a number of bytes from 0 to 1 TiB, not '-1'");
    key_set(key("any"), &s, "-1", &f);
    CU_ASSERT_STRING_EQUAL(f.text, "must be a whole number of at least 0, not '-1'");
    key_set(key("choice"), &s, "pink", &f);
    CU_ASSERT_STRING_EQUAL(f.text, "must be one of red, green, blue, not 'pink'");
}

static void an_unknown_name_finds_no_key(void)
{
    CU_ASSERT_PTR_NULL(key("counts"));
    CU_ASSERT_PTR_NULL(key_find(keys, 0, "count"));
}

TEST_SUITE("lib/base/key", TEST(defaults_fill_every_type), TEST(what_is_printed_reads_back_as_the_same_value),
           TEST(a_lone_number_sets_both_of_a_pair), TEST(bad_text_is_refused_and_changes_nothing),
           TEST(the_reason_names_bounds_unit_and_text), TEST(an_unknown_name_finds_no_key))
