/* attn limits nonadaptive: rows that are chosen before the query comes [Haris, Onak: arXiv 2502.15955].
 *
 * A non-adaptive algorithm decides beforehand which rows it reads for token n. The indistinguishable pair: keys are nearly orthogonal,
 * the query lies along key j and puts almost all its weight there; the two streams differ in nothing but v_j, which is u in one and
 * -u in the other. Whoever does not read row j gives both the same answer z, and max(|z - u|, |z + u|) >= |u|: a relative error of at
 * least 1 on one of them. For j drawn at random a fixed set of r rows errs by at least 1 - r/n on average: it takes r = Omega(n)
 * rows, Omega(n d) time, to be right. Rows chosen by looking at the query and all keys (which costs as much) need only one.
 *
 * What a set of rows gives is attention over a full cache that was given only them, through the daemon's engine. Trials are heads. */
#include "tools/eval/trial.h"
#include "tools/eval/words.h"
#include "tools/limits/draw.h"
#include "tools/limits/experiment.h"

#include "base/coins.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char WHO[] = "attn limits nonadaptive";

struct options {
    uint64_t d, trials, seed;
    const char *lengths;
};

#define AT(field) offsetof(struct options, field)

static const struct command_option option_table[] = {
    {"--n", "N,...", OPTION_TEXT, AT(lengths), 0, 0, false, "rows of the streams (default 256,1024,4096)"},
    {"--d", "D", OPTION_COUNT, AT(d), 16, 1024, false, "dimension (default 64)"},
    {"--trials", "N", OPTION_COUNT, AT(trials), 1, 256, false, "pairs of streams (default 32)"},
    {"--seed", "N", OPTION_COUNT, AT(seed), 0, 0x1p53, false, "of all draws (default 0)"},
};

static const char HELP[] = "Reading a fixed set of rows, on pairs of streams that differ in one value that the query asks for: "
                           "the worse of the two errors.";

/* Pairs of streams of n rows: those of trial i differ in row asked[i]. */
struct pairs {
    size_t n, d, trials;
    float *key, *value; /* (n, d); value of row j is u for whoever asks for j */
    size_t *asked;      /* (trials,) */
    float *q;           /* (trials, d), scaled */
    double *full;       /* (2, trials, d): the true outputs of both streams */
};

static void pairs_free(struct pairs *p)
{
    free(p->key);
    free(p->value);
    free(p->asked);
    free(p->q);
    free(p->full);
}

static double inner(const float *a, const float *b, size_t d)
{
    double sum = 0;
    for (size_t c = 0; c < d; c++)
        sum += (double)a[c] * (double)b[c];
    return sum;
}

/* out (d,) of trial i's stream: side 0 has v_j = u, side 1 -u. Scores end at that of row j, which is taken off. */
static void define(const struct pairs *p, size_t i, size_t side, double *out)
{
    size_t j = p->asked[i];
    double top = inner(p->q + i * p->d, p->key + j * p->d, p->d), sum = 0;
    memset(out, 0, p->d * sizeof *out);
    for (size_t r = 0; r < p->n; r++) {
        double w = exp(inner(p->q + i * p->d, p->key + r * p->d, p->d) - top), sign = r == j && side ? -1 : 1;
        sum += w;
        for (size_t c = 0; c < p->d; c++)
            out[c] += w * sign * (double)p->value[r * p->d + c];
    }
    for (size_t c = 0; c < p->d; c++)
        out[c] /= sum;
}

