#include "tests/e2e/raw.h"

#include "tests/test.h"

#include <stdlib.h>
#include <string.h>
#include <zmq.h>

bool raw_open(struct raw *raw, const char *endpoint)
{
    int linger = 0, timeout = 20000, no_mark = 0;
    memset(raw, 0, sizeof *raw);
    raw->context = zmq_ctx_new();
    raw->socket = zmq_socket(raw->context, ZMQ_DEALER);
    zmq_setsockopt(raw->socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(raw->socket, ZMQ_SNDTIMEO, &timeout, sizeof timeout);
    zmq_setsockopt(raw->socket, ZMQ_SNDHWM, &no_mark, sizeof no_mark);
    bool ok = zmq_connect(raw->socket, endpoint) == 0;
    CU_ASSERT(ok);
    return ok;
}

void raw_close(struct raw *raw)
{
    zmq_close(raw->socket);
    zmq_ctx_term(raw->context);
}

void raw_send(struct raw *raw, const struct raw_frame *frame, size_t n)
{
    for (size_t i = 0; i < n; i++)
        CU_ASSERT_FATAL(zmq_send(raw->socket, frame[i].data, frame[i].bytes, i + 1 < n ? ZMQ_SNDMORE : 0) >= 0);
}

void raw_add(struct raw_message *message, uint64_t stream, const struct tokens *tokens, uint64_t first, size_t n,
             unsigned flags)
{
    size_t i = message->n_parts++;
    message->part[i] =
        (struct wire_part){.stream = stream, .first_token = first, .n_tokens = (uint32_t)n, .flags = (uint16_t)flags};
    message->tokens[i] = tokens;
    message->at[i] = first;
}

enum { RAW_TENSORS = 5 };

static size_t width_of(const struct shape *s, int tensor)
{
    return tensor == 0 ? s->heads * s->key_dim : s->kv_heads * (tensor % 2 ? s->key_dim : s->value_dim);
}

static const void *data_of(const struct tokens *t, int tensor, uint64_t at)
{
    return tensor == 0 ? tokens_q(t, at) : tensor % 2 ? tokens_key(t, tensor / 2, at) : tokens_value(t, tensor / 2 - 1, at);
}

void raw_send_message(struct raw *raw, const struct raw_message *m)
{
    struct raw_frame frame[1 + RAW_TENSORS];
    size_t n = 1;
    struct wire_header header = {.type = WIRE_REQUEST, .n_parts = (uint32_t)m->n_parts, .layer = m->layer, .id = ++raw->id};
    char *head = malloc(wire_encoded_bytes(m->n_parts));
    wire_encode(&header, m->part, head);
    frame[0] = (struct raw_frame){head, wire_encoded_bytes(m->n_parts)};
    for (int tensor = 0; tensor < RAW_TENSORS; tensor++) {
        unsigned carrier = tensor == 0 ? WIRE_ATTEND | WIRE_OBSERVE : WIRE_APPEND;
        char *data = NULL;
        size_t bytes = 0;
        for (size_t i = 0; i < m->n_parts; i++) {
            const struct shape *s = m->tokens[i]->shape;
            size_t more = m->part[i].n_tokens * width_of(s, tensor) * element_bytes(s->element);
            if (!(m->part[i].flags & carrier) || (tensor > 2 && m->tokens[i]->kind != ATTENTION_TENSOR))
                continue;
            char *grown = realloc(data, bytes + more + 1);
            CU_ASSERT_FATAL(grown != NULL);
            data = grown;
            memcpy(data + bytes, data_of(m->tokens[i], tensor, m->at[i]), more);
            bytes += more;
        }
        if (data)
            frame[n++] = (struct raw_frame){data, bytes};
    }
    raw_send(raw, frame, n);
    for (size_t i = 0; i < n; i++)
        free((void *)(uintptr_t)frame[i].data);
}

static float *copy_floats(zmq_msg_t *frame, size_t *n)
{
    *n = zmq_msg_size(frame) / sizeof(float);
    float *copy = malloc(zmq_msg_size(frame) + 1);
    memcpy(copy, zmq_msg_data(frame), zmq_msg_size(frame));
    return copy;
}

static bool take(struct raw_reply *reply, zmq_msg_t *frame)
{
    void *data = zmq_msg_data(&frame[0]);
    size_t bytes = zmq_msg_size(&frame[0]), at = 1;
    if (control_is(data, bytes)) {
        size_t n = bytes < sizeof reply->text ? bytes : sizeof reply->text - 1;
        memcpy(reply->text, data, n);
        return reply->n_frames == 1;
    }
    if (wire_decode(data, bytes, &reply->header, reply->part, RAW_PARTS, NULL) || reply->header.type != WIRE_REPLY)
        return false;
    if (reply->header.frames & WIRE_HAS_OUTPUTS)
        reply->out = copy_floats(&frame[at++], &reply->n_out);
    if (reply->header.frames & WIRE_HAS_LSE)
        reply->lse = copy_floats(&frame[at++], &reply->n_lse);
    if (reply->header.frames & WIRE_HAS_FAULTS) {
        if (control_decode_faults(zmq_msg_data(&frame[at]), zmq_msg_size(&frame[at]), reply->fault, RAW_PARTS,
                                  &reply->n_faults))
            return false;
        at++;
    }
    return at == reply->n_frames;
}

bool raw_receive(struct raw *raw, double seconds, struct raw_reply *reply)
{
    zmq_msg_t frame[RAW_FRAMES];
    int more = 1, timeout = (int)(seconds * 1000);
    memset(reply, 0, sizeof *reply);
    zmq_setsockopt(raw->socket, ZMQ_RCVTIMEO, &timeout, sizeof timeout);
    while (more && reply->n_frames < RAW_FRAMES) {
        zmq_msg_init(&frame[reply->n_frames]);
        if (zmq_msg_recv(&frame[reply->n_frames], raw->socket, 0) < 0)
            break;
        more = zmq_msg_more(&frame[reply->n_frames++]);
    }
    bool ok = reply->n_frames > 0 && !more && take(reply, frame);
    for (size_t i = 0; i < reply->n_frames; i++)
        zmq_msg_close(&frame[i]);
    return ok;
}

void raw_reply_free(struct raw_reply *reply)
{
    free(reply->out);
    free(reply->lse);
    reply->out = reply->lse = NULL;
}

bool raw_ask(struct raw *raw, const char *json, struct raw_reply *reply)
{
    raw_send(raw, &(struct raw_frame){json, strlen(json)}, 1);
    return raw_receive(raw, 20, reply);
}

uint64_t raw_open_stream(struct raw *raw, const char *name, const struct shape *shape, const char *profile, bool resume)
{
    struct control_request *request = calloc(1, sizeof *request);
    struct control_open *open = calloc(1, sizeof *open);
    struct raw_reply reply;
    uint64_t id;
    request->op = CONTROL_OPEN;
    request->id = 1;
    request->resume = resume;
    request->shape = *shape;
    strncpy(request->name, name, sizeof request->name - 1);
    strncpy(request->profile, profile, sizeof request->profile - 1);
    char *text = control_encode_request(request);
    bool ok = raw_ask(raw, text, &reply) && control_decode_open(reply.text, strlen(reply.text), &id, open, NULL) == 0;
    uint64_t stream = ok ? open->stream : 0;
    free(text);
    free(open);
    free(request);
    return stream;
}

int raw_error(const struct raw_reply *reply)
{
    if (reply->n_faults)
        return reply->fault[0].fault.err;
    for (size_t i = 0; i < reply->header.n_parts; i++)
        if (reply->part[i].status)
            return wire_status_err(reply->part[i].status);
    return 0;
}
