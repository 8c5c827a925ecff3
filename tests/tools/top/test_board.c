/* The board of attn top: rates, histories, rows that come and go, sorting, filters. */
#include "tests/test.h"
#include "tools/top/board.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A status with streams s0.. that hold `tokens[i]` tokens (negative: not there), i odd under profile "odd". */
static void update(struct board *b, double seconds, const double *tokens, size_t n)
{
    json_t *streams = json_array();
    for (size_t i = 0; i < n; i++) {
        char name[24];
        snprintf(name, sizeof name, "s%zu", i);
        if (tokens[i] >= 0)
            json_array_append_new(streams, json_pack("{s:s, s:I, s:s, s:f, s:f}", "name", name, "stream", (json_int_t)i + 100,
                                                     "profile", i % 2 ? "odd" : "even", "tokens_total", tokens[i],
                                                     "attend_seconds_total", tokens[i] * 0.001));
    }
    json_t *profiles = json_pack("[{s:s, s:f, s:{s:f, s:f}}]", "name", "odd", "tokens_total", 7.0, "audited_relative_error",
                                 "mean", 0.25, "p99", 0.5);
    json_t *status = json_pack("{s:f, s:{s:f}, s:o, s:o, s:[]}", "time_seconds", seconds, "daemon", "tokens_total", tokens[0],
                               "streams", streams, "profiles", profiles, "pools");
    CU_ASSERT_EQUAL(board_update(b, status), 0);
    CU_ASSERT_EQUAL(board_arrange(b), 0);
    json_decref(status);
}

static void rates_are_growth_over_time(void)
{
    struct board b;
    board_init(&b);
    board_show(&b, BOARD_STREAMS);
    update(&b, 10, (const double[]){100, 50}, 2);
    CU_ASSERT(isnan(board_at(&b, 0)->value[0]) && isnan(b.tokens_per_second));
    CU_ASSERT_EQUAL(board_at(&b, 0)->value[1], 100);
    update(&b, 12, (const double[]){120, 110}, 2);
    CU_ASSERT_STRING_EQUAL(board_at(&b, 0)->name, "s1"); /* the fastest first */
    CU_ASSERT_EQUAL(board_at(&b, 0)->value[0], 30);
    CU_ASSERT_EQUAL(board_at(&b, 1)->value[0], 10);
    CU_ASSERT_EQUAL(b.tokens_per_second, 10);
    CU_ASSERT(fabs(board_at(&b, 1)->value[5] - 0.001) < 1e-12); /* seconds per token */
    CU_ASSERT_EQUAL(board_at(&b, 0)->history[BOARD_HISTORY - 1], 30);
    CU_ASSERT(isnan(board_at(&b, 0)->history[BOARD_HISTORY - 2]));
    CU_ASSERT(isnan(board_at(&b, 0)->value[7])); /* nothing audited */
    board_show(&b, BOARD_PROFILES);
    CU_ASSERT_EQUAL(board_arrange(&b), 0);
    CU_ASSERT_EQUAL(board_at(&b, 0)->value[7], 0.25);
    CU_ASSERT_EQUAL(board_at(&b, 0)->value[8], 0.5);
    board_free(&b);
}

static void rows_that_are_gone_go_and_others_keep_their_history(void)
{
    struct board b;
    board_init(&b);
    board_show(&b, BOARD_STREAMS);
    update(&b, 1, (const double[]){1, 1, 1}, 3);
    update(&b, 2, (const double[]){4, 2, 3}, 3);
    update(&b, 3, (const double[]){-1, 3, 9}, 3);
    CU_ASSERT_EQUAL_FATAL(b.n_shown, 2);
    CU_ASSERT_STRING_EQUAL(board_at(&b, 0)->name, "s2");
    CU_ASSERT_EQUAL(board_at(&b, 0)->history[BOARD_HISTORY - 1], 6);
    CU_ASSERT_EQUAL(board_at(&b, 0)->history[BOARD_HISTORY - 2], 2);
    CU_ASSERT_PTR_NULL(board_at(&b, 2));
    board_free(&b);
}

static void names_sort_as_people_count_and_filters_hide(void)
{
    struct board b;
    double tokens[12];
    for (size_t i = 0; i < 12; i++)
        tokens[i] = 12 - (double)i;
    board_init(&b);
    board_show(&b, BOARD_STREAMS);
    b.sort_column = BOARD_COLUMNS_MAX;
    b.ascending = true;
    update(&b, 1, tokens, 12);
    CU_ASSERT_STRING_EQUAL(board_at(&b, 2)->name, "s2");
    CU_ASSERT_STRING_EQUAL(board_at(&b, 10)->name, "s10");
    CU_ASSERT_EQUAL(board_at(&b, 10)->id, 110);
    b.sort_column = 1;
    CU_ASSERT_EQUAL(board_arrange(&b), 0);
    CU_ASSERT_STRING_EQUAL(board_at(&b, 0)->name, "s11");
    strcpy(b.filter, "1");
    CU_ASSERT_EQUAL(board_arrange(&b), 0);
    CU_ASSERT_EQUAL(b.n_shown, 3); /* s1, s10, s11 */
    strcpy(b.filter, "odd");
    CU_ASSERT_EQUAL(board_arrange(&b), 0);
    CU_ASSERT_EQUAL(b.n_shown, 6);
    b.filter[0] = '\0';
    strcpy(b.profile, "even");
    CU_ASSERT_EQUAL(board_arrange(&b), 0);
    CU_ASSERT_EQUAL(b.n_shown, 6);
    CU_ASSERT_STRING_EQUAL(board_at(&b, 0)->note, "even");
    board_free(&b);
}

TEST_SUITE("tools/top/board", TEST(rates_are_growth_over_time), TEST(rows_that_are_gone_go_and_others_keep_their_history),
           TEST(names_sort_as_people_count_and_filters_hide))
