/* Parts into messages: attnd_send, attnd_wait, attnd_step. */
#include "base/clock.h"
#include "client/exchange.h"

#include <string.h>

enum { REQUEST_FRAMES_MAX = 1 + SHAPE_STREAMS_MAX_TENSORS };

/* The tensors of a message in the order of their frames, after frame 0. */
enum tensor { TENSOR_Q, TENSOR_KEY, TENSOR_VALUE, TENSOR_KEY_2, TENSOR_VALUE_2, N_TENSORS };

static bool carries(const struct attnd_part *part, enum tensor tensor)
{
    return part->flags & (tensor == TENSOR_Q ? WIRE_ATTEND | WIRE_OBSERVE : WIRE_APPEND);
}

static const void *tensor_of(const struct attnd_part *part, enum tensor tensor)
{
    return tensor == TENSOR_Q ? part->q : tensor % 2 ? part->key[tensor / 2] : part->value[tensor / 2 - 1];
}

static size_t tensor_bytes(const struct attnd_part *part, enum tensor tensor)
{
    const struct shape *s = part->stream->shape;
    size_t numbers = tensor == TENSOR_Q ? s->heads * s->key_dim : s->kv_heads * (tensor % 2 ? s->key_dim : s->value_dim);
    return part->n_tokens * numbers * element_bytes(s->element);
}

static int check_part(const struct attnd_client *client, const struct attnd_part *part, size_t i, uint32_t layer, int kind,
                      size_t n_tensors, struct fault *fault)
{
    const struct attnd_stream *stream = part->stream;
    if (!stream || !stream->shape)
        return fault_set(fault, ERR_INVALID, "part %zu: its stream is not open", i);
    if (layer >= stream->shape->n_layers)
        return fault_set(fault, ERR_INVALID, "part %zu: layer %u of a stream with %zu", i, layer, stream->shape->n_layers);
    if (stream->shape->kind[layer] != kind)
        return fault_set(fault, ERR_INVALID, "part %zu: its attention at layer %u is not of the first part's kind", i, layer);
    if (client->hello.tokens_per_message && part->n_tokens > client->hello.tokens_per_message)
        return fault_set(fault, ERR_TOO_LARGE, "part %zu: %u tokens, the daemon takes %llu", i, part->n_tokens,
                         (unsigned long long)client->hello.tokens_per_message);
    for (enum tensor t = 0; t < n_tensors; t++)
        if (carries(part, t) && !tensor_of(part, t))
            return fault_set(fault, ERR_INVALID, "part %zu: tensor %d of its flags is NULL", i, (int)t);
    if (((part->flags & WIRE_ATTEND) && !part->out) || ((part->flags & WIRE_PARTIAL) && !part->lse))
        return fault_set(fault, ERR_INVALID, "part %zu: there is no room for what it asks for", i);
    return 0;
}

/* Numbers that come back. */
static size_t reply_bytes(const struct attnd_part *part)
{
    const struct shape *s = part->stream->shape;
    size_t row = part->flags & WIRE_ATTEND ? s->value_dim + (part->flags & WIRE_PARTIAL ? 1 : 0) : 0;
    return part->n_tokens * s->heads * row * sizeof(float);
}

