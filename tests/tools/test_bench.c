/* attn bench: what its JSON lines say and that they fit together. Nothing here depends on how fast the machine is. */
#include "tests/test.h"

#include "cache/cache.h"
#include "tests/tools/capture.h"
#include "tools/command.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINES_MAX = 64, ARGS_MAX = 20 };

struct lines {
    int code;
    size_t n;
    json_t *line[LINES_MAX];
    char errors[512];
};

/* Runs `attn bench ARGS`, words between spaces, and parses every line of its standard output. */
static void bench(struct lines *lines, const char *args)
{
    static struct capture out, err;
    char text[256], program[] = "bench", *argv[ARGS_MAX] = {program};
    int argc = 1;
    snprintf(text, sizeof text, "%s", args);
    for (char *rest = text, *word; argc + 1 < ARGS_MAX && (word = strtok_r(rest, " ", &rest));)
        argv[argc++] = word;
    capture_begin(&out, stdout);
    capture_begin(&err, stderr);
    lines->code = command_bench(argc, argv);
    capture_end(&err);
    capture_end(&out);
    snprintf(lines->errors, sizeof lines->errors, "%.500s", err.text);
    lines->n = 0;
    for (char *rest = out.text, *line; (line = strtok_r(rest, "\n", &rest));) {
        json_t *json = json_loads(line, 0, NULL);
        CU_ASSERT_PTR_NOT_NULL_FATAL(json);
        CU_ASSERT_FATAL(lines->n < LINES_MAX);
        lines->line[lines->n++] = json;
    }
}

static void drop(struct lines *lines)
{
    for (size_t i = 0; i < lines->n; i++)
        json_decref(lines->line[i]);
    lines->n = 0;
}

static double number(const json_t *line, const char *key)
{
    const json_t *value = json_object_get(line, key);
    CU_ASSERT(json_is_number(value));
    return json_number_value(value);
}

static const char *text(const json_t *line, const char *key)
{
    const char *value = json_string_value(json_object_get(line, key));
    CU_ASSERT_PTR_NOT_NULL(value);
    return value ? value : "";
}

static bool is(const json_t *line, const char *kernel)
{
    return strcmp(text(line, "kernel"), kernel) == 0;
}

/* ------------------------------------------------------------------ kernels */

/* Tokens that stream `i` of a tensor layer holds. */
static double held_of(const json_t *line, size_t i)
{
    double n = number(line, "tokens");
    const json_t *window = json_object_get(line, "window_tokens");
    return window ? fmin(n, json_number_value(json_array_get(window, i))) : n;
}

/* Multiply-adds of one pass as two operations, by the definitions: 2 (d + e) for every pair of a query and a row (or pair of
 * rows) that it sees. */
static double flops_of(const json_t *line)
{
    double n = number(line, "tokens"), heads = number(line, "heads"),
           pair = 2 * (number(line, "key_dim") + number(line, "value_dim")) * heads;
    if (is(line, "softmax_decode"))
        return pair * n;
    if (is(line, "tensor_four_cache") || is(line, "tensor_two_cache"))
        return pair * held_of(line, 0) * held_of(line, 1);
    if (is(line, "prompt_softmax"))
        return pair * n * (n + 1) / 2;
    if (is(line, "prompt_tensor"))
        return pair * n * (n + 1) * (2 * n + 1) / 6;
    return 0;
}

/* Per number of a row of 128. */
static double number_bytes(const char *storage)
{
    static const struct {
        const char *storage;
        double bytes;
    } table[] = {{"f32", 4},
                 {"bf16", 2},
                 {"f16", 2},
                 {"q8_0", 136.0 / 128},
                 {"q4_0", 72.0 / 128},
                 {"q4_0h", 72.0 / 128},
                 {"rot8", 132.0 / 128},
                 {"rot4", 68.0 / 128},
                 {"rot3", 52.0 / 128},
                 {"rot2", 36.0 / 128}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(storage, table[i].storage) == 0)
            return table[i].bytes;
    return 0;
}

