/* The test program: runs every registered suite, or those whose name contains the first argument. */
#include "test.h"

#include <CUnit/Basic.h>
#include <stdio.h>
#include <string.h>

static struct test_suite *suites;

void test_register(struct test_suite *suite)
{
    struct test_suite **at = &suites;
    while (*at && strcmp((*at)->name, suite->name) < 0)
        at = &(*at)->next;
    suite->next = *at;
    *at = suite;
}

/* Once more what failed, where the reader of a long log looks: at its end. */
static void print_failures(void)
{
    for (const CU_FailureRecord *f = CU_get_failure_list(); f; f = f->pNext)
        printf("FAILED %s, %s: %s:%u: %s\n", f->pSuite ? f->pSuite->pName : "", f->pTest ? f->pTest->pName : "",
               f->strFileName ? f->strFileName : "", f->uiLineNumber, f->strCondition ? f->strCondition : "");
}

int main(int argc, char **argv)
{
    if (CU_initialize_registry() != CUE_SUCCESS)
        return 2;
    for (struct test_suite *s = suites; s; s = s->next) {
        if (argc > 1 && !strstr(s->name, argv[1]))
            continue;
        CU_pSuite suite = CU_add_suite(s->name, NULL, NULL);
        for (const struct test *t = s->tests; suite && t->name; t++)
            CU_add_test(suite, t->name, t->run);
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_tests_failed(), run = CU_get_number_of_tests_run();
    printf("\n");
    print_failures();
    printf("%u passed, %u failed\n", run - failed, failed);
    CU_cleanup_registry();
    return failed || run == 0;
}