/* Checks the parts, and how many bytes the message would have, before anything is allocated. *n_bytes: with its reply's. */
static int check_message(const struct attnd_client *client, uint32_t layer, const struct attnd_part *parts, size_t n_parts,
                         size_t *n_tensors, size_t *n_bytes, struct fault *fault)
{
    if (n_parts == 0 || n_parts > WIRE_PARTS_MAX || (client->hello.parts && n_parts > client->hello.parts))
        return fault_set(fault, n_parts ? ERR_TOO_LARGE : ERR_INVALID, "%zu parts in a message", n_parts);
    if (!parts[0].stream || !parts[0].stream->shape || layer >= parts[0].stream->shape->n_layers)
        return fault_set(fault, ERR_INVALID, "part 0: its stream is not open, or has no layer %u", layer);
    int kind = parts[0].stream->shape->kind[layer];
    *n_tensors = kind == ATTENTION_TENSOR ? N_TENSORS : TENSOR_VALUE + 1;

    uint64_t bytes = wire_encoded_bytes(n_parts), most = client->hello.message_bytes;
    for (size_t i = 0; i < n_parts; i++) {
        int err = check_part(client, &parts[i], i, layer, kind, *n_tensors, fault);
        if (err)
            return err;
        /* A tensor of one part has up to 2^32 tokens x 2^20 numbers x 4 bytes: it fits, but the sum over parts may wrap. */
        for (enum tensor t = 0; t < *n_tensors; t++)
            if (carries(&parts[i], t) && __builtin_add_overflow(bytes, tensor_bytes(&parts[i], t), &bytes))
                bytes = UINT64_MAX;
        if (bytes > (most ? most : SIZE_MAX / 2))
            return fault_set(fault, ERR_TOO_LARGE, "the message has more than the %llu bytes that the daemon takes",
                             (unsigned long long)most);
    }
    *n_bytes = bytes;
    for (size_t i = 0; i < n_parts; i++)
        *n_bytes += reply_bytes(&parts[i]);
    return 0;
}

/* The part table; moves the streams' next indices on. */
static void fill_table(struct attnd_client *client, struct ticket *ticket)
{
    for (size_t i = 0; i < ticket->n_parts; i++) {
        struct attnd_part *part = &ticket->parts[i];
        uint64_t *next = &part->stream->next[ticket->layer];
        const uint64_t *confirmed = &part->stream->confirmed[ticket->layer];
        /* The caller set next back to have outputs again that it lacks: they are not confirmed, whatever was thought. */
        if (*confirmed > *next)
            credit_received(client, part->stream->account, ticket->layer, *next);
        credit_told(client, part->stream->account, ticket->layer);
        ticket->first_token[i] = *next;
        part->fault = (struct fault){0};
        client->table[i] = (struct wire_part){
            .stream = part->stream->id,
            .first_token = *next,
            .position = *confirmed,
            .n_tokens = part->n_tokens,
            .flags = part->flags,
        };
        if (part->flags & WIRE_APPEND)
            *next += part->n_tokens;
    }
}

static void empty_table(struct ticket *ticket)
{
    for (size_t i = 0; i < ticket->n_parts; i++) {
        uint64_t *next = &ticket->parts[i].stream->next[ticket->layer];
        if (*next > ticket->first_token[i]) /* less when a refusal came in while this was waiting to leave */
            *next = ticket->first_token[i];
    }
}

/* Frame 0 has the layout's own checks run over it, so that a wrong flag is found here and not by the daemon. */
static int build_head(struct attnd_client *client, struct ticket *ticket, zmq_msg_t *frame, struct fault *fault)
{
    struct wire_header header = {
        .type = WIRE_REQUEST, .n_parts = (uint32_t)ticket->n_parts, .layer = ticket->layer, .id = ticket->id};
    if (zmq_msg_init_size(frame, wire_encoded_bytes(ticket->n_parts)))
        return fault_set(fault, ERR_NO_MEMORY, "no memory for a message");
    fill_table(client, ticket);
    wire_encode(&header, client->table, zmq_msg_data(frame));
    int err = wire_decode(zmq_msg_data(frame), zmq_msg_size(frame), &header, client->table, WIRE_PARTS_MAX, fault);
    if (err) {
        empty_table(ticket);
        zmq_msg_close(frame);
    }
    return err;
}

