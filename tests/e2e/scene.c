#include "tests/e2e/scene.h"

#include "tests/test.h"

#include <string.h>

enum { QUERIES = 3 };

int scene_step(struct scene *s, struct raw_reply *reply, uint64_t first, size_t n, unsigned flags, uint64_t confirmed)
{
    struct raw_message message = {0};
    raw_add(&message, s->stream, &s->tokens, first, n, flags);
    message.part[0].position = confirmed;
    raw_send_message(&s->raw, &message);
    if (!raw_receive(&s->raw, 20, reply)) {
        CU_FAIL("no reply");
        return ERR_TIMEOUT;
    }
    CU_ASSERT_EQUAL(reply->header.id, s->raw.id);
    return raw_error(reply);
}

int scene_send(struct scene *s, uint64_t first, size_t n, unsigned flags, uint64_t confirmed)
{
    struct raw_reply reply;
    int err = scene_step(s, &reply, first, n, flags, confirmed);
    raw_reply_free(&reply);
    return err;
}

/* Outputs and lse of the first queries over all that is held. */
static bool look(struct scene *s, uint64_t held, struct raw_reply *reply)
{
    struct raw_message message = {0};
    raw_add(&message, s->stream, &s->tokens, held, QUERIES, WIRE_ATTEND | WIRE_PARTIAL);
    message.at[0] = 0;
    raw_send_message(&s->raw, &message);
    return raw_receive(&s->raw, 20, reply) && raw_error(reply) == 0 && reply->part[0].position == held;
}

bool scene_unchanged(struct scene *s, uint64_t held)
{
    struct raw_reply now;
    bool same = look(s, held, &now) && now.n_out == s->before.n_out && now.n_lse == s->before.n_lse &&
                memcmp(now.out, s->before.out, now.n_out * sizeof *now.out) == 0 &&
                memcmp(now.lse, s->before.lse, now.n_lse * sizeof *now.lse) == 0;
    raw_reply_free(&now);
    return same;
}

void scene_remember(struct scene *s, uint64_t held)
{
    raw_reply_free(&s->before);
    CU_ASSERT_FATAL(look(s, held, &s->before));
}

bool scene_open(struct scene *s, const char *yaml, enum attention_kind kind, const char *profile)
{
    memset(s, 0, sizeof *s);
    if (!house_open(&s->house, yaml) || !raw_open(&s->raw, s->house.ingest))
        return false;
    s->shape = house_shape(kind == ATTENTION_SOFTMAX, kind == ATTENTION_TENSOR, 4, 2, 16, 8);
    tokens_create(&s->tokens, &s->shape, 1, 0, 0, SCENE_TOKENS);
    s->stream = raw_open_stream(&s->raw, "scene", &s->shape, profile, false);
    CU_ASSERT(s->stream != 0);
    CU_ASSERT_EQUAL(scene_send(s, 0, SCENE_HELD, WIRE_APPEND | WIRE_ATTEND, 0), 0);
    scene_remember(s, SCENE_HELD);
    return s->stream != 0;
}

void scene_close(struct scene *s)
{
    raw_reply_free(&s->before);
    if (s->raw.socket)
        raw_close(&s->raw);
    tokens_destroy(&s->tokens);
    house_close(&s->house);
}
