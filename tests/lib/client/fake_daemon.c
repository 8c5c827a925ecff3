#include "tests/lib/client/fake_daemon.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

enum { HELD_MAX = 16, REPLY_FRAMES = 8 };

struct held {
    zmq_msg_t frame[1 + REPLY_FRAMES];
    size_t n;
};

struct fake_stream {
    struct shape shape;
    uint64_t next[SHAPE_LAYERS_MAX];
};

struct fake_daemon {
    void *socket;
    pthread_t thread;
    atomic_bool stop;
    pthread_mutex_t lock; /* of what follows */
    struct fake_rules rules;
    struct fake_message seen[FAKE_SEEN_MAX];
    size_t n_seen, n_controls;
    uint64_t received[SHAPE_LAYERS_MAX];
    struct fake_stream stream[FAKE_STREAMS_MAX]; /* the thread's own from here on */
    size_t n_streams;
    struct held held[HELD_MAX];
    size_t n_held;
};

float fake_output(uint64_t stream, uint32_t layer, uint64_t token, size_t h, size_t c)
{
    return (float)(stream * 1000000 + (uint64_t)layer * 100000 + token * 100 + h * 10 + c);
}

float fake_lse(uint64_t stream, uint32_t layer, uint64_t token, size_t h)
{
    return -fake_output(stream, layer, token, h, 9);
}

static void add_frame(struct held *reply, const void *data, size_t bytes)
{
    zmq_msg_init_size(&reply->frame[reply->n], bytes);
    memcpy(zmq_msg_data(&reply->frame[reply->n++]), data, bytes);
}

static void send_reply(struct fake_daemon *fake, struct held *reply)
{
    for (size_t i = 0; i < reply->n; i++)
        zmq_msg_send(&reply->frame[i], fake->socket, i + 1 < reply->n ? ZMQ_SNDMORE : 0);
}

static void send_held(struct fake_daemon *fake)
{
    while (fake->n_held > 0)
        send_reply(fake, &fake->held[--fake->n_held]);
}

static char *answer_control(struct fake_daemon *fake, const struct control_request *request)
{
    const struct fake_rules *rules = &fake->rules;
    static struct control_hello hello;
    static struct control_open open;
    struct control_close close = {.bytes = 11, .bytes_full_bf16 = 22, .tokens = 33, .attention_seconds = 0.25};
    switch (request->op) {
    case CONTROL_HELLO:
        hello = (struct control_hello){.protocol = rules->protocol ? rules->protocol : WIRE_VERSION,
                                       .version = "9",
                                       .isa = "none",
                                       .instance = "fake",
                                       .message_bytes = rules->message_bytes,
                                       .parts = FAKE_PARTS_MAX,
                                       .tokens_per_message = rules->tokens_per_message,
                                       .credit_bytes = rules->credit_bytes};
        return control_encode_hello(request->id, &hello);
    case CONTROL_OPEN:
        if (rules->open_fault.err || fake->n_streams == FAKE_STREAMS_MAX)
            return control_encode_fault(request->id, "open", &rules->open_fault);
        fake->stream[fake->n_streams].shape = request->shape;
        open = (struct control_open){.stream = ++fake->n_streams, .n_layers = request->shape.n_layers};
        for (size_t i = 0; i < open.n_layers; i++)
            open.next_token[i] = fake->stream[fake->n_streams - 1].next[i] = rules->next_token;
        return control_encode_open(request->id, &open);
    case CONTROL_CLOSE: return control_encode_close(request->id, &close);
    case CONTROL_CONFIRM:
        memcpy(fake->received, request->received, sizeof fake->received);
        return control_encode_confirm(request->id, &(struct control_confirm){0});
    case CONTROL_STATUS:
    case CONTROL_RELOAD:
    case N_CONTROL: break;
    }
    return control_encode_status(request->id, "{\"fake\":true}");
}

static void take_control(struct fake_daemon *fake, struct held *reply, zmq_msg_t *frame)
{
    static struct control_request request;
    struct fault fault;
    if (control_decode_request(zmq_msg_data(frame), zmq_msg_size(frame), &request, &fault))
        return;
    char *text = answer_control(fake, &request);
    fake->n_controls++;
    add_frame(reply, text, strlen(text));
    free(text);
    send_reply(fake, reply);
}

static size_t part_numbers(struct fake_daemon *fake, const struct wire_header *header, const struct wire_part *part, int lse,
                           float *out)
{
    const struct shape *s = &fake->stream[part->stream - 1].shape;
    size_t n = 0;
    for (uint32_t t = 0; t < part->n_tokens; t++)
        for (size_t h = 0; h < s->heads; h++)
            if (lse)
                out[n++] = fake_lse(part->stream, header->layer, part->first_token + t, h);
            else
                for (size_t c = 0; c < s->value_dim; c++)
                    out[n++] = fake_output(part->stream, header->layer, part->first_token + t, h, c);
    return n;
}

