#include "daemon/replies.h"
#include "tests/test.h"

#include <stdlib.h>
#include <string.h>

/* Buffers whose floats tell their place: token t's outputs are 100 t, 100 t + 1, its lse is -t. */
enum { WIDTH = 2, LSE = 1 };

static struct buffer *fill(uint64_t first, size_t n, bool lse, size_t before, size_t behind)
{
    struct buffer *buffer = buffer_create(NULL, before + n * (WIDTH + (lse ? LSE : 0)) + behind);
    float *to = buffer->data + before;
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < WIDTH; c++)
            *to++ = (float)(100 * (first + i) + c);
    for (size_t i = 0; lse && i < n; i++)
        *to++ = -(float)(first + i);
    return buffer;
}

/* Keeps tokens [first, first + n) and drops the test's own reference. before, behind: what others have of the buffer. */
static size_t keep(struct replies *r, uint64_t first, size_t n, bool lse, size_t before, size_t behind)
{
    struct buffer *buffer = fill(first, n, lse, before, behind);
    size_t bytes = replies_keep(r, first, n, buffer, before, n * WIDTH, before + n * WIDTH, lse ? n * LSE : 0);
    buffer_release(buffer);
    return bytes;
}

static bool right(const struct replies *r, uint64_t first, size_t n, bool lse)
{
    float out[64 * WIDTH], l[64 * LSE] = {0};
    if (!replies_copy(r, first, n, WIDTH, out, LSE, lse ? l : NULL))
        return false;
    for (size_t i = 0; i < n; i++)
        if (out[i * WIDTH] != (float)(100 * (first + i)) || out[i * WIDTH + 1] != (float)(100 * (first + i) + 1) ||
            (lse && l[i] != -(float)(first + i)))
            return false;
    return true;
}

static void any_range_of_kept_tokens_is_copied(void)
{
    struct replies r = {0};
    keep(&r, 3, 4, true, 0, 0);
    keep(&r, 7, 1, true, 50, 50);
    keep(&r, 8, 9, true, 5, 0);
    for (uint64_t first = 3; first < 17; first++)
        for (size_t n = 1; first + n <= 17; n++)
            CU_ASSERT(right(&r, first, n, true) && right(&r, first, n, false));
    CU_ASSERT(!right(&r, 2, 2, false));
    CU_ASSERT(!right(&r, 16, 2, false));
    CU_ASSERT(!right(&r, 40, 1, false));
    while (replies_drop_oldest(&r))
        ;
    CU_ASSERT(!right(&r, 3, 1, false));
}

static void holes_and_lacking_lse_are_noticed(void)
{
    struct replies r = {0};
    keep(&r, 0, 4, true, 0, 0);
    keep(&r, 4, 4, false, 0, 0);
    keep(&r, 10, 4, true, 0, 0); /* 8 and 9 were appended without attending */
    CU_ASSERT(right(&r, 0, 8, false));
    CU_ASSERT(!right(&r, 0, 8, true));
    CU_ASSERT(right(&r, 0, 4, true));
    CU_ASSERT(!right(&r, 4, 1, true));
    CU_ASSERT(!right(&r, 6, 6, false));
    CU_ASSERT(!right(&r, 8, 1, false));
    CU_ASSERT(right(&r, 10, 4, true));
    replies_confirm(&r, UINT64_MAX);
}

static void confirming_drops_what_lies_wholly_before(void)
{
    struct replies r = {0};
    size_t four = keep(&r, 0, 4, false, 0, 0), two = keep(&r, 4, 2, false, 0, 0), six = keep(&r, 6, 6, true, 0, 0);
    CU_ASSERT_EQUAL(four, 4 * WIDTH * sizeof(float));
    CU_ASSERT_EQUAL(two, 2 * WIDTH * sizeof(float));
    CU_ASSERT_EQUAL(six, 6 * (WIDTH + LSE) * sizeof(float));
    CU_ASSERT_EQUAL(replies_confirm(&r, 3), 0);
    CU_ASSERT(right(&r, 0, 12, false));
    CU_ASSERT_EQUAL(replies_confirm(&r, 5), four);
    CU_ASSERT(!right(&r, 3, 1, false));
    CU_ASSERT(right(&r, 4, 8, false));
    CU_ASSERT_EQUAL(replies_confirm(&r, 1000), two + six);
    CU_ASSERT_EQUAL(replies_confirm(&r, 1000), 0);
    CU_ASSERT_EQUAL(replies_drop_oldest(&r), 0);
    CU_ASSERT(keep(&r, 12, 1, false, 0, 0) > 0); /* an emptied list goes on */
    CU_ASSERT(right(&r, 12, 1, false));
    replies_drop_oldest(&r);
}

