/* attn limits index: the INDEX game for every policy and storage, ordered by how far each is from the limit.
 *
 *     softmax         n rows
 *     tensor          n rows, K2 = V2 = ones: the four-cache form, and whatever serves tensor layers
 *     two_cache       n^2 arbitrary product rows through a softmax stream: what the two-cache form would have to hold if its rows were
 *                     no products
 *     low_dimension   n rows in d dimensions, of which min(n, 2^d) can be told apart: the need stops growing with n */
#include "base/coins.h"
#include "tools/eval/contenders.h"
#include "tools/limits/experiment.h"
#include "tools/limits/game.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char WHO[] = "attn limits index";

struct options {
    uint64_t n, tensor_n, d, e, draws, seed;
    const char *policies, *storages, *budgets, *games, *low_d, *low_n;
};

#define AT(field) offsetof(struct options, field)

static const struct command_option option_table[] = {
    {"--n", "N", OPTION_COUNT, AT(n), 2, 1 << 16, false, "rows of the softmax game (default 1024)"},
    {"--tensor-n", "N", OPTION_COUNT, AT(tensor_n), 2, 1 << 14, false, "rows of the tensor game (default 256)"},
    {"--d", "D", OPTION_COUNT, AT(d), 1, 1024, false, "key dimension (default 64)"},
    {"--e", "E", OPTION_COUNT, AT(e), 1, 1024, false, "value dimension (default 64)"},
    {"--draws", "N", OPTION_COUNT, AT(draws), 1, 256, false, "of keys and bits (default 10)"},
    {"--policies", "NAME,...", OPTION_TEXT, AT(policies), 0, 0, false, "default all"},
    {"--storages", "NAME,...", OPTION_TEXT, AT(storages), 0, 0, false,
     "default f32,bf16,f16, and all for the full cache's softmax game; all takes minutes"},
    {"--budgets", "SHARE,...", OPTION_TEXT, AT(budgets), 0, 0, false, "of the full cache in bf16 (default 1/4)"},
    {"--games", "NAME,...", OPTION_TEXT, AT(games), 0, 0, false, "softmax, tensor, two_cache, low_dimension (default all)"},
    {"--low-d", "D,...", OPTION_TEXT, AT(low_d), 0, 0, false, "dimensions of the low_dimension game (default 4,6)"},
    {"--low-n", "N,...", OPTION_TEXT, AT(low_n), 0, 0, false, "its rows (default 64,256,1024)"},
    {"--seed", "N", OPTION_COUNT, AT(seed), 0, 0x1p53, false, "of all draws (default 0)"},
};

static const char HELP[] =
    "The INDEX game: how many bits a cache takes beside how many it must have carried to answer as it did. Alice streams rows\n"
    "whose values are random bits; Bob asks the cache for each of them. (sketch) is no policy but a cache made for this game:\n"
    "4 log2 n signs of each key, one bit for each coordinate of a value.";

struct run {
    struct options options;
    struct words policies, storages, budgets, games, low_d, low_n;
    struct experiment *x;
    struct trial *trial;
};

static int compare_rows(const json_t *a, const json_t *b)
{
    const json_t *x = json_object_get(a, "distance"), *y = json_object_get(b, "distance");
    double dx = json_is_number(x) ? json_number_value(x) : INFINITY, dy = json_is_number(y) ? json_number_value(y) : INFINITY;
    return (dx > dy) - (dx < dy);
}

/* Rows from `first` on, by distance; few, so by insertion. */
static void order_rows(json_t *rows, size_t first)
{
    for (size_t i = first + 1; i < json_array_size(rows); i++)
        for (size_t j = i; j > first && compare_rows(json_array_get(rows, j), json_array_get(rows, j - 1)) < 0; j--) {
            json_t *moved = json_incref(json_array_get(rows, j));
            json_array_remove(rows, j);
            json_array_insert_new(rows, j - 1, moved);
        }
}

/* c NULL: the sketch, which is no policy. */
static json_t *row_of(const char *name, const struct contender *c, const struct game *g, size_t n, const struct play *p)
{
    const char *storage = c ? c->storage->name : "1 bit";
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:o}", "game", name, "policy",
                     c ? c->ops->name : "(sketch)", "key_storage", storage, "value_storage", storage, "budget_fraction",
                     c && c->budget > 0 ? json_real(c->budget) : json_null(), "n", (json_int_t)n, "d", (json_int_t)g->d, "e",
                     (json_int_t)g->e, "keys", (json_int_t)g->m, "eps_max", g->eps, "strength", g->strength, "success",
                     p->success, "bits", p->bits, "fano_bits", p->fano, "distance", experiment_real(play_distance(p)));
}

