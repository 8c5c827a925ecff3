#include "tests/test.h"

#include "tests/tools/capture.h"
#include "tests/tools/daemon_here.h"
#include "tests/tools/naive_service.h"
#include "tests/tools/support.h"
#include "tools/local.h"
#include "tools/remote.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Tokens, heads, kv heads, key and value dimension; numbers of a token's q (and out), and of its k or v; of all outputs. */
enum { N = 23, H = 4, G = 2, DIM = 8, LAYERS = 2, WIDE = H * DIM, NARROW = G * DIM, N_OUT = LAYERS * N * WIDE };

static const struct shape shape = {.n_layers = LAYERS,
                                   .kind = {ATTENTION_SOFTMAX, ATTENTION_TENSOR},
                                   .heads = H,
                                   .kv_heads = G,
                                   .key_dim = DIM,
                                   .value_dim = DIM,
                                   .scale = 0.5f,
                                   .expected_tokens = N};

struct inputs {
    float q[N * WIDE], key[2][N * NARROW], value[2][N * NARROW];
};

static void fill_inputs(struct inputs *in)
{
    support_fill(in->q, sizeof in->q / sizeof *in->q, 2, 1);
    for (unsigned i = 0; i < 2; i++) {
        support_fill(in->key[i], sizeof in->key[i] / sizeof(float), 2, 2 + i);
        support_fill(in->value[i], sizeof in->value[i] / sizeof(float), 2, 4 + i);
    }
}

/* All tokens of both layers in steps of `run` tokens; out (LAYERS, N, H, DIM). */
static void attend(struct attention_service *service, const struct inputs *in, const char *profile, size_t run, float *out,
                   struct service_totals *totals)
{
    struct fault fault = {0};
    CU_ASSERT_EQUAL_FATAL(service_open(service, &shape, profile, &fault), 0);
    for (size_t t = 0, n; t < N; t += n)
        for (uint32_t l = 0; l < LAYERS; l++) {
            n = N - t < run ? N - t : run;
            const float *const key[2] = {in->key[0] + t * NARROW, in->key[1] + t * NARROW};
            const float *const value[2] = {in->value[0] + t * NARROW, in->value[1] + t * NARROW};
            int err = service_step(service, l, n, in->q + t * WIDE, key, value, out + (l * (size_t)N + t) * WIDE, &fault);
            if (err)
                printf("\n%s", fault.text);
            CU_ASSERT_EQUAL_FATAL(err, 0);
        }
    CU_ASSERT_EQUAL(service_close(service, totals, &fault), 0);
}

static struct attention_service *local(const char *config)
{
    struct fault fault = {0};
    struct attention_service *service;
    int err = local_create(&service, config, &fault);
    if (err)
        printf("\n%s", fault.text);
    CU_ASSERT_EQUAL_FATAL(err, 0);
    return service;
}

static void attention_in_process_matches_its_definition(void)
{
    static struct inputs in;
    static float out[N_OUT], naive[N_OUT];
    static double reference[N_OUT];
    struct service_totals totals, expected;
    fill_inputs(&in);
    struct attention_service *service = local(NULL), *other = naive_service(UINT64_MAX);
    attend(other, &in, NULL, N, naive, &expected);
    for (size_t i = 0; i < N_OUT; i++)
        reference[i] = naive[i];
    for (size_t run = 1; run <= N; run += 11) {
        attend(service, &in, NULL, run, out, &totals);
        ASSERT_NEAR(test_relative_error(out, reference, N_OUT), 0, 1e-5);
        CU_ASSERT_EQUAL(totals.bytes_full_bf16, expected.bytes_full_bf16);
        CU_ASSERT(totals.bytes >= 2 * totals.bytes_full_bf16); /* f32 rows */
        CU_ASSERT(totals.head_seconds > 0);
    }
    service_destroy(service);
    service_destroy(other);
}

static void a_daemon_gives_the_bits_that_the_process_gives(void)
{
    static const char *const profiles[] = {NULL, "bf16", "window,window_tokens=8"};
    static struct inputs in;
    static float here[N_OUT], there[N_OUT];
    struct service_totals totals[2];
    struct daemon_here d;
    struct fault fault = {0};
    struct attention_service *remote;
    fill_inputs(&in);
    daemon_here_start(&d, "limits: {tokens_per_message: 9}\npools: [{name: a, threads: 1}]\n");
    struct attention_service *service = local(d.config_path);
    CU_ASSERT_EQUAL_FATAL(remote_create(&remote, d.endpoint, &fault), 0);
    CU_ASSERT(remote->tokens_max == 9 && service->tokens_max == 9 && remote->bytes_max == service->bytes_max);
    for (size_t i = 0; i < sizeof profiles / sizeof *profiles; i++) {
        attend(service, &in, profiles[i], N, here, &totals[0]);
        attend(remote, &in, profiles[i], N, there, &totals[1]);
        CU_ASSERT(support_same(here, there, N_OUT));
        CU_ASSERT_EQUAL(totals[0].bytes, totals[1].bytes);
        CU_ASSERT_EQUAL(totals[0].bytes_full_bf16, totals[1].bytes_full_bf16);
        CU_ASSERT(totals[1].head_seconds > 0);
    }
    service_destroy(service);
    service_destroy(remote);
    daemon_here_stop(&d);
}

static void what_is_wrong_is_told_by_either_way(void)
{
    static struct inputs in;
    float out[WIDE];
    struct daemon_here d;
    struct fault fault = {0};
    struct attention_service *service[2];
    fill_inputs(&in);
    in.key[0][3] = NAN;
    const float *const key[2] = {in.key[0], in.key[1]}, *const value[2] = {in.value[0], in.value[1]};
    daemon_here_start(&d, "");
    service[0] = local(d.config_path);
    CU_ASSERT_EQUAL_FATAL(remote_create(&service[1], d.endpoint, &fault), 0);
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL(service_open(service[i], &shape, "no-such-profile", &fault), ERR_UNKNOWN_PROFILE);
        CU_ASSERT_EQUAL_FATAL(service_open(service[i], &shape, NULL, &fault), 0);
        CU_ASSERT_EQUAL(service_open(service[i], &shape, NULL, &fault), ERR_EXISTS);
        CU_ASSERT_EQUAL(service_step(service[i], 0, 1, in.q, key, value, out, &fault), ERR_NOT_FINITE);
        service_destroy(service[i]); /* closes what is open */
    }
    daemon_here_stop(&d);
}

static void a_configuration_that_is_wrong_is_told_line_by_line(void)
{
    static struct capture capture;
    char path[SUPPORT_PATH_BYTES];
    struct attention_service *service;
    struct fault fault = {0};
    support_file(path, "pools: [{name: a, treads: 1}]\nisaa: scalar\n");
    capture_begin(&capture, stderr);
    CU_ASSERT_EQUAL(local_create(&service, path, &fault), ERR_INVALID);
    capture_end(&capture);
    CU_ASSERT_PTR_NULL(service);
    CU_ASSERT(strstr(capture.text, "treads") && strstr(capture.text, ":2:"));
    CU_ASSERT_PTR_NOT_NULL(strstr(fault.text, path));
    unlink(path);
}

TEST_SUITE("tools/service", TEST(attention_in_process_matches_its_definition),
           TEST(a_daemon_gives_the_bits_that_the_process_gives), TEST(what_is_wrong_is_told_by_either_way),
           TEST(a_configuration_that_is_wrong_is_told_line_by_line))
