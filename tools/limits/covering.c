/* attn limits covering: in few dimensions a sketch stops growing, whatever the keys [Haris, Onak: arXiv 2502.15955].
 *
 * Centres of SubGen's normaliser lie farther than delta from one another, so balls of radius delta/2 around them are disjoint, and all
 * lie in a ball of radius R + delta/2: there are at most (1 + 2 R / delta)^d, for every stream of keys with |k| <= R. Uniform keys
 * are the worst there is. While that number is far above n, almost every key is a cluster of its own. */
#include "tools/eval/words.h"
#include "tools/limits/cover.h"
#include "tools/limits/draw.h"
#include "tools/limits/experiment.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char WHO[] = "attn limits covering";

struct options {
    uint64_t n, seed;
    double delta;
    const char *dimensions;
};

#define AT(field) offsetof(struct options, field)

static const struct command_option option_table[] = {
    {"--n", "N", OPTION_COUNT, AT(n), 2, 1 << 20, false, "keys (default 16384), counted at every power of 2 from 64 on"},
    {"--d", "D,...", OPTION_TEXT, AT(dimensions), 0, 0, false, "dimensions (default 2,3,...,12)"},
    {"--delta", "X", OPTION_NUMBER, AT(delta), 1e-3, 2, false,
     "radius of a cluster; keys fill the ball of radius 1 (default 0.5)"},
    {"--seed", "N", OPTION_COUNT, AT(seed), 0, 0x1p53, false, "of the keys (default 0)"},
};

static const char HELP[] = "Clusters of uniform keys against their number, in few dimensions and in many.";

enum { FIRST = 64, LENGTHS_MAX = 20 };

static int run_dimension(struct experiment *x, struct trial *trial, const struct options *o, size_t d, struct fault *fault)
{
    size_t at[LENGTHS_MAX], n_at = 0;
    double clusters[LENGTHS_MAX], bound = pow(1 + 2 / o->delta, (double)d);
    float *key = malloc(o->n * d * sizeof *key);
    for (size_t n = FIRST; n < o->n && n_at + 1 < LENGTHS_MAX; n *= 2)
        at[n_at++] = n;
    at[n_at++] = o->n;
    if (!key)
        return fault_set(fault, ERR_NO_MEMORY, "%llu keys", (unsigned long long)o->n);
    for (size_t t = 0; t < o->n; t++)
        draw_in_ball(o->seed + d, t, d, key + t * d);
    int err = cover_count(trial, key, o->n, d, o->delta, at, n_at, clusters, fault);
    for (size_t i = 0; i < n_at && !err; i++) {
        /* By how much the number grows: 1 with every key, 0 when it stands still. */
        double exponent = i ? log(clusters[i] / clusters[i - 1]) / log((double)at[i] / (double)at[i - 1]) : NAN;
        err = experiment_add(x,
                             json_pack("{s:I, s:I, s:f, s:I, s:f, s:f, s:o}", "d", (json_int_t)d, "n", (json_int_t)at[i],
                                       "delta", o->delta, "clusters", (json_int_t)clusters[i], "bound", bound, "share",
                                       clusters[i] / (double)at[i], "growth", experiment_real(exponent)),
                             fault);
    }
    free(key);
    return err;
}

int limits_covering(int argc, char **argv)
{
    static const struct experiment_panel panels[] = {
        {.title = "Clusters of uniform keys", .x = "n", .y = "clusters", .by = {"d"}, .x_log = true, .y_log = true},
        {.title = "Clusters, and the covering bound", .x = "d", .y = "clusters", .theory = "bound", .by = {"n"}, .y_log = true},
    };
    struct experiment x = {
        .who = WHO,
        .name = "covering",
        .predicts =
            "never more clusters than (1 + 2 R / delta)^d, R = 1: in few dimensions their number stands still while n grows "
            "(growth 0), in many every key is a cluster of its own (growth 1)",
        .rows = json_array(),
        .tables = "d",
        .panels = panels,
        .n_panels = 2,
    };
    struct options options = {.n = 16384, .delta = 0.5, .dimensions = "2,3,4,5,6,7,8,9,10,11,12"};
    struct experiment_options shown = {0};
    struct fault fault = {0};
    struct words dimensions = {0};
    struct trial *trial = NULL;
    const struct option_group groups[] = {{option_table, sizeof option_table / sizeof *option_table, &options},
                                          {experiment_option_table, n_experiment_options, &shown}};
    int code = command_parse(WHO, HELP, groups, 2, argc, argv);
    if (code == COMMAND_GO_ON)
        code = words_counts(&dimensions, WHO, "--d", options.dimensions, 1, 1024);
    if (code == COMMAND_GO_ON) {
        command_catch_interrupt();
        int err = trial_create(&trial, NULL, &fault);
        for (size_t i = 0; i < dimensions.n && !err; i++) {
            command_progress("covering", i, dimensions.n);
            err = run_dimension(&x, trial, &options, (size_t)dimensions.number[i], &fault);
            if (!err && command_interrupted())
                err = fault_set(&fault, ERR_FAILED, "interrupted");
        }
        command_progress("covering", 1, 1);
        trial_destroy(trial);
        code = experiment_end(&x, &shown, err, &fault);
    }
    json_decref(x.rows);
    words_free(&dimensions);
    return code;
}
