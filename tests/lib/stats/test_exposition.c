/* Exposition: the text that Prometheus scrapes. */
#include "stats/exposition.h"
#include "tests/test.h"

#include <stdlib.h>
#include <string.h>

static void add_memory(struct exposition *e, unsigned scope, const char *name)
{
    static const struct metric_memory memory = {.allocated = 100, .full_bf16 = 400, .coordinates = 200};
    struct metric_values v;
    metrics_begin(&v, scope);
    metrics_set_memory(&v, &memory);
    exposition_add(e, name, &v);
}

static size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, what)); at++)
        n++;
    return n;
}

static void bits_are_told_in_bytes(void)
{
    struct exposition *e;
    CU_ASSERT_EQUAL_FATAL(exposition_create(&e), 0);
    add_memory(e, METRIC_OF_DAEMON, NULL);
    char *text = exposition_finish(e);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "\nattnd_memory_bytes_per_coordinate 0.5\n"));
    CU_ASSERT_PTR_NULL(strstr(text, "bits"));
    free(text);
}

static void a_family_has_one_help_and_a_series_for_each_name(void)
{
    struct exposition *e;
    CU_ASSERT_EQUAL_FATAL(exposition_create(&e), 0);
    add_memory(e, METRIC_OF_DAEMON, NULL);
    add_memory(e, METRIC_OF_POOL, "one");
    add_memory(e, METRIC_OF_POOL, "a \"b\\c\n");
    char *text = exposition_finish(e);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    CU_ASSERT_EQUAL(count(text, "# HELP attnd_pool_memory_allocated_bytes "), 1);
    CU_ASSERT_EQUAL(count(text, "# TYPE attnd_pool_memory_allocated_bytes gauge\n"), 1);
    CU_ASSERT_EQUAL(count(text, "\nattnd_pool_memory_allocated_bytes{pool=\"one\"} 100\n"), 1);
    CU_ASSERT_EQUAL(count(text, "\nattnd_pool_memory_allocated_bytes{pool=\"a \\\"b\\\\c\\n\"} 100\n"), 1);
    CU_ASSERT_EQUAL(count(text, "\nattnd_memory_allocated_bytes 100\n"), 1);
    free(text);
}

TEST_SUITE("lib/stats/exposition", TEST(bits_are_told_in_bytes), TEST(a_family_has_one_help_and_a_series_for_each_name))
