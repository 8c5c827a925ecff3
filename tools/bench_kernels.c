/* attn bench kernels: attention and appending beside the machine's limits of the same run.
 *
 * The limit of a case is the larger of (bytes that must be read once / read bandwidth) and (multiply-adds as two operations /
 * peak of the type computed in, for keys and values apart); fraction_of_limit is that time over the measured one. Rounds interleave the loops that find the
 * limits with what they limit, and every number is the median of its rounds: shared machines are never at rest. */
#include "tools/bench/bench.h"
#include "tools/bench/compare.h"
#include "tools/bench/compose.h"
#include "tools/bench/limits.h"
#include "tools/bench/subject.h"
#include "tools/bench/summary.h"
#include "tools/command.h"

#include <stdio.h>
#include <string.h>

static const char who[] = "attn bench kernels";

enum {
    ROUNDS_MIN = 5,
    ROUNDS_MAX = 41,
    ROUNDS_QUICK = 2,
    TOKENS_QUICK = 64,
    TOKENS_MAX = 1 << 24,
    THREADS_MAX = 1024,
    MACHINE_BYTES = 96,
};

static const double CASE_SECONDS = 1.5, /* of all rounds of a case */
    PASS_SECONDS = 0.02;                /* shorter passes are repeated until a measurement takes that long */

typedef int subject_create(struct subject **out, const struct bench_case *c, const struct kernels *kernels, size_t n_threads,
                           struct fault *fault);

#define SOFTMAX(name, policy, storage, tokens)                                                                                 \
    {                                                                                                                          \
        name, ATTENTION_SOFTMAX, policy, storage, storage, 32, 8, 128, 128, tokens, {0}, COMPUTE_F32                           \
    }
#define TENSOR(name, policy, storage, dim, tokens) TENSOR_IN(COMPUTE_F32, name, policy, storage, dim, tokens)
#define TENSOR_IN(compute, name, policy, storage, dim, tokens)                                                                 \
    {                                                                                                                          \
        name, ATTENTION_TENSOR, policy, storage, storage, 8, 8, dim, dim, tokens, {0}, compute                                 \
    }
#define WINDOW(compute, name, storage, dim, tokens, one, other)                                                                \
    {                                                                                                                          \
        name, ATTENTION_TENSOR, "window", storage, storage, 8, 8, dim, dim, tokens, {one, other}, compute                      \
    }

