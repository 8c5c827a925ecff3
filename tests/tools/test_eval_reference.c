/* attn eval against a second opinion: tests/tools/reference_eval.py does the same policies by their rules alone, in float64. */
#include "tests/e2e/house.h"
#include "tests/test.h"
#include "tests/tools/answer.h"
#include "tests/tools/support.h"
#include "tools/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* On the attention of the project's own model over a text. The script leaves with 1 where they differ by 10 % or more. */
static void numpy_finds_the_same_errors(void)
{
    static struct answer answer;
    char path[SUPPORT_PATH_BYTES], words[256];
    const char *attn = getenv("ATTN_BIN") ? getenv("ATTN_BIN") : "build/attn";
    support_file(path, "");
    snprintf(words, sizeof words,
             "perplexity --model tools/lm/softmax --text lib/wire/README.md --context %d --windows 1 --local --no-compare "
             "--record %s --json",
             UNDER_TSAN ? 96 : 320, path);
    answer_get(&answer, command_lm, words);
    CU_ASSERT_EQUAL_FATAL(answer.code, COMMAND_DONE);
    answer_drop(&answer);
    snprintf(words, sizeof words, "/usr/bin/python3 tests/tools/reference_eval.py %s --rows %d --interval 8 --attn %s 2>&1",
             path, UNDER_TSAN ? 40 : 64, attn);
    FILE *script = popen(words, "r"); /* our own words */
    CU_ASSERT_FATAL(script != NULL);
    char line[256], last[256] = "";
    size_t n = 0;
    while (fgets(line, sizeof line, script)) {
        snprintf(last, sizeof last, "%s", line);
        n++;
    }
    int status = pclose(script);
    if (status)
        printf("\n%s", last);
    CU_ASSERT_EQUAL(status, 0);
    CU_ASSERT_EQUAL(n, 5); /* window, uniform, h2o, tova, balance */
    unlink(path);
}

TEST_SUITE("tools/eval_reference", TEST(numpy_finds_the_same_errors))
