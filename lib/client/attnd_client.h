/* The C client of attnd: what producers and subscribers link. One header; lib/wire/README.md says what goes over the wire.
 *
 *     struct attnd_client *c;  struct attnd_stream s;
 *     attnd_connect(&c, NULL, NULL, &fault);                     NULL: the user's own daemon
 *     attnd_open(c, "chat-1", &shape, "window,budget_fraction=0.125", false, &s, &fault);
 *     for each token, for each layer:
 *         struct attnd_part p = {.stream = &s, .n_tokens = 1, .flags = WIRE_APPEND | WIRE_ATTEND, .q = q, .key = {k}, .value = {v}, .out = out};
 *         attnd_step(c, layer, &p, 1, &fault);                   sends, waits, fills out
 *     attnd_close(c, &s, NULL, &fault);
 *
 * Pipelining: attnd_send returns at once with a ticket; attnd_wait collects. Parts (and what they point to for output) must live
 * until their ticket was waited for; inputs are copied when sent. The client confirms replies by itself, in its next message of
 * the layer, or in one of their own when credit is short.
 *
 * Credit: the daemon lets a connection have so many bytes outstanding, messages and replies together, and tells how many.
 * attnd_send keeps within them: when they are used up it confirms what has arrived, and reads replies until there is room. So BUSY
 * comes only when others fill the daemon, or for replies that this client gave up (a timeout) or took over (resume): ask for them
 * again, or attnd_confirm that they are not wanted.
 *
 * Refusals: a refused append was not applied, and stream->next goes back to the index that the daemon expects. What was sent
 * behind it is refused as well (wrong_index), so wait for all that is in flight on the stream, then send from stream->next on.
 * Resending: after a timeout, or in a new process, attnd_open with resume takes the stream over and stream->next is the daemon's.
 * Who lacks outputs before that index sets stream->next[layer] back to the first that is missing and sends those tokens again in
 * the same batches: the daemon recognises them, applies nothing twice and answers with the same payload.
 * Leases: a stream outlives its client by the daemon's lease (attnd_hello()->lease_seconds), within which another may resume it; an
 * idle client keeps its streams.
 * Threads: a client and its streams belong to one thread at a time. Errors: 0 or negative enum err, with words in *fault. */
#ifndef ATTND_CLIENT_H
#define ATTND_CLIENT_H

#include "base/shape.h"
#include "wire/control.h"
#include "wire/message.h"

struct attnd_client;

/* A stream that this client writes. next[layer]: index of the next token to append, kept by the client. Opaque otherwise. */
struct attnd_stream {
    uint64_t id;
    struct shape *shape; /* owned */
    uint64_t *next;      /* (n_layers), owned: next index to send */
    uint64_t *confirmed; /* (n_layers): replies received up to here */
    struct attnd_account *account;
};

/* One stream's tokens of one layer. Inputs in the stream's element type, [token][head][dim]; outputs f32. */
struct attnd_part {
    struct attnd_stream *stream;
    uint32_t n_tokens;
    uint16_t flags;                /* enum wire_flag */
    const void *q;                 /* (n_tokens, H, d): with attend or observe */
    const void *key[2], *value[2]; /* (n_tokens, Hkv, d), (n_tokens, Hkv, e): with append; [1] for tensor layers */
    float *out;                    /* (n_tokens, H, e): with attend */
    float *lse;                    /* (n_tokens, H): with partial */
    struct fault fault;            /* filled by wait: err 0, or why this part was refused (the others may have been applied) */
};

/* Connects to a daemon's ingest endpoint and says hello, waiting at most 5 seconds. endpoint NULL: runtime_ingest(). zmq_context:
 * a context to use (needed for inproc; it must outlive the client), or NULL for its own. */
int attnd_connect(struct attnd_client **out, const char *endpoint, void *zmq_context, struct fault *fault);
void attnd_disconnect(struct attnd_client *client); /* NULL is allowed; open streams stay open in the daemon */
const struct control_hello *attnd_hello(const struct attnd_client *client);

/* How long calls wait for an answer: ERR_TIMEOUT after it. Default 30 seconds; INFINITY waits for ever. */
void attnd_set_timeout(struct attnd_client *client, double seconds);

