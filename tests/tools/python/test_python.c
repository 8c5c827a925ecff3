/* The Python client: runs the Python tests of this folder with Debian's interpreter, against daemons in this process. */
#include "tests/e2e/house.h"
#include "tests/test.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Runs these test classes of a file of this folder; what they print is shown when one fails. folder: of cases, or "". */
static void run_python(const char *file, const char *classes, const char *endpoint, const char *folder)
{
    static char text[1 << 16];
    char command[1024];
    snprintf(command, sizeof command,
             "PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=tools/python:tests/tools/python ATTND_ENDPOINT='%s' ATTND_CASES='%s' "
             "/usr/bin/python3 -W error tests/tools/python/%s %s 2>&1",
             endpoint, folder, file, classes);
    FILE *out = popen(command, "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(out);
    text[fread(text, 1, sizeof text - 1, out)] = 0;
    int status = pclose(out);
    if (status)
        printf("\n%s", text);
    CU_ASSERT_EQUAL(status, 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "\nOK\n"));
}

/* ---- cases of the C path, which the Python client must reproduce to the bit */

enum { CASE_TOKENS = 90, CASE_BATCHES = 16 };

static const struct {
    enum attention_kind kind;
    enum element element;
    const char *profile;
    bool widened; /* Python hands in f32, and the client rounds */
} cases[] = {
    {ATTENTION_SOFTMAX, ELEMENT_F32, "full", false},
    {ATTENTION_SOFTMAX, ELEMENT_F16, "window,window_tokens=16", true},
    {ATTENTION_SOFTMAX, ELEMENT_BF16, "h2o,rows=32,interval=4", false},
    {ATTENTION_TENSOR, ELEMENT_BF16, "bf16", true},
    {ATTENTION_TENSOR, ELEMENT_F16, "two_cache", false},
};
enum { N_CASES = sizeof cases / sizeof *cases };

static void write_file(const char *folder, size_t number, const char *name, const void *data, size_t bytes)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%zu.%s", folder, number, name);
    FILE *file = fopen(path, "wb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT_EQUAL(fwrite(data, 1, bytes, file), bytes);
    fclose(file);
}

/* Numbers of tokens of the case's messages, which sum up to CASE_TOKENS. */
static size_t batches_of(size_t number, size_t batch[CASE_BATCHES])
{
    size_t n = 0;
    for (size_t left = CASE_TOKENS; left; left -= batch[n++])
        batch[n] = n + 1 == CASE_BATCHES || left < 12 ? left : 1 + (size_t)pick(number, n, 12);
    return n;
}

static void describe(FILE *json, size_t number, const struct shape *shape, const size_t *batch, size_t n_batches)
{
    fprintf(json,
            "%s{\"attention\": \"%s\", \"element\": \"%s\", \"profile\": \"%s\", \"widened\": %s, \"heads\": %zu, "
            "\"kv_heads\": %zu, "
            "\"key_dim\": %zu, \"value_dim\": %zu, \"scale\": %.9g, \"expected_tokens\": %" PRIu64
            ", \"tokens\": %d, \"batches\": ",
            number ? ",\n" : "[", attention_name(cases[number].kind), element_name(shape->element), cases[number].profile,
            cases[number].widened ? "true" : "false", shape->heads, shape->kv_heads, shape->key_dim, shape->value_dim,
            (double)shape->scale, shape->expected_tokens, CASE_TOKENS);
    for (size_t b = 0; b < n_batches; b++)
        fprintf(json, "%s%zu", b ? ", " : "[", batch[b]);
    fputs("]}", json);
}

