/* A daemon that computes nothing: a ROUTER in a thread that answers by the rules below, for tests of the client.
 *
 * Outputs are numbers that tell where they belong: fake_output(). Streams are numbered from 1 in the order in which they are opened,
 * and their next index goes up with what is appended, as in a daemon.
 * Threads: the test sets `rules` and reads `seen` through fake_set and fake_seen, which take the lock. */
#ifndef ATTND_TESTS_FAKE_DAEMON_H
#define ATTND_TESTS_FAKE_DAEMON_H

#include "client/attnd_client.h"

enum { FAKE_PARTS_MAX = 4, FAKE_FRAMES_MAX = 6, FAKE_FRAME_BYTES = 4096, FAKE_STREAMS_MAX = 8, FAKE_SEEN_MAX = 16 };

/* How data messages are answered. */
enum fake_reply {
    FAKE_GOOD,
    FAKE_SILENT,       /* not at all, but see `late` */
    FAKE_REFUSE_WHOLE, /* n_parts 0 */
    FAKE_NO_PARTS,     /* the wrong replies from here on: one part fewer */
    FAKE_OTHER_STREAM,
    FAKE_FEWER_TOKENS,
    FAKE_SHORT_OUTPUTS,
    FAKE_LONG_OUTPUTS,
    FAKE_NO_OUTPUTS, /* the bit is set, the frame absent */
    FAKE_SURPLUS_FRAMES,
    FAKE_SHORT_TABLE,
    FAKE_REQUEST_TYPE,
    N_FAKE_REPLIES,
};

struct fake_rules {
    enum fake_reply reply;
    int late;                    /* SILENT: answer those messages after all before the next good one */
    size_t hold;                 /* collect so many replies, then send them last to first; 0 or 1: at once */
    int refuse[FAKE_PARTS_MAX];  /* part i of a message is refused with this error */
    unsigned long long expected; /* `position` of refused parts */
    struct fault open_fault;     /* err not 0: open is answered so */
    unsigned protocol;           /* of hello; 0: the right one */
    uint64_t message_bytes, tokens_per_message, credit_bytes;
    uint32_t credit;     /* KiB, of replies; 0: not told */
    uint64_t next_token; /* of every layer at open */
    int pause_ms;        /* sleeps so long before it reads the next data message, once */
};

struct fake_message {
    struct wire_header header;
    struct wire_part part[FAKE_PARTS_MAX];
    size_t n_frames, bytes[FAKE_FRAMES_MAX];
    unsigned char frame[FAKE_FRAMES_MAX][FAKE_FRAME_BYTES]; /* cut there */
};

struct fake_daemon;

/* Binds to endpoint and answers until it is stopped; NULL when something fails. */
struct fake_daemon *fake_start(void *zmq_context, const char *endpoint);
void fake_stop(struct fake_daemon *fake);
void fake_set(struct fake_daemon *fake, const struct fake_rules *rules);

/* Data messages taken so far; *out: the one `back` before the last (0: the last). */
size_t fake_seen(struct fake_daemon *fake, size_t back, struct fake_message *out);

/* Control requests taken so far; what the last confirm among them said of a layer. */
size_t fake_n_controls(struct fake_daemon *fake);
uint64_t fake_received(struct fake_daemon *fake, uint32_t layer);

/* Output c of query head h, and its lse, for a token of a stream's layer. */
float fake_output(uint64_t stream, uint32_t layer, uint64_t token, size_t h, size_t c);
float fake_lse(uint64_t stream, uint32_t layer, uint64_t token, size_t h);

#endif
