#include "tests/test.h"

#include "io/safetensors.h"
#include "tests/tools/naive_service.h"
#include "tests/tools/support.h"
#include "tools/lm/forward.h"
#include "tools/lm/score.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double *golden(const struct safetensors *file, const char *name, size_t *n)
{
    const struct tensor *t = safetensors_find(file, name);
    double *array = NULL;
    *n = t ? t->n : 0;
    CU_ASSERT_FATAL(t && tensor_to_f64(t, &array, NULL) == 0);
    return array;
}

static void two_best(const double *x, size_t n, size_t *best, double *second)
{
    *best = x[1] > x[0];
    *second = x[1 - *best];
    for (size_t i = 2; i < n; i++)
        if (x[i] > x[*best]) {
            *second = x[*best];
            *best = i;
        } else if (x[i] > *second) {
            *second = x[i];
        }
}

/* Runs the golden file's bytes through the model, first_run of them as one batch, the rest one by one. */
static void check_golden(const char *folder, const char *path, size_t first_run, uint64_t tokens_max)
{
    struct fault fault = {0};
    struct lm_model *model;
    struct lm_forward *f;
    struct safetensors *file;
    CU_ASSERT_EQUAL_FATAL(lm_model_load(&model, folder, &fault), 0);
    CU_ASSERT_EQUAL_FATAL(safetensors_open(&file, path, &fault), 0);
    struct attention_service *service = naive_service(tokens_max);
    CU_ASSERT_EQUAL_FATAL(lm_forward_create(&f, model, service, &fault), 0);

    size_t n, n_logits, wrong = 0;
    double *bytes = golden(file, "bytes", &n), *expected = golden(file, "logits", &n_logits), worst = 0, largest = 0;
    const size_t V = model->config.vocab;
    CU_ASSERT_EQUAL_FATAL(n_logits, n * V);
    uint32_t *ids = support_array(n, sizeof *ids);
    float *logits = support_array(n * V, sizeof *logits);
    for (size_t t = 0; t < n; t++)
        ids[t] = (uint32_t)bytes[t];

    CU_ASSERT_EQUAL_FATAL(lm_forward_begin(f, NULL, n, &fault), 0);
    for (size_t t = 0, run = first_run; t < n; t += run, run = 1) {
        const float *hidden;
        CU_ASSERT_EQUAL_FATAL(lm_forward_run(f, ids + t, run, &hidden, &fault), 0);
        lm_forward_logits(f, hidden, run, logits + t * V);
    }
    for (size_t i = 0; i < n * V; i++) {
        worst = fmax(worst, fabs(logits[i] - expected[i]));
        largest = fmax(largest, fabs(expected[i]));
    }
    for (size_t t = 0; t < n; t++) {
        size_t best;
        double second;
        two_best(expected + t * V, V, &best, &second);
        if (expected[t * V + best] - second > 2e-3 * largest && lm_sample(logits + t * V, V, 0, 0) != best)
            wrong++;
    }
    ASSERT_NEAR(worst / largest, 0, 2e-3);
    ASSERT_NEAR(worst / largest, 0, 2e-5); /* what f32 reaches: a sharper test than the one that is asked for */
    CU_ASSERT_EQUAL(wrong, 0);

    struct service_totals totals;
    CU_ASSERT_EQUAL(lm_forward_end(f, &totals, &fault), 0);
    CU_ASSERT(totals.bytes_full_bf16 > 0);
    lm_forward_destroy(f);
    service_destroy(service);
    lm_model_destroy(model);
    safetensors_close(file);
    free(bytes);
    free(expected);
    free(ids);
    free(logits);
}

static void logits_of_the_softmax_model_are_the_golden_ones(void)
{
    check_golden("tools/lm/softmax", GOLDEN("golden_softmax.safetensors"), 200, UINT64_MAX);
}

static void logits_of_the_tensor_model_are_the_golden_ones(void)
{
    check_golden("tools/lm/tensor", GOLDEN("golden_tensor.safetensors"), 120, UINT64_MAX);
}

static void a_prompt_and_single_tokens_give_what_one_batch_gives(void)
{
    check_golden("tools/lm/softmax", GOLDEN("golden_softmax.safetensors"), 61, 17);
    check_golden("tools/lm/tensor", GOLDEN("golden_tensor.safetensors"), 40, 7);
}

