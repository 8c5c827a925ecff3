/* attn limits: every theorem's prediction on a small instance. Nothing here depends on how fast the machine is. */
#include "tests/test.h"

#include "cache/cache.h"
#include "tests/tools/answer.h"
#include "tests/tools/support.h"
#include "tools/command.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct answer answer;

/* Runs the experiment; its rows and its sentence must be there. */
static void limits(const char *args)
{
    char text[400], name[32];
    snprintf(text, sizeof text, "%s --json", args);
    answer_get(&answer, command_limits, text);
    if (answer.code != COMMAND_DONE)
        printf("\n%s", answer.errors);
    CU_ASSERT_EQUAL_FATAL(answer.code, COMMAND_DONE);
    snprintf(name, sizeof name, "%.*s", (int)strcspn(args, " "), args);
    CU_ASSERT_STRING_EQUAL(answer_text(answer.json, "experiment"), name);
    CU_ASSERT(strlen(answer_text(answer.json, "predicts")) > 20);
    CU_ASSERT_FATAL(json_array_size(json_object_get(answer.json, "rows")) > 0);
}

static size_t n_rows(void)
{
    return json_array_size(json_object_get(answer.json, "rows"));
}

static const json_t *row(size_t i)
{
    return json_array_get(json_object_get(answer.json, "rows"), i);
}

static double number(size_t i, const char *key)
{
    return answer_number(row(i), key);
}

static bool is(size_t i, const char *key, const char *text)
{
    return strcmp(answer_text(row(i), key), text) == 0;
}

/* ---- index */

static double entropy(double p)
{
    return p <= 0 || p >= 1 ? 0 : -p * log2(p) - (1 - p) * log2(1 - p);
}

static void no_cache_beats_the_bound_of_the_index_game(void)
{
    size_t n_full = 0;
    limits("index --n 128 --tensor-n 40 --d 32 --e 16 --draws 3 --budgets 1/2,1/4 --low-d 4 --low-n 16,64,200");
    for (size_t i = 0; i < n_rows(); i++) {
        double p = number(i, "success"), fano = number(i, "fano_bits");
        const json_t *distance = json_object_get(row(i), "distance");
        double carried = p > 0.5 ? (1 - entropy(p)) * number(i, "keys") * number(i, "e") : 0;
        ASSERT_NEAR(fano, carried, 1e-6 * (1 + carried));
        CU_ASSERT(number(i, "bits") >= fano);
        if (json_is_number(distance)) {
            CU_ASSERT(json_number_value(distance) >= 1);
            ASSERT_NEAR(json_number_value(distance) * fano / number(i, "bits"), 1, 1e-6);
        } else {
            CU_ASSERT(json_is_null(distance) && fano == 0);
        }
        if (is(i, "policy", "full") || is(i, "policy", "two_cache")) {
            const char *keys = answer_text(row(i), "key_storage");                          /* rot3s, too */
            bool few_bits = strncmp(keys, "rot3", 4) == 0 || strncmp(keys, "rot2", 4) == 0; /* then a neighbour may win once */
            CU_ASSERT(few_bits ? p > 0.9 : p == 1);
            n_full++;
        }
    }
    CU_ASSERT(n_full >= N_STORAGE + 2 * 3 + 3); /* every storage in one game, three in the others */
    answer_drop(&answer);
}

static void games_are_ordered_by_distance_and_have_every_policy(void)
{
    size_t seen[64] = {0};
    limits("index --n 144 --tensor-n 40 --d 32 --e 16 --draws 2 --budgets 1/1 --storages bf16 --low-d 4 --low-n 64");
    for (size_t i = 0; i + 1 < n_rows(); i++) {
        const json_t *now = json_object_get(row(i), "distance"), *next = json_object_get(row(i + 1), "distance");
        if (is(i, "game", answer_text(row(i + 1), "game")) && json_is_number(next))
            CU_ASSERT(json_is_number(now) && json_number_value(now) <= json_number_value(next));
    }
    for (size_t p = 0; cache_table[p]; p++) {
        for (size_t i = 0; i < n_rows(); i++)
            seen[p] += is(i, "policy", cache_table[p]->name);
        CU_ASSERT(seen[p] > 0 || strstr(answer.errors, cache_table[p]->name) != NULL);
    }
    answer_drop(&answer);
}

