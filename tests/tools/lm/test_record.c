#include "tests/test.h"

#include "io/safetensors.h"
#include "tests/tools/naive_service.h"
#include "tests/tools/support.h"
#include "tools/eval/trace.h"
#include "tools/lm/record.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LAYERS = 3, H = 4, G = 2, D = 3, E = 2, N = 9 };

/* What a stream of a softmax, a tensor and a softmax layer is asked: q (N, H, D), key (N, G, D), value (N, G, E). */
struct asked {
    float q[LAYERS][N * H * D], key[LAYERS][2][N * G * D], value[LAYERS][2][N * G * E];
};

static const struct shape shape = {.n_layers = LAYERS,
                                   .kind = {ATTENTION_SOFTMAX, ATTENTION_TENSOR, ATTENTION_SOFTMAX},
                                   .heads = H,
                                   .kv_heads = G,
                                   .key_dim = D,
                                   .value_dim = E,
                                   .scale = 0.3F,
                                   .expected_tokens = 4}; /* more come */

static void fill(struct asked *a, unsigned seed)
{
    for (unsigned l = 0; l < LAYERS; l++) {
        support_fill(a->q[l], (size_t)N * H * D, 2, seed + 10 * l);
        for (unsigned i = 0; i < 2; i++) {
            support_fill(a->key[l][i], (size_t)N * G * D, 2, seed + 10 * l + 1 + i);
            support_fill(a->value[l][i], (size_t)N * G * E, 2, seed + 10 * l + 3 + i);
        }
    }
}

static void step(struct attention_service *s, const struct asked *a, uint32_t l, size_t t, size_t n, float *out)
{
    const float *const key[2] = {a->key[l][0] + t * G * D, a->key[l][1] + t * G * D};
    const float *const value[2] = {a->value[l][0] + t * G * E, a->value[l][1] + t * G * E};
    CU_ASSERT_EQUAL(service_step(s, l, n, a->q[l] + t * H * D, key, value, out, NULL), 0);
}

/* A whole stream, in runs of 5, 1 and 3 tokens; out (LAYERS, N, H, E) or NULL. */
static void ask(struct attention_service *s, const struct asked *a, float *out)
{
    static const size_t runs[] = {5, 1, 3};
    float ignored[N * H * E] = {0};
    CU_ASSERT_EQUAL_FATAL(service_open(s, &shape, NULL, NULL), 0);
    for (size_t r = 0, t = 0; r < 3; t += runs[r++])
        for (uint32_t l = 0; l < LAYERS; l++)
            step(s, a, l, t, runs[r], out ? out + ((l * (size_t)N) + t) * H * E : ignored);
    CU_ASSERT_EQUAL_FATAL(service_close(s, NULL, NULL), 0);
}

/* Records a stream and another one after it, writes it, and reads it back. */
static void record_and_load(const char *kind, enum element element, const char *path, struct trace *trace)
{
    struct attention_service *naive = naive_service(UINT64_MAX), *record;
    struct asked first, second;
    struct fault fault = {0};
    fill(&first, 1);
    fill(&second, 2);
    CU_ASSERT_EQUAL_FATAL(lm_record_create(&record, naive, kind, &fault), 0);
    ask(record, &first, NULL);
    ask(record, &second, NULL);
    CU_ASSERT_EQUAL(lm_record_write(record, path, element, &fault), 0);
    CU_ASSERT_EQUAL_FATAL(trace_load(trace, path, &fault), 0);
    service_destroy(record);
    service_destroy(naive);
}

static void check_layer(const struct trace *trace, size_t at, size_t asked_layer)
{
    struct asked a;
    fill(&a, 1);
    const struct trace_layer *l = &trace->layer[at];
    CU_ASSERT(support_same(l->q, a.q[asked_layer], (size_t)N * H * D));
    for (size_t i = 0; i < attention_streams((enum attention_kind)trace->shape.kind[at]); i++) {
        CU_ASSERT(support_same(l->key[i], a.key[asked_layer][i], (size_t)N * G * D));
        CU_ASSERT(support_same(l->value[i], a.value[asked_layer][i], (size_t)N * G * E));
    }
}

static void what_is_read_back_is_what_was_asked(void)
{
    char path[SUPPORT_PATH_BYTES];
    struct trace trace;
    support_file(path, "");
    static const char *const softmax[] = {NULL, "softmax"};
    for (size_t i = 0; i < 2; i++) {
        record_and_load(softmax[i], ELEMENT_F32, path, &trace);
        CU_ASSERT_EQUAL_FATAL(trace.shape.n_layers, 2);
        CU_ASSERT_EQUAL(trace_kinds(&trace), 1U << ATTENTION_SOFTMAX);
        check_layer(&trace, 0, 0);
        check_layer(&trace, 1, 2);
        trace_free(&trace);
    }
    record_and_load("tensor", ELEMENT_F32, path, &trace);
    CU_ASSERT_EQUAL_FATAL(trace.shape.n_layers, 1);
    CU_ASSERT_EQUAL(trace_kinds(&trace), 1U << ATTENTION_TENSOR);
    CU_ASSERT(trace.n_tokens == N && trace.shape.heads == H && trace.shape.kv_heads == G);
    CU_ASSERT(trace.shape.key_dim == D && trace.shape.value_dim == E);
    CU_ASSERT_EQUAL(trace.shape.scale, shape.scale);
    check_layer(&trace, 0, 1);
    trace_free(&trace);
    unlink(path);
}