static int play_contender(struct run *r, const char *name, const struct game *g, enum attention_kind kind, size_t n,
                          const struct contender *c, struct fault *fault)
{
    struct play play;
    struct fault why = {0};
    if (game_play(r->trial, g, kind, c->profile, 0, &play, &why)) {
        experiment_left_out(r->x, c->profile, why.text);
        return 0;
    }
    return experiment_add(r->x, row_of(name, c, g, n, &play), fault);
}

/* One game for every contender. n: what the game's rows are counted by in the answer. */
static int play_all(struct run *r, const char *name, const struct game *g, enum attention_kind kind, size_t n,
                    const struct words *storages, struct fault *fault)
{
    struct contenders list;
    struct play sketch;
    int err = contenders_list(&list, 1u << kind, &r->policies, storages, &r->budgets, "", fault);
    game_sketch(g, &sketch);
    if (!err)
        err = experiment_add(r->x, row_of(name, NULL, g, n, &sketch), fault);
    for (size_t i = 0; i < list.n && !err; i++) {
        command_progress(name, i, list.n);
        err = play_contender(r, name, g, kind, n, &list.item[i], fault);
        if (command_interrupted())
            err = fault_set(fault, ERR_FAILED, "interrupted");
    }
    command_progress(name, 1, 1);
    contenders_free(&list);
    return err;
}

/* SubGen without a budget, its clusters so small that no two keys share one (they are at least 2 / sqrt(d) apart): what it takes
 * follows the number of keys, not of rows. */
static int play_unbounded(struct run *r, const char *name, const struct game *g, struct fault *fault)
{
    struct contender c = {.ops = cache_find("subgen"), .storage = &storage_table[STORAGE_BF16], .budget_text = ""};
    if (!c.ops || !words_ask_for(&r->policies, "subgen"))
        return 0;
    snprintf(c.profile, sizeof c.profile, TRIAL_POLICY "subgen,storage=bf16,sink_tokens=0,recent_tokens=0,samples=1,delta=%.6g",
             1 / sqrt((double)g->d));
    return play_contender(r, name, g, ATTENTION_SOFTMAX, g->n, &c, fault);
}

/* The full cache in the storages that the other policies are not asked for: every storage has its number. */
static int play_storages(struct run *r, const char *name, const struct game *g, struct fault *fault)
{
    int err = 0;
    if (!words_ask_for(&r->policies, "full"))
        return 0;
    for (size_t s = 0; s < N_STORAGE && !err; s++) {
        struct contender c = {.ops = cache_find("full"), .storage = &storage_table[s], .budget_text = ""};
        if (words_ask_for(&r->storages, c.storage->name))
            continue;
        snprintf(c.profile, sizeof c.profile, TRIAL_POLICY "full,storage=%s", c.storage->name);
        err = play_contender(r, name, g, ATTENTION_SOFTMAX, g->n, &c, fault);
    }
    return err;
}

static int play_one(struct run *r, const char *name, enum attention_kind kind, size_t n, size_t rows, size_t d,
                    const struct words *storages, struct fault *fault)
{
    struct game game = {0};
    size_t first = json_array_size(r->x->rows);
    double there_are = game_keys_there_are(d);
    size_t m = (double)rows < there_are ? rows : (size_t)there_are;
    uint64_t seed = mix(r->options.seed ^ mix(first)); /* a game of its own */
    int err = game_create(&game, rows, m, d, r->options.e, r->options.draws, seed, fault);
    if (!err)
        err = play_all(r, name, &game, kind, n, storages, fault);
    if (!err && strcmp(name, "softmax") == 0 && !r->options.storages)
        err = play_storages(r, name, &game, fault);
    if (!err && strcmp(name, "low_dimension") == 0)
        err = play_unbounded(r, name, &game, fault);
    game_free(&game);
    order_rows(r->x->rows, first);
    return err;
}

static int play_low(struct run *r, struct fault *fault)
{
    static const struct words one = {.item = {"bf16"}, .n = 1};
    int err = 0;
    for (size_t d = 0; d < r->low_d.n; d++)
        for (size_t n = 0; n < r->low_n.n && !err; n++) {
            size_t rows = (size_t)r->low_n.number[n];
            err = play_one(r, "low_dimension", ATTENTION_SOFTMAX, rows, rows, (size_t)r->low_d.number[d], &one, fault);
        }
    return err;
}