/* 16 keys exist in 4 dimensions. What a cache of every row takes grows on; what SubGen takes, without a budget, does not. */
static void in_few_dimensions_the_need_stops_growing(void)
{
    double bits = 0, sketch_bits = 0;
    size_t n_full = 0, n_sketches = 0;
    limits("index --games low_dimension --policies full,subgen --low-d 4 --low-n 16,64,256 --e 16 --draws 2 --budgets 1/64");
    for (size_t i = 0; i < n_rows(); i++) {
        CU_ASSERT_EQUAL(number(i, "keys"), 16);
        CU_ASSERT_EQUAL(number(i, "success"), 1);
        CU_ASSERT_EQUAL(number(i, "fano_bits"), 16 * 16);
        if (is(i, "policy", "full")) {
            CU_ASSERT(number(i, "bits") > bits);
            bits = number(i, "bits");
            n_full++;
        }
        if (is(i, "policy", "subgen") && number(i, "n") > 16) { /* with 16 rows nothing lies between the keys */
            CU_ASSERT(sketch_bits == 0 || number(i, "bits") == sketch_bits);
            sketch_bits = number(i, "bits");
            n_sketches++;
        }
    }
    CU_ASSERT_EQUAL(n_full, 3);
    CU_ASSERT_EQUAL(n_sketches, cache_find("subgen") ? 2 : 0);
    answer_drop(&answer);
}

/* Signs of keys and one bit per value: within a small factor of the bound, so the bound is close to what is possible. */
static void a_cache_made_for_the_game_comes_close_to_the_bound(void)
{
    limits("index --games softmax,two_cache --policies full --storages f32 --n 256 --d 64 --e 256 --draws 2");
    CU_ASSERT_EQUAL_FATAL(n_rows(), 4);
    for (size_t i = 0; i < n_rows(); i += 2) {
        CU_ASSERT(is(i, "policy", "(sketch)"));
        CU_ASSERT_EQUAL(number(i, "success"), 1);
        CU_ASSERT(number(i, "distance") < 1.2);
        CU_ASSERT_EQUAL(number(i, "n"), i ? 16 : 256);
        CU_ASSERT_EQUAL(number(i, "keys"), 256);
        CU_ASSERT(number(i + 1, "distance") > 32); /* 32 bits for each number of key and value */
    }
    answer_drop(&answer);
}

/* ---- sparsity */

/* A row that is gone is guessed: of 200 * 4 * 32 bits half of those are right, within 5 standard deviations, were they independent
 * coins; guesses for a row share the mixture they come from, so the deviation of a row's share is taken as if it were one coin in 4. */
static void sparse_attention_does_not_help_when_nobody_knows_where(void)
{
    double tolerance = 5 * 0.5 / sqrt(200.0 * 4 * 32 / 4);
    limits("sparsity --n 200 --d 32 --e 32 --draws 4 --policies full,window --budgets 1/2,1/4");
    CU_ASSERT_EQUAL(n_rows(), 6);
    for (size_t i = 0; i < n_rows(); i++) {
        double share = number(i, "rows_readable");
        CU_ASSERT(number(i, "weight_on_row") > 0.99);
        if (is(i, "policy", "full") || is(i, "asked", "the last rows")) {
            CU_ASSERT_EQUAL(number(i, "success"), 1);
            continue;
        }
        CU_ASSERT(share <= number(i, "kept_fraction") && share > 0.1);
        ASSERT_NEAR(number(i, "success"), (1 + share) / 2, tolerance);
        CU_ASSERT(number(i, "success") <= number(i, "predicted") + tolerance);
    }
    answer_drop(&answer);
}

static void no_rule_that_has_not_seen_the_query_answers_more_than_its_share(void)
{
    limits("sparsity --n 200 --d 32 --e 32 --draws 4 --budgets 1/4");
    for (size_t i = 0; i < n_rows(); i++)
        if (is(i, "asked", "any row"))
            CU_ASSERT(number(i, "success") <= number(i, "predicted") + 0.05);
    answer_drop(&answer);
}

/* ---- clusters */