/* Rows read once; a tensor layer has two row streams, and two_cache a row for each pair. */
static double bytes_of(const json_t *line)
{
    double n = number(line, "tokens"), row = number(line, "key_dim") * number_bytes(text(line, "key_storage")) +
                                             number(line, "value_dim") * number_bytes(text(line, "value_storage"));
    double rows = is(line, "tensor_two_cache")                                 ? n * n
                  : is(line, "tensor_four_cache") || is(line, "prompt_tensor") ? held_of(line, 0) + held_of(line, 1)
                                                                               : n;
    return rows * row * number(line, "kv_heads");
}

/* Whole numbers only where rows are quantised, bf16 only in tensor attention. */
static void check_type(const json_t *line)
{
    const char *compute = text(line, "compute"), *keys = text(line, "key_storage"), *values = text(line, "value_storage");
    bool plain = strchr("fb", keys[0]) && strchr("fb", values[0]);
    if (strcmp(compute, "bf16") == 0) {
        CU_ASSERT(is(line, "tensor_four_cache"));
        CU_ASSERT(number(line, "error") > 0 && number(line, "error") <= 1e-2);
        ASSERT_NEAR(number(line, "times_f32") * number(line, "f32_seconds") / number(line, "seconds"), 1, 1e-6);
        return;
    }
    CU_ASSERT(strcmp(compute, "f32") == 0 || !plain);
    CU_ASSERT(strcmp(compute, "f32") == 0 || strcmp(compute, "int16") == 0 || strcmp(compute, "int16+f32") == 0);
    if (strcmp(text(line, "isa"), "avx2") == 0)
        CU_ASSERT_STRING_EQUAL(compute, plain ? "f32" : "int16");
}

static void check_limit(const json_t *line)
{
    check_type(line);
    double seconds = number(line, "seconds"), bytes = number(line, "gb_per_s") * seconds,
           flops = number(line, "gflop_per_s") * seconds;
    double read = bytes / number(line, "read_gb_per_s"), compute = flops / number(line, "peak_gflop_per_s");
    const char *limit = text(line, "limit");
    CU_ASSERT(seconds > 0);
    CU_ASSERT_STRING_EQUAL(limit, read >= compute ? "read" : "compute");
    ASSERT_NEAR(number(line, "fraction_of_limit") / (fmax(read, compute) / seconds), 1, 1e-6);
    ASSERT_NEAR(bytes * 1e9 / bytes_of(line), 1, 1e-6);
    ASSERT_NEAR(flops * 1e9, flops_of(line), 1e-6 * flops_of(line));
}

static void every_kernel_has_lines_whose_numbers_fit_together(void)
{
    static const char *const kernels[] = {"softmax_decode", "tensor_four_cache", "tensor_two_cache",
                                          "prompt_softmax", "prompt_tensor",     "append"};
    size_t seen[6] = {0}, rivals = 0, windows = 0;
    struct lines lines;
    bench(&lines, "kernels --quick --json --threads 2");
    CU_ASSERT_EQUAL(lines.code, COMMAND_DONE);
    for (size_t i = 0; i < lines.n; i++) {
        const json_t *line = lines.line[i];
        for (size_t k = 0; k < 6; k++)
            seen[k] += is(line, kernels[k]);
        CU_ASSERT_EQUAL(number(line, "threads"), 2);
        CU_ASSERT(number(line, "cores") >= 1);
        CU_ASSERT(strlen(text(line, "machine")) > 0);
        CU_ASSERT(strlen(text(line, "isa")) > 0);
        CU_ASSERT_EQUAL(json_object_get(line, "memcpy_seconds") != NULL, is(line, "append"));
        bool own = strcmp(text(line, "implementation"), "attnd") == 0;
        rivals += !own;
        windows += json_object_get(line, "window_tokens") != NULL;
        if (!own)
            ASSERT_NEAR(number(line, "times_attnd") * number(line, "attnd_seconds") / number(line, "seconds"), 1, 1e-6);
        check_limit(line);
    }
    for (size_t k = 0; k < 6; k++)
        CU_ASSERT(seen[k] >= 1);
    CU_ASSERT(rivals >= 1 && windows >= 1);
    drop(&lines);
}

