#include "base/clock.h"
#include "client/attnd_client.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum {
    PUBLICATION_FRAMES_MAX = 3, /* topic, then JSON, or frame 0 and outputs */
    TOPICS_AT_START = 64,       /* a power of two */
    TOPICS_MAX = 1 << 20,
};

/* The last publication seen of a topic, by the hash of its name: a topic then takes 24 bytes however long its name is. */
struct topic {
    uint64_t name, instance; /* hashes; name 0: empty */
    uint64_t sequence;
};

struct attnd_subscriber {
    void *context, *socket;
    int owns_context;
    struct topic *topics; /* open addressing, at most half full */
    size_t n_topics, room;
    zmq_msg_t frame[PUBLICATION_FRAMES_MAX];
    size_t n_frames;
    char *payload; /* copied out of the frame: aligned for floats, NUL-terminated for JSON */
    size_t payload_room;
};

/* FNV-1a; never 0, which marks an empty place. */
static uint64_t hash_bytes(const void *data, size_t n)
{
    const unsigned char *at = data;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ at[i]) * 0x100000001b3u;
    return h ? h : 1;
}

static struct topic *topic_place(struct topic *topics, size_t room, uint64_t name)
{
    size_t i = name & (room - 1);
    while (topics[i].name && topics[i].name != name)
        i = (i + 1) & (room - 1);
    return &topics[i];
}

static int grow_topics(struct attnd_subscriber *s)
{
    if (2 * s->room > TOPICS_MAX) {
        /* Streams come and go for ever: forget all topics rather than grow without bound. Their next gap goes unseen. */
        memset(s->topics, 0, s->room * sizeof *s->topics);
        s->n_topics = 0;
        return 0;
    }
    size_t room = s->room ? 2 * s->room : TOPICS_AT_START;
    struct topic *topics = calloc(room, sizeof *topics);
    if (!topics)
        return ERR_NO_MEMORY;
    for (size_t i = 0; i < s->room; i++)
        if (s->topics[i].name)
            *topic_place(topics, room, s->topics[i].name) = s->topics[i];
    free(s->topics);
    s->topics = topics;
    s->room = room;
    return 0;
}

/* Publications of the topic lost before this one. A first one, one of another instance of the daemon, and a sequence that does
 * not go up (a value repeated for a new subscriber, or a stream of the same name opened anew) have nothing before them. */
static int count_lost(struct attnd_subscriber *s, const char *name, uint64_t instance, uint64_t sequence, uint64_t *lost)
{
    if (2 * (s->n_topics + 1) > s->room && grow_topics(s))
        return ERR_NO_MEMORY;
    uint64_t hash = hash_bytes(name, strlen(name));
    struct topic *topic = topic_place(s->topics, s->room, hash);
    int follows = topic->name && topic->instance == instance && sequence > topic->sequence;
    *lost = follows ? sequence - topic->sequence - 1 : 0;
    s->n_topics += !topic->name;
    *topic = (struct topic){.name = hash, .instance = instance, .sequence = sequence};
    return 0;
}

int attnd_subscribe(struct attnd_subscriber **out, const char *endpoint, void *zmq_context, const char *prefix,
                    struct fault *fault)
{
    *out = NULL;
    if (!endpoint || !prefix)
        return fault_set(fault, ERR_INVALID, "a subscription needs an endpoint and a prefix");
    struct attnd_subscriber *s = calloc(1, sizeof *s);
    if (!s)
        return fault_set(fault, ERR_NO_MEMORY, "no memory for a subscriber");
    for (size_t i = 0; i < PUBLICATION_FRAMES_MAX; i++)
        zmq_msg_init(&s->frame[i]);
    s->owns_context = !zmq_context;
    s->context = zmq_context ? zmq_context : zmq_ctx_new();
    s->socket = s->context ? zmq_socket(s->context, ZMQ_SUB) : NULL;
    int linger = 0, err = 0;
    if (!s->socket || zmq_setsockopt(s->socket, ZMQ_LINGER, &linger, sizeof linger) ||
        zmq_setsockopt(s->socket, ZMQ_SUBSCRIBE, prefix, strlen(prefix)) || zmq_connect(s->socket, endpoint))
        err = fault_set(fault, ERR_IO, "subscribing at %s: %s", endpoint, zmq_strerror(errno));
    if (err) {
        attnd_unsubscribe(s);
        return err;
    }
    *out = s;
    return 0;
}

void attnd_unsubscribe(struct attnd_subscriber *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < PUBLICATION_FRAMES_MAX; i++)
        zmq_msg_close(&s->frame[i]);
    if (s->socket)
        zmq_close(s->socket);
    if (s->owns_context && s->context)
        zmq_ctx_term(s->context);
    free(s->topics);
    free(s->payload);
    free(s);
}

