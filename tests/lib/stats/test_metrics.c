#include "base/err.h"
#include "stats/metrics.h"
#include "tests/test.h"

#include <string.h>

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static void names_follow_the_conventions_for_units_and_counters(void)
{
    for (size_t i = 0; i < N_METRIC; i++) {
        const struct metric *m = &metric_table[i];
        CU_ASSERT_EQUAL(strspn(m->name, "abcdefghijklmnopqrstuvwxyz0123456789_"), strlen(m->name));
        CU_ASSERT_EQUAL(m->type == METRIC_COUNTER, ends_with(m->name, "_total"));
        if (m->type != METRIC_COUNTER && (strcmp(m->unit, "bytes") == 0 || strcmp(m->unit, "seconds") == 0))
            CU_ASSERT(ends_with(m->name, m->unit) || strstr(m->name, m->unit));
        CU_ASSERT_EQUAL(strcmp(m->unit, "fraction") == 0, ends_with(m->name, "_fraction"));
        CU_ASSERT(m->scopes != 0 && m->scopes < 8);
        CU_ASSERT(ends_with(m->help, "."));
        for (size_t j = 0; j < i; j++)
            CU_ASSERT_STRING_NOT_EQUAL(m->name, metric_table[j].name);
    }
}

static void only_what_was_set_is_present(void)
{
    struct metric_values v;
    metrics_begin(&v, METRIC_OF_POOL);
    for (size_t i = 0; i < N_METRIC; i++)
        CU_ASSERT_FALSE(v.value[i].present);
    struct histogram h = {0};
    metrics_set(&v, METRIC_THREADS, 4);
    metrics_set_histogram(&v, METRIC_ATTEND_SECONDS, &h);
    size_t n = 0;
    for (size_t i = 0; i < N_METRIC; i++)
        n += v.value[i].present;
    CU_ASSERT_EQUAL(n, 2);
    CU_ASSERT_EQUAL(v.value[METRIC_THREADS].number, 4);
    CU_ASSERT_PTR_EQUAL(v.value[METRIC_ATTEND_SECONDS].histogram, &h);
}

static void kept_fraction_and_bits_derive_from_bytes(void)
{
    struct metric_values v;
    metrics_begin(&v, METRIC_OF_PROFILE);
    struct metric_memory m = {.allocated = 300, .resident = 200, .control = 10, .full_bf16 = 1200, .coordinates = 600};
    metrics_set_memory(&v, &m);
    CU_ASSERT_EQUAL(v.value[METRIC_ALLOCATED].number, 300);
    CU_ASSERT_EQUAL(v.value[METRIC_RESIDENT].number, 200);
    CU_ASSERT_EQUAL(v.value[METRIC_CONTROL].number, 10);
    CU_ASSERT_EQUAL(v.value[METRIC_FULL_BF16].number, 1200);
    CU_ASSERT_EQUAL(v.value[METRIC_KEPT_FRACTION].number, 0.25);
    CU_ASSERT_EQUAL(v.value[METRIC_BITS].number, 4);
}

static void empty_caches_have_no_fraction_rather_than_a_wrong_one(void)
{
    struct metric_values v;
    metrics_begin(&v, METRIC_OF_DAEMON);
    metrics_set_memory(&v, &(struct metric_memory){.allocated = 64});
    CU_ASSERT(v.value[METRIC_ALLOCATED].present);
    CU_ASSERT_FALSE(v.value[METRIC_KEPT_FRACTION].present);
    CU_ASSERT_FALSE(v.value[METRIC_BITS].present);
}

static void every_error_counts_under_its_own_name(void)
{
    static const int errors[] = {
#define CODE(name, wire, sentence, advice) ERR_##name,
        ERR_LIST(CODE)
#undef CODE
    };
    struct metric_reasons reasons = {0};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        for (size_t times = 0; times <= i; times++)
            metric_reasons_add(&reasons, errors[i]);
    CU_ASSERT_EQUAL(metric_n_reasons(), sizeof errors / sizeof *errors);
    for (size_t i = 0; i < metric_n_reasons(); i++) {
        CU_ASSERT_STRING_EQUAL(metric_reason_name(i), err_name(errors[i]));
        CU_ASSERT_EQUAL(metric_reason_count(&reasons, i), i + 1);
    }
    struct metric_values v;
    metrics_begin(&v, METRIC_OF_DAEMON);
    metrics_set_reasons(&v, METRIC_REFUSED, &reasons);
    CU_ASSERT_PTR_EQUAL(v.value[METRIC_REFUSED].count, &reasons);
}

TEST_SUITE("lib/stats/metrics", TEST(names_follow_the_conventions_for_units_and_counters), TEST(only_what_was_set_is_present),
           TEST(kept_fraction_and_bits_derive_from_bytes), TEST(empty_caches_have_no_fraction_rather_than_a_wrong_one),
           TEST(every_error_counts_under_its_own_name))