static void only_runs_one_kernel_on_the_instruction_set_asked_for(void)
{
    struct lines lines;
    bench(&lines, "kernels --quick --json --only append --isa scalar --threads 1");
    CU_ASSERT_EQUAL(lines.code, COMMAND_DONE);
    CU_ASSERT(lines.n >= 2);
    for (size_t i = 0; i < lines.n; i++) {
        CU_ASSERT(is(lines.line[i], "append"));
        CU_ASSERT_STRING_EQUAL(text(lines.line[i], "isa"), "scalar");
        CU_ASSERT_EQUAL(number(lines.line[i], "threads"), 1);
    }
    drop(&lines);
}

static void what_it_does_not_have_is_wrong_usage(void)
{
    static const char *const wrong[] = {"kernels --only nothing",      "kernels --isa abacus",        "kernels --threads 0",
                                        "policies --only full",        "policies --stream pigeons",   "policies --tokens 10",
                                        "pipeline --transport pigeon", "pipeline --transport inproc", "kernels --compare one",
                                        "crowd --only nothing",        "crowd --streams 0",           "nothing"};
    struct lines lines;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        bench(&lines, wrong[i]);
        CU_ASSERT_EQUAL(lines.code, COMMAND_USAGE);
        CU_ASSERT_EQUAL(lines.n, 0);
        CU_ASSERT(strlen(lines.errors) > 0);
        drop(&lines);
    }
}

/* ------------------------------------------------------------------ policies */

static void every_policy_with_a_budget_has_a_line_and_keeps_to_it(void)
{
    struct lines lines;
    size_t n = 0;
    bench(&lines, "policies --quick --json");
    CU_ASSERT_EQUAL(lines.code, COMMAND_DONE);
    for (size_t p = 0; cache_table[p]; p++)
        n += cache_table[p]->takes_budget;
    CU_ASSERT_EQUAL_FATAL(lines.n, n);
    for (size_t i = 0; i < n; i++) {
        const json_t *line = lines.line[i];
        const struct cache_ops *ops = cache_find(text(line, "policy"));
        CU_ASSERT_PTR_NOT_NULL_FATAL(ops);
        bool softmax = ops->kinds & 1u << ATTENTION_SOFTMAX;
        CU_ASSERT_STRING_EQUAL(text(line, "kind"), softmax ? "softmax" : "tensor");
        CU_ASSERT(number(line, "bytes") > 0 && number(line, "bytes") <= number(line, "budget_bytes"));
        CU_ASSERT(number(line, "append_seconds_early") > 0 && number(line, "append_seconds_late") > 0);
        CU_ASSERT(number(line, "attend_seconds_early") > 0 && number(line, "attend_seconds_late") > 0);
        CU_ASSERT(number(line, "resident_bytes_early") > 0 && number(line, "resident_bytes_late") > 0);
        double early = number(line, "append_seconds_early") + number(line, "attend_seconds_early");
        double late = number(line, "append_seconds_late") + number(line, "attend_seconds_late");
        ASSERT_NEAR(number(line, "late_over_early") * early / late, 1, 1e-6);
        CU_ASSERT_EQUAL(json_is_null(json_object_get(line, "error_mean")), !softmax);
        CU_ASSERT_EQUAL(json_object_size(json_object_get(line, "gauges")), ops->n_gauges);
    }
    drop(&lines);
}

/* 16,384 tokens in 335,544 bytes, 640 rows or so. Where there are clusters SubGen has six samples of each: a tenth of noise over
 * sqrt(6), and a little for queries that tell members of a cluster apart. Where there are none it samples, and says so. */
static double planted_error(const char *policy, const char *stream, double *spread)
{
    struct lines lines;
    char args[128];
    double error = INFINITY;
    snprintf(args, sizeof args, "policies --json --only %s --stream %s --tokens 16384 --budget 335544", policy, stream);
    bench(&lines, args);
    CU_ASSERT_EQUAL(lines.code, COMMAND_DONE);
    if (lines.n == 1) {
        error = number(lines.line[0], "error_mean");
        if (spread)
            *spread = number(json_object_get(lines.line[0], "gauges"), "cluster_spread");
    }
    drop(&lines);
    return error;
}

