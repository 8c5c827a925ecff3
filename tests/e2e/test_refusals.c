/* Every message that must be refused, one by one: each gets its own error, and the stream stays what it was, to the bit. */
#include "tests/e2e/scene.h"
#include "tests/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A right message, append and attend of two tokens, as bytes to spoil. */
enum { DRAFT_ROOM = 1 << 16, DRAFT_TENSORS = 5 };
struct draft {
    char *data[RAW_FRAMES];
    size_t bytes[RAW_FRAMES], n;
};

static void draft_frame(struct draft *d, const void *from, size_t bytes)
{
    d->data[d->n] = calloc(1, DRAFT_ROOM);
    d->bytes[d->n] = bytes;
    memcpy(d->data[d->n++], from, bytes);
}

static void draft_create(struct draft *d, struct scene *s)
{
    const struct shape *shape = &s->shape;
    enum { TOKENS = 2 };
    size_t q = TOKENS * shape->heads * shape->key_dim * 4, k = TOKENS * shape->kv_heads * shape->key_dim * 4,
           v = TOKENS * shape->kv_heads * shape->value_dim * 4;
    struct wire_header header = {.type = WIRE_REQUEST, .n_parts = 1, .id = ++s->raw.id};
    struct wire_part part = {
        .stream = s->stream, .first_token = SCENE_HELD, .n_tokens = TOKENS, .flags = WIRE_APPEND | WIRE_ATTEND};
    char head[WIRE_HEADER_BYTES + WIRE_PART_BYTES];
    memset(d, 0, sizeof *d);
    wire_encode(&header, &part, head);
    draft_frame(d, head, sizeof head);
    draft_frame(d, tokens_q(&s->tokens, SCENE_HELD), q);
    for (int i = 0; i < (int)attention_streams(s->tokens.kind); i++) {
        draft_frame(d, tokens_key(&s->tokens, i, SCENE_HELD), k);
        draft_frame(d, tokens_value(&s->tokens, i, SCENE_HELD), v);
    }
    while (d->n < RAW_FRAMES) /* there in case that they are sent too */
        draft_frame(d, "", 0);
    d->n = 2 + 2 * attention_streams(s->tokens.kind);
}

static void draft_destroy(struct draft *d)
{
    for (size_t i = 0; i < RAW_FRAMES; i++)
        free(d->data[i]);
}

/* Sends the draft; the reply must carry this error, and nothing may have changed. */
static void expect(struct scene *s, const struct draft *d, const char *what, int err)
{
    struct raw_frame frame[RAW_FRAMES];
    struct raw_reply reply;
    for (size_t i = 0; i < d->n; i++)
        frame[i] = (struct raw_frame){d->data[i], d->bytes[i]};
    raw_send(&s->raw, frame, d->n);
    bool came = raw_receive(&s->raw, 20, &reply);
    int got = came ? raw_error(&reply) : ERR_TIMEOUT;
    bool unchanged = came && scene_unchanged(s, SCENE_HELD);
    if (got != err || !unchanged || (err && (reply.n_faults == 0 || reply.fault[0].fault.text[0] == 0)))
        printf("\n%s: %s (%s), expected %s%s", what, err_name(got), came ? reply.fault[0].fault.text : "", err_name(err),
               unchanged ? "" : "; the stream changed");
    CU_ASSERT_EQUAL(got, err);
    CU_ASSERT(unchanged);
    CU_ASSERT(err == 0 || (reply.n_faults == 1 && reply.fault[0].fault.text[0] != 0));
    raw_reply_free(&reply);
}

static const char limits[] = "limits: {parts: 4, tokens_per_message: 100, message_bytes: 64 KiB, credit_bytes: 64 KiB}\n";

/* ---- frame 0 */