static const struct row {
    struct bench_case c;
    subject_create *create;
} table[] = {
    {SOFTMAX("softmax_decode", "full", STORAGE_BF16, 65536), decode_create},
    {SOFTMAX("softmax_decode", "full", STORAGE_F16, 65536), decode_create},
    {SOFTMAX("softmax_decode", "full", STORAGE_F32, 65536), decode_create},
    {SOFTMAX("softmax_decode", "full", STORAGE_Q8_0, 65536), decode_create},
    {SOFTMAX("softmax_decode", "full", STORAGE_Q4_0, 65536), decode_create},
    {SOFTMAX("softmax_decode", "full", STORAGE_Q4_0H, 65536), decode_create},
    {SOFTMAX("softmax_decode", "full", STORAGE_ROT8, 65536), decode_create},
    {SOFTMAX("softmax_decode", "full", STORAGE_ROT4, 65536), decode_create},
    {SOFTMAX("softmax_decode", "full", STORAGE_ROT3, 65536), decode_create},
    {SOFTMAX("softmax_decode", "full", STORAGE_ROT2, 65536), decode_create},
    {TENSOR("tensor_four_cache", "full", STORAGE_F32, 64, 4096), decode_create},
    {TENSOR("tensor_four_cache", "full", STORAGE_F32, 32, 4096), decode_create},
    {TENSOR("tensor_four_cache", "full", STORAGE_F32, 128, 4096), decode_create},
    {TENSOR("tensor_four_cache", "full", STORAGE_F32, 64, 1024), decode_create},
    {TENSOR("tensor_four_cache", "full", STORAGE_F32, 64, 256), decode_create},
    {WINDOW(COMPUTE_F32, "tensor_four_cache", STORAGE_F32, 128, 4096, 512, 32), decode_create},
    {TENSOR_IN(COMPUTE_BF16, "tensor_four_cache", "full", STORAGE_F32, 64, 4096), decode_create},
    {TENSOR_IN(COMPUTE_BF16, "tensor_four_cache", "full", STORAGE_BF16, 64, 4096), decode_create},
    {TENSOR_IN(COMPUTE_BF16, "tensor_four_cache", "full", STORAGE_F32, 128, 4096), decode_create},
    {TENSOR_IN(COMPUTE_BF16, "tensor_four_cache", "full", STORAGE_F32, 64, 256), decode_create},
    {WINDOW(COMPUTE_BF16, "tensor_four_cache", STORAGE_F32, 128, 4096, 512, 32), decode_create},
    {TENSOR("tensor_four_cache", "full", STORAGE_F32, 64, 4096), compose_create},
    {TENSOR("tensor_two_cache", "two_cache", STORAGE_F32, 64, 256), decode_create},
    {TENSOR("tensor_two_cache", "two_cache", STORAGE_BF16, 64, 256), decode_create},
    {SOFTMAX("prompt_softmax", "full", STORAGE_F32, 2048), prompt_create},
    {SOFTMAX("prompt_softmax", "full", STORAGE_BF16, 2048), prompt_create},
    {SOFTMAX("prompt_softmax", "full", STORAGE_Q8_0, 2048), prompt_create},
    {SOFTMAX("prompt_softmax", "full", STORAGE_ROT4, 2048), prompt_create},
    {TENSOR("prompt_tensor", "full", STORAGE_F32, 64, 256), prompt_create},
    {SOFTMAX("append", "full", STORAGE_F32, 16384), append_create},
    {SOFTMAX("append", "full", STORAGE_BF16, 16384), append_create},
    {SOFTMAX("append", "full", STORAGE_F16, 16384), append_create},
    {SOFTMAX("append", "full", STORAGE_Q8_0, 16384), append_create},
    {SOFTMAX("append", "full", STORAGE_Q4_0, 16384), append_create},
    {SOFTMAX("append", "full", STORAGE_Q4_0H, 16384), append_create},
    {SOFTMAX("append", "full", STORAGE_ROT8, 16384), append_create},
    {SOFTMAX("append", "full", STORAGE_ROT4, 16384), append_create},
    {SOFTMAX("append", "full", STORAGE_ROT3, 16384), append_create},
    {SOFTMAX("append", "full", STORAGE_ROT2, 16384), append_create},
};

enum { N_ROWS = sizeof table / sizeof *table };

/* ------------------------------------------------------------------ options */

struct options {
    const char *only, *isa, *compare, *with;
    uint64_t threads, tokens, dim;
    bool json, quick;
};

#define PLACE(field) offsetof(struct options, field)

static const struct command_option option_table[] = {
    {"--only", "NAME", OPTION_TEXT, PLACE(only), 0, 0, false, "softmax_decode, tensor_four_cache, ...: only this one's cases"},
    {"--tokens", "N", OPTION_COUNT, PLACE(tokens), 1, TOKENS_MAX, false, "in place of every case's own number"},
    {"--dim", "N", OPTION_COUNT, PLACE(dim), 1, SHAPE_DIM_MAX, false, "of keys and values, likewise"},
    {"--threads", "N", OPTION_COUNT, PLACE(threads), 1, THREADS_MAX, false, "threads (default: one for each CPU)"},
    {"--isa", "NAME", OPTION_TEXT, PLACE(isa), 0, 0, false, "instruction set (default: the best that runs here)"},
    {"--quick", NULL, OPTION_SWITCH, PLACE(quick), 0, 0, false,
     "tiny sizes and few rounds: tells whether it runs, not how fast"},
    {"--compare", "OLD NEW", OPTION_TEXT, PLACE(compare), 0, 0, false,
     "measure nothing: set two files of such JSON lines side by side"},
    {"--json", NULL, OPTION_SWITCH, PLACE(json), 0, 0, false, "one JSON object per case and line"},
};