static void clusters_make_subgen_good_and_without_them_it_samples_and_says_so(void)
{
    double clustered, isotropic;
    CU_ASSERT(planted_error("subgen", "clustered", &clustered) < 0.05);
    CU_ASSERT(clustered < 0.05);
    double error = planted_error("subgen", "isotropic", &isotropic), uniform = planted_error("uniform", "isotropic", NULL);
    CU_ASSERT(error > uniform / 1.5 && error < uniform * 1.5);
    CU_ASSERT(isotropic > 0.8);
}

/* ------------------------------------------------------------------ results */

/* A line as a run prints it, of a case that `tokens` and whether it is in bf16 tell from others. */
static void put_result(FILE *file, int tokens, const char *compute, double seconds, double fraction)
{
    fprintf(file,
            "{\"kernel\": \"append\", \"key_storage\": \"bf16\", \"value_storage\": \"f16\", \"isa\": \"any\", \"heads\": 32, "
            "\"kv_heads\": 8, \"key_dim\": 128, \"value_dim\": 64, \"tokens\": %d, \"threads\": 2, \"seconds\": %g, "
            "\"fraction_of_limit\": %g, \"compute\": \"%s\"}\n",
            tokens, seconds, fraction, compute);
}

/* Two files: cases 1 and 2 in the old one, 2 and 3 in the new one, with a line of the pipeline. */
static void put_files(char old_path[], char new_path[])
{
    FILE *file[2] = {fdopen(mkstemp(old_path), "w"), fdopen(mkstemp(new_path), "w")};
    CU_ASSERT_FATAL(file[0] && file[1]);
    put_result(file[0], 1, "f32", 1, 0.5);
    put_result(file[0], 2, "f32", 3, 0.25);
    put_result(file[1], 2, "int16", 2, 0.5);
    put_result(file[1], 2, "bf16", 7, 0.5);
    put_result(file[1], 3, "f32", 1, 0.5);
    fprintf(file[1], "\n{\"transport\": \"ipc\", \"in_flight\": 1, \"ratio_p50\": 1.5}\n");
    fclose(file[0]);
    fclose(file[1]);
}

static void two_files_are_compared_case_by_case(void)
{
    char old_path[] = "/tmp/attnd-test-XXXXXX", new_path[] = "/tmp/attnd-test-XXXXXX", args[160];
    struct lines lines;
    put_files(old_path, new_path);
    snprintf(args, sizeof args, "kernels --compare %s %s --json", old_path, new_path);
    bench(&lines, args);
    CU_ASSERT_EQUAL(lines.code, COMMAND_DONE);
    CU_ASSERT_EQUAL_FATAL(lines.n, 1);
    CU_ASSERT_EQUAL(number(lines.line[0], "tokens"), 2);
    CU_ASSERT_EQUAL(number(lines.line[0], "old_seconds"), 3);
    CU_ASSERT_EQUAL(number(lines.line[0], "new_seconds"), 2);
    CU_ASSERT_EQUAL(number(lines.line[0], "speedup"), 1.5);
    CU_ASSERT_EQUAL(number(lines.line[0], "old_fraction_of_limit"), 0.25);
    CU_ASSERT_EQUAL(number(lines.line[0], "new_fraction_of_limit"), 0.5);
    CU_ASSERT_PTR_NOT_NULL(strstr(lines.errors, "append bf16+f16 32/8 d128 n1 t2"));
    CU_ASSERT_PTR_NOT_NULL(strstr(lines.errors, "append bf16+f16 32/8 d128 n3 t2"));
    CU_ASSERT_PTR_NOT_NULL(strstr(lines.errors, "append bf16+f16 32/8 d128 n2 t2 in bf16"));
    drop(&lines);
    unlink(old_path);
    unlink(new_path);
}