static void every_field_of_frame_0_is_checked(void)
{
    static const struct {
        const char *what;
        size_t at, bytes;
        uint64_t value;
        int err;
    } spoilt[] = {
        {"magic", 0, 1, 'B', ERR_MALFORMED},
        {"version 0", 4, 1, 0, ERR_VERSION},
        {"version 2", 4, 1, 2, ERR_VERSION},
        {"type 0", 5, 1, 0, ERR_MALFORMED},
        {"a reply", 5, 1, 2, ERR_MALFORMED},
        {"an output", 5, 1, 3, ERR_MALFORMED},
        {"reserved byte 6", 6, 1, 1, ERR_MALFORMED},
        {"reserved byte 7", 7, 1, 1, ERR_MALFORMED},
        {"no parts", 8, 4, 0, ERR_MALFORMED},
        {"two parts in a table of one", 8, 4, 2, ERR_MALFORMED},
        {"4 billion parts in a table of one", 8, 4, UINT32_MAX, ERR_MALFORMED},
        {"layer 1 of 1", 12, 4, 1, ERR_WRONG_SHAPE},
        {"layer 4 billion", 12, 4, UINT32_MAX, ERR_WRONG_SHAPE},
        {"frames in a request", 24, 4, 1, ERR_MALFORMED},
        {"reserved bytes 28", 28, 4, 1u << 31, ERR_MALFORMED},
        {"stream 0", 32, 8, 0, ERR_UNKNOWN_STREAM},
        {"stream that never was", 32, 8, 12345, ERR_UNKNOWN_STREAM},
        {"stream of all ones", 32, 8, UINT64_MAX, ERR_UNKNOWN_STREAM},
        {"first_token one too many", 40, 8, SCENE_HELD + 1, ERR_WRONG_INDEX},
        {"first_token far off", 40, 8, INT64_MAX - 2, ERR_WRONG_INDEX},
        {"tokens that overlap the held ones", 40, 8, SCENE_HELD - 1, ERR_WRONG_INDEX},
        {"first_token + n_tokens beyond 2^63", 40, 8, INT64_MAX, ERR_MALFORMED},
        {"first_token 2^64 - 1", 40, 8, UINT64_MAX, ERR_MALFORMED},
        {"position 2^63", 48, 8, (uint64_t)1 << 63, ERR_MALFORMED},
        {"no tokens", 56, 4, 0, ERR_MALFORMED},
        {"fewer tokens than numbers", 56, 4, 1, ERR_WRONG_SHAPE},
        {"more tokens than numbers", 56, 4, 3, ERR_WRONG_SHAPE},
        {"tokens beyond the limit", 56, 4, 101, ERR_TOO_LARGE},
        {"4 billion tokens", 56, 4, UINT32_MAX, ERR_TOO_LARGE},
        {"no flags", 60, 2, 0, ERR_MALFORMED},
        {"partial without attend", 60, 2, WIRE_APPEND | WIRE_PARTIAL, ERR_MALFORMED},
        {"partial alone", 60, 2, WIRE_PARTIAL, ERR_MALFORMED},
        {"observe with attend", 60, 2, WIRE_OBSERVE | WIRE_ATTEND, ERR_MALFORMED},
        {"a reserved flag", 60, 2, WIRE_APPEND | WIRE_ATTEND | 16, ERR_MALFORMED},
        {"the highest reserved flag", 60, 2, WIRE_APPEND | WIRE_ATTEND | 0x8000, ERR_MALFORMED},
        {"a status in a request", 62, 2, 1, ERR_MALFORMED},
        {"append alone with queries", 60, 2, WIRE_APPEND, ERR_MALFORMED},
        {"attend alone with rows", 60, 2, WIRE_ATTEND, ERR_MALFORMED},
    };
    struct scene s;
    if (scene_open(&s, limits, ATTENTION_SOFTMAX, "full"))
        for (size_t i = 0; i < sizeof spoilt / sizeof *spoilt; i++) {
            struct draft d;
            draft_create(&d, &s);
            for (size_t b = 0; b < spoilt[i].bytes; b++)
                d.data[0][spoilt[i].at + b] = (char)(spoilt[i].value >> (8 * b));
            expect(&s, &d, spoilt[i].what, spoilt[i].err);
            draft_destroy(&d);
        }
    scene_close(&s);
}

