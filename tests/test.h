/* Tests: CUnit underneath, suites that register themselves (nothing to edit but the test's own file).
 *
 *     static void facts_are_named_as_sentences(void) { CU_ASSERT(...); }
 *     TEST_SUITE("lib/cache/window", TEST(facts_are_named_as_sentences), ...)
 *
 * Paths: tests run with the source tree as working directory; GOLDEN(name) is a file of tests/golden. */
#ifndef ATTND_TESTS_TEST_H
#define ATTND_TESTS_TEST_H

#include <CUnit/CUnit.h>

struct test {
    const char *name;
    void (*run)(void);
};

struct test_suite {
    const char *name;
    const struct test *tests;
    struct test_suite *next;
};

void test_register(struct test_suite *suite);

#define TEST(function)                                                                                                         \
    {                                                                                                                          \
#function, function                                                                                                    \
    }
#define TEST_SUITE(suite_name, ...)                                                                                            \
    static const struct test tests_of_suite[] = {__VA_ARGS__, {0, 0}};                                                         \
    static struct test_suite this_suite = {suite_name, tests_of_suite, 0};                                                     \
    __attribute__((constructor)) static void register_this_suite(void)                                                         \
    {                                                                                                                          \
        test_register(&this_suite);                                                                                            \
    }

#define GOLDEN(name) "tests/golden/" name

/* Asserts |a - b| <= tolerance and says both when it fails. */
void test_near(double a, double b, double tolerance, const char *what, const char *file, int line);
#define ASSERT_NEAR(a, b, tolerance) test_near(a, b, tolerance, #a " ~ " #b, __FILE__, __LINE__)

/* |x - reference|_2 / |reference|_2 over n numbers (0 when both are 0). */
double test_relative_error(const float *x, const double *reference, size_t n);

#endif
