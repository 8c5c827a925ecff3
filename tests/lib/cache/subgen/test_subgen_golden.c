/* SubGen's policies against the golden files of the reference (numpy, float64): outputs, and counts of clusters exactly. */
#include "io/safetensors.h"
#include "tests/lib/cache/drive.h"
#include "tests/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const tags[] = {"small", "odd", "wide"};
enum { N_TAGS = sizeof tags / sizeof *tags };

static const struct {
    const char *name; /* of the outputs, with the estimator behind it */
    enum attention_kind kind;
    const char *policy;
    const char *deltas[2];   /* settings; one of two streams is a pair */
    const char *metadata[2]; /* which numbers of the file they are */
    const char *counts[2];   /* of the views' clusters */
} cases[] = {
    {"subgen", ATTENTION_SOFTMAX, "subgen", {"delta"}, {"delta"}, {"subgen_counts"}},
    {"subgen_8", ATTENTION_SOFTMAX, "subgen,max_clusters=8", {"delta"}, {"subgen_8_delta"}, {"subgen_8_counts"}},
    {"subgen4", ATTENTION_TENSOR, "subgen4", {"delta"}, {"delta1"}, {"subgen4_counts1", "subgen4_counts2"}},
    {"subgen2", ATTENTION_TENSOR, "subgen2,history=true", {"delta"}, {"delta_two_cache"}, {"subgen2_counts"}},
    {"subgen2_history_free",
     ATTENTION_TENSOR,
     "subgen2",
     {"delta", "factor_delta"},
     {"delta_two_cache", "delta1"},
     {"subgen2_history_free_counts"}},
};
static const char *const estimators[] = {"paper", "ratio"};
enum { N_CASES = sizeof cases / sizeof *cases };

static struct safetensors *open_golden(enum attention_kind kind, const char *tag, struct tokens *tokens)
{
    struct safetensors *file = NULL;
    char path[128];
    snprintf(path, sizeof path, GOLDEN("%s_%s.safetensors"), attention_name(kind), tag);
    tokens_golden(tokens, kind, path);
    CU_ASSERT_EQUAL_FATAL(safetensors_open(&file, path, NULL), 0);
    return file;
}

static double *doubles_of(const struct safetensors *file, const char *name, size_t *n)
{
    const struct tensor *t = safetensors_find(file, name);
    double *x = NULL;
    CU_ASSERT_PTR_NOT_NULL_FATAL(t);
    CU_ASSERT_EQUAL_FATAL(tensor_to_f64(t, &x, NULL), 0);
    *n = t->n;
    return x;
}

/* The choice that the reference ran with: no exact rows, samples and seed as the file says. */
static void choice_of(char *text, size_t size, const struct safetensors *file, size_t i, const char *estimator)
{
    int at = snprintf(text, size, "%s,estimator=%s,sink_tokens=0%s,samples=%s,value_samples=%s", cases[i].policy, estimator,
                      strncmp(cases[i].policy, "subgen2", 7) == 0 ? "" : ",recent_tokens=0", safetensors_metadata(file, "t"),
                      safetensors_metadata(file, "s"));
    for (size_t d = 0; d < 2 && cases[i].deltas[d]; d++)
        at += snprintf(text + at, size - (size_t)at, ",%s=%s", cases[i].deltas[d],
                       safetensors_metadata(file, cases[i].metadata[d]));
}

/* Opens with the reference's seed for the coins themselves, where a profile's seed would be mixed with layer and head. */
static bool open_with_seed(struct drive *drive, const struct tokens *tokens, const char *choice, const struct kernels *kernels,
                           const struct safetensors *file)
{
    if (!drive_open(drive, tokens, choice, kernels, 0))
        return false;
    drive_close(drive);
    drive->dims.seed = strtoull(safetensors_metadata(file, "seed"), NULL, 10);
    return drive->policy.ops->create(&drive->cache, &drive->dims, &drive->policy, kernels) == 0;
}

/* Counts of the clusters whose samples the first segment of a view shows: t exp(log weight), to what a float's logarithm tells.
 * Whole counts of the file must be met exactly, that is to the nearest whole number. */
static void check_counts(struct drive *drive, size_t which, size_t t, const double *golden, size_t n_golden)
{
    struct view view[2];
    drive->cache->ops->view(drive->cache, drive->cache->n_tokens - 1, NULL, view);
    const struct segment *seg = &view[which].seg[0];
    CU_ASSERT_EQUAL_FATAL(seg->n, n_golden * t);
    for (size_t a = 0; a < n_golden; a++) {
        double count = exp(seg->log_den[a * t]) * (double)t;
        if (golden[a] == floor(golden[a]))
            CU_ASSERT_EQUAL(nearbyint(count), golden[a]);
        ASSERT_NEAR(count / golden[a], 1, 2e-6);
    }
}

static void check_case(size_t i, const char *tag)
{
    const struct kernels *kernels[KERNELS_MAX];
    size_t n_kernels = kernels_runnable(kernels), n;
    struct tokens tokens;
    struct safetensors *file = open_golden(cases[i].kind, tag, &tokens);
    float *out = malloc(tokens.n * tokens.e * sizeof *out);
    for (size_t k = 0; k < n_kernels; k++)
        for (size_t e = 0; e < 2; e++) {
            struct drive drive;
            char choice[256], name[64];
            choice_of(choice, sizeof choice, file, i, estimators[e]);
            snprintf(name, sizeof name, "%s_%s", cases[i].name, estimators[e]);
            double *golden = doubles_of(file, name, &n);
            if (open_with_seed(&drive, &tokens, choice, kernels[k], file)) {
                drive_run(&drive, 0, tokens.n, k == 0 ? 1 : 0, out);
                double error = drive_worst_error(out, golden, tokens.n, tokens.e);
                if (getenv("SHOW"))
                    fprintf(stderr, "%s %s %s %g\n", name, tag, kernels[k]->isa, error);
                CU_assertImplementation(error <= 1e-4, __LINE__, name, tag, "", CU_FALSE);
                for (size_t v = 0; v < 2 && cases[i].counts[v]; v++) {
                    double *counts = doubles_of(file, cases[i].counts[v], &n);
                    check_counts(&drive, v, strtoull(safetensors_metadata(file, "t"), NULL, 10), counts, n);
                    free(counts);
                }
            }
            drive_close(&drive);
            free(golden);
        }
    free(out);
    safetensors_close(file);
    tokens_free(&tokens);
}

static void outputs_and_counts_equal_the_golden_files(void)
{
    for (size_t i = 0; i < N_CASES; i++)
        for (size_t tag = 0; tag < N_TAGS; tag++)
            check_case(i, tags[tag]);
}

TEST_SUITE("lib/cache/subgen/subgen_golden", TEST(outputs_and_counts_equal_the_golden_files))