static int play_games(struct run *r, struct fault *fault)
{
    const struct options *o = &r->options;
    size_t side = (size_t)sqrt((double)o->n);
    int err = trial_create(&r->trial, NULL, fault);
    if (!err && words_ask_for(&r->games, "softmax"))
        err = play_one(r, "softmax", ATTENTION_SOFTMAX, o->n, o->n, o->d, &r->storages, fault);
    if (!err && words_ask_for(&r->games, "tensor"))
        err = play_one(r, "tensor", ATTENTION_TENSOR, o->tensor_n, o->tensor_n, o->d, &r->storages, fault);
    if (!err && words_ask_for(&r->games, "two_cache"))
        err = play_one(r, "two_cache", ATTENTION_SOFTMAX, side, side * side, o->d, &r->storages, fault);
    if (!err && words_ask_for(&r->games, "low_dimension"))
        err = play_low(r, fault);
    trial_destroy(r->trial);
    return err;
}

static int read_lists(struct run *r)
{
    static const char *const games[] = {"softmax", "tensor", "two_cache", "low_dimension", "all"};
    const struct options *o = &r->options;
    int code = words_policies(&r->policies, WHO, "--policies", o->policies);
    if (code == COMMAND_GO_ON)
        code = words_storages(&r->storages, WHO, "--storages", o->storages ? o->storages : "f32,bf16,f16");
    if (code == COMMAND_GO_ON)
        code = words_shares(&r->budgets, WHO, "--budgets", o->budgets);
    if (code == COMMAND_GO_ON)
        code = words_counts(&r->low_d, WHO, "--low-d", o->low_d, 1, 1024);
    if (code == COMMAND_GO_ON)
        code = words_counts(&r->low_n, WHO, "--low-n", o->low_n, 1, 1 << 16);
    if (code == COMMAND_GO_ON)
        code = words_split(&r->games, WHO, "--games", o->games);
    for (size_t i = 0; code == COMMAND_GO_ON && i < r->games.n; i++) {
        size_t k = 0;
        while (k < sizeof games / sizeof *games && strcmp(games[k], r->games.item[i]) != 0)
            k++;
        if (k == sizeof games / sizeof *games)
            code = command_usage(WHO, "--games: there is no game '%s'", r->games.item[i]);
    }
    return code;
}

int limits_index(int argc, char **argv)
{
    static const struct experiment_panel panels[] = {
        {.title = "INDEX game: distance from the limit",
         .x = "success",
         .y = "distance",
         .by = {"policy"},
         .y_log = true,
         .marks = true,
         .only = "game",
         .is = "softmax"},
        {.title = "INDEX game, tensor attention",
         .x = "success",
         .y = "distance",
         .by = {"policy"},
         .y_log = true,
         .marks = true,
         .only = "game",
         .is = "tensor"},
        {.title = "Low dimension: bits taken",
         .x = "n",
         .y = "bits",
         .by = {"policy", "d"},
         .x_log = true,
         .y_log = true,
         .only = "game",
         .is = "low_dimension"},
    };
    struct experiment x = {
        .who = WHO,
        .name = "index",
        .predicts =
            "a cache that answers a share p of the bits takes at least (1 - H(p)) keys e bits, so no distance is below 1; "
            "with d >= log n that is Theta(n d) for every n (n^2 d for arbitrary product rows), with fewer dimensions the "
            "need stops growing at min(n, 2^d) keys",
        .rows = json_array(),
        .tables = "game",
        .panels = panels,
        .n_panels = 3,
    };
    struct run r = {.x = &x,
                    .options = {.n = 1024,
                                .tensor_n = 256,
                                .d = 64,
                                .e = 64,
                                .draws = 10,
                                .policies = "all",
                                .budgets = "1/4",
                                .games = "all",
                                .low_d = "4,6",
                                .low_n = "64,256,1024"}};
    struct experiment_options shown = {0};
    struct fault fault = {0};
    const struct option_group groups[] = {{option_table, sizeof option_table / sizeof *option_table, &r.options},
                                          {experiment_option_table, n_experiment_options, &shown}};
    int code = command_parse(WHO, HELP, groups, 2, argc, argv);
    if (code == COMMAND_GO_ON)
        code = read_lists(&r);
    if (code == COMMAND_GO_ON) {
        command_catch_interrupt();
        int err = play_games(&r, &fault);
        code = experiment_end(&x, &shown, err, &fault);
    }
    json_decref(x.rows);
    words_free(&r.policies);
    words_free(&r.storages);
    words_free(&r.budgets);
    words_free(&r.games);
    words_free(&r.low_d);
    words_free(&r.low_n);
    return code;
}
