/* Raw: a DEALER that sends what a client would never send, and takes a reply apart. */
#ifndef ATTND_TESTS_E2E_RAW_H
#define ATTND_TESTS_E2E_RAW_H

#include "tests/e2e/house.h"

enum { RAW_PARTS = 64, RAW_FRAMES = 12 };

struct raw {
    void *context, *socket;
    uint64_t id; /* of the last message sent */
};
bool raw_open(struct raw *raw, const char *endpoint);
void raw_close(struct raw *raw);

struct raw_frame {
    const void *data;
    size_t bytes;
};
void raw_send(struct raw *raw, const struct raw_frame *frame, size_t n);

/* A message of these parts, whose tensors come from `tokens` (one for each part, with the part's tokens from first_token on; NULL:
 * from index 0 of *shape). */
struct raw_message {
    uint32_t layer;
    size_t n_parts;
    struct wire_part part[RAW_PARTS];
    const struct tokens *tokens[RAW_PARTS];
    uint64_t at[RAW_PARTS]; /* token whose numbers come first; by default the part's first_token */
};
void raw_add(struct raw_message *message, uint64_t stream, const struct tokens *tokens, uint64_t first, size_t n,
             unsigned flags);
void raw_send_message(struct raw *raw, const struct raw_message *message);

/* What came back. A control reply is in text. */
struct raw_reply {
    size_t n_frames;
    struct wire_header header;
    struct wire_part part[RAW_PARTS];
    struct part_fault fault[RAW_PARTS];
    size_t n_faults;
    float *out, *lse; /* malloc'd */
    size_t n_out, n_lse;
    char text[4096];
};
/* False when nothing came within the time, or what came does not follow the layout. */
bool raw_receive(struct raw *raw, double seconds, struct raw_reply *reply);
void raw_reply_free(struct raw_reply *reply);

/* Sends JSON and receives the answer. */
bool raw_ask(struct raw *raw, const char *json, struct raw_reply *reply);

/* Opens a stream of this shape; 0 when refused. */
uint64_t raw_open_stream(struct raw *raw, const char *name, const struct shape *shape, const char *profile, bool resume);

/* The error of the one part (or of the message as a whole) that the reply refuses; 0 when it refuses nothing. */
int raw_error(const struct raw_reply *reply);

#endif
