/* Cells: what fits a column and says it rightly. */
#include "tests/test.h"
#include "tools/top/cell.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void numbers_are_short_and_right(void)
{
    static const struct {
        enum cell_kind kind;
        double x;
        const char *text;
    } cases[] = {
        {CELL_COUNT, 0, "0"},
        {CELL_COUNT, 950, "950"},
        {CELL_COUNT, 999.7, "1.00k"},
        {CELL_COUNT, 12345, "12.3k"},
        {CELL_COUNT, 4.56e6, "4.56M"},
        {CELL_COUNT, NAN, "-"},
        {CELL_BYTES, 512, "512B"},
        {CELL_BYTES, 1536, "1.50K"},
        {CELL_BYTES, 3.0 * (1 << 30), "3.00G"},
        {CELL_SECONDS, 0, "0s"},
        {CELL_SECONDS, 2, "2s"},
        {CELL_SECONDS, 0.0045, "4.5m"},
        {CELL_SECONDS, 1.23e-5, "12.3u"},
        {CELL_SECONDS, 8.5e-7, "850n"},
        {CELL_SECONDS, 90061, "90061s"},
        {CELL_FRACTION, 0.125, "12.5%"},
        {CELL_FRACTION, 0.0123, "1.23%"},
        {CELL_FRACTION, 2.008, "200.8%"},
        {CELL_NUMBER, 0.01234, "0.0123"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[CELL_TEXT_BYTES];
        cell_print(cases[i].kind, cases[i].x, text);
        CU_ASSERT_STRING_EQUAL(text, cases[i].text);
        if (strcmp(text, cases[i].text) != 0)
            printf("\n%g: %s, not %s", cases[i].x, text, cases[i].text);
    }
    for (int kind = CELL_COUNT; kind <= CELL_SECONDS; kind++)
        for (double x = 1e-9; x < 1e15; x *= 1.7) {
            char text[CELL_TEXT_BYTES];
            cell_print((enum cell_kind)kind, x, text);
            CU_ASSERT(strlen(text) < CELL_WIDTH || (kind == CELL_SECONDS && x > 1e6));
        }
}

static void sparklines_scale_to_the_largest(void)
{
    static const double x[] = {NAN, 0, 5, 10}, zero[] = {0, 0};
    char text[SPARK_TEXT_BYTES];
    spark_print(x, 4, text);
    CU_ASSERT_STRING_EQUAL(text, " \u2581\u2584\u2588");
    spark_print(zero, 2, text);
    CU_ASSERT_STRING_EQUAL(text, "\u2581\u2581");
    spark_print(x, 0, text);
    CU_ASSERT_STRING_EQUAL(text, "");
}

TEST_SUITE("tools/top/cell", TEST(numbers_are_short_and_right), TEST(sparklines_scale_to_the_largest))
