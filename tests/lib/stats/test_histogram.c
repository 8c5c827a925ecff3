#include "stats/histogram.h"
#include "tests/test.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

static size_t bucket_of(uint64_t ns)
{
    struct histogram h = {0};
    histogram_add(&h, ns);
    size_t found = HISTOGRAM_BUCKETS;
    for (size_t b = 0; b < HISTOGRAM_BUCKETS; b++)
        if (h.count[b])
            found = b;
    return found;
}

static void a_duration_lies_in_the_bucket_whose_ends_enclose_it(void)
{
    /* Around each end, and far outside. */
    for (size_t b = 0; b + 1 < HISTOGRAM_BUCKETS; b++) {
        uint64_t end = (uint64_t)floor(histogram_upper(b) * 1e9 * (1 + 1e-15));
        CU_ASSERT_EQUAL(bucket_of(end), b);
        CU_ASSERT_EQUAL(bucket_of(end + 1), b + 1);
    }
    CU_ASSERT_EQUAL(bucket_of(0), 0);
    CU_ASSERT_EQUAL(bucket_of(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
}

static void there_are_four_buckets_per_power_of_two_from_a_microsecond(void)
{
    ASSERT_NEAR(histogram_upper(0), 1e-6, 1e-21);
    for (size_t b = 4; b + 1 < HISTOGRAM_BUCKETS; b++)
        ASSERT_NEAR(histogram_upper(b) / histogram_upper(b - 4), 2, 1e-12);
    CU_ASSERT(histogram_upper(HISTOGRAM_BUCKETS - 2) > 15 * 60);
    CU_ASSERT(isinf(histogram_upper(HISTOGRAM_BUCKETS - 1)));
}

static void quantiles_are_within_a_bucket_of_the_truth(void)
{
    struct histogram h = {0};
    for (uint64_t i = 1; i <= 10000; i++)
        histogram_add(&h, i * 1000); /* 1 us .. 10 ms, evenly */
    CU_ASSERT_EQUAL(histogram_count(&h), 10000);
    ASSERT_NEAR(histogram_sum(&h), 50.005, 1e-9);
    /* A bucket spans a factor 2^(1/4) = 1.19; even density makes interpolation better than that. */
    for (double p = 0.05; p < 1; p += 0.05)
        ASSERT_NEAR(histogram_quantile(&h, p) / (p * 0.01), 1, 0.02);
    CU_ASSERT(histogram_quantile(&h, 1) >= 0.01 && histogram_quantile(&h, 1) < 0.0119);
}

static void an_empty_histogram_answers_zero_and_overflow_its_last_end(void)
{
    struct histogram h = {0};
    CU_ASSERT_EQUAL(histogram_quantile(&h, 0.5), 0);
    histogram_add(&h, UINT64_MAX / 2);
    CU_ASSERT_EQUAL(histogram_quantile(&h, 0.5), histogram_upper(HISTOGRAM_BUCKETS - 2));
}

static void merging_adds_counts_and_sums(void)
{
    struct histogram a = {0}, b = {0};
    histogram_add(&a, 5000);
    histogram_add(&b, 5000);
    histogram_add(&b, 7000000);
    histogram_merge(&a, &b);
    CU_ASSERT_EQUAL(histogram_count(&a), 3);
    ASSERT_NEAR(histogram_sum(&a), 0.00701, 1e-12);
}

static void many_at_once_are_the_same_as_one_by_one(void)
{
    static struct histogram one, into[2];
    uint64_t ns[100] = {0};
    for (size_t n = 0; n < 100; n++) {
        for (size_t i = 0; i < n; i++) {
            ns[i] = (uint64_t)pow(1.3, (double)(i * 7 % 60)) * 100;
            histogram_add(&one, ns[i]);
        }
        histogram_add_all((struct histogram *[]){&into[0], &into[1]}, 2, ns, n);
    }
    for (size_t h = 0; h < 2; h++)
        CU_ASSERT(memcmp(&into[h], &one, sizeof one) == 0);
}

static void *add_many(void *h)
{
    for (uint64_t i = 0; i < 50000; i++)
        histogram_add(h, i);
    return NULL;
}

static void nothing_is_lost_between_writers(void)
{
    struct histogram h = {0};
    pthread_t thread[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&thread[i], NULL, add_many, &h);
    for (int i = 0; i < 3; i++)
        pthread_join(thread[i], NULL);
    CU_ASSERT_EQUAL(histogram_count(&h), 150000);
    ASSERT_NEAR(histogram_sum(&h), 3 * 1.249975, 1e-9);
}

TEST_SUITE("lib/stats/histogram", TEST(a_duration_lies_in_the_bucket_whose_ends_enclose_it),
           TEST(there_are_four_buckets_per_power_of_two_from_a_microsecond), TEST(quantiles_are_within_a_bucket_of_the_truth),
           TEST(an_empty_histogram_answers_zero_and_overflow_its_last_end), TEST(merging_adds_counts_and_sums),
           TEST(many_at_once_are_the_same_as_one_by_one), TEST(nothing_is_lost_between_writers))