static void frame_0_cut_short_or_too_long_is_malformed(void)
{
    static const size_t sizes[] = {0, 1, 4, 5, 16, 24, 31, 32, 33, 63, 65, 96, 4096, 40000};
    struct scene s;
    if (scene_open(&s, limits, ATTENTION_SOFTMAX, "full"))
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            struct draft d;
            char what[64];
            draft_create(&d, &s);
            d.bytes[0] = sizes[i];
            snprintf(what, sizeof what, "frame 0 of %zu bytes", sizes[i]);
            expect(&s, &d, what, ERR_MALFORMED);
            draft_destroy(&d);
        }
    scene_close(&s);
}

static void a_refusal_names_its_message_where_the_id_can_be_read(void)
{
    static const struct {
        size_t bytes;
        bool readable;
    } cut[] = {{31, false}, {32, true}, {63, true}};
    struct scene s;
    if (scene_open(&s, limits, ATTENTION_SOFTMAX, "full"))
        for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
            struct draft d;
            struct raw_reply reply;
            draft_create(&d, &s);
            raw_send(&s.raw, &(struct raw_frame){d.data[0], cut[i].bytes}, 1);
            CU_ASSERT(raw_receive(&s.raw, 20, &reply));
            CU_ASSERT_EQUAL(reply.header.id, cut[i].readable ? s.raw.id : 0);
            CU_ASSERT_EQUAL(reply.header.n_parts, 0);
            CU_ASSERT_EQUAL(reply.fault[0].part, PART_WHOLE);
            raw_reply_free(&reply);
            draft_destroy(&d);
        }
    scene_close(&s);
}

/* ---- tensor frames */

static void frames_too_few_or_too_many_are_malformed(void)
{
    struct scene s;
    for (int kind = 0; kind < N_ATTENTION; kind++) {
        if (scene_open(&s, limits, (enum attention_kind)kind, "full"))
            for (size_t n = 1; n <= RAW_FRAMES; n++) {
                struct draft d;
                char what[64];
                draft_create(&d, &s);
                if (n != d.n) {
                    d.n = n;
                    snprintf(what, sizeof what, "%zu frames for a %s layer", n, attention_name((enum attention_kind)kind));
                    expect(&s, &d, what, ERR_MALFORMED);
                }
                draft_destroy(&d);
            }
        scene_close(&s);
    }
}

static void tensors_with_a_byte_too_few_or_too_many_have_the_wrong_shape(void)
{
    static const int change[] = {-1, 1, -4, 4, -64, 64};
    struct scene s;
    for (int kind = 0; kind < N_ATTENTION; kind++) {
        if (scene_open(&s, limits, (enum attention_kind)kind, "full"))
            for (size_t frame = 1; frame < 2 + 2 * attention_streams((enum attention_kind)kind); frame++)
                for (size_t i = 0; i <= sizeof change / sizeof *change; i++) {
                    struct draft d;
                    char what[64];
                    draft_create(&d, &s);
                    d.bytes[frame] = i < sizeof change / sizeof *change ? d.bytes[frame] + (size_t)change[i] : 0;
                    snprintf(what, sizeof what, "frame %zu with %zu bytes", frame, d.bytes[frame]);
                    expect(&s, &d, what, ERR_WRONG_SHAPE);
                    draft_destroy(&d);
                }
        scene_close(&s);
    }
}

static void a_message_beyond_its_limit_is_too_large_and_named(void)
{
    struct scene s;
    if (scene_open(&s, limits, ATTENTION_SOFTMAX, "full")) {
        struct draft d;
        struct raw_reply reply;
        draft_create(&d, &s);
        uint64_t id = s.raw.id;
        d.bytes[1] = DRAFT_ROOM;
        expect(&s, &d, "a message of more than 64 KiB", ERR_TOO_LARGE);
        d.bytes[1] = 0;
        d.bytes[0] = DRAFT_ROOM;
        expect(&s, &d, "a frame 0 of 64 KiB", ERR_TOO_LARGE);
        struct raw_frame large[] = {{d.data[0], WIRE_HEADER_BYTES + WIRE_PART_BYTES}, {d.data[1], DRAFT_ROOM}};
        raw_send(&s.raw, large, 2);
        CU_ASSERT(raw_receive(&s.raw, 20, &reply));
        CU_ASSERT_EQUAL(reply.header.id, id); /* or nobody could tell what was too large */
        raw_reply_free(&reply);
        draft_destroy(&d);
    }
    scene_close(&s);
}

