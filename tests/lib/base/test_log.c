#include "base/log.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A log into a temporary file, whose text is read back. */
struct capture {
    FILE *file;
    struct log log;
    char text[8192];
};

static void begin(struct capture *c, enum log_level level, unsigned per_second)
{
    c->file = tmpfile();
    CU_ASSERT_PTR_NOT_NULL_FATAL(c->file);
    log_init(&c->log, fileno(c->file), level, per_second);
}

static const char *end(struct capture *c)
{
    log_finish(&c->log);
    rewind(c->file);
    c->text[fread(c->text, 1, sizeof c->text - 1, c->file)] = '\0';
    fclose(c->file);
    return c->text;
}

static size_t count(const char *text, const char *word)
{
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, word)); at += strlen(word))
        n++;
    return n;
}

static void an_event_is_one_line_of_time_level_name_and_fields(void)
{
    struct capture c;
    begin(&c, LOG_INFO, 0);
    log_event(&c.log, LOG_INFO, "listening", LOG_TEXT("endpoint", "ipc:///run/a.sock"), LOG_COUNT("pools", 2),
              LOG_NUMBER("seconds", 0.25), LOG_ERR("reason", ERR_WRONG_INDEX));
    const char *text = end(&c);
    CU_ASSERT_EQUAL(count(text, "\n"), 1);
    CU_ASSERT_EQUAL(text[10], 'T'); /* 2026-11-24T09:30:01.125Z */
    CU_ASSERT_EQUAL(text[23], 'Z');
    CU_ASSERT_STRING_EQUAL(text + 25, "info listening endpoint=ipc:///run/a.sock pools=2 seconds=0.25 reason=wrong_index\n");
}

static void levels_below_the_chosen_one_are_silent(void)
{
    struct capture c;
    begin(&c, LOG_WARNING, 0);
    log_event(&c.log, LOG_ERROR, "one", LOG_NONE);
    log_event(&c.log, LOG_WARNING, "two", LOG_NONE);
    log_event(&c.log, LOG_INFO, "three", LOG_NONE);
    log_event(&c.log, LOG_DEBUG, "four", LOG_NONE);
    const char *text = end(&c);
    CU_ASSERT_EQUAL(count(text, "\n"), 2);
    CU_ASSERT_PTR_NULL(strstr(text, "three"));
    log_event((struct log *)NULL, LOG_ERROR, "nobody", LOG_NONE);
}

static void a_value_cannot_break_a_line_or_pretend_to_be_a_key(void)
{
    struct capture c;
    begin(&c, LOG_INFO, 0);
    log_event(&c.log, LOG_INFO, "x", LOG_TEXT("a", "b\nc=\"d\\"), LOG_TEXT("e", ""), LOG_TEXT("f", NULL));
    CU_ASSERT_STRING_EQUAL(end(&c) + 25, "info x a=\"b\\x0ac=\\\"d\\\\\" e=\"\" f=\"\"\n");
}

static void a_long_line_is_cut_and_still_ends(void)
{
    struct capture c;
    char value[4000];
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    begin(&c, LOG_INFO, 0);
    log_event(&c.log, LOG_INFO, "long", LOG_TEXT("value", value));
    const char *text = end(&c);
    CU_ASSERT_EQUAL(strlen(text), LOG_LINE_BYTES);
    CU_ASSERT_EQUAL(text[LOG_LINE_BYTES - 1], '\n');
}

static void a_flood_is_held_back_and_counted_and_other_events_pass(void)
{
    struct capture c;
    begin(&c, LOG_INFO, 3);
    for (int i = 0; i < 1000; i++)
        log_event(&c.log, LOG_INFO, "flood", LOG_NONE);
    log_event(&c.log, LOG_INFO, "other", LOG_NONE);
    const char *text = end(&c);
    /* The loop may cross into another second; then three more pass. */
    size_t passed = count(text, " flood"), told = 0;
    CU_ASSERT(passed == 3 || passed == 6);
    for (const char *at = text; (at = strstr(at, "suppressed event=flood count=")); at++)
        told += strtoul(at + strlen("suppressed event=flood count="), NULL, 10);
    CU_ASSERT_EQUAL(passed + told, 1000);
    CU_ASSERT_EQUAL(count(text, "other"), 1);
}

static void names_beyond_the_table_are_not_lost(void)
{
    static char names[LOG_EVENTS_MAX + 5][16];
    struct capture c;
    begin(&c, LOG_INFO, 1);
    for (size_t i = 0; i < LOG_EVENTS_MAX + 5; i++) {
        snprintf(names[i], sizeof names[i], "event_%zu", i);
        log_event(&c.log, LOG_INFO, names[i], LOG_NONE);
    }
    CU_ASSERT_EQUAL(count(end(&c), "\n"), LOG_EVENTS_MAX + 5);
}

static void level_names_lead_back_to_levels(void)
{
    for (int i = 0; i < N_LOG_LEVEL; i++)
        CU_ASSERT_EQUAL(log_level_from_name(log_level_name((enum log_level)i)), i);
    CU_ASSERT_EQUAL(log_level_from_name("loud"), ERR_INVALID);
}

TEST_SUITE("lib/base/log", TEST(an_event_is_one_line_of_time_level_name_and_fields),
           TEST(levels_below_the_chosen_one_are_silent), TEST(a_value_cannot_break_a_line_or_pretend_to_be_a_key),
           TEST(a_long_line_is_cut_and_still_ends), TEST(a_flood_is_held_back_and_counted_and_other_events_pass),
           TEST(names_beyond_the_table_are_not_lost), TEST(level_names_lead_back_to_levels))
