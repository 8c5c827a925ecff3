/* Rewriting a configuration's pools: only they change. */
#include "tests/test.h"
#include "tools/tune/rewrite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char NEW[] = "pools:\n  - {threads: 3}\n";

static void only_the_pools_change(void)
{
    static const struct {
        const char *text, *becomes;
    } cases[] = {
        {"", "pools:\n  - {threads: 3}\n"},
        {"isa: auto", "isa: auto\npools:\n  - {threads: 3}\n"},
        {"pools: [{threads: 1}]\n", "pools:\n  - {threads: 3}\n"},
        {"# a\npools:\n- {threads: 1}\n- {threads: 2} # x\n\n# about isa\nisa: auto\n",
         "# a\npools:\n  - {threads: 3}\n\n# about isa\nisa: auto\n"},
        {"isa: auto\npools:\n  - name: x\n    threads: 1\nlog_level: info # pools: no\n",
         "isa: auto\npools:\n  - {threads: 3}\nlog_level: info # pools: no\n"},
        {"isa: auto\npools: [\n  {threads: 1},\n]\n# the end\n", "isa: auto\npools:\n  - {threads: 3}\n# the end\n"},
        {"profiles:\n  - {name: pools, rules: [{policy: full}]}\n",
         "profiles:\n  - {name: pools, rules: [{policy: full}]}\npools:\n  - {threads: 3}\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *out = NULL;
        CU_ASSERT_EQUAL(rewrite_pools(&out, "f", cases[i].text, NEW, NULL), 0);
        if (!out || strcmp(out, cases[i].becomes) != 0)
            printf("\n--- %s\n--- became\n%s", cases[i].text, out ? out : "(nothing)");
        CU_ASSERT(out && strcmp(out, cases[i].becomes) == 0);
        free(out);
    }
}

static void what_is_no_yaml_is_told(void)
{
    char *out = NULL;
    struct fault fault = {0};
    CU_ASSERT_EQUAL(rewrite_pools(&out, "bad.yaml", "isa: [auto\n", NEW, &fault), ERR_INVALID);
    CU_ASSERT(out == NULL && strncmp(fault.text, "bad.yaml:", 9) == 0);
}

TEST_SUITE("tools/tune/rewrite", TEST(only_the_pools_change), TEST(what_is_no_yaml_is_told))
