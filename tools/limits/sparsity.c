/* attn limits sparsity: that attention is sparse does not help when nobody knows where.
 *
 * In the INDEX game [Haris, Onak: arXiv 2502.15955] almost all weight of every query lies on one row: attention could not be sparser.
 * A policy keeps a share of the rows by a rule that has not seen the query. Asked for any row it answers from its row if it has it
 * and guesses otherwise, so of all bits (1 + share) / 2 come out right, whatever the rule. Structure that is known beforehand is
 * another matter: when only the last rows are asked for, keeping those is enough. */
#include "base/coins.h"
#include "tools/eval/contenders.h"
#include "tools/limits/experiment.h"
#include "tools/limits/game.h"

#include <math.h>

static const char WHO[] = "attn limits sparsity";

struct options {
    uint64_t n, d, e, draws, seed;
    const char *policies, *storages, *budgets;
};

#define AT(field) offsetof(struct options, field)

static const struct command_option option_table[] = {
    {"--n", "N", OPTION_COUNT, AT(n), 16, 1 << 16, false, "rows (default 1024)"},
    {"--d", "D", OPTION_COUNT, AT(d), 12, 1024, false, "key dimension (default 64)"},
    {"--e", "E", OPTION_COUNT, AT(e), 1, 1024, false, "value dimension (default 64)"},
    {"--draws", "N", OPTION_COUNT, AT(draws), 1, 256, false, "of keys and bits (default 4)"},
    {"--policies", "NAME,...", OPTION_TEXT, AT(policies), 0, 0, false, "default all"},
    {"--storages", "NAME,...", OPTION_TEXT, AT(storages), 0, 0, false, "default bf16"},
    {"--budgets", "SHARE,...", OPTION_TEXT, AT(budgets), 0, 0, false, "of the full cache in bf16 (default 1/2,1/4,1/8,1/16)"},
    {"--seed", "N", OPTION_COUNT, AT(seed), 0, 0x1p53, false, "of all draws (default 0)"},
};

static const char HELP[] =
    "Unstructured sparsity: every query puts its weight on one row, and a rule that has not seen the query keeps a share of "
    "the\n"
    "rows. Asked for any row, and asked only for the last 1/64 of them, which a rule may know beforehand.";

enum { LAST = 64 }; /* the last n / LAST rows */

struct run {
    struct options options;
    struct words policies, storages, budgets;
    struct experiment *x;
    struct trial *trial;
};

/* The weight that a question puts on its own row: at least 1 / (1 + n e^(-C (1 - eps))). */
static double own_weight(const struct game *g)
{
    return 1 / (1 + (double)g->n * exp(-g->strength * (1 - g->eps)));
}

static int play_both(struct run *r, const struct game *g, const struct contender *c, struct fault *fault)
{
    const size_t from[2] = {0, g->n - g->n / LAST - (g->n < LAST)};
    static const char *const asked[2] = {"any row", "the last rows"};
    for (size_t i = 0; i < 2; i++) {
        struct play p;
        struct fault why = {0};
        if (game_play(r->trial, g, ATTENTION_SOFTMAX, c->profile, from[i], &p, &why)) {
            experiment_left_out(r->x, c->profile, why.text);
            return 0;
        }
        double share = p.kept < 1 ? p.kept : 1;
        json_t *row =
            json_pack("{s:s, s:s, s:s, s:o, s:f, s:f, s:f, s:f, s:o}", "asked", asked[i], "policy", c->ops->name, "storage",
                      c->storage->name, "budget_fraction", c->budget > 0 ? json_real(c->budget) : json_null(), "kept_fraction",
                      p.kept, "weight_on_row", own_weight(g), "rows_readable", p.readable, "success", p.success, "predicted",
                      i == 0 ? json_real((1 + share) / 2) : json_null());
        int err = experiment_add(r->x, row, fault);
        if (err)
            return err;
    }
    return command_interrupted() ? fault_set(fault, ERR_FAILED, "interrupted") : 0;
}

static int play_all(struct run *r, struct fault *fault)
{
    const struct options *o = &r->options;
    struct contenders list = {0};
    struct game game = {0};
    int err = game_create(&game, o->n, o->n, o->d, o->e, o->draws, mix(o->seed + 1), fault);
    if (!err)
        err = trial_create(&r->trial, NULL, fault);
    if (!err)
        err = contenders_list(&list, 1u << ATTENTION_SOFTMAX, &r->policies, &r->storages, &r->budgets, "", fault);
    for (size_t i = 0; i < list.n && !err; i++) {
        command_progress("sparsity", i, list.n);
        err = play_both(r, &game, &list.item[i], fault);
    }
    command_progress("sparsity", 1, 1);
    contenders_free(&list);
    trial_destroy(r->trial);
    game_free(&game);
    return err;
}

int limits_sparsity(int argc, char **argv)
{
    static const struct experiment_panel panels[] = {
        {.title = "Asked for any row",
         .x = "kept_fraction",
         .y = "success",
         .theory = "predicted",
         .by = {"policy"},
         .x_log = true,
         .only = "asked",
         .is = "any row"},
        {.title = "Asked for the last rows",
         .x = "kept_fraction",
         .y = "success",
         .by = {"policy"},
         .x_log = true,
         .only = "asked",
         .is = "the last rows"},
    };
    struct experiment x = {
        .who = WHO,
        .name = "sparsity",
        .predicts = "a rule that has not seen the query answers (1 + share) / 2 of the bits at a share of the rows kept, "
                    "though all weight "
                    "lies on one row; where the asked rows are known beforehand, keeping those answers all",
        .rows = json_array(),
        .tables = "asked",
        .panels = panels,
        .n_panels = 2,
    };
    struct run r = {
        .x = &x,
        .options = {
            .n = 1024, .d = 64, .e = 64, .draws = 4, .policies = "all", .storages = "bf16", .budgets = "1/2,1/4,1/8,1/16"}};
    struct experiment_options shown = {0};
    struct fault fault = {0};
    const struct option_group groups[] = {{option_table, sizeof option_table / sizeof *option_table, &r.options},
                                          {experiment_option_table, n_experiment_options, &shown}};
    int code = command_parse(WHO, HELP, groups, 2, argc, argv);
    if (code == COMMAND_GO_ON)
        code = words_policies(&r.policies, WHO, "--policies", r.options.policies);
    if (code == COMMAND_GO_ON)
        code = words_storages(&r.storages, WHO, "--storages", r.options.storages);
    if (code == COMMAND_GO_ON)
        code = words_shares(&r.budgets, WHO, "--budgets", r.options.budgets);
    if (code == COMMAND_GO_ON) {
        command_catch_interrupt();
        int err = play_all(&r, &fault);
        code = experiment_end(&x, &shown, err, &fault);
    }
    json_decref(x.rows);
    words_free(&r.policies);
    words_free(&r.storages);
    words_free(&r.budgets);
    return code;
}