static bool known(const char *name)
{
    for (size_t i = 0; i < N_ROWS; i++)
        if (strcmp(table[i].c.kernel, name) == 0)
            return true;
    return false;
}

/* ------------------------------------------------------------------ measuring */

struct result {
    double seconds, read_seconds, peak_flops, beside_seconds; /* medians; the last 0 where there is nothing beside */
};

struct rounds {
    double pass[ROUNDS_MAX], read[ROUNDS_MAX], flops[ROUNDS_MAX], beside[ROUNDS_MAX];
    size_t n;
};

/* What keys and values are multiplied in. */
struct types {
    enum limits_type keys, values;
    double keys_share; /* of the multiply-adds */
};

static bool is_whole(enum storage_id id)
{
    return id >= STORAGE_Q8_0 && id < N_ROW_STORAGE; /* kivi2 is widened first */
}

static struct types types_of(const struct bench_case *c, const struct kernels *kernels)
{
    if (c->compute == COMPUTE_BF16)
        return (struct types){LIMITS_BF16, LIMITS_BF16, 0.5};
    bool keys = kernels->whole_keys && is_whole(c->key_storage), values = kernels->whole_values && is_whole(c->value_storage);
    return (struct types){keys ? LIMITS_INT16 : LIMITS_F32, values ? LIMITS_INT16 : LIMITS_F32,
                          (double)c->d / (double)(c->d + c->e)};
}

static const char *types_name(const struct types *t)
{
    static const char *const name[N_LIMITS_TYPE][N_LIMITS_TYPE] = {
        {"f32", "f32+int16"}, {"int16+f32", "int16"}, {NULL, NULL, "bf16"}};
    return name[t->keys][t->values];
}

/* Operations per second, the one and the other after each other. */
static double peak_of(struct limits *limits, const struct types *t)
{
    double keys = limits_flops_per_second(limits, t->keys);
    double values = t->values == t->keys ? keys : limits_flops_per_second(limits, t->values);
    return 1 / (t->keys_share / keys + (1 - t->keys_share) / values);
}

static int one_round(struct subject *subject, struct limits *limits, const struct types *types, size_t n_times,
                     struct rounds *r, struct fault *fault)
{
    r->beside[r->n] = 0;
    r->read[r->n] = limits_read_seconds(limits, n_times);
    int err = subject->ops->run(subject, n_times, &r->pass[r->n], fault);
    if (!err && subject->ops->beside)
        err = subject->ops->beside(subject, n_times, &r->beside[r->n], fault);
    r->flops[r->n] = peak_of(limits, types);
    r->n += !err;
    return err;
}

static int measure(struct subject *subject, struct limits *limits, const struct types *types, bool quick, struct result *out,
                   struct fault *fault)
{
    struct rounds r = {.n = 0};
    double warm = 0;
    size_t n_times = 1, n_rounds = ROUNDS_QUICK;
    int err = subject->ops->run(subject, 1, &warm, fault);
    if (!err && !quick) {
        while ((double)n_times * warm < PASS_SECONDS && n_times < subject->n_times_max)
            n_times++;
        double rounds = CASE_SECONDS / ((double)n_times * warm);
        n_rounds = rounds < ROUNDS_MIN ? ROUNDS_MIN : rounds > ROUNDS_MAX ? ROUNDS_MAX : (size_t)rounds;
    }
    while (!err && r.n < n_rounds)
        err = one_round(subject, limits, types, n_times, &r, fault);
    if (!err)
        *out = (struct result){median(r.pass, r.n), median(r.read, r.n), median(r.flops, r.n), median(r.beside, r.n)};
    return err;
}

/* A line of the table or of JSON: a case with what follows from its result. */
struct line {
    struct bench_case c;
    const char *isa, *machine, *limit;
    const char *core;   /* OpenBLAS's kernels; NULL: attnd's own */
    const char *beside; /* what was measured beside; NULL: nothing */
    size_t threads;
    struct types types;
    double bytes, flops, fraction;
    double error; /* of another compute than f32, relative to that */
    struct result r;
};

