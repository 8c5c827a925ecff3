/* lib/wire/README.md against the code: whoever writes a client from it must get what the daemon speaks. */
#include "tests/test.h"

#include "wire/control.h"
#include "wire/message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *readme(void)
{
    static char text[64 * 1024];
    FILE *f = fopen("lib/wire/README.md", "rb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    CU_ASSERT_FATAL(n > 0 && n < sizeof text - 1);
    text[n] = '\0';
    return text;
}

/* The hex dump that follows `title` at the beginning of a line, as bytes. */
static size_t dump(const char *text, const char *title, unsigned char *out, size_t room)
{
    char line[80];
    snprintf(line, sizeof line, "\n%s:", title);
    const char *at = strstr(text, line);
    size_t n = 0;
    CU_ASSERT_PTR_NOT_NULL(at);
    if (!at)
        return 0;
    for (at = strchr(at + 1, '\n') + 2; strncmp(at, "    ", 4) == 0; at = strchr(at, '\n') + 1) {
        char *rest;
        CU_ASSERT_EQUAL(strtoul(at, &rest, 16), n); /* the address */
        for (const char *end = strchr(at, '\n'); rest < end; n++) {
            CU_ASSERT_FATAL(n < room);
            out[n] = (unsigned char)strtoul(rest, &rest, 16);
        }
    }
    return n;
}

static void the_worked_example_is_what_the_encoder_writes(void)
{
    const char *text = readme();
    static const float q[] = {1, 2, 0, -1, 0.5f, 0, 0, 4}, k[] = {2, 1, 3, 0.25f}, v[] = {0.5f, -2}, scale = 0.5f;
    float out[4], lse[2];
    for (size_t h = 0; h < 2; h++) {
        lse[h] = 0;
        for (size_t c = 0; c < 4; c++)
            lse[h] += scale * q[4 * h + c] * k[c];
        memcpy(out + 2 * h, v, sizeof v);
    }
    CU_ASSERT_TRUE(lse[0] == 1.875f && lse[1] == 1); /* as the text says */

    unsigned char request[64], reply[64];
    struct wire_header header = {.type = WIRE_REQUEST, .n_parts = 1, .layer = 2, .id = 1};
    struct wire_part part = {.stream = 7, .n_tokens = 1, .flags = WIRE_APPEND | WIRE_ATTEND | WIRE_PARTIAL};
    wire_encode(&header, &part, request);
    header.type = WIRE_REPLY;
    header.frames = WIRE_HAS_OUTPUTS | WIRE_HAS_LSE;
    header.credit = 1 << 18;
    part.position = 1;
    wire_encode(&header, &part, reply);

    const struct {
        const char *title;
        const void *bytes;
        size_t n;
    } frames[] = {{"request frame 0", request, sizeof request},
                  {"request frame 1", q, sizeof q},
                  {"request frame 2", k, sizeof k},
                  {"request frame 3", v, sizeof v},
                  {"reply frame 0", reply, sizeof reply},
                  {"reply frame 1", out, sizeof out},
                  {"reply frame 2", lse, sizeof lse}};
    for (size_t i = 0; i < sizeof frames / sizeof *frames; i++) {
        unsigned char said[256];
        CU_ASSERT_EQUAL_FATAL(dump(text, frames[i].title, said, sizeof said), frames[i].n);
        CU_ASSERT_EQUAL(memcmp(said, frames[i].bytes, frames[i].n), 0);
    }
}

static void every_error_is_listed_with_its_number_and_words(void)
{
    const char *text = readme();
    size_t n = 0, lines = 0;
#define ASSERT_LISTED(name, wire, sentence, advice)                                                                            \
    {                                                                                                                          \
        char line[256];                                                                                                        \
        snprintf(line, sizeof line, "\n| %u | `%s` | %s | %s |\n", wire_status(ERR_##name), wire, sentence, advice);           \
        if (!strstr(text, line))                                                                                               \
            printf("\nnot in lib/wire/README.md:%s", line);                                                                    \
        CU_ASSERT_PTR_NOT_NULL(strstr(text, line));                                                                            \
        n++;                                                                                                                   \
    }
    ERR_LIST(ASSERT_LISTED)
#undef ASSERT_LISTED
    for (const char *at = strstr(text, "| number | code |"); at && *at == '|'; at = strchr(at, '\n') + 1)
        lines++;
    CU_ASSERT_EQUAL(lines, n + 2); /* the table's head and its rule, and no code that does not exist */
}

/* The end of the JSON object that begins at `at`: strings of the examples hold no braces. */
static size_t object_length(const char *at)
{
    size_t depth = 0, n = 0;
    do {
        depth += at[n] == '{';
        depth -= at[n] == '}';
        n++;
    } while (depth && at[n]);
    return n;
}

static int decode_example(const char *text, size_t n)
{
    static struct control_request request;
    static struct control_hello hello;
    static struct control_open open;
    struct control_close close;
    struct control_reload reload;
    struct control_confirm confirm;
    struct fault fault;
    uint64_t id;
    char copy[1024];
    int err;
    CU_ASSERT_FATAL(n < sizeof copy);
    memcpy(copy, text, n);
    copy[n] = '\0';
    if (strstr(copy, "\"op\": \"lease\"")) {
        char *said = control_encode_lease(300), *from = copy, *to = copy;
        while (*from) /* the encoder leaves no blanks */
            if (*from++ != ' ')
                *to++ = from[-1];
        *to = '\0';
        err = said && strcmp(said, copy) == 0 ? 0 : fault_set(&fault, ERR_MALFORMED, "the daemon says %s", said ? said : "");
        free(said);
    } else if (!strstr(copy, "\"ok\"")) {
        err = control_decode_request(copy, n, &request, &fault);
        free(request.config);
    } else if (strstr(copy, "\"op\": \"hello\"")) {
        err = control_decode_hello(copy, n, &id, &hello, &fault);
    } else if (strstr(copy, "\"op\": \"open\"")) {
        err = control_decode_open(copy, n, &id, &open, &fault);
    } else if (strstr(copy, "\"op\": \"reload\"")) {
        err = control_decode_reload(copy, n, &id, &reload, &fault);
    } else if (strstr(copy, "\"op\": \"status\"")) {
        char *status = control_decode_status(copy, n, &id, &fault);
        err = status ? 0 : fault.err;
        free(status);
    } else if (strstr(copy, "\"op\": \"confirm\"")) {
        err = control_decode_confirm(copy, n, &id, &confirm, &fault);
    } else {
        err = control_decode_close(copy, n, &id, &close, &fault);
        if (strstr(copy, "\"ok\": false"))
            err = err == ERR_UNKNOWN_STREAM ? 0 : ERR_INVALID;
    }
    if (err)
        printf("\n%s: %s", copy, fault.text);
    return err;
}

static void every_control_example_decodes(void)
{
    size_t n = 0;
    for (const char *at = readme(); (at = strstr(at, "{\"op\":")) != NULL; at += object_length(at), n++)
        CU_ASSERT_EQUAL(decode_example(at, object_length(at)), 0);
    CU_ASSERT_EQUAL(n, 16);
}

static void the_layouts_numbers_are_the_codes(void)
{
    static const char *const lines[] = {
        "| append | 1 |",  "| attend | 2 |", "| partial | 4 |", "| observe | 8 |",
        "| outputs | 1 |", "| lse | 2 |",    "| faults | 4 |",
    };
    const char *text = readme();
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        CU_ASSERT_PTR_NOT_NULL(strstr(text, lines[i]));
    CU_ASSERT_TRUE(WIRE_APPEND == 1 && WIRE_ATTEND == 2 && WIRE_PARTIAL == 4 && WIRE_OBSERVE == 8 && WIRE_HAS_OUTPUTS == 1 &&
                   WIRE_HAS_LSE == 2 && WIRE_HAS_FAULTS == 4 && WIRE_PARTS_MAX == 4096);
}

TEST_SUITE("lib/wire/README", TEST(the_worked_example_is_what_the_encoder_writes),
           TEST(every_error_is_listed_with_its_number_and_words), TEST(every_control_example_decodes),
           TEST(the_layouts_numbers_are_the_codes))