static void a_whole_buffer_is_referred_to_a_part_of_one_is_copied(void)
{
    struct replies r = {0};
    struct buffer *shared = fill(0, 4, false, 0, 100), *own = fill(4, 4, false, 0, 0);
    CU_ASSERT_EQUAL(replies_keep(&r, 0, 4, shared, 0, 4 * WIDTH, 0, 0), 4 * WIDTH * sizeof(float));
    CU_ASSERT_EQUAL(atomic_load(&shared->refs), 1);
    CU_ASSERT_EQUAL(replies_keep(&r, 4, 4, own, 0, 4 * WIDTH, 0, 0), 4 * WIDTH * sizeof(float));
    CU_ASSERT_EQUAL(atomic_load(&own->refs), 2);
    buffer_release(shared);
    CU_ASSERT(right(&r, 0, 8, false));
    replies_confirm(&r, 8);
    CU_ASSERT_EQUAL(atomic_load(&own->refs), 1);
    buffer_release(own);
}

static void frames_over_a_buffer_hold_it_until_they_are_sent(void)
{
    struct buffer *buffer = fill(0, 2000, false, 0, 0);
    zmq_msg_t small, large;
    CU_ASSERT_EQUAL_FATAL(buffer_frame(buffer, 10, 100, &small), 0);
    CU_ASSERT_EQUAL(atomic_load(&buffer->refs), 1); /* copied */
    CU_ASSERT_EQUAL_FATAL(buffer_frame(buffer, 10, 3000, &large), 0);
    CU_ASSERT_EQUAL(atomic_load(&buffer->refs), 2);
    CU_ASSERT_EQUAL(zmq_msg_size(&small), 100 * sizeof(float));
    CU_ASSERT_EQUAL(zmq_msg_size(&large), 3000 * sizeof(float));
    CU_ASSERT_EQUAL(*(float *)zmq_msg_data(&small), 500);
    CU_ASSERT_PTR_EQUAL(zmq_msg_data(&large), buffer->data + 10);
    zmq_msg_close(&small);
    zmq_msg_close(&large);
    CU_ASSERT_EQUAL(atomic_load(&buffer->refs), 1);
    CU_ASSERT_EQUAL(buffer_frame(buffer, 0, 0, &small), 0);
    CU_ASSERT_EQUAL(zmq_msg_size(&small), 0);
    zmq_msg_close(&small);
    buffer_release(buffer);
    buffer_release(NULL);
}

/* The next buffer of a size is the last one that was let go, and one of another size is not. A shelf is gone with what came from it. */
static void a_shelf_gives_back_what_fits(void)
{
    struct buffer_shelf *shelf = buffer_shelf_create();
    CU_ASSERT_PTR_NOT_NULL_FATAL(shelf);
    struct buffer *first = buffer_create(shelf, 100), *second = buffer_create(shelf, 100);
    memset(first->data, 0, 100 * sizeof(float));
    memset(second->data, 0, 100 * sizeof(float));
    buffer_share(second);
    buffer_release(first);
    buffer_release(second);
    struct buffer *third = buffer_create(shelf, 100), *wide = buffer_create(shelf, 20000);
    CU_ASSERT_PTR_EQUAL(third, first);
    CU_ASSERT(third != second && atomic_load(&third->refs) == 1 && third->n == 100 && wide->n == 20000);
    memset(wide->data, 0, 20000 * sizeof(float));
    buffer_release(wide);
    buffer_release(third);
    third = buffer_create(shelf, 101);
    CU_ASSERT_EQUAL(third->n, 101);
    memset(third->data, 0, 101 * sizeof(float));
    buffer_release(third);
    buffer_shelf_leave(shelf);
    buffer_release(second);
    buffer_shelf_leave(NULL);
}

TEST_SUITE("daemon/replies", TEST(any_range_of_kept_tokens_is_copied), TEST(holes_and_lacking_lse_are_noticed),
           TEST(confirming_drops_what_lies_wholly_before), TEST(a_whole_buffer_is_referred_to_a_part_of_one_is_copied),
           TEST(frames_over_a_buffer_hold_it_until_they_are_sent), TEST(a_shelf_gives_back_what_fits))