static void parts_beyond_their_limit_are_too_large(void)
{
    struct scene s;
    for (size_t n = 4; n < 12; n += n == 5 ? 6 : 1) { /* also more than the gateway keeps on its stack */
        if (scene_open(&s, limits, ATTENTION_SOFTMAX, "full")) {
            struct raw_message message = {0};
            struct raw_reply reply;
            for (size_t i = 0; i < n; i++)
                raw_add(&message, s.stream, &s.tokens, SCENE_HELD, 1, WIRE_ATTEND);
            raw_send_message(&s.raw, &message);
            CU_ASSERT(raw_receive(&s.raw, 20, &reply));
            CU_ASSERT_EQUAL(raw_error(&reply), n > 4 ? ERR_TOO_LARGE : 0);
            CU_ASSERT_EQUAL(reply.header.id, s.raw.id);
            raw_reply_free(&reply);
        }
        scene_close(&s);
    }
}

/* ---- numbers */

static void put_number(struct draft *d, size_t frame, size_t i, float x)
{
    memcpy(d->data[frame] + i * sizeof x, &x, sizeof x);
}

/* At the first and the last place of each tensor: a check that reads too little would miss one of them. */
static void expect_numbers(struct scene *s, float x, int err)
{
    for (size_t frame = 1; frame < 2 + 2 * attention_streams(s->tokens.kind); frame++)
        for (int last = 0; last < 2; last++) {
            struct draft d;
            char what[64];
            draft_create(&d, s);
            put_number(&d, frame, last ? d.bytes[frame] / sizeof x - 1 : 0, x);
            snprintf(what, sizeof what, "%g at the %s place of frame %zu", (double)x, last ? "last" : "first", frame);
            expect(s, &d, what, err);
            draft_destroy(&d);
        }
}

static void nan_and_infinity_are_refused_wherever_they_stand(void)
{
    struct scene s;
    for (int kind = 0; kind < N_ATTENTION; kind++) {
        if (scene_open(&s, limits, (enum attention_kind)kind, "full")) {
            expect_numbers(&s, NAN, ERR_NOT_FINITE);
            expect_numbers(&s, INFINITY, ERR_NOT_FINITE);
            expect_numbers(&s, -INFINITY, ERR_NOT_FINITE);
        }
        scene_close(&s);
    }
}

static void numbers_that_the_row_storage_cannot_hold_overflow(void)
{
    static const struct {
        const char *profile;
        size_t frame;
        float x;
        int err;
    } cases[] = {
        {"full,storage=f16", 2, 65504, 0},
        {"full,storage=f16", 2, 65520, ERR_OVERFLOW}, /* rounds to infinity in f16 */
        {"full,storage=f16", 3, -65520, ERR_OVERFLOW},
        {"full,storage=f16", 1, 65520, 0}, /* queries are not stored */
        {"full,key_storage=f16", 2, -1e5f, ERR_OVERFLOW},
        {"full,key_storage=f16", 3, -1e5f, 0},
        {"full,value_storage=f16", 3, 1e5f, ERR_OVERFLOW},
        {"full,value_storage=f16", 2, 1e5f, 0},
        {"full,storage=bf16", 2, 3.4e38f, ERR_OVERFLOW}, /* a float, but no bf16 */
        {"full,storage=bf16", 3, 3.4e38f, ERR_OVERFLOW},
        {"window,window_tokens=8,storage=f16", 2, 1e5f, ERR_OVERFLOW},
        {"full", 3, 3.4e38f, ERR_OVERFLOW}, /* sums of such values are infinite */
    };
    struct scene s;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (scene_open(&s, limits, ATTENTION_SOFTMAX, cases[i].profile)) {
            struct draft d;
            draft_create(&d, &s);
            put_number(&d, cases[i].frame, 3, cases[i].x);
            if (cases[i].err)
                expect(&s, &d, cases[i].profile, cases[i].err);
            else {
                struct raw_frame frame[4];
                struct raw_reply reply;
                for (size_t f = 0; f < 4; f++)
                    frame[f] = (struct raw_frame){d.data[f], d.bytes[f]};
                raw_send(&s.raw, frame, 4);
                CU_ASSERT(raw_receive(&s.raw, 20, &reply));
                CU_ASSERT_EQUAL(raw_error(&reply), 0);
                for (size_t f = 0; f < reply.n_out; f++)
                    CU_ASSERT(isfinite(reply.out[f]));
                raw_reply_free(&reply);
            }
            draft_destroy(&d);
        }
        scene_close(&s);
    }
}