/* The parts' statuses and indices, as a daemon would set them. */
static size_t answer_parts(struct fake_daemon *fake, const struct wire_header *header, struct wire_part *parts,
                           struct part_fault *faults)
{
    size_t n_faults = 0;
    for (size_t i = 0; i < header->n_parts; i++) {
        struct wire_part *part = &parts[i];
        uint64_t *next = &fake->stream[part->stream - 1].next[header->layer];
        int err = fake->rules.refuse[i];
        part->status = wire_status(err);
        if (err) {
            faults[n_faults].part = (uint32_t)i;
            fault_set(&faults[n_faults++].fault, err, "part %zu said no", i);
            part->position = fake->rules.expected;
            part->n_tokens = 0;
            continue;
        }
        if (part->flags & WIRE_APPEND && *next < part->first_token + part->n_tokens)
            *next = part->first_token + part->n_tokens;
        part->position = *next;
        if (!(part->flags & WIRE_ATTEND))
            part->n_tokens = 0;
    }
    return n_faults;
}

static void build_reply(struct fake_daemon *fake, const struct fake_message *message, struct held *reply)
{
    enum fake_reply how = fake->rules.reply;
    struct wire_header header = message->header;
    struct wire_part parts[FAKE_PARTS_MAX];
    struct part_fault faults[FAKE_PARTS_MAX];
    static float outputs[1 << 16], lse[1 << 14];
    size_t n_outputs = 0, n_lse = 0;
    memcpy(parts, message->part, sizeof parts);
    header.credit = fake->rules.credit;
    header.type = how == FAKE_REQUEST_TYPE ? WIRE_REQUEST : WIRE_REPLY;
    size_t n_faults = answer_parts(fake, &header, parts, faults);
    for (size_t i = 0; i < header.n_parts; i++) {
        if (parts[i].status || !(parts[i].flags & WIRE_ATTEND))
            continue;
        n_outputs += part_numbers(fake, &header, &parts[i], 0, outputs + n_outputs);
        if (parts[i].flags & WIRE_PARTIAL)
            n_lse += part_numbers(fake, &header, &parts[i], 1, lse + n_lse);
    }
    if (how == FAKE_REFUSE_WHOLE) {
        header.n_parts = 0;
        n_outputs = n_lse = 0;
        n_faults = 1;
        faults[0].part = PART_WHOLE;
        fault_set(&faults[0].fault, ERR_TOO_LARGE, "all of it said no");
    }
    if (how == FAKE_NO_PARTS)
        header.n_parts--;
    if (how == FAKE_OTHER_STREAM)
        parts[0].stream++;
    if (how == FAKE_FEWER_TOKENS)
        parts[0].n_tokens--;
    header.frames = (n_outputs ? WIRE_HAS_OUTPUTS : 0u) | (n_lse ? WIRE_HAS_LSE : 0u) | (n_faults ? WIRE_HAS_FAULTS : 0u);

    unsigned char head[WIRE_HEADER_BYTES + FAKE_PARTS_MAX * WIRE_PART_BYTES];
    wire_encode(&header, parts, head);
    add_frame(reply, head, wire_encoded_bytes(header.n_parts) - (how == FAKE_SHORT_TABLE));
    n_outputs += how == FAKE_LONG_OUTPUTS;
    n_outputs -= how == FAKE_SHORT_OUTPUTS;
    if (n_outputs && how != FAKE_NO_OUTPUTS)
        add_frame(reply, outputs, n_outputs * sizeof *outputs);
    if (n_lse)
        add_frame(reply, lse, n_lse * sizeof *lse);
    if (n_faults) {
        char *text = control_encode_faults(faults, n_faults);
        add_frame(reply, text, strlen(text));
        free(text);
    }
    for (int i = 0; how == FAKE_SURPLUS_FRAMES && i < 4; i++)
        add_frame(reply, "surplus", 7);
}