/* Whether the policy that counts clusters is there; if not, that is what is said. */
static bool has_subgen(const char *args)
{
    if (cache_find("subgen"))
        return true;
    answer_get(&answer, command_limits, args);
    CU_ASSERT_EQUAL(answer.code, COMMAND_FAILED);
    CU_ASSERT_PTR_NOT_NULL(strstr(answer.errors, "no policy subgen"));
    return false;
}

static void clusters_of_few_dimensions_stand_still_and_stay_below_the_bound(void)
{
    if (!has_subgen("covering"))
        return;
    limits("covering --n 4096 --d 2,12 --delta 0.5");
    for (size_t i = 0; i < n_rows(); i++) {
        double d = number(i, "d"), bound = pow(1 + 2 / 0.5, d);
        bool last = number(i, "n") == 4096;
        ASSERT_NEAR(number(i, "bound") / bound, 1, 1e-9);
        CU_ASSERT(number(i, "clusters") <= fmin(bound, number(i, "n")));
        CU_ASSERT(number(i, "clusters") >= 1);
        if (last)
            CU_ASSERT(d < 3 ? number(i, "growth") < 0.1 : number(i, "growth") > 0.8);
    }
    answer_drop(&answer);
}

static void products_need_at_most_as_many_clusters_as_their_factors_say(void)
{
    if (!has_subgen("clusterability"))
        return;
    limits("clusterability --n 48 --d 12");
    for (size_t i = 0; i < n_rows(); i++) {
        CU_ASSERT(number(i, "clusters1") <= number(i, "m1") && number(i, "clusters1") >= 1);
        CU_ASSERT(number(i, "clusters2") <= number(i, "m2") && number(i, "clusters2") >= 1);
        CU_ASSERT_EQUAL(number(i, "predicted_at_most"), number(i, "m1") * number(i, "m2"));
        CU_ASSERT(number(i, "clusters_products") <= number(i, "predicted_at_most"));
        CU_ASSERT(number(i, "clusters_at_quarter_delta") >= number(i, "clusters_products"));
    }
    answer_drop(&answer);
}

/* ---- forms, sets, windows */

static void two_caches_hold_half_n_times_what_four_hold(void)
{
    limits("tradeoff --n 16,64 --d 8");
    size_t n_full = 0;
    for (size_t i = 0; i < n_rows(); i++) {
        double n = number(i, "n");
        CU_ASSERT(number(i, "append_seconds") > 0 && number(i, "attend_seconds") > 0);
        if (!is(i, "pair", "full"))
            continue;
        bool products = is(i, "form", "two_cache");
        double numbers = products ? 2 * n * n * 8 : 4 * n * 8;
        CU_ASSERT_EQUAL(number(i, "numbers_predicted"), numbers);
        CU_ASSERT(number(i, "bytes") >= 4 * numbers);
        CU_ASSERT(number(i, "seconds_beside_factors") > 0);
        n_full++;
    }
    CU_ASSERT_EQUAL(n_full, 4);
    CU_ASSERT(json_is_object(json_object_get(answer.json, "product_form_token_faster_from_n")));
    CU_ASSERT(json_is_object(json_object_get(answer.json, "product_form_query_faster_from_n")));
    answer_drop(&answer);
}

static void a_set_of_rows_fixed_beforehand_errs_on_one_of_the_pair(void)
{
    /* 16 trials at positions spread evenly: a share of rows is met within one trial; for a random set, within 4 deviations. */
    limits("nonadaptive --n 64,256 --d 32 --trials 16");
    for (size_t i = 0; i < n_rows(); i++) {
        double share = number(i, "share"), error = number(i, "error_mean");
        ASSERT_NEAR(share, number(i, "rows_read") / number(i, "n"), 1e-9);
        if (is(i, "rule", "by query")) {
            CU_ASSERT(error < 0.05);
            continue;
        }
        double slack = is(i, "rule", "first") || is(i, "rule", "last") ? 1.0 / 16 : 4 * sqrt(share * (1 - share) / 16);
        CU_ASSERT(error >= 1 - share - slack - 1e-9);
        ASSERT_NEAR(number(i, "predicted"), 1 - share, 1e-9);
        if (share == 1)
            CU_ASSERT(error < 1e-5);
    }
    answer_drop(&answer);
}

