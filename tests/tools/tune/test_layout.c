/* Layouts of pools and threads: what is tried, how it is written. */
#include "tests/test.h"
#include "tools/tune/layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void what_is_tried_fits_the_cpus(void)
{
    for (size_t n_cpus = 1; n_cpus <= 48; n_cpus++) {
        struct layout layout[LAYOUTS_MAX];
        size_t n = layouts_for(n_cpus, layout);
        bool whole = false, single = false;
        CU_ASSERT(n >= 2 && n < LAYOUTS_MAX);
        for (size_t i = 0; i < n; i++) {
            CU_ASSERT(layout[i].pools * layout[i].threads <= n_cpus && layout[i].pools && layout[i].threads);
            whole |= layout[i].pools == 1 && layout[i].threads == n_cpus;
            single |= layout[i].pools == n_cpus && layout[i].threads == 1;
            for (size_t j = 0; j < i; j++)
                CU_ASSERT(memcmp(&layout[i], &layout[j], sizeof layout[i]) != 0);
        }
        CU_ASSERT(whole && single);
    }
}

static void layouts_are_read_and_written(void)
{
    struct layout layout[LAYOUTS_MAX];
    char text[LAYOUT_TEXT_BYTES];
    CU_ASSERT_EQUAL_FATAL(layouts_parse("1x2,3x1p,1x2", layout), 2);
    CU_ASSERT(layout[1].pools == 3 && layout[1].threads == 1 && layout[1].pinned && !layout[0].pinned);
    layout_print(&layout[1], text);
    CU_ASSERT_STRING_EQUAL(text, "3x1p");
    static const char *const wrong[] = {"", "x", "1x", "0x1", "1x0", "1x2,", "1x2;2x1", "1x2pp", "100x1", "-1x2"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CU_ASSERT_EQUAL(layouts_parse(wrong[i], layout), 0);
}

static void pinned_threads_go_round_the_cpus(void)
{
    const int cpus[] = {0, 2, 5};
    char *text = layout_yaml(&(struct layout){2, 2, true}, cpus, 3);
    CU_ASSERT_STRING_EQUAL(text, "pools:\n  - {name: pool0, threads: 2, heads: auto, cpus: [0, 2]}\n"
                                 "  - {name: pool1, threads: 2, heads: auto, cpus: [5, 0]}\n");
    free(text);
    text = layout_yaml(&(struct layout){1, 4, false}, cpus, 3);
    CU_ASSERT_STRING_EQUAL(text, "pools:\n  - {name: pool0, threads: 4, heads: auto}\n");
    free(text);
}

TEST_SUITE("tools/tune/layout", TEST(what_is_tried_fits_the_cpus), TEST(layouts_are_read_and_written),
           TEST(pinned_threads_go_round_the_cpus))
