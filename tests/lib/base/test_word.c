#include "base/word.h"
#include "tests/test.h"

static const char *meant(const char *word)
{
    static const char *const keys[] = {"threads", "heads", "cpus", "name", "isa"};
    const char *found = word_closest(word, keys, sizeof keys / sizeof *keys);
    return found ? found : "(none)";
}

static void a_slip_of_one_or_two_letters_is_understood(void)
{
    CU_ASSERT_STRING_EQUAL(meant("thread"), "threads");   /* left out */
    CU_ASSERT_STRING_EQUAL(meant("threadss"), "threads"); /* added */
    CU_ASSERT_STRING_EQUAL(meant("thraeds"), "threads");  /* swapped */
    CU_ASSERT_STRING_EQUAL(meant("tkreeds"), "threads");  /* changed, twice */
    CU_ASSERT_STRING_EQUAL(meant("Name"), "name");
    CU_ASSERT_STRING_EQUAL(meant("iso"), "isa");
    CU_ASSERT_STRING_EQUAL(meant("heads"), "heads");
}

static void anything_further_off_is_not_guessed(void)
{
    CU_ASSERT_STRING_EQUAL(meant("thrd"), "(none)");
    CU_ASSERT_STRING_EQUAL(meant("window_tokens"), "(none)");
    CU_ASSERT_STRING_EQUAL(meant(""), "(none)");
    CU_ASSERT_STRING_EQUAL(meant("xyz"), "(none)");
    CU_ASSERT_STRING_EQUAL(meant("i"), "(none)"); /* two of three letters wrong */
    CU_ASSERT_STRING_EQUAL(meant("threadsthreadsthreadsthreadsthreadsthreads"), "(none)");
}

static void the_nearest_of_several_wins(void)
{
    static const char *const keys[] = {"beads", "heads", "head"};
    CU_ASSERT_STRING_EQUAL(word_closest("hesd", keys, 3), "head");
    CU_ASSERT_STRING_EQUAL(word_closest("headz", keys, 3), "heads");
}

TEST_SUITE("lib/base/word", TEST(a_slip_of_one_or_two_letters_is_understood), TEST(anything_further_off_is_not_guessed),
           TEST(the_nearest_of_several_wins))
