/* attn eval beside the definitions in float64: traces, errors, bytes, what is left out, what is told of traces that are wrong. */
#include "tests/test.h"

#include "io/safetensors.h"
#include "tests/tools/answer.h"
#include "tests/tools/support.h"
#include "tools/command.h"
#include "tools/plot.h"

#include "cache/cache.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Tokens, the first of the second half, layers, heads, kv heads, dimensions. */
enum { N = 41, HALF = N / 2, L = 2, H = 4, G = 2, D = 6, E = 5, STREAMS = 2, N_ERRORS = L * (N - HALF) * H };
enum { WINDOW = 7, WINDOW_2 = 4, SINKS = 2 };
static const double SCALE = 0.75;

static const char CONFIG[] = "profiles:\n"
                             "  - name: narrow\n"
                             "    rules:\n"
                             "      - {attention: softmax, policy: window, window_tokens: 7, sink_tokens: 2}\n"
                             "      - {attention: tensor, policy: window, window_tokens: [7, 4], sink_tokens: 2}\n";

static struct {
    float q[L][N * H * D], key[STREAMS][L][N * G * D], value[STREAMS][L][N * G * E];
} numbers;

static void fill_numbers(void)
{
    for (unsigned l = 0; l < L; l++) {
        support_fill(numbers.q[l], N * H * D, 3, 10 + l);
        for (unsigned i = 0; i < STREAMS; i++) {
            support_fill(numbers.key[i][l], N * G * D, 2, 20 + 2 * l + i);
            support_fill(numbers.value[i][l], N * G * E, 1, 30 + 2 * l + i);
        }
    }
}

/* ---- files */

/* The upper halves of floats: what bf16 keeps when it cuts. The floats become what is left of them. */
static uint16_t *upper_halves(float *x, size_t n)
{
    uint16_t *out = support_array(n, sizeof *out);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        out[i] = (uint16_t)(bits >> 16);
        bits &= 0xFFFF0000u;
        memcpy(&x[i], &bits, sizeof bits);
    }
    return out;
}

/* A trace of the numbers; what a fault changes is `tensors`, before it is written. */
struct file {
    char path[SUPPORT_PATH_BYTES];
    char name[L * 5][24];
    struct tensor tensor[L * 5];
    size_t n;
    void *halves[L * 5];
};

static void add(struct file *f, unsigned layer, const char *part, float *x, size_t heads, size_t width, bool bf16)
{
    struct tensor *t = &f->tensor[f->n];
    snprintf(f->name[f->n], sizeof f->name[f->n], "layer.%u.%s", layer, part);
    *t = (struct tensor){f->name[f->n], bf16 ? TENSOR_BF16 : TENSOR_F32, 3, {N, heads, width}, N * heads * width, x, 0};
    if (bf16)
        t->data = f->halves[f->n] = upper_halves(x, t->n);
    t->bytes = t->n * (bf16 ? 2 : 4);
    f->n++;
}

static void describe_trace(struct file *f, bool tensor, bool bf16)
{
    static const char *const names[2][4] = {{"k", "v", "", ""}, {"k1", "v1", "k2", "v2"}};
    memset(f, 0, sizeof *f);
    fill_numbers();
    for (unsigned l = 0; l < L; l++) {
        add(f, l, "q", numbers.q[l], H, D, bf16);
        for (unsigned i = 0; i < (tensor ? 2u : 1u); i++) {
            add(f, l, names[tensor][2 * i], numbers.key[i][l], G, D, bf16);
            add(f, l, names[tensor][2 * i + 1], numbers.value[i][l], G, E, bf16);
        }
    }
}

static void write_trace(struct file *f, const char *const *metadata)
{
    struct fault fault;
    support_file(f->path, "");
    CU_ASSERT_EQUAL_FATAL(safetensors_write(f->path, f->tensor, f->n, metadata, &fault), 0);
    for (size_t i = 0; i < f->n; i++)
        free(f->halves[i]);
}

static void make_trace(struct file *f, bool tensor, bool bf16)
{
    describe_trace(f, tensor, bf16);
    write_trace(f, (const char *const[]){"scale", "0.75", "heads", "4", "tokens", "41", NULL});
}

/* ---- definitions */

/* Whether a query of token t sees row j of a stream. */
static bool sees(size_t t, size_t j, size_t window)
{
    return j <= t && (window == 0 || j + window > t || j < SINKS);
}