static int pairs_create(struct pairs *p, size_t n, size_t d, size_t trials, uint64_t seed, struct fault *fault)
{
    *p = (struct pairs){n,
                        d,
                        trials,
                        malloc(n * d * sizeof(float)),
                        malloc(n * d * sizeof(float)),
                        malloc(trials * sizeof(size_t)),
                        malloc(trials * d * sizeof(float)),
                        malloc(2 * trials * d * sizeof(double))};
    if (!p->key || !p->value || !p->asked || !p->q || !p->full)
        return fault_set(fault, ERR_NO_MEMORY, "pairs of streams");
    for (size_t r = 0; r < n; r++)
        for (size_t c = 0; c < d; c++) {
            p->key[r * d + c] = (float)(draw_sign(seed, r, c) / sqrt((double)d));
            p->value[r * d + c] = (float)draw_sign(mix(seed), r, c);
        }
    for (size_t i = 0; i < trials; i++) {
        double at = ((double)i + draw_uniform(mix(seed + 1), i, 0)) / (double)trials, eps = 0;
        size_t j = p->asked[i] = (size_t)(at * (double)n);
        for (size_t r = 0; r < n; r++)
            if (r != j)
                eps = fmax(eps, inner(p->key + r * d, p->key + j * d, d));
        if (eps > 1 - 1e-6)
            return fault_set(fault, ERR_INVALID, "%zu dimensions are too few for %zu keys that differ", d, n);
        for (size_t c = 0; c < d; c++)
            p->q[i * d + c] = (float)(2 * log((double)n) / (1 - eps) * (double)p->key[j * d + c]);
        for (size_t side = 0; side < 2; side++)
            define(p, i, side, p->full + (side * trials + i) * d);
    }
    return 0;
}

/* ---- sets of rows */

enum choice { FIRST, LAST, STRIDED, RANDOM, BY_QUERY, N_RULE };
static const char *const rule_names[N_RULE] = {"first", "last", "strided", "random", "by query"};

/* n_read rows of trial i, rising. Only BY_QUERY looks at the trial: it takes the row that its query asks for among the first ones. */
static void choose(const struct pairs *p, enum choice rule, size_t i, size_t n_read, uint64_t seed, size_t *rows)
{
    size_t at = 0, j = p->asked[i];
    for (size_t r = 0; r < p->n && at < n_read; r++) {
        size_t left = p->n - r, wanted = n_read - at;
        bool take = rule == FIRST || left <= wanted;
        if (rule == STRIDED)
            take = r == at * p->n / n_read;
        if (rule == RANDOM) /* each set of n_read rows is equally likely */
            take = draw_uniform(seed, r, n_read) * (double)left < (double)wanted;
        if (rule == BY_QUERY)
            take = r == j || wanted > 1 || r > j;
        if (take)
            rows[at++] = r;
    }
}

/* Attention of all trials over their rows, both sides: out (2, trials, d) of heads side * trials + i. */
static int read_rows(struct trial *trial, const struct pairs *p, enum choice rule, size_t n_read, uint64_t seed, float *out,
                     struct fault *fault)
{
    size_t heads = 2 * p->trials, d = p->d;
    size_t *rows = calloc(n_read, sizeof *rows);
    float *key = malloc(n_read * heads * d * sizeof *key), *value = malloc(n_read * heads * d * sizeof *value);
    float *q = malloc(heads * d * sizeof *q);
    struct shape *shape = calloc(1, sizeof *shape);
    int err = rows && key && value && q && shape ? 0 : fault_set(fault, ERR_NO_MEMORY, "%zu rows of %zu heads", n_read, heads);
    for (size_t i = 0; i < p->trials && !err; i++) {
        choose(p, rule, i, n_read, seed, rows);
        for (size_t side = 0; side < 2; side++) {
            size_t h = side * p->trials + i;
            memcpy(q + h * d, p->q + i * d, d * sizeof *q);
            for (size_t r = 0; r < n_read; r++) {
                float sign = rows[r] == p->asked[i] && side ? -1 : 1;
                memcpy(key + (r * heads + h) * d, p->key + rows[r] * d, d * sizeof *key);
                for (size_t c = 0; c < d; c++)
                    value[(r * heads + h) * d + c] = sign * p->value[rows[r] * d + c];
            }
        }
    }
    if (!err) {
        *shape = (struct shape){.n_layers = 1,
                                .heads = heads,
                                .kv_heads = heads,
                                .key_dim = d,
                                .value_dim = d,
                                .scale = 1,
                                .expected_tokens = n_read};
        err = trial_open(trial, shape, TRIAL_POLICY "full", fault);
    }
    struct trial_step append = {.n_tokens = n_read, .flags = PART_APPEND, .key = {key}, .value = {value}};
    struct trial_step attend = {.n_tokens = 1, .flags = PART_ATTEND, .q = q, .out = out};
    if (!err)
        err = trial_step(trial, &append, fault);
    if (!err)
        err = trial_step(trial, &attend, fault);
    trial_close(trial);
    free(rows);
    free(key);
    free(value);
    free(q);
    free(shape);
    return err;
}

