/* A stream whose head fails in the middle: every answer says so, and nothing else is touched. */
#include "tests/daemon/desk.h"
#include "tests/test.h"
#include "workers/stream.h"

#include <stdio.h>
#include <string.h>

enum { BOTH = WIRE_APPEND | WIRE_ATTEND };

struct patient {
    struct desk desk;
    struct raw raw;
    struct shape shape;
    struct tokens tokens;
    uint64_t stream, other;
};

/* Two streams with 20 tokens each; the first has no memory for more than a few. */
static bool patient_open(struct patient *p)
{
    memset(p, 0, sizeof *p);
    if (!desk_open(&p->desk, "pools: [{threads: 2}]\n") || !raw_open(&p->raw, p->desk.ingest))
        return false;
    p->shape = house_shape(1, 0, 4, 2, 16, 8);
    tokens_create(&p->tokens, &p->shape, 1, 0, 0, 400);
    p->stream = raw_open_stream(&p->raw, "patient", &p->shape, "full", false);
    p->other = raw_open_stream(&p->raw, "other", &p->shape, "full", false);
    return p->stream && p->other;
}

static void patient_close(struct patient *p)
{
    raw_close(&p->raw);
    tokens_destroy(&p->tokens);
    desk_close(&p->desk);
}

static void send_tokens(struct patient *p, uint64_t stream, uint64_t first, size_t n, unsigned flags)
{
    struct raw_message message = {0};
    raw_add(&message, stream, &p->tokens, first, n, flags);
    raw_send_message(&p->raw, &message);
}

static int answer(struct patient *p, struct raw_reply *reply)
{
    struct raw_reply ignored;
    bool came = raw_receive(&p->raw, 20, reply ? reply : &ignored);
    int err = came ? raw_error(reply ? reply : &ignored) : ERR_TIMEOUT;
    raw_reply_free(reply ? reply : &ignored);
    return err;
}

static void let_memory_run_out(struct patient *p, size_t head)
{
    desk_pause(&p->desk);
    struct page_account *account = &streams_find(&p->desk.gateway.streams, p->stream)->engine_stream->head[head].cache->account;
    account->limit = atomic_load(&account->allocated) + 1; /* 0 would be no limit */
    desk_resume(&p->desk);
}

static void a_stream_that_ran_out_of_memory_is_failed_for_good(void)
{
    struct patient p;
    if (patient_open(&p)) {
        struct raw_reply reply;
        const struct counters *counters = &p.desk.gateway.counters;
        send_tokens(&p, p.stream, 0, 20, BOTH);
        CU_ASSERT_EQUAL(answer(&p, NULL), 0);
        let_memory_run_out(&p, 1);
        send_tokens(&p, p.stream, 20, 200, BOTH);
        CU_ASSERT_EQUAL(answer(&p, &reply), ERR_FAILED);
        CU_ASSERT(strstr(reply.fault[0].fault.text, "patient") != NULL);
        CU_ASSERT_EQUAL(reply.n_out, 0);
        send_tokens(&p, p.stream, 220, 1, BOTH);
        CU_ASSERT_EQUAL(answer(&p, NULL), ERR_FAILED);
        send_tokens(&p, p.stream, 0, 20, BOTH); /* not even a resend of what went well */
        CU_ASSERT_EQUAL(answer(&p, NULL), ERR_FAILED);
        send_tokens(&p, p.stream, 220, 1, WIRE_ATTEND);
        CU_ASSERT_EQUAL(answer(&p, NULL), ERR_FAILED);
        CU_ASSERT_EQUAL(atomic_load(&counters->streams_failed), 1); /* once, however often it is met */
        send_tokens(&p, p.other, 0, 200, BOTH);
        CU_ASSERT_EQUAL(answer(&p, NULL), 0);
    }
    patient_close(&p);
}