/* What is finite comes in, and what comes out must be finite too: not the numbers alone are checked, but what they are for. */
static void products_that_no_float_holds_overflow(void)
{
    static const struct {
        enum attention_kind kind;
        float x[6]; /* the first number of each frame; 0: as it is */
    } cases[] = {
        {ATTENTION_SOFTMAX, {0, 1e30f, 1e30f}},
        {ATTENTION_TENSOR, {0, 1e20f, 1e10f, 0, 1e10f}},
        {ATTENTION_TENSOR, {0, 0, 0, 1e25f, 0, 1e25f}}, /* v1 o v2 */
    };
    struct scene s;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (scene_open(&s, limits, cases[i].kind, "full")) {
            struct draft d;
            char what[64];
            draft_create(&d, &s);
            for (size_t f = 1; f < 6; f++)
                for (size_t c = 0; cases[i].x[f] != 0 && c < d.bytes[f] / sizeof(float); c++)
                    put_number(&d, f, c, cases[i].x[f]);
            snprintf(what, sizeof what, "products, case %zu", i);
            expect(&s, &d, what, ERR_OVERFLOW);
            draft_destroy(&d);
        }
        scene_close(&s);
    }
}

/* <q o k1, k2> is small, but q o k1 is infinite on the way there; in an empty stream no other row hides it. */
static void intermediate_products_that_no_float_holds_overflow(void)
{
    struct scene s;
    if (scene_open(&s, limits, ATTENTION_TENSOR, "full")) {
        struct raw_reply reply;
        struct raw_message message = {0};
        float *numbers[] = {s.tokens.q, s.tokens.key[0], s.tokens.key[1]};
        for (size_t i = 0; i < 3; i++)
            for (size_t c = 0; c < s.shape.heads * s.shape.key_dim; c++)
                numbers[i][c] = i < 2 ? 1e30f : 1e-30f;
        raw_add(&message, raw_open_stream(&s.raw, "empty", &s.shape, "full", false), &s.tokens, 0, 1,
                WIRE_APPEND | WIRE_ATTEND);
        raw_send_message(&s.raw, &message);
        CU_ASSERT(raw_receive(&s.raw, 20, &reply));
        CU_ASSERT_EQUAL(raw_error(&reply), ERR_OVERFLOW);
        raw_reply_free(&reply);
    }
    scene_close(&s);
}

/* The same with the large rows in the cache already: alone they are fine. */
static void queries_too_large_for_the_rows_held_overflow(void)
{
    struct scene s;
    if (scene_open(&s, limits, ATTENTION_SOFTMAX, "full")) {
        float *key = (float *)s.tokens.key[0] + SCENE_HELD * s.shape.kv_heads * s.shape.key_dim,
              *q = (float *)s.tokens.q + SCENE_HELD * s.shape.heads * s.shape.key_dim;
        key[0] = 1e30f;
        q[0] = 1e30f;
        CU_ASSERT_EQUAL(scene_send(&s, SCENE_HELD, 1, WIRE_APPEND, 0), 0);
        struct raw_message message = {0};
        struct raw_reply reply;
        raw_add(&message, s.stream, &s.tokens, SCENE_HELD + 1, 1, WIRE_ATTEND);
        message.at[0] = SCENE_HELD;
        raw_send_message(&s.raw, &message);
        CU_ASSERT(raw_receive(&s.raw, 20, &reply));
        CU_ASSERT_EQUAL(raw_error(&reply), ERR_OVERFLOW);
        raw_reply_free(&reply);
    }
    scene_close(&s);
}

