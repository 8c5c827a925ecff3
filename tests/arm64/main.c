/* The test program where CUnit is not: runs every suite that is linked in, and says what failed. See CUnit/CUnit.h beside this. */
#include "../test.h"

#include <setjmp.h>
#include <stdio.h>

static struct test_suite *suites;
static size_t n_failures; /* of the test that runs */
static jmp_buf leave_test;

void test_register(struct test_suite *suite)
{
    suite->next = suites;
    suites = suite;
}

bool CU_assertImplementation(bool ok, unsigned line, const char *condition, const char *file, const char *function, bool fatal)
{
    if (ok)
        return true;
    if (++n_failures <= 10)
        printf("%s:%u: %s\n", file, line, condition);
    if (fatal)
        longjmp(leave_test, 1);
    return false;
}

static bool passes(const struct test *test)
{
    n_failures = 0;
    if (setjmp(leave_test) == 0)
        test->run();
    return n_failures == 0;
}

int main(void)
{
    size_t passed = 0, failed = 0;
    for (struct test_suite *s = suites; s; s = s->next)
        for (const struct test *t = s->tests; t->name; t++) {
            if (passes(t)) {
                passed++;
                continue;
            }
            failed++;
            printf("FAILED %s, %s\n", s->name, t->name);
        }
    printf("%zu passed, %zu failed\n", passed, failed);
    return failed || passed == 0;
}