/* The mean over trials of the worse error of the two streams. */
static double pair_error(const struct pairs *p, const float *out)
{
    double sum = 0;
    for (size_t i = 0; i < p->trials; i++) {
        double worse = 0;
        for (size_t side = 0; side < 2; side++) {
            size_t at = (side * p->trials + i) * p->d;
            double off = 0, norm = 0;
            for (size_t c = 0; c < p->d; c++) {
                off += ((double)out[at + c] - p->full[at + c]) * ((double)out[at + c] - p->full[at + c]);
                norm += p->full[at + c] * p->full[at + c];
            }
            worse = fmax(worse, sqrt(off / norm));
        }
        sum += worse;
    }
    return sum / (double)p->trials;
}

static int run_length(struct experiment *x, struct trial *trial, const struct options *o, size_t n, struct fault *fault)
{
    struct pairs p;
    float *out = malloc(2 * o->trials * o->d * sizeof *out);
    int err = pairs_create(&p, n, o->d, o->trials, mix(o->seed ^ mix(n)), fault);
    if (!out && !err)
        err = fault_set(fault, ERR_NO_MEMORY, "outputs");
    const struct {
        const char *name;
        double rows;
    } sizes[] = {
        {"sqrt n", sqrt((double)n)}, {"n / log2 n", (double)n / log2((double)n)}, {"n / 2", (double)n / 2}, {"n", (double)n}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes && !err; i++)
        for (int rule = 0; rule < N_RULE && !err; rule++) {
            size_t n_read = (size_t)fmax(1, floor(sizes[i].rows));
            err = read_rows(trial, &p, (enum choice)rule, n_read, mix(o->seed + 7), out, fault);
            if (err)
                break;
            double share = (double)n_read / (double)n;
            err = experiment_add(x,
                                 json_pack("{s:s, s:I, s:s, s:I, s:f, s:f, s:o}", "rule", rule_names[rule], "n", (json_int_t)n,
                                           "rows", sizes[i].name, "rows_read", (json_int_t)n_read, "share", share, "error_mean",
                                           pair_error(&p, out), "predicted",
                                           rule == BY_QUERY ? json_null() : json_real(1 - share)),
                                 fault);
            if (!err && command_interrupted())
                err = fault_set(fault, ERR_FAILED, "interrupted");
        }
    free(out);
    pairs_free(&p);
    return err;
}

int limits_nonadaptive(int argc, char **argv)
{
    static const struct experiment_panel panels[] = {
        {.title = "Reading rows chosen before the query",
         .x = "share",
         .y = "error_mean",
         .theory = "predicted",
         .by = {"rule"},
         .x_log = true,
         .marks = true},
        {.title = "Reading sqrt(n) rows",
         .x = "n",
         .y = "error_mean",
         .theory = "predicted",
         .by = {"rule"},
         .x_log = true,
         .only = "rows",
         .is = "sqrt n"},
    };
    struct experiment x = {
        .who = WHO,
        .name = "nonadaptive",
        .predicts = "a set of r rows fixed before the query errs by at least 1 - r/n on one stream of the pair, on average "
                    "over the row that "
                    "is asked for; with r = o(n) that goes to 1, so a non-adaptive algorithm takes Omega(n d) time",
        .rows = json_array(),
        .tables = "rule",
        .panels = panels,
        .n_panels = 2,
    };
    struct options options = {.d = 64, .trials = 32, .lengths = "256,1024,4096"};
    struct experiment_options shown = {0};
    struct fault fault = {0};
    struct words lengths = {0};
    struct trial *trial = NULL;
    const struct option_group groups[] = {{option_table, sizeof option_table / sizeof *option_table, &options},
                                          {experiment_option_table, n_experiment_options, &shown}};
    int code = command_parse(WHO, HELP, groups, 2, argc, argv);
    if (code == COMMAND_GO_ON)
        code = words_counts(&lengths, WHO, "--n", options.lengths, 2, 1 << 16);
    if (code == COMMAND_GO_ON) {
        command_catch_interrupt();
        int err = trial_create(&trial, NULL, &fault);
        for (size_t i = 0; i < lengths.n && !err; i++)
            err = run_length(&x, trial, &options, (size_t)lengths.number[i], &fault);
        trial_destroy(trial);
        code = experiment_end(&x, &shown, err, &fault);
    }
    json_decref(x.rows);
    words_free(&lengths);
    return code;
}