/* A policy that ranks rows by what queries see of them must be shown the queries. */
static void rows_without_queries_are_refused_where_the_policy_learns_from_them(void)
{
    struct scene s;
    if (scene_open(&s, limits, ATTENTION_SOFTMAX, "h2o,budget_fraction=0.5")) {
        CU_ASSERT_EQUAL(scene_send(&s, SCENE_HELD, 1, WIRE_APPEND, 0), ERR_NEEDS_QUERIES);
        CU_ASSERT(scene_unchanged(&s, SCENE_HELD));
        CU_ASSERT_EQUAL(scene_send(&s, SCENE_HELD, 1, WIRE_APPEND | WIRE_OBSERVE, 0), 0); /* no outputs wanted */
        CU_ASSERT_EQUAL(scene_send(&s, SCENE_HELD + 1, 1, WIRE_OBSERVE, 0), 0);
        CU_ASSERT_EQUAL(scene_send(&s, SCENE_HELD + 1, 1, WIRE_APPEND | WIRE_ATTEND, 0), 0);
    }
    scene_close(&s);
}

/* ---- control */

static void every_wrong_control_request_is_refused_by_name(void)
{
    static const char shape[] = "\"shape\":{\"layers\":[{\"count\":1,\"attention\":\"softmax\"}],\"heads\":4,\"kv_heads\":2,"
                                "\"key_dim\":16,\"value_dim\":8,\"expected_tokens\":64}}";
    static const struct {
        const char *text;
        bool shape; /* appended */
        const char *code, *op;
        int id;
    } requests[] = {
        {"{", false, "malformed", NULL, 0},
        {"{}", false, "malformed", NULL, 0},
        {"{\"op\":\"hello\",\"id\":7", false, "malformed", NULL, 0},
        {"{\"op\":\"frobnicate\",\"id\":7}", false, "malformed", NULL, 7},
        {"{\"op\":3,\"id\":7}", false, "malformed", NULL, 7},
        {"{\"op\":\"hello\",\"id\":7}", false, "malformed", "hello", 7},
        {"{\"op\":\"hello\",\"id\":7,\"version\":\"1\"}", false, "malformed", "hello", 7},
        {"{\"op\":\"hello\",\"id\":7,\"version\":1,\"x\":1}", false, "malformed", "hello", 7},
        {"{\"op\":\"hello\",\"id\":7,\"id\":7,\"version\":1}", false, "malformed", NULL, 0},
        {"{\"op\":\"hello\",\"id\":-7,\"version\":1}", false, "invalid", "hello", 0},
        {"{\"op\":\"status\",\"id\":7,\"stream\":99}", false, "unknown_stream", "status", 7},
        {"{\"op\":\"close\",\"id\":7}", false, "malformed", "close", 7},
        {"{\"op\":\"close\",\"id\":7,\"stream\":99}", false, "unknown_stream", "close", 7},
        {"{\"op\":\"open\",\"id\":7,\"name\":\"x\"}", false, "malformed", "open", 7},
        {"{\"op\":\"open\",\"id\":7,\"name\":\"a/b\",", true, "invalid", "open", 7},
        {"{\"op\":\"open\",\"id\":7,\"name\":\"\",", true, "invalid", "open", 7},
        {"{\"op\":\"open\",\"id\":7,\"name\":\"scene\",", true, "exists", "open", 7},
        {"{\"op\":\"open\",\"id\":7,\"name\":\"x\",\"profile\":\"nonesuch\",", true, "unknown_profile", "open", 7},
        {"{\"op\":\"open\",\"id\":7,\"name\":\"x\",\"profile\":\"full,window_tokens=3\",", true, "invalid", "open", 7},
        {"{\"op\":\"open\",\"id\":7,\"name\":\"x\",\"profile\":\"window,window_tokens=-3\",", true, "invalid", "open", 7},
        {"{\"op\":\"open\",\"id\":7,\"name\":\"x\",\"profile\":\"window,window_tokens\",", true, "invalid", "open", 7},
        {"{\"op\":\"open\",\"id\":7,\"name\":\"x\",\"profile\":\"window,budget_bytes=1\",", true, "invalid", "open", 7},
        {"{\"op\":\"open\",\"id\":7,\"name\":\"x\",\"profile\":\"full,storage=q1\",", true, "invalid", "open", 7},
        {"{\"op\":\"open\",\"id\":7,\"name\":\"x\",\"profile\":\",\",", true, "invalid", "open", 7},
        {"{\"op\":\"open\",\"id\":7,\"name\":\"x\",\"resume\":1,", true, "malformed", "open", 7},
    };
    struct scene s;
    if (scene_open(&s, limits, ATTENTION_SOFTMAX, "full"))
        for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
            char text[1024], part[64];
            struct raw_reply reply;
            snprintf(text, sizeof text, "%s%s", requests[i].text, requests[i].shape ? shape : "");
            CU_ASSERT(raw_ask(&s.raw, text, &reply));
            snprintf(part, sizeof part, "\"code\":\"%s\"", requests[i].code);
            bool ok = strstr(reply.text, part) && strstr(reply.text, "\"ok\":false") && strstr(reply.text, "\"advice\":\"");
            snprintf(part, sizeof part, "\"id\":%d", requests[i].id);
            ok = ok && strstr(reply.text, part);
            snprintf(part, sizeof part, "\"op\":\"%s\"", requests[i].op ? requests[i].op : "");
            ok = ok && (requests[i].op ? strstr(reply.text, part) != NULL : strstr(reply.text, "\"op\"") == NULL);
            if (!ok)
                printf("\n%s: %s; expected %s, op %s", text, reply.text, requests[i].code, requests[i].op);
            CU_ASSERT(ok);
            CU_ASSERT(scene_unchanged(&s, SCENE_HELD));
        }
    scene_close(&s);
}

