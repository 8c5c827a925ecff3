/* attn limits tradeoff: the two forms of tensor attention [Chen, Li, Liang, Shi, Song, Tian: arXiv 2503.11108] side by side.
 *
 *     four caches   K1, K2, V1, V2: 2 n (d + e) numbers; a step is about 2 n^2 (d + e) operations in two matrix products
 *     two caches    the n^2 product rows: n^2 (d + e) numbers, which a step reads once; no products have to be formed
 *
 * The paper counts the two-cache form as faster by the multiplications that form products. A step of it reads n^2 (d + e) numbers
 * from memory, though, where the other form computes on 2 n (d + e) that stay in cache. The same for the compressed forms, subgen2
 * (clusters of product rows, with and without the history of factors) and subgen4 (clusters of the factors), on a stream whose
 * factors are clustered, at the radius that they were planted with. */
#include "tools/eval/measure.h"
#include "tools/eval/words.h"
#include "tools/limits/draw.h"
#include "tools/limits/experiment.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char WHO[] = "attn limits tradeoff";

enum { PROBE = 9 /* tokens before each length that are timed; the median counts */, LENGTHS_MAX = WORDS_MAX };

struct options {
    uint64_t d, clusters, bytes, seed;
    const char *lengths, *storage;
};

#define AT(field) offsetof(struct options, field)

static const struct command_option option_table[] = {
    {"--n", "N,...", OPTION_TEXT, AT(lengths), 0, 0, false, "lengths of the stream, rising (default 64,128,...,2048)"},
    {"--d", "D", OPTION_COUNT, AT(d), 1, 1024, false, "dimension of keys and values (default 64)"},
    {"--clusters", "N", OPTION_COUNT, AT(clusters), 1, 1 << 16, false, "that the factors lie in (default 8)"},
    {"--storage", "NAME", OPTION_TEXT, AT(storage), 0, 0, false, "of all rows (default f32)"},
    {"--bytes", "N", OPTION_COUNT, AT(bytes), 1 << 16, 0x1p40, false,
     "the most that a full form may grow by (default 268435456)"},
    {"--seed", "N", OPTION_COUNT, AT(seed), 0, 0x1p53, false, "of the stream (default 0)"},
};

static const char HELP[] =
    "Tensor attention with four caches and with two, full and compressed: bytes and seconds of a token against length.";

/* Forms that are compared: of each pair the first holds factors, the others products. */
struct form {
    const char *pair, *name, *policy;
    size_t factors; /* the form that it is compared with */
    bool sketch;    /* it clusters, within the radius that the stream was planted with */
    bool history;   /* subgen2: forms products from the factors of all tokens */
};

static const struct form forms[] = {
    {"full", "full", "full", 0, false, false},
    {"full", "two_cache", "two_cache", 0, false, false},
    {"subgen", "subgen4", "subgen4", 2, true, false},
    {"subgen", "subgen2, history", "subgen2", 2, true, true},
    {"subgen", "subgen2, history-free", "subgen2", 2, true, false},
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
    double largest[2];            /* max |k|_inf of each stream */
    struct found found[N_FORMS][LENGTHS_MAX];
};

static const double DIAMETER = 0.1; /* of the planted clusters */

/* Keys in clusters around planted centres of norm 1, values that go with the cluster plus noise. */
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
                r->key[i][t * d + c] = (float)((double)centre[c] + 0.499 * DIAMETER * (double)noise[c]);
                r->largest[i] = fmax(r->largest[i], fabs((double)r->key[i][t * d + c]));
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

/* The paper's sketches have no exact rows in front. Products need the radius that clusterability says. */
static void write_profile(const struct run *r, const struct form *f, char *text, size_t size)
{
    int at = snprintf(text, size, TRIAL_POLICY "%s,storage=%s", f->policy, r->options.storage);
    double products = DIAMETER * (r->largest[0] + r->largest[1]);
    if (!f->sketch)
        return;
    at += snprintf(text + at, size - (size_t)at, ",sink_tokens=0,recent_tokens=0,delta=%.9g",
                   strcmp(f->policy, "subgen2") == 0 ? products : DIAMETER);
    if (strcmp(f->policy, "subgen2") == 0)
        snprintf(text + at, size - (size_t)at, ",factor_delta=%.9g,history=%s", DIAMETER, f->history ? "true" : "false");
}

