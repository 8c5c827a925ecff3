/* The few calls of CUnit that tests of kernels make, for a machine that CUnit is not built for: its names and meanings, on counters.
 * Only tests/arm64/run sees this file; everywhere else <CUnit/CUnit.h> is the library's. */
#ifndef ATTND_TESTS_ARM64_CUNIT_H
#define ATTND_TESTS_ARM64_CUNIT_H

#include <stdbool.h>
#include <string.h>

enum { CU_FALSE, CU_TRUE };

/* Counts, says what failed, and leaves the test where fatal. Returns ok. */
bool CU_assertImplementation(bool ok, unsigned line, const char *condition, const char *file, const char *function, bool fatal);

#define CU_ASSERT_THAT(ok, fatal) CU_assertImplementation((ok), __LINE__, #ok, __FILE__, "", fatal)
#define CU_ASSERT(ok) CU_ASSERT_THAT(ok, CU_FALSE)
#define CU_ASSERT_FATAL(ok) CU_ASSERT_THAT(ok, CU_TRUE)
#define CU_ASSERT_EQUAL(a, b) CU_ASSERT_THAT((a) == (b), CU_FALSE)
#define CU_ASSERT_EQUAL_FATAL(a, b) CU_ASSERT_THAT((a) == (b), CU_TRUE)
#define CU_ASSERT_PTR_EQUAL(a, b) CU_ASSERT_THAT((const void *)(a) == (const void *)(b), CU_FALSE)
#define CU_ASSERT_PTR_NULL(a) CU_ASSERT_THAT((a) == NULL, CU_FALSE)
#define CU_ASSERT_PTR_NOT_NULL(a) CU_ASSERT_THAT((a) != NULL, CU_FALSE)
#define CU_ASSERT_PTR_NOT_NULL_FATAL(a) CU_ASSERT_THAT((a) != NULL, CU_TRUE)
#define CU_ASSERT_STRING_EQUAL(a, b) CU_ASSERT_THAT(strcmp((a), (b)) == 0, CU_FALSE)
#define CU_FAIL(text) CU_assertImplementation(false, __LINE__, text, __FILE__, "", CU_FALSE)

#endif