static void files_that_cannot_be_compared_are_named(void)
{
    char old_path[] = "/tmp/attnd-test-XXXXXX", new_path[] = "/tmp/attnd-test-XXXXXX", args[160];
    struct lines lines;
    put_files(old_path, new_path);
    snprintf(args, sizeof args, "kernels --compare %s /nowhere/else", old_path);
    bench(&lines, args);
    CU_ASSERT_EQUAL(lines.code, COMMAND_FAILED);
    CU_ASSERT_PTR_NOT_NULL(strstr(lines.errors, "/nowhere/else"));
    FILE *file = fopen(old_path, "a");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fprintf(file, "{\"kernel\": \"append\"}\n");
    fclose(file);
    snprintf(args, sizeof args, "kernels --compare %s %s", old_path, new_path);
    bench(&lines, args);
    CU_ASSERT_EQUAL(lines.code, COMMAND_FAILED);
    snprintf(args, sizeof args, "%s:3:", old_path);
    CU_ASSERT_PTR_NOT_NULL(strstr(lines.errors, args));
    unlink(old_path);
    unlink(new_path);
}

static void results_are_drawn_or_it_says_what_is_missing(void)
{
    char old_path[] = "/tmp/attnd-test-XXXXXX", new_path[] = "/tmp/attnd-test-XXXXXX", args[160], drawing[64], text[64] = "";
    struct lines lines;
    put_files(old_path, new_path);
    snprintf(drawing, sizeof drawing, "%s.svg", new_path);
    snprintf(args, sizeof args, "plot --results %s --plot %s", new_path, drawing);
    bench(&lines, args);
    if (lines.code == COMMAND_DONE) {
        FILE *file = fopen(drawing, "r");
        CU_ASSERT_PTR_NOT_NULL_FATAL(file);
        CU_ASSERT(fread(text, 1, sizeof text - 1, file) > 0);
        CU_ASSERT_PTR_NOT_NULL(strstr(text, "<?xml"));
        fclose(file);
    } else {
        CU_ASSERT_PTR_NOT_NULL(strstr(lines.errors, "gnuplot"));
    }
    unlink(drawing);
    unlink(old_path);
    unlink(new_path);
}

/* ------------------------------------------------------------------ pipeline */

/* The programs that it starts lie beside the test program when all is built. */
static bool is_beside(const char *name)
{
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    while (n > 0 && path[n - 1] != '/')
        n--;
    snprintf(path + (n > 0 ? n : 0), sizeof path - (size_t)(n > 0 ? n : 0), "%s", name);
    return access(path, X_OK) == 0;
}

static void the_pipeline_is_measured_beside_an_echo_of_as_many_bytes(void)
{
    static const double in_flight[] = {1, 32};
    struct lines lines;
    if (!is_beside("attnd") || !is_beside("attn")) {
        printf(" (attnd and attn are not built: passed over) ");
        return;
    }
    bench(&lines, "pipeline --quick --json --transport ipc");
    CU_ASSERT_EQUAL(lines.code, COMMAND_DONE);
    CU_ASSERT_EQUAL_FATAL(lines.n, 2);
    for (size_t i = 0; i < 2; i++) {
        const json_t *line = lines.line[i];
        CU_ASSERT_STRING_EQUAL(text(line, "transport"), "ipc");
        CU_ASSERT_EQUAL(number(line, "in_flight"), in_flight[i]);
        CU_ASSERT_EQUAL(number(line, "bytes"), 64 + 3 * 8 * 64 * 4); /* frame 0 of one part; q, k, v of 8 heads, d = 64, f32 */
        CU_ASSERT_EQUAL(number(line, "reply_bytes"), 64 + 8 * 64 * 4);
        CU_ASSERT(number(line, "echo_seconds_p50") > 0);
        CU_ASSERT(number(line, "echo_per_s") > 0);
        CU_ASSERT(number(line, "daemon_per_s") > 0);
        ASSERT_NEAR(number(line, "ratio_p50") * number(line, "echo_seconds_p50") / number(line, "daemon_seconds_p50"), 1, 1e-6);
    }
    drop(&lines);
}

