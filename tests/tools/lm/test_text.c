#include "tests/test.h"

#include "tests/tools/support.h"
#include "tools/file.h"
#include "tools/lm/score.h"
#include "tools/lm/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void a_file_of_any_size_is_read_whole(void)
{
    static const size_t sizes[] = {0, 1, 65535, 65536, 65537, 200000};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        char path[SUPPORT_PATH_BYTES], *text;
        size_t n;
        support_file(path, "");
        FILE *f = fopen(path, "wb");
        for (size_t i = 0; i < sizes[k]; i++)
            fputc((int)(i * 7 & 255), f);
        fclose(f);
        CU_ASSERT_EQUAL_FATAL(file_read(path, &text, &n, NULL), 0);
        CU_ASSERT_EQUAL(n, sizes[k]);
        CU_ASSERT(n == 0 || (unsigned char)text[n - 1] == ((n - 1) * 7 & 255));
        free(text);
        unlink(path);
    }
    struct fault fault = {0};
    char *text;
    size_t n;
    CU_ASSERT_EQUAL(file_read("/tmp/attnd_no_such_file", &text, &n, &fault), ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(file_read("/tmp", &text, &n, &fault), ERR_IO);
}

static void token_ids_come_one_per_line(void)
{
    char path[SUPPORT_PATH_BYTES];
    uint32_t *ids;
    size_t n;
    support_file(path, "0\n\n  17 \r\n99\n3");
    CU_ASSERT_EQUAL_FATAL(lm_ids_read(path, 100, &ids, &n, NULL), 0);
    CU_ASSERT(n == 4 && ids[0] == 0 && ids[1] == 17 && ids[2] == 99 && ids[3] == 3);
    free(ids);
    unlink(path);
}

static void a_line_that_is_no_token_id_is_refused_with_its_place(void)
{
    static const char *const texts[] = {"1\n100\n", "1\n-1\n", "1\n2 3\n", "1\nx\n", "1\n99999999999999999999999\n",
                                        "1\n1.5\n"};
    struct fault fault;
    uint32_t *ids;
    size_t n;
    char path[SUPPORT_PATH_BYTES], place[96];
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        support_file(path, texts[i]);
        snprintf(place, sizeof place, "%s:2: must be a token id from 0 to 99", path);
        CU_ASSERT_EQUAL(lm_ids_read(path, 100, &ids, &n, &fault), ERR_INVALID);
        CU_ASSERT_EQUAL(strncmp(fault.text, place, strlen(place)), 0);
        CU_ASSERT_PTR_NULL(ids);
        unlink(path);
    }
    support_file(path, "\n\n");
    CU_ASSERT_EQUAL(lm_ids_read(path, 100, &ids, &n, &fault), ERR_INVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(fault.text, "holds no token id"));
    unlink(path);
}

static void utf8(const char *bytes, size_t n, const char *expected)
{
    char out[64];
    size_t length = lm_utf8((const unsigned char *)bytes, n, out);
    CU_ASSERT_EQUAL(length, strlen(expected));
    CU_ASSERT_EQUAL(memcmp(out, expected, length), 0);
}

#define UNKNOWN "\xEF\xBF\xBD"

static void bytes_that_are_no_utf8_become_replacement_characters(void)
{
    utf8("plain", 5, "plain");
    utf8("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 9, "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80");
    utf8("a\xFF"
         "b",
         3, "a" UNKNOWN "b");
    utf8("\xC3", 1, UNKNOWN); /* cut short */
    utf8("\xE2\x82", 2, UNKNOWN UNKNOWN);
    utf8("\xC0\xAF", 2, UNKNOWN UNKNOWN);                         /* overlong */
    utf8("\xED\xA0\x80", 3, UNKNOWN UNKNOWN UNKNOWN);             /* surrogate */
    utf8("\xF4\x90\x80\x80", 4, UNKNOWN UNKNOWN UNKNOWN UNKNOWN); /* above U+10FFFF */
    utf8("\xC3(", 2, UNKNOWN "(");
}

static void greedy_takes_the_first_of_the_largest(void)
{
    const float logits[5] = {1, 3, -2, 3, 0};
    CU_ASSERT_EQUAL(lm_sample(logits, 5, 0, 0.99), 1);
}

/* Shares of 20,000 draws from softmax(logits / T): within 5 standard errors, sqrt(p (1 - p) / n), of p. */
static void draws_follow_the_softmax_of_the_temperature(void)
{
    const float logits[4] = {800, 801, 799, 700};
    const double T = 2, n = 20000;
    size_t count[4] = {0};
    for (size_t i = 0; i < 20000; i++)
        count[lm_sample(logits, 4, T, lm_sample_coin(5, i))]++;
    const double Z = 1 + exp(0.5) + exp(-0.5);
    const double p[4] = {1 / Z, exp(0.5) / Z, exp(-0.5) / Z, 0};
    for (size_t i = 0; i < 4; i++)
        ASSERT_NEAR(count[i] / n, p[i], 5 * sqrt(p[i] * (1 - p[i]) / n));
    CU_ASSERT(lm_sample_coin(5, 3) != lm_sample_coin(6, 3));
}

static void nll_is_minus_the_log_of_the_softmax(void)
{
    const float logits[3] = {1000, 1001, 999};
    ASSERT_NEAR(lm_nll(logits, 3, 0), log(1 + exp(1) + exp(-1)), 1e-12);
    ASSERT_NEAR(lm_nll(logits, 3, 2), log(1 + exp(1) + exp(-1)) + 1, 1e-12);
}

TEST_SUITE("tools/lm/text", TEST(a_file_of_any_size_is_read_whole), TEST(token_ids_come_one_per_line),
           TEST(a_line_that_is_no_token_id_is_refused_with_its_place),
           TEST(bytes_that_are_no_utf8_become_replacement_characters), TEST(greedy_takes_the_first_of_the_largest),
           TEST(draws_follow_the_softmax_of_the_temperature), TEST(nll_is_minus_the_log_of_the_softmax))