static int receive(struct attnd_subscriber *s, double deadline, struct fault *fault)
{
    while (zmq_msg_recv(&s->frame[0], s->socket, ZMQ_DONTWAIT) < 0) {
        double left = deadline - clock_seconds();
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN)
            return fault_set(fault, ERR_IO, "receiving publications: %s", zmq_strerror(errno));
        if (!(left > 0))
            return fault_set(fault, ERR_TIMEOUT, "nothing was published in time");
        zmq_pollitem_t item = {.socket = s->socket, .events = ZMQ_POLLIN};
        if (zmq_poll(&item, 1, (long)ceil(fmin(left, 3600) * 1e3)) < 0 && errno != EINTR)
            return fault_set(fault, ERR_IO, "waiting for publications: %s", zmq_strerror(errno));
    }
    zmq_msg_t *last = &s->frame[0], surplus;
    zmq_msg_init(&surplus);
    for (s->n_frames = 1; zmq_msg_more(last); s->n_frames++) {
        last = s->n_frames < PUBLICATION_FRAMES_MAX ? &s->frame[s->n_frames] : &surplus;
        while (zmq_msg_recv(last, s->socket, 0) < 0)
            if (errno != EINTR) {
                zmq_msg_close(&surplus);
                return fault_set(fault, ERR_IO, "receiving publications: %s", zmq_strerror(errno));
            }
    }
    zmq_msg_close(&surplus);
    return 0;
}

static int copy_payload(struct attnd_subscriber *s, size_t frame, struct fault *fault)
{
    size_t bytes = zmq_msg_size(&s->frame[frame]);
    if (s->payload_room < bytes + 1) {
        size_t room = 2 * (bytes + 1);
        char *grown = realloc(s->payload, room);
        if (!grown)
            return fault_set(fault, ERR_NO_MEMORY, "no memory for a publication of %zu bytes", bytes);
        s->payload = grown;
        s->payload_room = room;
    }
    memcpy(s->payload, zmq_msg_data(&s->frame[frame]), bytes);
    s->payload[bytes] = '\0';
    return 0;
}

static int take_topic(struct attnd_subscriber *s, struct attnd_publication *out, struct fault *fault)
{
    size_t bytes = zmq_msg_size(&s->frame[0]);
    if (bytes >= sizeof out->topic)
        return fault_set(fault, ERR_MALFORMED, "a topic of %zu bytes", bytes);
    memcpy(out->topic, zmq_msg_data(&s->frame[0]), bytes);
    out->topic[bytes] = '\0';
    return 0;
}

static int take_telemetry(struct attnd_subscriber *s, struct attnd_publication *out, struct fault *fault)
{
    struct control_telemetry said;
    int err = copy_payload(s, 1, fault);
    if (err)
        return err;
    if (control_decode_telemetry(s->payload, zmq_msg_size(&s->frame[1]), &said))
        return fault_set(fault, ERR_MALFORMED, "%s: no JSON object with an instance and a sequence", out->topic);
    out->json = s->payload;
    out->sequence = said.sequence;
    if (count_lost(s, out->topic, hash_bytes(said.instance, strlen(said.instance)), said.sequence, &out->lost))
        return fault_set(fault, ERR_NO_MEMORY, "no memory to count what is lost");
    return 0;
}

static int take_output(struct attnd_subscriber *s, struct attnd_publication *out, struct fault *fault)
{
    int err = wire_decode(zmq_msg_data(&s->frame[1]), zmq_msg_size(&s->frame[1]), &out->header, &out->part, 1, fault);
    if (err)
        return err;
    if (out->header.type != WIRE_OUTPUT || s->n_frames != 3)
        return fault_set(fault, ERR_MALFORMED, "%s: no output", out->topic);
    err = copy_payload(s, 2, fault);
    if (err)
        return err;
    out->out = (const float *)(const void *)s->payload;
    out->out_bytes = zmq_msg_size(&s->frame[2]);
    out->sequence = out->header.id;
    if (count_lost(s, out->topic, 0, out->sequence, &out->lost))
        return fault_set(fault, ERR_NO_MEMORY, "no memory to count what is lost");
    return 0;
}

int attnd_next(struct attnd_subscriber *s, double timeout_seconds, struct attnd_publication *out, struct fault *fault)
{
    memset(out, 0, sizeof *out);
    int err = receive(s, clock_seconds() + timeout_seconds, fault);
    if (!err)
        err = take_topic(s, out, fault);
    if (err)
        return err;
    if (s->n_frames < 2 || s->n_frames > PUBLICATION_FRAMES_MAX)
        return fault_set(fault, ERR_MALFORMED, "%s: a publication of %zu frames", out->topic, s->n_frames);
    return control_is(zmq_msg_data(&s->frame[1]), zmq_msg_size(&s->frame[1])) ? take_telemetry(s, out, fault)
                                                                              : take_output(s, out, fault);
}