/* How long to look again and again for an answer before sleeping until one comes. Default 50 us: a sleep and a wake-up cost
 * about 10 us of latency, looking costs a core, which is yielded to whoever wants it. 0 sleeps at once, and so does who has several
 * messages in flight. */
void attnd_set_spin(struct attnd_client *client, double seconds);

/* Sends past the credit from now on, or keeps within it again: for those who try what a daemon refuses. */
void attnd_set_past_credit(struct attnd_client *client, bool past);

/* Opens, or with resume takes over, a stream. stream->next tells where to go on. */
int attnd_open(struct attnd_client *client, const char *name, const struct shape *shape, const char *profile, bool resume,
               struct attnd_stream *stream, struct fault *fault);
/* Closes in the daemon, once everything in flight on the stream is answered, and frees what the stream owns whatever the result
 * is. last: may be NULL. */
int attnd_close(struct attnd_client *client, struct attnd_stream *stream, struct control_close *last, struct fault *fault);
void attnd_forget(struct attnd_stream *stream); /* frees without closing in the daemon; nothing of it may be in flight */

/* Replies before stream->next, of every layer, are not wanted any more, whether they arrived or not: the daemon keeps them no
 * longer. */
int attnd_confirm(struct attnd_client *client, struct attnd_stream *stream, struct fault *fault);

/* Sends one message: one layer of n_parts streams. *ticket identifies it. Waits while the credit is used up: ERR_TIMEOUT, and
 * nothing was sent. ERR_BUSY never comes from here: it is in a part's fault. */
int attnd_send(struct attnd_client *client, uint32_t layer, struct attnd_part *parts, size_t n_parts, uint64_t *ticket,
               struct fault *fault);
/* Waits for that message's reply and fills its parts. 0 also when single parts were refused: see their fault. Tickets may be
 * waited for in any order, each once: whatever comes back, ERR_TIMEOUT too, the ticket is gone and its parts are the caller's
 * again (an answer that comes later is dropped, and its tokens stay unconfirmed). */
int attnd_wait(struct attnd_client *client, uint64_t ticket, struct fault *fault);
/* Send and wait; a refused part is an error here (the first one's). */
int attnd_step(struct attnd_client *client, uint32_t layer, struct attnd_part *parts, size_t n_parts, struct fault *fault);
/* For those who have more to do while they wait: reads one answer, for which it waits at most `seconds`. 0, ERR_TIMEOUT (nothing is
 * given up), ERR_IO. A ticket that is answered is waited for at once. */
int attnd_receive(struct attnd_client *client, double seconds, struct fault *fault);
bool attnd_answered(struct attnd_client *client, uint64_t ticket);
/* Messages sent and not yet answered. */
size_t attnd_in_flight(const struct attnd_client *client);

/* The daemon's status (stream 0) or one stream's, as JSON text; free() it. */
int attnd_status(struct attnd_client *client, uint64_t stream, char **json, struct fault *fault);

/* Makes the running daemon take over a configuration: config is its text, file what errors call it; NULL, NULL: the daemon reads
 * its own file again. ERR_INVALID names every key that is wrong or cannot change live, and then nothing has changed. */
int attnd_reload(struct attnd_client *client, const char *config, const char *file, struct control_reload *out,
                 struct fault *fault);

/* Subscribing: to "outputs" topics out/<stream>/<layer>/ or telemetry topics telemetry/<what>/ by prefix. The endpoints are in
 * attnd_hello(). A subscription takes effect a moment after the call: what is published before that is not seen, and not
 * counted as lost. */
struct attnd_subscriber;
struct attnd_publication {
    char topic[160];
    uint64_t sequence;         /* counts up by one per topic: what is missing was lost */
    uint64_t lost;             /* publications of this topic lost before this one */
    struct wire_header header; /* outputs */
    struct wire_part part;     /* outputs */
    const float *out;          /* outputs: (n_tokens, H, e); valid until the next call */
    size_t out_bytes;
    const char *json; /* telemetry: NUL-terminated; valid until the next call */
};
int attnd_subscribe(struct attnd_subscriber **out, const char *endpoint, void *zmq_context, const char *prefix,
                    struct fault *fault);
void attnd_unsubscribe(struct attnd_subscriber *subscriber);
/* The next publication; ERR_TIMEOUT when none came in time. */
int attnd_next(struct attnd_subscriber *subscriber, double timeout_seconds, struct attnd_publication *out, struct fault *fault);

#endif
