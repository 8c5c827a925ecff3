/* attn limits tradeoff: the two forms of tensor attention [Chen, Li, Liang, Shi, Song, Tian: arXiv 2503.11108] side by side.
 *
 *     four caches   K1, K2, V1, V2: 2 n (d + e) numbers; a step is about 2 n^2 (d + e) operations in two matrix products
 *     two caches    the n^2 product rows: n^2 (d + e) numbers, which a step reads once; no products have to be formed
 *
 * The paper counts the two-cache form as faster by the multiplications that form products. A step of it reads n^2 (d + e) numbers
 * from memory, though, where the other form computes on 2 n (d + e) that stay in cache. The same for the compressed forms, subgen2
 * (clusters of product rows) and subgen4 (clusters of the factors), on streams whose factors are clustered. */
#include "tools/eval/measure.h"
#include "tools/eval/words.h"
#include "tools/limits/draw.h"
#include "tools/limits/experiment.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char WHO[] = "attn limits tradeoff";

enum { PROBE = 9 /* tokens before each length that are timed; the median counts */, LENGTHS_MAX = WORDS_MAX };

struct options {
    uint64_t d, clusters, seed;
    const char *lengths, *storage;
};

#define AT(field) offsetof(struct options, field)

static const struct command_option option_table[] = {
    {"--n", "N,...", OPTION_TEXT, AT(lengths), 0, 0, false, "lengths of the stream, rising (default 32,64,128,256,512)"},
    {"--d", "D", OPTION_COUNT, AT(d), 1, 1024, false, "dimension of keys and values (default 64)"},
    {"--clusters", "N", OPTION_COUNT, AT(clusters), 1, 1 << 16, false, "that the factors lie in (default 8)"},
    {"--storage", "NAME", OPTION_TEXT, AT(storage), 0, 0, false, "of all rows (default f32)"},
    {"--seed", "N", OPTION_COUNT, AT(seed), 0, 0x1p53, false, "of the stream (default 0)"},
};

static const char HELP[] =
    "Tensor attention with four caches and with two, full and compressed: bytes and seconds of a token against length.";

/* Forms that are compared: the first of a pair holds factors, the second products. */
struct form {
    const char *pair, *policy, *settings;
    bool products;
};

static const struct form forms[] = {
    {"full", "full", "", false},
    {"full", "two_cache", "", true},
    {"subgen", "subgen4", "", false},
    {"subgen", "subgen2", "", true},
};

enum { N_FORMS = sizeof forms / sizeof *forms };

struct found {
    bool measured;
    double bytes, append, attend;
};

struct run {
    struct options options;
    struct words lengths;
    struct experiment *x;
    struct trial *trial;
    size_t n;                     /* tokens of the longest stream */
    float *q, *key[2], *value[2]; /* (n, d) */
    struct found found[N_FORMS][LENGTHS_MAX];
};