static void unmasked_windows_are_exact_and_do_not_grow(void)
{
    limits("window --n 40,400,1500 --d 12 --window 24 --window-2 7 --sinks 3 --storages f32,bf16");
    CU_ASSERT_EQUAL(n_rows(), 12);
    for (size_t i = 0; i < n_rows(); i++) {
        CU_ASSERT(number(i, "error_max") < (is(i, "storage", "f32") ? 1e-5 : 0.1));
        CU_ASSERT_EQUAL(number(i, "bytes"), number(i / 3 * 3, "bytes"));
        CU_ASSERT(number(i, "append_seconds") > 0 && number(i, "attend_seconds") > 0);
    }
    answer_drop(&answer);
}

/* ---- what all have */

static void a_table_and_the_prediction_are_printed_for_people(void)
{
    answer_get(&answer, command_limits, "nonadaptive --n 64 --trials 2");
    CU_ASSERT_EQUAL(answer.code, COMMAND_DONE);
    CU_ASSERT(strstr(answer.output, "error_mean") && strstr(answer.output, "\nPredicted: "));
}

static void a_drawing_is_made_where_one_is_asked_for(void)
{
    char path[SUPPORT_PATH_BYTES], args[160], head[6] = "";
    support_file(path, "before");
    snprintf(args, sizeof args, "window --n 40,80 --d 4 --window 8 --window-2 8 --plot %s --json", path);
    answer_get(&answer, command_limits, args);
    if (answer.code == COMMAND_DONE) {
        FILE *f = fopen(path, "r");
        CU_ASSERT(f && fread(head, 1, 5, f) == 5);
        if (f)
            fclose(f);
        CU_ASSERT_STRING_EQUAL(head, "<?xml");
    } else {
        CU_ASSERT_PTR_NOT_NULL(strstr(answer.errors, "gnuplot"));
    }
    answer_drop(&answer);
    unlink(path);
}

static void wrong_usage_is_told(void)
{
    static const char *const wrong[][2] = {
        {"nothing", "there is no subcommand 'nothing'"},
        {"index --games chess", "--games: there is no game 'chess'"},
        {"index --policies fool", "--policies: there is no policy 'fool'"},
        {"sparsity --storages f33", "--storages: there is no storage 'f33'"},
        {"sparsity --budgets 17", "--budgets takes shares"},
        {"tradeoff --n 64,32", "--n takes lengths that rise"},
        {"tradeoff --storage f33", "--storage: there is no storage"},
        {"window --n 5,5", "--n takes lengths that rise"},
        {"window --n 1.5", "--n takes whole numbers"},
        {"covering --delta 0", "--delta must be"},
        {"nonadaptive --n x", "--n takes whole numbers"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        answer_get(&answer, command_limits, wrong[i][0]);
        CU_ASSERT_EQUAL(answer.code, COMMAND_USAGE);
        CU_ASSERT_PTR_NOT_NULL(strstr(answer.errors, wrong[i][1]));
    }
    answer_get(&answer, command_limits, "index --games low_dimension --low-d 1 --low-n 64 --policies window --json");
    CU_ASSERT_EQUAL(answer.code, COMMAND_DONE); /* the sketch is always there */
    answer_drop(&answer);
}

TEST_SUITE("tools/limits", TEST(no_cache_beats_the_bound_of_the_index_game),
           TEST(games_are_ordered_by_distance_and_have_every_policy), TEST(in_few_dimensions_the_need_stops_growing),
           TEST(a_cache_made_for_the_game_comes_close_to_the_bound),
           TEST(sparse_attention_does_not_help_when_nobody_knows_where),
           TEST(no_rule_that_has_not_seen_the_query_answers_more_than_its_share),
           TEST(clusters_of_few_dimensions_stand_still_and_stay_below_the_bound),
           TEST(products_need_at_most_as_many_clusters_as_their_factors_say), TEST(two_caches_hold_half_n_times_what_four_hold),
           TEST(a_set_of_rows_fixed_beforehand_errs_on_one_of_the_pair), TEST(unmasked_windows_are_exact_and_do_not_grow),
           TEST(a_table_and_the_prediction_are_printed_for_people), TEST(a_drawing_is_made_where_one_is_asked_for),
           TEST(wrong_usage_is_told))