static int build_tensors(const struct ticket *ticket, size_t n_tensors, zmq_msg_t *frames, size_t *n_frames,
                         struct fault *fault)
{
    for (enum tensor t = 0; t < n_tensors; t++) {
        size_t bytes = 0;
        for (size_t i = 0; i < ticket->n_parts; i++)
            bytes += carries(&ticket->parts[i], t) ? tensor_bytes(&ticket->parts[i], t) : 0;
        if (bytes == 0)
            continue;
        zmq_msg_t *frame = &frames[*n_frames];
        if (zmq_msg_init_size(frame, bytes))
            return fault_set(fault, ERR_NO_MEMORY, "no memory for a frame of %zu bytes", bytes);
        ++*n_frames;
        char *at = zmq_msg_data(frame);
        for (size_t i = 0; i < ticket->n_parts; i++)
            if (carries(&ticket->parts[i], t)) {
                memcpy(at, tensor_of(&ticket->parts[i], t), tensor_bytes(&ticket->parts[i], t));
                at += tensor_bytes(&ticket->parts[i], t);
            }
    }
    return 0;
}

int attnd_send(struct attnd_client *client, uint32_t layer, struct attnd_part *parts, size_t n_parts, uint64_t *ticket_id,
               struct fault *fault)
{
    struct ticket *ticket;
    zmq_msg_t frames[REQUEST_FRAMES_MAX];
    size_t n_tensors = 0, n_frames = 1, bytes = 0;
    double deadline = clock_seconds() + client->timeout;
    int err = check_message(client, layer, parts, n_parts, &n_tensors, &bytes, fault);
    if (!err)
        err = ticket_create(client, layer, parts, n_parts, &ticket, fault);
    if (err)
        return err;
    *ticket_id = ticket->id;
    err = build_head(client, ticket, &frames[0], fault);
    if (err) {
        ticket_release(client, ticket);
        return err;
    }
    /* The indices are fixed by now: a refusal that comes in meanwhile sets the streams back, and this message is refused too. */
    err = credit_wait(client, bytes, deadline, fault);
    if (!err)
        err = build_tensors(ticket, n_tensors, frames, &n_frames, fault);
    if (!err)
        err = exchange_send(client, frames, n_frames, deadline, fault);
    else
        for (size_t i = 0; i < n_frames; i++)
            zmq_msg_close(&frames[i]);
    if (err) {
        empty_table(ticket);
        ticket_release(client, ticket);
        return err;
    }
    ticket->bytes = bytes;
    client->under_way += bytes;
    return 0;
}

int attnd_wait(struct attnd_client *client, uint64_t ticket_id, struct fault *fault)
{
    struct ticket *ticket = ticket_find(client, ticket_id);
    if (!ticket)
        return fault_set(fault, ERR_INVALID, "there is no ticket %llu, or it was waited for", (unsigned long long)ticket_id);
    double deadline = ticket->state == TICKET_SENT ? clock_seconds() + client->timeout : 0;
    int err = 0, control;
    while (!err && ticket->state == TICKET_SENT)
        err = exchange_receive(client, deadline, &control, fault);
    if (!err && ticket->err) {
        err = ticket->err;
        if (fault)
            *fault = ticket->fault;
    }
    ticket_release(client, ticket);
    return err;
}

int attnd_receive(struct attnd_client *client, double seconds, struct fault *fault)
{
    int control;
    return exchange_receive(client, clock_seconds() + seconds, &control, fault);
}

bool attnd_answered(struct attnd_client *client, uint64_t ticket_id)
{
    const struct ticket *ticket = ticket_find(client, ticket_id);
    return ticket && ticket->state == TICKET_ANSWERED;
}

int attnd_step(struct attnd_client *client, uint32_t layer, struct attnd_part *parts, size_t n_parts, struct fault *fault)
{
    uint64_t ticket;
    int err = attnd_send(client, layer, parts, n_parts, &ticket, fault);
    if (!err)
        err = attnd_wait(client, ticket, fault);
    for (size_t i = 0; !err && i < n_parts; i++)
        if (parts[i].fault.err) {
            err = parts[i].fault.err;
            if (fault)
                *fault = parts[i].fault;
        }
    return err;
}