/* One form over all lengths. What it cannot do is left out. */
static int grow(struct run *r, size_t f, struct fault *fault)
{
    size_t d = r->options.d, before = 0;
    struct shape *shape = calloc(1, sizeof *shape);
    float *out = calloc(d, sizeof *out);
    struct fault why = {0};
    char profile[200];
    int err = shape && out ? 0 : fault_set(&why, ERR_NO_MEMORY, "a stream");
    write_profile(r, &forms[f], profile, sizeof profile);
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
        size_t n = (size_t)r->lengths.number[i];
        command_progress(forms[f].name, i, r->lengths.n);
        /* At worst every row is a cluster of a sketch; here they are planted. */
        if (!forms[f].sketch && trial_worst_growth(r->trial, n - before) > (double)r->options.bytes)
            err = fault_set(&why, ERR_TOO_LARGE, "from %zu tokens on it takes more than --bytes %llu", n,
                            (unsigned long long)r->options.bytes);
        else
            err = grow_to(r, before, n, out, &r->found[f][i], &why);
        before = n;
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
        experiment_left_out(r->x, forms[f].name, why.text);
    return 0;
}

static int add_rows(struct run *r, struct fault *fault)
{
    int err = 0;
    for (size_t f = 0; f < N_FORMS; f++)
        for (size_t i = 0; i < r->lengths.n && !err; i++) {
            const struct found *it = &r->found[f][i], *other = &r->found[forms[f].factors][i];
            double n = r->lengths.number[i], d = (double)r->options.d;
            bool products = f != forms[f].factors;
            if (!it->measured)
                continue;
            double bytes_ratio = other->measured ? it->bytes / other->bytes : NAN;
            double ratio = other->measured ? (it->append + it->attend) / (other->append + other->attend) : NAN;
            err = experiment_add(
                r->x,
                json_pack("{s:s, s:s, s:I, s:I, s:o, s:f, s:f, s:f, s:o, s:o}", "pair", forms[f].pair, "form", forms[f].name,
                          "n", (json_int_t)n, "bytes", (json_int_t)it->bytes, "numbers_predicted",
                          forms[f].sketch ? json_null() : json_integer((json_int_t)(products ? 2 * n * n * d : 4 * n * d)),
                          "append_seconds", it->append, "attend_seconds", it->attend, "token_seconds", it->append + it->attend,
                          "bytes_beside_factors", experiment_real(bytes_ratio), "seconds_beside_factors",
                          experiment_real(ratio)),
                fault);
        }
    return err;
}

static bool is_faster(const struct found *a, const struct found *b, bool queries_only)
{
    return queries_only ? a->attend < b->attend : a->append + a->attend < b->append + b->attend;
}

/* For each form of products: the least length from which it is faster than the one of factors, as far as both were measured, or
 * null. */
static json_t *crossovers(const struct run *r, bool queries_only)
{
    json_t *all = json_object();
    for (size_t f = 0; f < N_FORMS; f++) {
        const struct found *products = r->found[f], *factors = r->found[forms[f].factors];
        size_t n = 0, from;
        while (n < r->lengths.n && products[n].measured && factors[n].measured)
            n++;
        for (from = n; from > 0 && is_faster(&products[from - 1], &factors[from - 1], queries_only);)
            from--;
        if (f != forms[f].factors && n > 0)
            json_object_set_new(all, forms[f].name, from < n ? json_integer((json_int_t)r->lengths.number[from]) : json_null());
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
            experiment_left_out(r->x, forms[f].name, "this build has no such policy");
    trial_destroy(r->trial);
    if (!err)
        err = add_rows(r, fault);
    if (!err)
        r->x->more = json_pack("{s:o, s:o}", "product_form_token_faster_from_n", crossovers(r, false),
                               "product_form_query_faster_from_n", crossovers(r, true));
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
        .predicts =
            "two caches hold 2 n^2 d numbers where four hold 4 n d, a ratio of n / 2; the paper counts a step of two caches as "
            "faster by the Omega(n^2 d) multiplications that form products, memory traffic says the opposite. Sketches of "
            "products answer in O(d (m t + s)) where those of factors take O(d (m1 m2 t^2 + s^2)), and append in O(n m d) "
            "with history where those take O((m1 + m2) d)",
        .rows = json_array(),
        .tables = "pair",
        .panels = panels,
        .n_panels = 4,
    };
    struct run r = {
        .x = &x,
        .options = {.d = 64, .clusters = 8, .bytes = 1 << 28, .lengths = "64,128,256,512,1024,2048", .storage = "f32"}};
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