static void long_runs_are_cut_where_the_service_says(void)
{
    struct attention_service *service = naive_service(3);
    struct shape shape = {
        .n_layers = 1, .heads = 1, .kv_heads = 1, .key_dim = 1, .value_dim = 1, .scale = 1, .expected_tokens = 8};
    float x[8] = {1, 2, 3, 4, 5, 6, 7, 8}, out[8];
    const float *const rows[2] = {x, NULL};
    CU_ASSERT_EQUAL_FATAL(service_open(service, &shape, NULL, NULL), 0);
    CU_ASSERT_EQUAL(service_step(service, 0, 8, x, rows, rows, out, NULL), 0);
    CU_ASSERT_EQUAL(naive_steps(service), 3);
    ASSERT_NEAR(out[0], 1, 0); /* the first token sees only itself, the last one mostly itself */
    ASSERT_NEAR(out[7], 8, 1e-3);
    service_destroy(service);
}

static void tokens_outside_the_vocabulary_are_refused(void)
{
    struct fault fault = {0};
    struct lm_model *model;
    struct lm_forward *f;
    const float *hidden;
    const uint32_t ids[] = {1, 256};
    CU_ASSERT_EQUAL_FATAL(lm_model_load(&model, "tools/lm/softmax", &fault), 0);
    struct attention_service *service = naive_service(UINT64_MAX);
    CU_ASSERT_EQUAL_FATAL(lm_forward_create(&f, model, service, &fault), 0);
    CU_ASSERT_EQUAL_FATAL(lm_forward_begin(f, NULL, 2, &fault), 0);
    CU_ASSERT_EQUAL(lm_forward_run(f, ids, 2, &hidden, &fault), ERR_INVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(fault.text, "token 1: id 256"));
    lm_forward_destroy(f);
    service_destroy(service);
    lm_model_destroy(model);
}

static void perplexity_is_the_mean_over_windows_of_the_second_halves(void)
{
    struct fault fault = {0};
    struct lm_model *model;
    struct lm_forward *f;
    struct lm_score score;
    uint32_t ids[90];
    for (size_t i = 0; i < 90; i++)
        ids[i] = (uint32_t) "It was the best of times, it was the worst of times. "[i % 53];
    CU_ASSERT_EQUAL_FATAL(lm_model_load(&model, "tools/lm/softmax", &fault), 0);
    struct attention_service *service = naive_service(UINT64_MAX);
    CU_ASSERT_EQUAL_FATAL(lm_forward_create(&f, model, service, &fault), 0);
    struct lm_windows windows = {.ids = ids, .n_tokens = 90, .context = 21, .windows = 3};
    CU_ASSERT_EQUAL(lm_perplexity(f, &model->config, &windows, &score, &fault), 0);

    double expected = 0; /* windows start at floor(i (90 - 21 - 2) / 2) = 0, 33, 67; positions 10..20 of each count */
    static const size_t start[] = {0, 33, 67};
    for (size_t w = 0; w < 3; w++) {
        float logits[256];
        CU_ASSERT_EQUAL(lm_window_start(90, 21, 3, w), start[w]);
        CU_ASSERT_EQUAL_FATAL(lm_forward_begin(f, NULL, 21, &fault), 0);
        for (size_t t = 0; t < 21; t++) {
            const float *hidden;
            CU_ASSERT_EQUAL_FATAL(lm_forward_run(f, ids + start[w] + t, 1, &hidden, &fault), 0);
            lm_forward_logits(f, hidden, 1, logits);
            if (t >= 10)
                expected += lm_nll(logits, 256, ids[start[w] + t + 1]) / 11 / 3;
        }
        CU_ASSERT_EQUAL(lm_forward_end(f, NULL, &fault), 0);
    }
    ASSERT_NEAR(score.nll, expected, 1e-5 * expected);
    CU_ASSERT_EQUAL(score.totals.bytes_full_bf16, UINT64_C(4) * 2 * 21 * 128 * 2); /* layers, kv heads, tokens, d + e, bytes */
    CU_ASSERT(score.attention_seconds <= score.seconds);
    windows.profile = "h2o";
    CU_ASSERT_EQUAL(lm_perplexity(f, &model->config, &windows, &score, &fault), ERR_UNKNOWN_PROFILE);
    windows = (struct lm_windows){.ids = ids, .n_tokens = 22, .context = 21, .windows = 2};
    CU_ASSERT_EQUAL(lm_perplexity(f, &model->config, &windows, &score, &fault), ERR_INVALID);
    windows.windows = 1;
    CU_ASSERT_EQUAL(lm_perplexity(f, &model->config, &windows, &score, &fault), 0);
    lm_forward_destroy(f);
    service_destroy(service);
    lm_model_destroy(model);
}

TEST_SUITE("tools/lm/forward", TEST(logits_of_the_softmax_model_are_the_golden_ones),
           TEST(logits_of_the_tensor_model_are_the_golden_ones), TEST(a_prompt_and_single_tokens_give_what_one_batch_gives),
           TEST(long_runs_are_cut_where_the_service_says), TEST(tokens_outside_the_vocabulary_are_refused),
           TEST(perplexity_is_the_mean_over_windows_of_the_second_halves))