static void a_failed_stream_can_be_closed_and_opened_anew(void)
{
    struct patient p;
    if (patient_open(&p)) {
        struct raw_reply reply;
        char text[96];
        let_memory_run_out(&p, 0);
        send_tokens(&p, p.stream, 0, 20, BOTH);
        CU_ASSERT_EQUAL(answer(&p, NULL), ERR_FAILED);
        snprintf(text, sizeof text, "{\"op\":\"status\",\"id\":3,\"stream\":%llu}", (unsigned long long)p.stream);
        CU_ASSERT(raw_ask(&p.raw, text, &reply));
        CU_ASSERT(strstr(reply.text, "\"state\":\"no_memory\"") != NULL);
        for (int i = 0; i < 2; i++) {
            snprintf(text, sizeof text, "{\"op\":\"close\",\"id\":3,\"stream\":%llu}",
                     (unsigned long long)(i ? p.other : p.stream));
            CU_ASSERT(raw_ask(&p.raw, text, &reply));
            CU_ASSERT(strstr(reply.text, "\"ok\":true") != NULL);
        }
        desk_pause(&p.desk);
        CU_ASSERT_EQUAL(p.desk.gateway.reserved_bytes, 0);
        for (size_t i = 0; i < engine_n_profiles(p.desk.gateway.engine); i++) {
            const struct engine_totals *t = engine_profile_totals(p.desk.gateway.engine, i);
            CU_ASSERT_EQUAL(atomic_load(&t->allocated), 0);
            CU_ASSERT_EQUAL(atomic_load(&t->full_bf16), 0);
        }
        desk_resume(&p.desk);
        p.stream = raw_open_stream(&p.raw, "patient", &p.shape, "full", false);
        send_tokens(&p, p.stream, 0, 200, BOTH);
        CU_ASSERT_EQUAL(answer(&p, NULL), 0);
    }
    patient_close(&p);
}

/* The original fails while its resend waits behind it: the resend must not be taken for applied. */
static void a_resend_behind_an_original_that_fails_is_failed_too(void)
{
    static const unsigned flags[] = {WIRE_APPEND, BOTH};
    for (size_t i = 0; i < 2; i++) {
        struct patient p;
        if (patient_open(&p)) {
            let_memory_run_out(&p, 1);
            for (int copy = 0; copy < 5; copy++)
                send_tokens(&p, p.stream, 0, 300, flags[i]);
            for (int copy = 0; copy < 5; copy++)
                CU_ASSERT_EQUAL(answer(&p, NULL), ERR_FAILED);
        }
        patient_close(&p);
    }
}

/* Parts of one message: the failed one is left out, the others are whole. */
static void a_failure_within_a_message_leaves_the_other_parts_whole(void)
{
    struct patient p;
    if (patient_open(&p)) {
        struct raw_message message = {0};
        struct raw_reply reply, alone;
        uint64_t third = raw_open_stream(&p.raw, "third", &p.shape, "full", false);
        let_memory_run_out(&p, 1);
        raw_add(&message, p.other, &p.tokens, 0, 30, BOTH);
        raw_add(&message, p.stream, &p.tokens, 0, 30, BOTH);
        raw_add(&message, third, &p.tokens, 0, 30, BOTH);
        raw_send_message(&p.raw, &message);
        CU_ASSERT_FATAL(raw_receive(&p.raw, 20, &reply));
        CU_ASSERT_EQUAL(reply.part[0].status, 0);
        CU_ASSERT_EQUAL(wire_status_err(reply.part[1].status), ERR_FAILED);
        CU_ASSERT_EQUAL(reply.part[2].status, 0);
        size_t n = floats_out(&p.shape, 30);
        CU_ASSERT_EQUAL_FATAL(reply.n_out, 2 * n);
        CU_ASSERT(memcmp(reply.out, reply.out + n, n * sizeof *reply.out) == 0);
        send_tokens(&p, third, 0, 30, BOTH); /* kept for a resend as it was sent, not as it was put together */
        CU_ASSERT(raw_receive(&p.raw, 20, &alone));
        CU_ASSERT(alone.n_out == n && memcmp(alone.out, reply.out, n * sizeof *reply.out) == 0);
        raw_reply_free(&reply);
        raw_reply_free(&alone);
    }
    patient_close(&p);
}

TEST_SUITE("daemon/failure", TEST(a_stream_that_ran_out_of_memory_is_failed_for_good),
           TEST(a_failed_stream_can_be_closed_and_opened_anew), TEST(a_resend_behind_an_original_that_fails_is_failed_too),
           TEST(a_failure_within_a_message_leaves_the_other_parts_whole))
