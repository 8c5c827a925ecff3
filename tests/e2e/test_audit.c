/* Audit: the error that telemetry shows is the one that `attn eval` computes in float64 from the same numbers. */
#include "tests/e2e/house.h"
#include "tests/test.h"
#include "tests/tools/answer.h"
#include "tests/tools/support.h"

#include "io/safetensors.h"
#include "tools/command.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { N = UNDER_TSAN ? 200 : 400, N_TENSOR = 120, HEADS = 4, KV_HEADS = 2, DIM = 16, BATCH = 20 };

static const struct {
    const char *policy, *more, *budget; /* more: to make the profile what the policy alone is */
    enum attention_kind kind;
} cases[] = {{"window", "", "0.25", ATTENTION_SOFTMAX}, {"uniform", "", "0.2", ATTENTION_SOFTMAX},
             {"h2o", "", "0.2", ATTENTION_SOFTMAX},     {"snapkv", "", "0.25", ATTENTION_SOFTMAX},
             {"subgen", "", "0.4", ATTENTION_SOFTMAX},  {"window", ",window_tokens=0", "0.5", ATTENTION_TENSOR},
             {"subgen4", "", "0.9", ATTENTION_TENSOR}};

/* The tokens, whose element is bf16, as a trace of one layer. */
static void write_trace(char path[SUPPORT_PATH_BYTES], const struct tokens *t)
{
    static const char *const names[] = {"layer.0.k1", "layer.0.v1", "layer.0.k2", "layer.0.v2"};
    bool is_tensor = t->kind == ATTENTION_TENSOR;
    struct tensor tensor[5] = {{"layer.0.q", TENSOR_BF16, 3, {t->n, HEADS, DIM}, t->n * HEADS * DIM, t->q, 0}};
    size_t n = 1;
    for (size_t s = 0; s < attention_streams(t->kind); s++) {
        const void *data[2] = {t->key[s], t->value[s]};
        for (size_t i = 0; i < 2; i++) {
            const char *name = is_tensor ? names[2 * s + i] : i ? "layer.0.v" : "layer.0.k";
            tensor[n] = (struct tensor){name, TENSOR_BF16, 3, {t->n, KV_HEADS, DIM}, t->n * KV_HEADS * DIM, data[i], 0};
            n++;
        }
    }
    for (size_t i = 0; i < n; i++)
        tensor[i].bytes = 2 * tensor[i].n;
    support_file(path, "");
    CU_ASSERT_EQUAL_FATAL(safetensors_write(path, tensor, n, NULL, NULL), 0);
}

/* The mean error of the second half. */
static double evaluated(const char *path, const char *policy, const char *budget)
{
    static struct answer answer;
    char args[256];
    snprintf(args, sizeof args, "--trace %s --policies %s --budgets %s --storage bf16 --json", path, policy, budget);
    answer_get(&answer, command_eval, args);
    CU_ASSERT_EQUAL_FATAL(answer.code, COMMAND_DONE);
    double mean = answer_number(json_array_get(json_object_get(answer.json, "rows"), 0), "error_mean");
    answer_drop(&answer);
    return mean;
}

struct seen {
    double count, sum; /* of the histogram */
};

/* What status says, of the stream or of its profile. */
static struct seen look(struct attnd_client *client, const char *of)
{
    struct seen seen;
    char path[96];
    snprintf(path, sizeof path, "%s.count", of);
    seen.count = house_number(client, path);
    snprintf(path, sizeof path, "%s.sum", of);
    seen.sum = house_number(client, path);
    return seen;
}

static void send(struct attnd_client *client, struct attnd_stream *stream, const struct tokens *tokens, size_t from, size_t to)
{
    float out[BATCH * HEADS * DIM];
    for (size_t at = from; at < to; at += BATCH) {
        struct attnd_part part = tokens_part(tokens, stream, at, BATCH, WIRE_APPEND | WIRE_ATTEND, out, NULL);
        CU_ASSERT_EQUAL_FATAL(attnd_step(client, 0, &part, 1, NULL), 0);
    }
}