/* The case as it is to be measured. */
static struct bench_case case_of(const struct row *row, const struct options *o)
{
    struct bench_case c = row->c;
    c.tokens = o->tokens ? (size_t)o->tokens : c.tokens;
    c.d = o->dim ? (size_t)o->dim : c.d;
    c.e = o->dim ? (size_t)o->dim : c.e;
    if (o->quick && c.tokens > TOKENS_QUICK)
        c.tokens = TOKENS_QUICK;
    return c;
}

static int run_case(subject_create *create, const struct kernels *kernels, bool quick, struct line *line, struct fault *fault)
{
    struct subject *subject;
    struct limits *limits;
    int err = create(&subject, &line->c, kernels, line->threads, fault);
    if (err)
        return err;
    line->bytes = subject->bytes;
    line->flops = subject->flops;
    line->error = subject->error;
    line->beside = subject->ops->beside_name;
    line->types = types_of(&line->c, kernels);
    err = limits_create(&limits, kernels, line->threads, (size_t)subject->bytes, fault);
    if (!err)
        err = measure(subject, limits, &line->types, quick, &line->r, fault);
    limits_destroy(limits);
    subject->ops->destroy(subject);
    return err;
}

/* ------------------------------------------------------------------ printing */

static void judge(struct line *line)
{
    double compute = line->flops / line->r.peak_flops;
    line->limit = line->r.read_seconds >= compute ? "read" : "compute";
    line->fraction = (line->r.read_seconds >= compute ? line->r.read_seconds : compute) / line->r.seconds;
}

/* What only some lines have, and whose kernels it was. */
static int add_details(json_t *object, const struct line *l)
{
    const struct bench_case *c = &l->c;
    char key[64];
    int err = json_object_set_new(object, "policy", json_string(c->policy)) |
              json_object_set_new(object, "implementation", json_string(l->core ? "openblas" : "attnd")) |
              json_object_set_new(object, "compute", json_string(types_name(&l->types)));
    if (l->core)
        err |= json_object_set_new(object, "openblas_core", json_string(l->core));
    if (c->window[0])
        err |= json_object_set_new(object, "window_tokens", json_pack("[ii]", (int)c->window[0], (int)c->window[1]));
    if (c->compute != COMPUTE_F32)
        err |= json_object_set_new(object, "error", json_real(l->error));
    if (l->beside) {
        snprintf(key, sizeof key, "%s_seconds", l->beside);
        err |= json_object_set_new(object, key, json_real(l->r.beside_seconds));
        snprintf(key, sizeof key, "times_%s", l->beside);
        err |= json_object_set_new(object, key, json_real(l->r.seconds / l->r.beside_seconds));
    }
    return err;
}

static int print_json(const struct line *l)
{
    const struct bench_case *c = &l->c;
    json_t *object =
        json_pack("{ss ss ss ss si si si si sI si sf sf sf sf sf ss sf ss si}", "kernel", c->kernel, "key_storage",
                  storage_table[c->key_storage].name, "value_storage", storage_table[c->value_storage].name, "isa", l->isa,
                  "heads", (int)c->heads, "kv_heads", (int)c->kv_heads, "key_dim", (int)c->d, "value_dim", (int)c->e, "tokens",
                  (json_int_t)c->tokens, "threads", (int)l->threads, "seconds", l->r.seconds, "gb_per_s",
                  l->bytes / l->r.seconds * 1e-9, "gflop_per_s", l->flops / l->r.seconds * 1e-9, "read_gb_per_s",
                  l->bytes / l->r.read_seconds * 1e-9, "peak_gflop_per_s", l->r.peak_flops * 1e-9, "limit", l->limit,
                  "fraction_of_limit", l->fraction, "machine", l->machine, "cores", (int)team_cpus());
    if (object && add_details(object, l)) {
        json_decref(object);
        object = NULL;
    }
    return command_print_json(who, object);
}

