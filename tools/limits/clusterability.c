/* attn limits clusterability: what clusterable factors say about their products (derived; for SubGen2 and SubGen4, arXiv 2503.11108).
 *
 * Keys are (m, delta)-clusterable when they fall into m parts of diameter at most delta. With (m1, delta1) and (m2, delta2) of the
 * factors the products k1_i o k2_j are (m1 m2, delta1 max|k2|_inf + delta2 max|k1|_inf)-clusterable:
 *     |k1 o k2 - k1' o k2'| <= |k1 - k1'| |k2|_inf + |k2 - k2'| |k1'|_inf
 * A net whose centres lie farther than delta apart has at most one in each part. So SubGen4, which clusters the factors, holds
 * m1 + m2 clusters where SubGen2, which clusters the products, may need m1 m2; at a smaller radius products need still more. */
#include "tools/limits/cover.h"
#include "tools/limits/draw.h"
#include "tools/limits/experiment.h"

#include <math.h>
#include <stdlib.h>

static const char WHO[] = "attn limits clusterability";

struct options {
    uint64_t n, d, seed;
};

#define AT(field) offsetof(struct options, field)

static const struct command_option option_table[] = {
    {"--n", "N", OPTION_COUNT, AT(n), 2, 1024, false, "tokens (default 96; n^2 products)"},
    {"--d", "D", OPTION_COUNT, AT(d), 1, 1024, false, "dimension (default 16)"},
    {"--seed", "N", OPTION_COUNT, AT(seed), 0, 0x1p53, false, "of the keys (default 0)"},
};

static const char HELP[] = "Clusters of two streams of factors, and of the products of all their pairs.";

/* Factors of both streams: m planted centres of norm 1 and diameter delta around them; m = n: keys of their own. */
struct planted {
    size_t m[2];
    double delta[2];
};

static const struct planted cases[] = {
    {{2, 2}, {0.1, 0.1}},  {{4, 4}, {0.1, 0.1}}, {{8, 8}, {0.1, 0.1}},        {{16, 4}, {0.1, 0.1}},
    {{8, 8}, {0.02, 0.2}}, {{8, 8}, {0.4, 0.4}}, {{SIZE_MAX, 4}, {0.1, 0.1}}, {{SIZE_MAX, SIZE_MAX}, {0.1, 0.1}},
};

struct keys {
    size_t n, d;
    float *factor[2]; /* (n, d) */
    float *product;   /* (n * n, d) */
    double largest[2];
};

static void keys_free(struct keys *k)
{
    free(k->factor[0]);
    free(k->factor[1]);
    free(k->product);
}

static int keys_create(struct keys *k, const struct options *o, const struct planted *p, struct fault *fault)
{
    size_t n = o->n, d = o->d;
    *k = (struct keys){
        n, d, {malloc(n * d * sizeof(float)), malloc(n * d * sizeof(float))}, malloc(n * n * d * sizeof(float)), {0, 0}};
    float *noise = malloc(d * sizeof *noise);
    if (!k->factor[0] || !k->factor[1] || !k->product || !noise) {
        free(noise);
        return fault_set(fault, ERR_NO_MEMORY, "products of %zu keys", n);
    }
    for (size_t i = 0; i < 2; i++)
        for (size_t t = 0; t < n; t++) {
            float *key = k->factor[i] + t * d;
            draw_on_sphere(o->seed + 1 + i, p->m[i] == SIZE_MAX ? t : t % p->m[i], d, key);
            draw_in_ball(o->seed + 3 + i, t, d, noise);
            for (size_t c = 0; c < d; c++) {
                /* a little less than half the diameter, so that rounding leaves it a bound */
                key[c] = (float)((double)key[c] + 0.499 * p->delta[i] * (double)noise[c]);
                k->largest[i] = fmax(k->largest[i], fabs((double)key[c]));
            }
        }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            for (size_t c = 0; c < d; c++)
                k->product[(i * n + j) * d + c] = k->factor[0][i * d + c] * k->factor[1][j * d + c];
    free(noise);
    return 0;
}