static double score(const float *q, const float *k, const float *k2)
{
    double s = 0;
    for (size_t c = 0; c < D; c++)
        s += SCALE * (double)q[c] * (double)k[c] * (k2 ? (double)k2[c] : 1);
    return s;
}

/* One query's output over the rows that it sees: windows 0 for full attention. */
static void define(bool tensor, size_t l, size_t t, size_t h, size_t w1, size_t w2, double out[E])
{
    const float *q = numbers.q[l] + (t * H + h) * D;
    double sum = 0;
    memset(out, 0, E * sizeof *out);
    for (size_t i = 0; i <= t; i++)
        for (size_t j = 0; j <= (tensor ? t : 0); j++) {
            size_t a = i * G + h / (H / G), b = j * G + h / (H / G);
            if (!sees(t, i, w1) || (tensor && !sees(t, j, w2)))
                continue;
            double w = exp(score(q, numbers.key[0][l] + a * D, tensor ? numbers.key[1][l] + b * D : NULL));
            sum += w;
            for (size_t c = 0; c < E; c++)
                out[c] += w * (double)numbers.value[0][l][a * E + c] * (tensor ? (double)numbers.value[1][l][b * E + c] : 1);
        }
    for (size_t c = 0; c < E; c++)
        out[c] /= sum;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct expected {
    double mean, p50, p90, p99;
    char worst[32];
};

static double percentile(const double *x, double p)
{
    double at = p * (N_ERRORS - 1), low = floor(at);
    return x[(size_t)low] + (at - low) * (x[(size_t)ceil(at)] - x[(size_t)low]);
}

static void expect(struct expected *x, bool tensor)
{
    static double error[N_ERRORS];
    double most = -1;
    size_t n = 0;
    x->mean = 0;
    for (size_t l = 0; l < L; l++)
        for (size_t h = 0; h < H; h++) {
            double head = 0;
            for (size_t t = HALF; t < N; t++) {
                double full[E], kept[E], off = 0, norm = 0;
                define(tensor, l, t, h, 0, 0, full);
                define(tensor, l, t, h, WINDOW, tensor ? WINDOW_2 : 0, kept);
                for (size_t c = 0; c < E; c++) {
                    off += (kept[c] - full[c]) * (kept[c] - full[c]);
                    norm += full[c] * full[c];
                }
                error[n] = sqrt(off / norm);
                head += error[n++];
            }
            if (head > most) {
                most = head;
                snprintf(x->worst, sizeof x->worst, "layer %zu head %zu", l, h);
            }
            x->mean += head / N_ERRORS;
        }
    qsort(error, N_ERRORS, sizeof *error, ascending);
    x->p50 = percentile(error, 0.5);
    x->p90 = percentile(error, 0.9);
    x->p99 = percentile(error, 0.99);
}

/* ---- runs */

static struct answer answer;

static void eval(const struct file *f, const char *more)
{
    char args[512];
    snprintf(args, sizeof args, "--trace %s %s", f->path, more);
    answer_get(&answer, command_eval, args);
}

static size_t n_rows(void)
{
    return json_array_size(json_object_get(answer.json, "rows"));
}

static const json_t *row(size_t i)
{
    const json_t *row = json_array_get(json_object_get(answer.json, "rows"), i);
    CU_ASSERT_PTR_NOT_NULL_FATAL(row);
    return row;
}

static void errors_are_those_of_the_definition(void)
{
    char config[SUPPORT_PATH_BYTES], more[128];
    support_file(config, CONFIG);
    for (int i = 0; i < 4; i++) {
        bool tensor = i & 1;
        struct file f;
        struct expected x;
        make_trace(&f, tensor, i & 2);
        expect(&x, tensor);
        for (int batch = 1; batch <= 9; batch += 8) {
            snprintf(more, sizeof more, "--config %s --profiles narrow --batch %d --json", config, batch);
            eval(&f, more);
            CU_ASSERT_EQUAL(answer.code, COMMAND_DONE);
            CU_ASSERT_EQUAL_FATAL(n_rows(), 1);
            CU_ASSERT_STRING_EQUAL(answer_text(row(0), "policy"), "narrow");
            CU_ASSERT_STRING_EQUAL(answer_text(row(0), "worst_head"), x.worst);
            CU_ASSERT(json_is_null(json_object_get(row(0), "budget_fraction")));
            CU_ASSERT(x.mean > 0.1);
            ASSERT_NEAR(answer_number(row(0), "error_mean") / x.mean, 1, 1e-6);
            ASSERT_NEAR(answer_number(row(0), "error_p50") / x.p50, 1, 2e-6);
            ASSERT_NEAR(answer_number(row(0), "error_p90") / x.p90, 1, 2e-6);
            ASSERT_NEAR(answer_number(row(0), "error_p99") / x.p99, 1, 2e-6);
            answer_drop(&answer);
        }
        unlink(f.path);
    }
    unlink(config);
}

static void full_attention_has_no_error_and_its_bytes_are_known(void)
{
    for (int tensor = 0; tensor < 2; tensor++) {
        struct file f;
        make_trace(&f, tensor, false);
        eval(&f, tensor ? "--policies full,two_cache --json" : "--policies full --json");
        CU_ASSERT_EQUAL(answer.code, COMMAND_DONE);
        CU_ASSERT_EQUAL(n_rows(), tensor ? 2 : 1);
        for (size_t i = 0; i < n_rows(); i++) {
            CU_ASSERT(answer_number(row(i), "error_p99") < 1e-5);
            CU_ASSERT(answer_number(row(i), "error_mean") < 1e-6);
            CU_ASSERT(json_is_null(json_object_get(row(i), "budget_fraction")));
            CU_ASSERT_EQUAL(answer_number(row(i), "bytes_full_bf16"), L * G * N * (D + E) * 2 * (tensor ? 2 : 1));
            ASSERT_NEAR(answer_number(row(i), "kept_fraction") * answer_number(row(i), "bytes_full_bf16"),
                        answer_number(row(i), "bytes"), 1e-6 * answer_number(row(i), "bytes"));
        }
        CU_ASSERT(answer_number(row(0), "bytes") >= 2 * answer_number(row(0), "bytes_full_bf16"));
        answer_drop(&answer);
        unlink(f.path);
    }
}

static void every_row_has_every_key(void)
{
    static const char *const texts[] = {"trace", "policy", "key_storage", "value_storage", "worst_head"};
    static const char *const positive[] = {"budget_fraction", "bytes",         "bytes_full_bf16", "kept_fraction",
                                           "error_mean",      "error_p50",     "error_p90",       "error_p99",
                                           "append_seconds",  "attend_seconds"};
    struct file f;
    make_trace(&f, false, false);
    eval(&f, "--policies window --budgets 8/2,3.5 --storage bf16,f32 --json");
    CU_ASSERT_EQUAL(answer.code, COMMAND_DONE);
    CU_ASSERT_EQUAL(n_rows(), 4);
    for (size_t i = 0; i < n_rows(); i++) {
        for (size_t k = 0; k < sizeof texts / sizeof *texts; k++)
            CU_ASSERT(strlen(answer_text(row(i), texts[k])) > 0);
        for (size_t k = 0; k < sizeof positive / sizeof *positive; k++)
            CU_ASSERT(answer_number(row(i), positive[k]) > 0);
        CU_ASSERT_STRING_EQUAL(answer_text(row(i), "trace"), f.path);
        CU_ASSERT_STRING_EQUAL(answer_text(row(i), "key_storage"), i < 2 ? "f32" : "bf16");
        CU_ASSERT_EQUAL(answer_number(row(i), "budget_fraction"), i % 2 ? 3.5 : 4);
        CU_ASSERT(answer_number(row(i), "kept_fraction") <= answer_number(row(i), "budget_fraction"));
    }
    answer_drop(&answer);
    unlink(f.path);
}

/* Every policy of the table that serves the kind, in a row or with the reason why not. */
static void all_means_every_policy_that_fits(void)
{
    for (unsigned kind = 0; kind < N_ATTENTION; kind++) {
        struct file f;
        make_trace(&f, kind == ATTENTION_TENSOR, false);
        eval(&f, "--policies all --budgets 2 --json");
        CU_ASSERT_EQUAL(answer.code, COMMAND_DONE);
        const json_t *left_out = json_object_get(answer.json, "left_out");
        size_t expected = 0;
        for (size_t p = 0; cache_table[p]; p++) {
            size_t seen = 0;
            for (size_t i = 0; i < n_rows(); i++)
                seen += strcmp(answer_text(row(i), "policy"), cache_table[p]->name) == 0;
            for (size_t i = 0; i < json_array_size(left_out); i++)
                seen += strcmp(answer_text(json_array_get(left_out, i), "policy"), cache_table[p]->name) == 0;
            CU_ASSERT_EQUAL(seen, (cache_table[p]->kinds >> kind) & 1);
            expected += seen;
        }
        CU_ASSERT_EQUAL(n_rows() + json_array_size(left_out), expected);
        answer_drop(&answer);
        unlink(f.path);
    }
}

static void what_cannot_be_measured_is_left_out_with_its_reason(void)
{
    struct file f;
    make_trace(&f, false, false);
    eval(&f, "--policies full,window,two_cache --budgets 4,1/100 --json");
    CU_ASSERT_EQUAL(answer.code, COMMAND_DONE);
    CU_ASSERT_EQUAL(n_rows(), 2);
    CU_ASSERT_EQUAL(json_array_size(json_object_get(answer.json, "left_out")), 2);
    CU_ASSERT_PTR_NOT_NULL(strstr(answer.errors, "window at 1/100 is left out: "));
    CU_ASSERT_PTR_NOT_NULL(strstr(answer.errors, "two_cache is left out: it does not serve"));
    answer_drop(&answer);
    eval(&f, "--policies two_cache --json");
    CU_ASSERT_EQUAL(answer.code, COMMAND_FAILED);
    CU_ASSERT_PTR_NULL(answer.json);
    unlink(f.path);
}

static void a_table_is_printed_for_people(void)
{
    struct file f;
    make_trace(&f, false, false);
    eval(&f, "--policies full,window --budgets 4");
    CU_ASSERT_EQUAL(answer.code, COMMAND_DONE);
    CU_ASSERT(strstr(answer.output, f.path) && strstr(answer.output, "error_mean") && strstr(answer.output, "\nwindow"));
    unlink(f.path);
}

/* ---- what is wrong */

static void a_trace_that_is_wrong_is_told_by_tensor(void)
{
    static const struct {
        size_t tensor; /* 0 q, 1 k, 2 v of layer 0; 3.. of layer 1 */
        const char *name;
        size_t dim, of; /* dim of `of` numbers instead */
        float first;    /* the first number, when not 0 */
        const char *key, *text, *says;
    } wrong[] = {
        {1, "layer.0.x", 0, 0, 0, NULL, NULL, "layer.0.k (or k1, v1, k2, v2) is missing"},
        {2, "layer.0.x", 0, 0, 0, NULL, NULL, "layer.0.v is missing"},
        {0, "layer.7.q", 0, 0, 0, NULL, NULL, "there is no tensor layer.0.q"},
        {2, "layer.0.k1", 0, 0, 0, NULL, NULL, "is it softmax or tensor"},
        {4, NULL, 0, N - 1, 0, NULL, NULL, "layer.1.k is 40 x 2 x 6"},
        {4, NULL, 2, D - 1, 0, NULL, NULL, "layer.1.k is 41 x 2 x 5, and beside the others it should be 41 x 2 x 6"},
        {0, NULL, 1, 3, 0, NULL, NULL, "layer.1.q is 41 x 4 x 6, and beside the others it should be 41 x 3 x 6"},
        {5, NULL, 0, 0, INFINITY, NULL, NULL, "layer.1.v holds NaN or infinity"},
        {0, NULL, 0, 0, 0, "heads", "5", "metadata heads is '5', the tensors say 4"},
        {0, NULL, 0, 0, 0, "scale", "wide", "metadata scale must be a number, not 'wide'"},
        {0, NULL, 0, 0, 0, "attention", "tensor", "metadata attention is 'tensor'"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct file f;
        describe_trace(&f, false, false);
        struct tensor *t = &f.tensor[wrong[i].tensor];
        if (wrong[i].name)
            t->name = wrong[i].name;
        if (wrong[i].of) {
            t->n = t->n / t->dim[wrong[i].dim] * wrong[i].of;
            t->dim[wrong[i].dim] = wrong[i].of;
            t->bytes = t->n * 4;
        }
        if (wrong[i].first != 0)
            *(float *)t->data = wrong[i].first;
        write_trace(&f, (const char *const[]){wrong[i].key, wrong[i].text, NULL});
        eval(&f, "--policies full --json");
        if (!strstr(answer.errors, wrong[i].says))
            printf("\n%s: %s", wrong[i].says, answer.errors);
        CU_ASSERT_EQUAL(answer.code, COMMAND_FAILED);
        CU_ASSERT_PTR_NULL(answer.json);
        CU_ASSERT_PTR_NOT_NULL(strstr(answer.errors, wrong[i].says));
        unlink(f.path);
    }
}

static void wrong_usage_is_told(void)
{
    static const char *const wrong[][2] = {
        {"", "--trace FILE... is required"},
        {"--trace a --policies fool", "there is no policy 'fool'"},
        {"--trace a --storage f33", "there is no storage 'f33'"},
        {"--trace a --budgets 1/0", "--budgets takes shares"},
        {"--trace a --budgets 1/2,,1", "--budgets takes 1 to"},
        {"--trace a --budgets half", "--budgets takes shares such as 1/8"},
        {"--trace a --batch 0", "--batch must be"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        answer_get(&answer, command_eval, wrong[i][0]);
        CU_ASSERT_EQUAL(answer.code, COMMAND_USAGE);
        CU_ASSERT_PTR_NOT_NULL(strstr(answer.errors, wrong[i][1]));
    }
    answer_get(&answer, command_eval, "--trace /nonexistent/file --json");
    CU_ASSERT_EQUAL(answer.code, COMMAND_FAILED);
    CU_ASSERT_PTR_NOT_NULL(strstr(answer.errors, "/nonexistent/file"));
}

/* ---- drawings */

static void a_drawing_is_an_svg_file_or_tells_what_is_missing(void)
{
    static const double x[] = {1, 2, 0, 4}, y[] = {1e-3, 1e-2, 1, NAN};
    const struct plot_series series = {"it's \\ \"a\" {name}_1", 4, x, y, PLOT_MARKED}, empty = {"empty", 0, x, y, PLOT_DASHED};
    const struct plot_series both[] = {series, empty};
    const struct plot_panel panels[] = {{"one's", "x", "y", true, true, both, 2}, {"none", "x", "y", true, true, &empty, 1}};
    struct fault fault = {0};
    char path[SUPPORT_PATH_BYTES], head[6] = "";
    support_file(path, "before");
    int err = plot_write(path, panels, 2, 2, &fault);
    FILE *f = fopen(path, "r");
    CU_ASSERT_FATAL(f && fread(head, 1, 5, f) == 5);
    fclose(f);
    if (err) {
        CU_ASSERT_EQUAL(err, ERR_IO);
        CU_ASSERT_PTR_NOT_NULL(strstr(fault.text, "gnuplot"));
        CU_ASSERT_STRING_EQUAL(head, "befor");
    } else {
        CU_ASSERT_STRING_EQUAL(head, "<?xml");
        CU_ASSERT_EQUAL(plot_write("/nonexistent/plot.svg", panels, 2, 2, &fault), ERR_IO);
        CU_ASSERT_PTR_NOT_NULL(strstr(fault.text, "/nonexistent/plot.svg"));
    }
    unlink(path);
}

static void without_gnuplot_a_drawing_says_so(void)
{
    static const double x[] = {1, 2};
    const struct plot_series series = {"a", 2, x, x, PLOT_MARKS};
    const struct plot_panel panel = {"a", "x", "y", false, false, &series, 1};
    struct fault fault = {0};
    const char *path = getenv("PATH");
    char *kept = path ? strdup(path) : NULL;
    setenv("PATH", "/nonexistent", 1);
    CU_ASSERT_EQUAL(plot_write("/nonexistent/plot.svg", &panel, 1, 1, &fault), ERR_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(fault.text, "gnuplot-nox"));
    if (kept)
        setenv("PATH", kept, 1);
    free(kept);
}

TEST_SUITE("tools/eval", TEST(errors_are_those_of_the_definition), TEST(full_attention_has_no_error_and_its_bytes_are_known),
           TEST(every_row_has_every_key), TEST(all_means_every_policy_that_fits),
           TEST(what_cannot_be_measured_is_left_out_with_its_reason), TEST(a_table_is_printed_for_people),
           TEST(a_trace_that_is_wrong_is_told_by_tensor), TEST(wrong_usage_is_told),
           TEST(a_drawing_is_an_svg_file_or_tells_what_is_missing), TEST(without_gnuplot_a_drawing_says_so))
