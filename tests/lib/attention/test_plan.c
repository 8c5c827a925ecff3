#include "attention/plan.h"
#include "tests/test.h"

#include <string.h>

/* view.h: a query of token t sees the rows with index in (t - span, t]; SPAN_ALL: all up to t; 0: every row. */
static bool sees(uint64_t token, uint64_t index, uint64_t span)
{
    return span == 0 || (index <= token && (span == SPAN_ALL || index + span > token));
}

static void a_query_sees_the_rows_that_its_span_says(void)
{
    static const uint64_t spans[] = {0, 1, 2, 3, 5, 8, SPAN_ALL - 1, SPAN_ALL};
    for (size_t s = 0; s < sizeof spans / sizeof spans[0]; s++)
        for (uint64_t first = 0; first < 5; first++)
            for (size_t n = 0; n < 6; n++)
                for (uint64_t token = 0; token < 14; token++) {
                    struct segment seg = {.row = 7, .n = n, .first = first, .span = spans[s]};
                    uint64_t span = spans[s] == SPAN_ALL - 1 ? SPAN_ALL : spans[s]; /* longer than any stream */
                    size_t lo, hi;
                    segment_visible(&seg, token, &lo, &hi);
                    CU_ASSERT(lo >= 7 && hi <= 7 + n && lo <= hi);
                    for (size_t j = 0; j < n; j++)
                        CU_ASSERT_EQUAL(7 + j >= lo && 7 + j < hi, sees(token, first + j, span));
                }
}

static void pieces_cover_each_row_once_and_end_at_multiples_of_the_chunk(void)
{
    for (uint64_t first = 0; first < 9; first++)
        for (size_t n = 0; n < 12; n++)
            for (size_t m = 0; m < 3; m++) {
                struct segment seg[3] = {
                    {.row = 3, .n = n, .first = first}, {.row = 0, .n = 0, .first = 50}, {.row = 5, .n = m}};
                struct view view = {seg, 3};
                size_t per_segment, pieces = view_pieces(&view, 4, &per_segment), row = 3, rows = 0;
                for (size_t i = 0; i < pieces; i++) {
                    struct segment piece = view_piece(&view, 4, 0, i);
                    CU_ASSERT(piece.n > 0 && piece.first / 4 == (piece.first + piece.n - 1) / 4);
                    if (rows == n)
                        row = 5;
                    CU_ASSERT_EQUAL(piece.row, row);
                    CU_ASSERT_EQUAL(piece.first - (rows < n ? first : 0), piece.row - (rows < n ? 3 : 5));
                    row += piece.n;
                    rows += piece.n;
                }
                CU_ASSERT_EQUAL(rows, n + m);
            }
}

static void pieces_of_segments_alike_are_found_without_a_search(void)
{
    struct segment seg[3] = {{.row = 0, .n = 8, .first = 16}, {.row = 0, .n = 8, .first = 24}, {.row = 0, .first = 32}};
    for (size_t last = 0; last < 12; last++)
        for (size_t second = 7; second < 9; second++) {
            struct view view = {seg, 3};
            size_t per_segment;
            seg[1].first = 16 + second;
            seg[2].n = last;
            size_t pieces = view_pieces(&view, 4, &per_segment);
            CU_ASSERT_EQUAL(per_segment, second == 8 && last <= 8 ? 2 : 0);
            for (size_t i = 0; i < pieces; i++) {
                struct segment found = view_piece(&view, 4, per_segment, i), sought = view_piece(&view, 4, 0, i);
                CU_ASSERT(memcmp(&found, &sought, sizeof found) == 0);
            }
        }
}

static void scratch_is_handed_out_in_aligned_parts_that_do_not_overlap(void)
{
    float block[64];
    struct carve counted = {0}, given = {.at = block};
    CU_ASSERT_PTR_NULL(carve(&counted, 1));
    CU_ASSERT_PTR_NULL(carve(&counted, 17));
    CU_ASSERT_PTR_EQUAL(carve(&given, 1), block);
    CU_ASSERT_PTR_EQUAL(carve(&given, 17), block + 16);
    CU_ASSERT_EQUAL(counted.floats, 48);
    CU_ASSERT_EQUAL(given.floats, 48);
}

TEST_SUITE("lib/attention/plan", TEST(a_query_sees_the_rows_that_its_span_says),
           TEST(pieces_cover_each_row_once_and_end_at_multiples_of_the_chunk),
           TEST(pieces_of_segments_alike_are_found_without_a_search),
           TEST(scratch_is_handed_out_in_aligned_parts_that_do_not_overlap))