static int run_case(struct experiment *x, struct trial *trial, const struct options *o, const struct planted *p,
                    struct fault *fault)
{
    struct keys k;
    double factors[2] = {0, 0}, products[2] = {0, 0};
    int err = keys_create(&k, o, p, fault);
    size_t n = k.n, all = k.n * k.n;
    double delta = p->delta[0] * k.largest[1] + p->delta[1] * k.largest[0];
    for (size_t i = 0; i < 2 && !err; i++)
        err = cover_count(trial, k.factor[i], n, k.d, p->delta[i], &n, 1, &factors[i], fault);
    for (size_t i = 0; i < 2 && !err; i++) /* at the radius of the claim, and at a quarter of it */
        err = cover_count(trial, k.product, all, k.d, i ? delta / 4 : delta, &all, 1, &products[i], fault);
    keys_free(&k);
    if (err)
        return err;
    double m1 = p->m[0] == SIZE_MAX ? (double)n : (double)p->m[0], m2 = p->m[1] == SIZE_MAX ? (double)n : (double)p->m[1];
    return experiment_add(x,
                          json_pack("{s:I, s:f, s:I, s:f, s:I, s:I, s:I, s:f, s:I, s:I, s:I}", "m1", (json_int_t)m1, "delta1",
                                    p->delta[0], "m2", (json_int_t)m2, "delta2", p->delta[1], "n", (json_int_t)n, "clusters1",
                                    (json_int_t)factors[0], "clusters2", (json_int_t)factors[1], "delta_products", delta,
                                    "clusters_products", (json_int_t)products[0], "predicted_at_most", (json_int_t)(m1 * m2),
                                    "clusters_at_quarter_delta", (json_int_t)products[1]),
                          fault);
}

int limits_clusterability(int argc, char **argv)
{
    static const struct experiment_panel panels[] = {
        {.title = "Products at the radius of the claim",
         .x = "predicted_at_most",
         .y = "clusters_products",
         .theory = "predicted_at_most",
         .x_log = true,
         .y_log = true},
        {.title = "Products at a quarter of it",
         .x = "predicted_at_most",
         .y = "clusters_at_quarter_delta",
         .theory = "predicted_at_most",
         .x_log = true,
         .y_log = true},
    };
    struct experiment x = {
        .who = WHO,
        .name = "clusterability",
        .predicts =
            "clusters1 <= m1, clusters2 <= m2, and the products need at most m1 m2 at the radius delta1 max|k2|_inf + delta2 "
            "max|k1|_inf; SubGen4 holds the sum, SubGen2 up to the product",
        .rows = json_array(),
        .panels = panels,
        .n_panels = 2,
    };
    struct options options = {.n = 96, .d = 16};
    struct experiment_options shown = {0};
    struct fault fault = {0};
    struct trial *trial = NULL;
    const struct option_group groups[] = {{option_table, sizeof option_table / sizeof *option_table, &options},
                                          {experiment_option_table, n_experiment_options, &shown}};
    int code = command_parse(WHO, HELP, groups, 2, argc, argv);
    if (code == COMMAND_GO_ON) {
        command_catch_interrupt();
        int err = trial_create(&trial, NULL, &fault);
        for (size_t i = 0; i < sizeof cases / sizeof *cases && !err; i++) {
            command_progress("clusterability", i, sizeof cases / sizeof *cases);
            err = run_case(&x, trial, &options, &cases[i], &fault);
            if (!err && command_interrupted())
                err = fault_set(&fault, ERR_FAILED, "interrupted");
        }
        command_progress("clusterability", 1, 1);
        trial_destroy(trial);
        code = experiment_end(&x, &shown, err, &fault);
    }
    json_decref(x.rows);
    return code;
}