static void write_case(FILE *json, const char *folder, const struct config *config, size_t number)
{
    static const char *const names[N_ATTENTION][4] = {{"k", "v"}, {"k1", "v1", "k2", "v2"}};
    enum attention_kind kind = cases[number].kind;
    struct shape shape = house_shape(kind == ATTENTION_SOFTMAX, kind == ATTENTION_TENSOR, 4, 2, 20, 12);
    struct tokens tokens;
    struct local local;
    size_t batch[CASE_BATCHES], n_batches = batches_of(number, batch), at = 0;
    shape.element = cases[number].element;
    tokens_create(&tokens, &shape, number, 0, 0, CASE_TOKENS);
    float *out = calloc(floats_out(&shape, CASE_TOKENS), sizeof *out),
          *lse = calloc(floats_lse(&shape, CASE_TOKENS), sizeof *lse);
    CU_ASSERT_FATAL(out && lse && local_open(&local, config, &shape, cases[number].profile));
    for (size_t b = 0; b < n_batches; at += batch[b++])
        CU_ASSERT_EQUAL(local_step(&local, &tokens, 0, at, batch[b], PART_APPEND | PART_ATTEND | PART_PARTIAL,
                                   out + floats_out(&shape, at), lse + floats_lse(&shape, at)),
                        0);
    local_close(&local);
    size_t element = element_bytes(shape.element);
    write_file(folder, number, "q", tokens.q, CASE_TOKENS * shape.heads * shape.key_dim * element);
    for (size_t s = 0; s < attention_streams(kind); s++) {
        write_file(folder, number, names[kind][2 * s], tokens.key[s], CASE_TOKENS * shape.kv_heads * shape.key_dim * element);
        write_file(folder, number, names[kind][2 * s + 1], tokens.value[s],
                   CASE_TOKENS * shape.kv_heads * shape.value_dim * element);
    }
    write_file(folder, number, "out", out, floats_out(&shape, CASE_TOKENS) * sizeof *out);
    write_file(folder, number, "lse", lse, floats_lse(&shape, CASE_TOKENS) * sizeof *lse);
    describe(json, number, &shape, batch, n_batches);
    tokens_destroy(&tokens);
    free(out);
    free(lse);
}

static void cases_write(const char *folder, const struct config *config)
{
    char path[128];
    snprintf(path, sizeof path, "%s/cases.json", folder);
    FILE *json = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(json);
    for (size_t number = 0; number < N_CASES; number++)
        write_case(json, folder, config, number);
    fputs("]\n", json);
    fclose(json);
}

static void cases_remove(const char *folder)
{
    static const char *const names[] = {"q", "k", "v", "k1", "v1", "k2", "v2", "out", "lse"};
    char path[128];
    for (size_t number = 0; number < N_CASES; number++)
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            snprintf(path, sizeof path, "%s/%zu.%s", folder, number, names[i]);
            unlink(path);
        }
    snprintf(path, sizeof path, "%s/cases.json", folder);
    unlink(path);
}

/* ---- tests */

static void outputs_equal_golden_files_and_the_c_path(void)
{
    struct house house;
    if (house_open(&house, "")) {
        cases_write(house.folder, house.config);
        run_python("test_daemon.py", "Outputs", house.ingest, house.folder);
        cases_remove(house.folder);
    }
    house_close(&house);
}

static void resends_and_lost_connections_lose_and_repeat_nothing(void)
{
    struct house house;
    if (house_open(&house, ""))
        run_python("test_daemon.py", "Resending", house.ingest, "");
    house_close(&house);
}

static void subscriptions_report_what_was_lost(void)
{
    struct house house;
    if (house_open_telling(&house, 0.05, "limits: {subscriber_messages: 8}\n"))
        run_python("test_daemon.py", "Watching", house.ingest, "");
    house_close(&house);
}

static void refusals_come_as_exceptions_with_their_codes(void)
{
    struct house house;
    if (house_open(&house, "limits: {parts: 8, tokens_per_message: 64, message_bytes: 256 KiB, credit_bytes: 256 KiB, "
                           "memory_bytes: 8 MiB}\n"))
        run_python("test_daemon.py", "Refusals", house.ingest, "");
    house_close(&house);
}

static void a_misbehaving_daemon_is_survived(void)
{
    run_python("test_client.py", "", "", "");
}

TEST_SUITE("tools/python", TEST(outputs_equal_golden_files_and_the_c_path),
           TEST(resends_and_lost_connections_lose_and_repeat_nothing), TEST(subscriptions_report_what_was_lost),
           TEST(refusals_come_as_exceptions_with_their_codes), TEST(a_misbehaving_daemon_is_survived))