static void take_data(struct fake_daemon *fake, struct held *reply, zmq_msg_t *frames, size_t n)
{
    struct fake_message *message = &fake->seen[fake->n_seen % FAKE_SEEN_MAX];
    memset(message, 0, sizeof *message);
    if (wire_decode(zmq_msg_data(&frames[0]), zmq_msg_size(&frames[0]), &message->header, message->part, FAKE_PARTS_MAX, NULL))
        return;
    message->n_frames = n;
    for (size_t i = 0; i < n; i++) {
        message->bytes[i] = zmq_msg_size(&frames[i]);
        memcpy(message->frame[i], zmq_msg_data(&frames[i]),
               message->bytes[i] < FAKE_FRAME_BYTES ? message->bytes[i] : FAKE_FRAME_BYTES);
    }
    fake->n_seen++;
    build_reply(fake, message, reply);
    if (fake->rules.reply == FAKE_SILENT && !fake->rules.late) {
        for (size_t i = 0; i < reply->n; i++)
            zmq_msg_close(&reply->frame[i]);
        return;
    }
    fake->held[fake->n_held++] = *reply;
    if (fake->rules.reply != FAKE_SILENT && (fake->n_held >= fake->rules.hold || fake->n_held == HELD_MAX))
        send_held(fake);
}

static void take(struct fake_daemon *fake)
{
    struct held reply = {.n = 1};
    zmq_msg_t frames[FAKE_FRAMES_MAX];
    size_t n = 0;
    int more = 1;
    zmq_msg_init(&reply.frame[0]);
    if (zmq_msg_recv(&reply.frame[0], fake->socket, ZMQ_DONTWAIT) < 0)
        return;
    for (; more && n < FAKE_FRAMES_MAX; n++) {
        zmq_msg_init(&frames[n]);
        zmq_msg_recv(&frames[n], fake->socket, 0);
        more = zmq_msg_more(&frames[n]);
    }
    pthread_mutex_lock(&fake->lock);
    int pause_ms = fake->rules.pause_ms;
    if (n == 1 && control_is(zmq_msg_data(&frames[0]), zmq_msg_size(&frames[0])))
        take_control(fake, &reply, &frames[0]);
    else {
        take_data(fake, &reply, frames, n);
        fake->rules.pause_ms = 0;
    }
    pthread_mutex_unlock(&fake->lock);
    for (size_t i = 0; i < n; i++)
        zmq_msg_close(&frames[i]);
    if (pause_ms)
        nanosleep(&(struct timespec){.tv_nsec = pause_ms * 1000000l}, NULL);
}

static void *run(void *argument)
{
    struct fake_daemon *fake = argument;
    while (!atomic_load(&fake->stop)) {
        zmq_pollitem_t item = {.socket = fake->socket, .events = ZMQ_POLLIN};
        if (zmq_poll(&item, 1, 5) > 0)
            take(fake);
    }
    return NULL;
}

struct fake_daemon *fake_start(void *zmq_context, const char *endpoint)
{
    struct fake_daemon *fake = calloc(1, sizeof *fake);
    int zero = 0;
    if (!fake)
        return NULL;
    pthread_mutex_init(&fake->lock, NULL);
    fake->socket = zmq_socket(zmq_context, ZMQ_ROUTER);
    zmq_setsockopt(fake->socket, ZMQ_LINGER, &zero, sizeof zero);
    zmq_setsockopt(fake->socket, ZMQ_SNDHWM, &zero, sizeof zero);
    if (zmq_bind(fake->socket, endpoint) || pthread_create(&fake->thread, NULL, run, fake)) {
        zmq_close(fake->socket);
        free(fake);
        return NULL;
    }
    return fake;
}

void fake_stop(struct fake_daemon *fake)
{
    atomic_store(&fake->stop, true);
    pthread_join(fake->thread, NULL);
    while (fake->n_held > 0) {
        struct held *reply = &fake->held[--fake->n_held];
        for (size_t i = 0; i < reply->n; i++)
            zmq_msg_close(&reply->frame[i]);
    }
    zmq_close(fake->socket);
    pthread_mutex_destroy(&fake->lock);
    free(fake);
}

void fake_set(struct fake_daemon *fake, const struct fake_rules *rules)
{
    pthread_mutex_lock(&fake->lock);
    fake->rules = *rules;
    pthread_mutex_unlock(&fake->lock);
}

size_t fake_seen(struct fake_daemon *fake, size_t back, struct fake_message *out)
{
    pthread_mutex_lock(&fake->lock);
    size_t n = fake->n_seen;
    if (out && n > back)
        *out = fake->seen[(n - 1 - back) % FAKE_SEEN_MAX];
    pthread_mutex_unlock(&fake->lock);
    return n;
}

uint64_t fake_received(struct fake_daemon *fake, uint32_t layer)
{
    pthread_mutex_lock(&fake->lock);
    uint64_t n = fake->received[layer];
    pthread_mutex_unlock(&fake->lock);
    return n;
}

size_t fake_n_controls(struct fake_daemon *fake)
{
    pthread_mutex_lock(&fake->lock);
    size_t n = fake->n_controls;
    pthread_mutex_unlock(&fake->lock);
    return n;
}