static void the_audited_error_is_that_of_eval(void)
{
    static const char *const places[] = {"streams.0.audited_relative_error", "profiles.0.audited_relative_error"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool is_tensor = cases[i].kind == ATTENTION_TENSOR;
        size_t n = is_tensor ? N_TENSOR : N;
        struct shape shape = house_shape(!is_tensor, is_tensor, HEADS, KV_HEADS, DIM, DIM);
        struct attnd_client *client = NULL;
        struct attnd_stream stream;
        struct tokens tokens;
        struct house house;
        struct seen half[2], whole;
        char path[SUPPORT_PATH_BYTES], profile[96];
        shape.element = ELEMENT_BF16;
        shape.expected_tokens = n;
        snprintf(profile, sizeof profile, "%s%s,budget_fraction=%s,storage=bf16,audit=1", cases[i].policy, cases[i].more,
                 cases[i].budget);
        tokens_create(&tokens, &shape, 3, 0, 0, n);
        if (house_open(&house, "")) {
            CU_ASSERT_EQUAL_FATAL(attnd_connect(&client, house.ingest, NULL, NULL), 0);
            CU_ASSERT_EQUAL_FATAL(attnd_open(client, "audited", &shape, profile, false, &stream, NULL), 0);
            send(client, &stream, &tokens, 0, n / 2);
            for (size_t p = 0; p < 2; p++)
                half[p] = look(client, places[p]);
            send(client, &stream, &tokens, n / 2, n);
            write_trace(path, &tokens);
            double mean = evaluated(path, cases[i].policy, cases[i].budget);
            for (size_t p = 0; p < 2; p++) {
                whole = look(client, places[p]);
                CU_ASSERT_EQUAL((size_t)(whole.count - half[p].count), n / 2 * HEADS);
                double audited = (whole.sum - half[p].sum) / (whole.count - half[p].count);
                if (!(fabs(audited / mean - 1) < 0.001))
                    printf("\n%s: audited %.6f, evaluated %.6f", profile, audited, mean);
                CU_ASSERT(mean > 0.05 && fabs(audited / mean - 1) < 0.001);
            }
            unlink(path);
            attnd_close(client, &stream, NULL, NULL);
            attnd_disconnect(client);
        }
        house_close(&house);
        tokens_destroy(&tokens);
    }
}

/* A share of the heads: so many are looked at, and their full caches are counted apart. */
static void a_share_of_the_heads_is_audited_and_counted_apart(void)
{
    struct shape shape = house_shape(4, 0, HEADS, KV_HEADS, DIM, DIM);
    struct attnd_client *client = NULL;
    struct attnd_stream stream;
    struct tokens tokens;
    struct house house;
    float out[BATCH * HEADS * DIM];
    if (house_open(&house, "")) {
        CU_ASSERT_EQUAL_FATAL(attnd_connect(&client, house.ingest, NULL, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(attnd_open(client, "share", &shape, "window,window_tokens=8,audit=0.25", false, &stream, NULL),
                              0);
        for (uint32_t layer = 0; layer < shape.n_layers; layer++) {
            tokens_create(&tokens, &shape, 3, layer, 0, BATCH);
            struct attnd_part part = tokens_part(&tokens, &stream, 0, BATCH, WIRE_APPEND | WIRE_ATTEND, out, NULL);
            CU_ASSERT_EQUAL(attnd_step(client, layer, &part, 1, NULL), 0);
            tokens_destroy(&tokens);
        }
        /* 8 kv heads, 2 of them audited, each with a group of 2 queries; rows of DIM + DIM bf16 numbers */
        CU_ASSERT_EQUAL(look(client, "streams.0.audited_relative_error").count, 2 * 2 * BATCH);
        double audited = house_number(client, "streams.0.memory_audited_bytes");
        CU_ASSERT(audited >= 2 * BATCH * 2 * DIM * 2 && audited <= 2 * 4096 + 2 * 64 * 2 * DIM * 2);
        attnd_close(client, &stream, NULL, NULL);
        attnd_disconnect(client);
    }
    house_close(&house);
}

TEST_SUITE("e2e/audit", TEST(the_audited_error_is_that_of_eval), TEST(a_share_of_the_heads_is_audited_and_counted_apart))