static void print_head(const struct line *l)
{
    printf("%s, %zu cores, %zu threads, %s\n\n", l->machine, team_cpus(), l->threads, l->isa);
    printf("%-18s %-5s %5s %4s %6s %10s %8s %8s %8s %8s  %-7s %s\n", "kernel", "rows", "heads", "dim", "tokens", "ms", "GB/s",
           "GFLOP/s", "read", "peak", "limit", "fraction");
}

static void print_row(const struct line *l)
{
    const struct bench_case *c = &l->c;
    printf("%-18s %-5s %2zu/%-2zu %4zu %6zu %10.3f %8.2f %8.2f %8.2f %8.2f  %-7s %.3f", c->kernel,
           storage_table[c->key_storage].name, c->heads, c->kv_heads, c->d, c->tokens, l->r.seconds * 1e3,
           l->bytes / l->r.seconds * 1e-9, l->flops / l->r.seconds * 1e-9, l->bytes / l->r.read_seconds * 1e-9,
           l->r.peak_flops * 1e-9, l->limit, l->fraction);
    if (c->window[0])
        printf("  %zux%zu", c->window[0], c->window[1]);
    if (c->compute != COMPUTE_F32)
        printf("  %s, error %.4f:", types_name(&l->types), l->error);
    if (l->core)
        printf("  OpenBLAS (%s):", l->core);
    if (l->beside)
        printf("  %.2f times %s", l->r.seconds / l->r.beside_seconds, l->beside);
    printf("\n");
    fflush(stdout);
}

/* Takes the second value of --compare out of the arguments; NULL when it is not there. */
static const char *take_second(int *argc, char **argv)
{
    for (int i = 1; i + 2 < *argc; i++)
        if (strcmp(argv[i], "--compare") == 0) {
            const char *second = argv[i + 2];
            for (int j = i + 2; j < *argc; j++) /* the NULL at the end, too */
                argv[j] = argv[j + 1];
            --*argc;
            return second;
        }
    return NULL;
}

int bench_kernels(int argc, char **argv)
{
    struct options o = {.threads = team_cpus()};
    struct option_group group = {option_table, sizeof option_table / sizeof *option_table, &o};
    struct fault fault = {0};
    char machine[MACHINE_BYTES];
    o.with = take_second(&argc, argv);
    int code = command_parse(who, "How fast attention and appending are, each beside the machine's limits in the same run.",
                             &group, 1, argc, argv);
    if (code != COMMAND_GO_ON)
        return code;
    if (o.compare && !o.with)
        return command_usage(who, "--compare takes two files");
    if (o.compare)
        return bench_compare(who, o.compare, o.with, o.json);
    if (o.only && !known(o.only))
        return command_usage(who, "--only: no kernel is called '%s'", o.only);
    const struct kernels *kernels = o.isa ? kernels_find(o.isa) : kernels_best();
    if (!kernels)
        return command_usage(who, "--isa: this CPU does not run '%s'", o.isa);
    if (team_check((size_t)o.threads, &fault))
        return command_failed(who, &fault);
    machine_name(machine, sizeof machine);
    compose_right_core();

    size_t n_printed = 0;
    for (size_t i = 0; i < N_ROWS; i++) {
        struct line line = {.c = case_of(&table[i], &o), .isa = kernels->isa, .machine = machine, .threads = (size_t)o.threads};
        if (o.only && strcmp(o.only, table[i].c.kernel) != 0)
            continue;
        command_progress(table[i].c.kernel, i, N_ROWS);
        line.core = table[i].create == compose_create ? compose_core() : NULL;
        if (run_case(table[i].create, kernels, o.quick, &line, &fault))
            return command_failed(who, &fault);
        judge(&line);
        command_progress(table[i].c.kernel, N_ROWS, N_ROWS);
        if (!o.json && n_printed++ == 0)
            print_head(&line);
        if (!o.json)
            print_row(&line);
        else if ((code = print_json(&line)) != COMMAND_DONE)
            return code;
    }
    return COMMAND_DONE;
}