/* Keys within 0.05 of planted centres of norm 1, values that go with the cluster plus noise. */
static int make_stream(struct run *r, struct fault *fault)
{
    const struct options *o = &r->options;
    size_t d = o->d;
    float *centre = malloc(d * sizeof *centre), *noise = malloc(d * sizeof *noise);
    r->n = (size_t)r->lengths.number[r->lengths.n - 1];
    r->q = malloc(r->n * d * sizeof *r->q);
    bool ok = centre && noise && r->q;
    for (size_t i = 0; i < 2; i++) {
        r->key[i] = malloc(r->n * d * sizeof *r->key[i]);
        r->value[i] = malloc(r->n * d * sizeof *r->value[i]);
        ok = ok && r->key[i] && r->value[i];
    }
    for (size_t t = 0; ok && t < r->n; t++) {
        for (size_t c = 0; c < d; c++)
            r->q[t * d + c] = (float)(8 * draw_normal(o->seed + 1, t, c));
        for (size_t i = 0; i < 2; i++) {
            size_t cluster = (size_t)(draw_uniform(o->seed + 2 + i, t, 0) * (double)o->clusters);
            draw_on_sphere(o->seed + 4 + i, cluster, d, centre);
            draw_in_ball(o->seed + 6 + i, t, d, noise);
            for (size_t c = 0; c < d; c++) {
                r->key[i][t * d + c] = (float)((double)centre[c] + 0.05 * (double)noise[c]);
                r->value[i][t * d + c] =
                    (float)(draw_normal(o->seed + 8 + i, cluster, c) + 0.1 * draw_normal(o->seed + 10 + i, t, c));
            }
        }
    }
    free(centre);
    free(noise);
    return ok ? 0 : fault_set(fault, ERR_NO_MEMORY, "a stream of %zu tokens", r->n);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int step(struct run *r, size_t t, size_t n, unsigned flags, float *out, struct trial_step *step, struct fault *fault)
{
    size_t at = t * r->options.d;
    *step = (struct trial_step){.n_tokens = n,
                                .flags = flags,
                                .q = r->q + at,
                                .key = {r->key[0] + at, r->key[1] + at},
                                .value = {r->value[0] + at, r->value[1] + at},
                                .out = out};
    return trial_step(r->trial, step, fault);
}

static int grow_to(struct run *r, size_t from, size_t n, float *out, struct found *found, struct fault *fault)
{
    size_t probe = n - from < PROBE ? n - from : PROBE;
    double append[PROBE], attend[PROBE];
    struct trial_step s;
    int err = n > from + probe ? step(r, from, n - probe - from, PART_APPEND, NULL, &s, fault) : 0;
    for (size_t i = 0; i < probe && !err; i++) {
        err = step(r, n - probe + i, 1, PART_APPEND | PART_ATTEND, out, &s, fault);
        append[i] = s.append_seconds;
        attend[i] = s.attend_seconds;
    }
    if (err)
        return err;
    qsort(append, probe, sizeof *append, ascending);
    qsort(attend, probe, sizeof *attend, ascending);
    struct engine_stream_state state;
    trial_state(r->trial, &state);
    *found = (struct found){true, (double)state.allocated, quantile(append, probe, 0.5), quantile(attend, probe, 0.5)};
    return 0;
}

/* One form over all lengths. What it cannot do is left out. */
static int grow(struct run *r, size_t f, struct fault *fault)
{
    size_t d = r->options.d, before = 0;
    struct shape *shape = calloc(1, sizeof *shape);
    float *out = calloc(d, sizeof *out);
    struct fault why = {0};
    char profile[160];
    int err = shape && out ? 0 : fault_set(&why, ERR_NO_MEMORY, "a stream");
    snprintf(profile, sizeof profile, TRIAL_POLICY "%s,storage=%s%s", forms[f].policy, r->options.storage, forms[f].settings);
    if (!err) {
        *shape = (struct shape){.n_layers = 1,
                                .kind = {ATTENTION_TENSOR},
                                .heads = 1,
                                .kv_heads = 1,
                                .key_dim = d,
                                .value_dim = d,
                                .scale = (float)(1 / sqrt((double)d)),
                                .expected_tokens = r->n};
        err = trial_open(r->trial, shape, profile, &why);
    }
    for (size_t i = 0; i < r->lengths.n && !err; i++) {
        command_progress(forms[f].policy, i, r->lengths.n);
        err = grow_to(r, before, (size_t)r->lengths.number[i], out, &r->found[f][i], &why);
        before = (size_t)r->lengths.number[i];
        if (command_interrupted())
            break;
    }
    command_progress("tradeoff", 1, 1);
    trial_close(r->trial);
    free(shape);
    free(out);
    if (command_interrupted())
        return fault_set(fault, ERR_FAILED, "interrupted");
    if (err)
        experiment_left_out(r->x, profile, why.text);
    return 0;
}

/* The other form of the pair. */
static size_t partner(size_t f)
{
    return f ^ 1;
}

static int add_rows(struct run *r, struct fault *fault)
{
    int err = 0;
    for (size_t f = 0; f < N_FORMS; f++)
        for (size_t i = 0; i < r->lengths.n && !err; i++) {
            const struct found *it = &r->found[f][i], *other = &r->found[partner(f)][i];
            double n = r->lengths.number[i], d = (double)r->options.d;
            bool full = f < 2; /* only of the full forms the count is a formula */
            if (!it->measured)
                continue;
            double bytes_ratio = other->measured ? it->bytes / other->bytes : NAN;
            double ratio = other->measured ? (it->append + it->attend) / (other->append + other->attend) : NAN;
            err = experiment_add(
                r->x,
                json_pack("{s:s, s:s, s:I, s:I, s:o, s:f, s:f, s:f, s:o, s:o}", "pair", forms[f].pair, "form", forms[f].policy,
                          "n", (json_int_t)n, "bytes", (json_int_t)it->bytes, "numbers_predicted",
                          full ? json_integer((json_int_t)(forms[f].products ? 2 * n * n * d : 4 * n * d)) : json_null(),
                          "append_seconds", it->append, "attend_seconds", it->attend, "token_seconds", it->append + it->attend,
                          "bytes_beside_other", experiment_real(bytes_ratio), "seconds_beside_other", experiment_real(ratio)),
                fault);
        }
    return err;
}

/* For each pair: the least length from which the form of products is faster up to the longest, or null. */
static json_t *crossovers(const struct run *r)
{
    json_t *all = json_object();
    for (size_t f = 0; f + 1 < N_FORMS; f += 2) {
        json_t *from = json_null();
        for (size_t i = r->lengths.n; i-- > 0;) {
            const struct found *factors = &r->found[f][i], *products = &r->found[f + 1][i];
            if (!factors->measured || !products->measured ||
                products->append + products->attend >= factors->append + factors->attend)
                break;
            json_decref(from);
            from = json_integer((json_int_t)r->lengths.number[i]);
        }
        if (r->found[f][0].measured && r->found[f + 1][0].measured)
            json_object_set(all, forms[f].pair, from);
        json_decref(from);
    }
    return all;
}

static int run_all(struct run *r, struct fault *fault)
{
    int err = make_stream(r, fault);
    if (!err)
        err = trial_create(&r->trial, NULL, fault);
    for (size_t f = 0; f < N_FORMS && !err; f++)
        if (cache_find(forms[f].policy))
            err = grow(r, f, fault);
        else
            experiment_left_out(r->x, forms[f].policy, "this build has no such policy");
    trial_destroy(r->trial);
    if (!err)
        err = add_rows(r, fault);
    if (!err)
        r->x->more = json_pack("{s:o}", "product_form_faster_from_n", crossovers(r));
    free(r->q);
    for (size_t i = 0; i < 2; i++) {
        free(r->key[i]);
        free(r->value[i]);
    }
    return err;
}

int limits_tradeoff(int argc, char **argv)
{
    static const struct experiment_panel panels[] = {
        {.title = "Bytes", .x = "n", .y = "bytes", .by = {"form"}, .x_log = true, .y_log = true},
        {.title = "Seconds of a token", .x = "n", .y = "token_seconds", .by = {"form"}, .x_log = true, .y_log = true},
        {.title = "Seconds of a query", .x = "n", .y = "attend_seconds", .by = {"form"}, .x_log = true, .y_log = true},
        {.title = "Seconds of an append", .x = "n", .y = "append_seconds", .by = {"form"}, .x_log = true, .y_log = true},
    };
    struct experiment x = {
        .who = WHO,
        .name = "tradeoff",
        .predicts = "two caches hold 2 n^2 d numbers where four hold 4 n d, a ratio of n / 2; the paper counts a step of two "
                    "caches as faster "
                    "by the Omega(n^2 d) multiplications that form products, memory traffic says the opposite once n^2 rows "
                    "leave the cache",
        .rows = json_array(),
        .tables = "pair",
        .panels = panels,
        .n_panels = 4,
    };
    struct run r = {.x = &x, .options = {.d = 64, .clusters = 8, .lengths = "32,64,128,256,512", .storage = "f32"}};
    struct experiment_options shown = {0};
    struct fault fault = {0};
    const struct option_group groups[] = {{option_table, sizeof option_table / sizeof *option_table, &r.options},
                                          {experiment_option_table, n_experiment_options, &shown}};
    int code = command_parse(WHO, HELP, groups, 2, argc, argv);
    if (code == COMMAND_GO_ON)
        code = words_counts(&r.lengths, WHO, "--n", r.options.lengths, 2, 1 << 13);
    for (size_t i = 1; code == COMMAND_GO_ON && i < r.lengths.n; i++)
        if (r.lengths.number[i] <= r.lengths.number[i - 1])
            code = command_usage(WHO, "--n takes lengths that rise");
    if (code == COMMAND_GO_ON && !storage_find(r.options.storage))
        code = command_usage(WHO, "--storage: there is no storage '%s'", r.options.storage);
    if (code == COMMAND_GO_ON) {
        command_catch_interrupt();
        int err = run_all(&r, &fault);
        code = experiment_end(&x, &shown, err, &fault);
    }
    json_decref(x.rows);
    words_free(&r.lengths);
    return code;
}