static void metadata_says_what_the_trace_is(void)
{
    static const char *const expected[][2] = {
        {"attention", "softmax"}, {"layers", "2"},
        {"heads", "4"},           {"kv_heads", "2"},
        {"head_dim", "3"},        {"tokens", "9"},
        {"profile", "full"},      {"layout", "[token][head][dim], what the layer hands to attention"},
    };
    char path[SUPPORT_PATH_BYTES];
    struct trace trace;
    struct safetensors *file;
    support_file(path, "");
    record_and_load(NULL, ELEMENT_F32, path, &trace);
    CU_ASSERT_EQUAL_FATAL(safetensors_open(&file, path, NULL), 0);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        const char *value = safetensors_metadata(file, expected[i][0]);
        CU_ASSERT_PTR_NOT_NULL_FATAL(value);
        CU_ASSERT_STRING_EQUAL(value, expected[i][1]);
    }
    const char *scale = safetensors_metadata(file, "scale");
    CU_ASSERT(scale && strtof(scale, NULL) == shape.scale);
    CU_ASSERT_EQUAL(safetensors_at(file, 0)->type, TENSOR_F32);
    safetensors_close(file);
    trace_free(&trace);
    unlink(path);
}

static void bf16_rounds_to_eight_bits(void)
{
    char path[SUPPORT_PATH_BYTES];
    struct trace trace;
    struct safetensors *file;
    struct asked a;
    size_t differ = 0;
    fill(&a, 1);
    support_file(path, "");
    record_and_load("tensor", ELEMENT_BF16, path, &trace);
    CU_ASSERT_EQUAL_FATAL(safetensors_open(&file, path, NULL), 0);
    for (size_t i = 0; i < safetensors_count(file); i++)
        CU_ASSERT_EQUAL(safetensors_at(file, i)->type, TENSOR_BF16);
    CU_ASSERT_EQUAL(safetensors_count(file), 5);
    for (size_t i = 0; i < (size_t)N * H * D; i++) {
        ASSERT_NEAR(trace.layer[0].q[i], a.q[1][i], ldexp(fabs(a.q[1][i]), -8)); /* half of the last of 8 bits */
        differ += trace.layer[0].q[i] != a.q[1][i];
    }
    CU_ASSERT(differ > 0);
    safetensors_close(file);
    trace_free(&trace);
    unlink(path);
}

static void answers_are_those_of_the_service_behind(void)
{
    struct attention_service *naive = naive_service(4), *record;
    struct asked a;
    static float here[LAYERS * N * H * E], there[LAYERS * N * H * E];
    fill(&a, 3);
    CU_ASSERT_EQUAL_FATAL(lm_record_create(&record, naive, NULL, NULL), 0);
    ask(naive, &a, here);
    const size_t steps = naive_steps(naive);
    ask(record, &a, there);
    CU_ASSERT(support_same(here, there, (size_t)LAYERS * N * H * E));
    CU_ASSERT_EQUAL(naive_steps(naive), 2 * steps); /* cut at the same places */
    CU_ASSERT_EQUAL(service_open(record, &shape, "unheard-of", NULL), ERR_UNKNOWN_PROFILE);
    service_destroy(record);
    service_destroy(naive);
}

static void what_cannot_be_recorded_is_refused(void)
{
    struct attention_service *naive = naive_service(UINT64_MAX), *record;
    struct shape plain = shape;
    struct asked a;
    struct fault fault = {0};
    float out[N * H * E];
    fill(&a, 1);
    plain.kind[1] = ATTENTION_SOFTMAX;
    CU_ASSERT_EQUAL_FATAL(lm_record_create(&record, naive, "tensor", NULL), 0);
    CU_ASSERT_EQUAL(service_open(record, &plain, NULL, &fault), ERR_INVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(fault.text, "no layers of tensor attention"));
    CU_ASSERT_EQUAL(lm_record_write(record, "/tmp/attnd_never", ELEMENT_F32, &fault), ERR_INVALID);
    service_destroy(record);

    CU_ASSERT_EQUAL_FATAL(lm_record_create(&record, naive, NULL, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(service_open(record, &shape, NULL, NULL), 0);
    step(record, &a, 0, 0, 2, out); /* and layer 2 is asked nothing */
    CU_ASSERT_EQUAL(lm_record_write(record, "/tmp/attnd_never", ELEMENT_F32, &fault), ERR_INVALID);
    CU_ASSERT_EQUAL(service_close(record, NULL, NULL), 0);
    CU_ASSERT_EQUAL(lm_record_write(record, "/tmp/attnd_never", ELEMENT_F32, &fault), ERR_INVALID);
    CU_ASSERT_EQUAL(access("/tmp/attnd_never", F_OK), -1);
    service_destroy(record);
    service_destroy(naive);
}

static void a_path_that_cannot_be_written_is_told_beforehand(void)
{
    char path[SUPPORT_PATH_BYTES];
    struct fault fault = {0};
    support_file(path, "");
    CU_ASSERT_EQUAL(lm_record_check_path(path, NULL), 0);
    unlink(path);
    CU_ASSERT_EQUAL(lm_record_check_path(path, NULL), 0);
    CU_ASSERT_EQUAL(access(path, F_OK), -1); /* asking makes no file */
    CU_ASSERT_EQUAL(lm_record_check_path("attnd_trace", NULL), 0);
    CU_ASSERT_EQUAL(lm_record_check_path("/tmp/attnd_nowhere/trace", &fault), ERR_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(fault.text, "/tmp/attnd_nowhere/trace: No such file or directory"));
    CU_ASSERT_EQUAL(lm_record_check_path("/tmp", NULL), ERR_IO);
}

TEST_SUITE("tools/lm/record", TEST(what_is_read_back_is_what_was_asked), TEST(metadata_says_what_the_trace_is),
           TEST(bf16_rounds_to_eight_bits), TEST(answers_are_those_of_the_service_behind),
           TEST(what_cannot_be_recorded_is_refused), TEST(a_path_that_cannot_be_written_is_told_beforehand))
