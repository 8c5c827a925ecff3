#include "base/err.h"
#include "tests/test.h"

#include <string.h>

static const int codes[] = {
#define CODE(name, wire, sentence, advice) ERR_##name,
    ERR_LIST(CODE)
#undef CODE
};
enum { N_CODES = sizeof codes / sizeof *codes };

static void every_code_is_negative_and_has_words(void)
{
    for (size_t i = 0; i < N_CODES; i++) {
        CU_ASSERT(codes[i] < 0);
        CU_ASSERT(strlen(err_name(codes[i])) > 0);
        CU_ASSERT(strlen(err_sentence(codes[i])) > 0);
        CU_ASSERT(strlen(err_advice(codes[i])) > 0);
    }
}

static void a_name_leads_back_to_its_code(void)
{
    for (size_t i = 0; i < N_CODES; i++) {
        CU_ASSERT_EQUAL(err_from_name(err_name(codes[i])), codes[i]);
        for (size_t j = 0; j < i; j++)
            CU_ASSERT_STRING_NOT_EQUAL(err_name(codes[i]), err_name(codes[j]));
    }
    CU_ASSERT_EQUAL(err_from_name("ok"), 0);
    CU_ASSERT_EQUAL(err_from_name("no such name"), ERR_INVALID);
    CU_ASSERT_STRING_EQUAL(err_name(0), "ok");
}

static void a_fault_carries_the_code_and_the_words_within_its_size(void)
{
    struct fault f = {.expected = 7};
    CU_ASSERT_EQUAL(fault_set(&f, ERR_BUSY, "%d bytes", 12), ERR_BUSY);
    CU_ASSERT_EQUAL(f.err, ERR_BUSY);
    CU_ASSERT_EQUAL(f.expected, 0);
    CU_ASSERT_STRING_EQUAL(f.text, "12 bytes");
    fault_set(&f, ERR_IO, "%*s", 1000, "x");
    CU_ASSERT_EQUAL(strlen(f.text), sizeof f.text - 1);
    CU_ASSERT_EQUAL(fault_set(NULL, ERR_GAP, "nobody listens"), ERR_GAP);
}

TEST_SUITE("lib/base/err", TEST(every_code_is_negative_and_has_words), TEST(a_name_leads_back_to_its_code),
           TEST(a_fault_carries_the_code_and_the_words_within_its_size))