static void json_with_a_second_frame_is_no_control_message(void)
{
    struct scene s;
    if (scene_open(&s, limits, ATTENTION_SOFTMAX, "full")) {
        static const char hello[] = "{\"op\":\"hello\",\"id\":1,\"version\":1}";
        struct raw_reply reply;
        struct raw_frame frame[] = {{hello, strlen(hello)}, {"", 0}};
        raw_send(&s.raw, frame, 2);
        CU_ASSERT(raw_receive(&s.raw, 20, &reply));
        CU_ASSERT_EQUAL(raw_error(&reply), ERR_MALFORMED);
        raw_reply_free(&reply);
    }
    scene_close(&s);
}

static void refusals_are_counted_by_reason(void)
{
    struct scene s;
    if (scene_open(&s, limits, ATTENTION_SOFTMAX, "full")) {
        struct attnd_client *client = NULL;
        CU_ASSERT_EQUAL(scene_send(&s, SCENE_HELD + 1, 1, WIRE_APPEND, 0), ERR_WRONG_INDEX);
        CU_ASSERT_EQUAL(scene_send(&s, SCENE_HELD + 2, 1, WIRE_APPEND, 0), ERR_WRONG_INDEX);
        CU_ASSERT_EQUAL(attnd_connect(&client, s.house.ingest, NULL, NULL), 0);
        if (client) {
            CU_ASSERT_EQUAL(house_number(client, "daemon.refused_total.wrong_index"), 2);
            CU_ASSERT(isnan(house_number(client, "daemon.refused_total.busy")));
        }
        attnd_disconnect(client);
    }
    scene_close(&s);
}

TEST_SUITE("e2e/refusals", TEST(every_field_of_frame_0_is_checked), TEST(frame_0_cut_short_or_too_long_is_malformed),
           TEST(a_refusal_names_its_message_where_the_id_can_be_read), TEST(frames_too_few_or_too_many_are_malformed),
           TEST(tensors_with_a_byte_too_few_or_too_many_have_the_wrong_shape),
           TEST(a_message_beyond_its_limit_is_too_large_and_named), TEST(parts_beyond_their_limit_are_too_large),
           TEST(nan_and_infinity_are_refused_wherever_they_stand), TEST(numbers_that_the_row_storage_cannot_hold_overflow),
           TEST(products_that_no_float_holds_overflow), TEST(intermediate_products_that_no_float_holds_overflow),
           TEST(queries_too_large_for_the_rows_held_overflow),
           TEST(rows_without_queries_are_refused_where_the_policy_learns_from_them),
           TEST(every_wrong_control_request_is_refused_by_name), TEST(json_with_a_second_frame_is_no_control_message),
           TEST(refusals_are_counted_by_reason))