static void a_crowd_is_measured_in_one_message_and_in_bad_company(void)
{
    struct lines lines;
    if (!is_beside("attnd")) {
        printf(" (attnd is not built: passed over) ");
        return;
    }
    bench(&lines, "crowd --seconds 0.05 --streams 3 --heads 2 --dim 8 --json");
    CU_ASSERT_EQUAL(lines.code, COMMAND_DONE);
    CU_ASSERT_EQUAL_FATAL(lines.n, 6); /* steps, and company: none, three kinds, all of them */
    CU_ASSERT_STRING_EQUAL(text(lines.line[0], "measures"), "steps");
    CU_ASSERT(number(lines.line[0], "one_message_tokens_per_s") > 0 && number(lines.line[0], "messages_tokens_per_s") > 0);
    CU_ASSERT(number(lines.line[0], "one_by_one_tokens_per_s") > 0);
    for (size_t i = 1; i < lines.n; i++) {
        CU_ASSERT_STRING_EQUAL(text(lines.line[i], "measures"), "company");
        CU_ASSERT(number(lines.line[i], "seconds_p50") > 0);
        CU_ASSERT(number(lines.line[i], "seconds_p99") >= number(lines.line[i], "seconds_p50"));
        ASSERT_NEAR(number(lines.line[i], "ratio_p99") * number(lines.line[1], "seconds_p99"),
                    number(lines.line[i], "seconds_p99"), 1e-9);
    }
    drop(&lines);
}

/* Which also shows that the daemon holds them all, and gives back what their messages took. */
static void a_soak_tells_memory_and_descriptors_of_every_interval(void)
{
    struct lines lines;
    if (!is_beside("attnd")) {
        printf(" (attnd is not built: passed over) ");
        return;
    }
    bench(&lines, "soak --seconds 0.25 --connections 7 --streams 30 --held 16 --dim 8 --group 3 --json");
    CU_ASSERT_EQUAL(lines.code, COMMAND_DONE);
    CU_ASSERT_EQUAL_FATAL(lines.n, 6);
    for (size_t i = 0; i < 5; i++) {
        CU_ASSERT_STRING_EQUAL(text(lines.line[i], "measures"), "interval");
        CU_ASSERT(number(lines.line[i], "tokens_per_second") > 0 && number(lines.line[i], "resident_bytes") > 0);
        CU_ASSERT(number(lines.line[i], "seconds_p99") >= number(lines.line[i], "seconds_p50"));
        CU_ASSERT(number(lines.line[i], "descriptors") > 7); /* one for each connection, at least */
    }
    CU_ASSERT_STRING_EQUAL(text(lines.line[5], "measures"), "soak");
    CU_ASSERT_EQUAL(number(lines.line[5], "descriptors_growth"), 0);
    ASSERT_NEAR(number(lines.line[5], "ratio_p99") * number(lines.line[0], "seconds_p99"), number(lines.line[4], "seconds_p99"),
                1e-9);
    drop(&lines);
    bench(&lines, "soak --connections 3 --streams 2");
    CU_ASSERT_EQUAL(lines.code, COMMAND_USAGE);
    drop(&lines);
}

TEST_SUITE("tools/bench", TEST(every_kernel_has_lines_whose_numbers_fit_together),
           TEST(only_runs_one_kernel_on_the_instruction_set_asked_for), TEST(what_it_does_not_have_is_wrong_usage),
           TEST(two_files_are_compared_case_by_case), TEST(files_that_cannot_be_compared_are_named),
           TEST(results_are_drawn_or_it_says_what_is_missing), TEST(every_policy_with_a_budget_has_a_line_and_keeps_to_it),
           TEST(clusters_make_subgen_good_and_without_them_it_samples_and_says_so),
           TEST(the_pipeline_is_measured_beside_an_echo_of_as_many_bytes),
           TEST(a_crowd_is_measured_in_one_message_and_in_bad_company),
           TEST(a_soak_tells_memory_and_descriptors_of_every_interval))
