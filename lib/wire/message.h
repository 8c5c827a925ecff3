/* Data messages: bytes <-> structs, no sockets, no memory of its own. lib/wire/README.md is the normative layout.
 *
 * A request carries one layer of one or more streams (parts). Its first frame is a header and a part table; then come the
 * tensor frames, each the concatenation over the parts that carry that tensor, token after token: [token][head][dim].
 * Decoding checks everything that needs no knowledge of streams; what needs their shapes is the daemon's to check.
 * Threads: pure functions. */
#ifndef ATTND_WIRE_MESSAGE_H
#define ATTND_WIRE_MESSAGE_H

#include "base/err.h"
#include <stddef.h>
#include <stdint.h>

enum {
    WIRE_MAGIC = 0x444E5441, /* "ATND", little endian */
    WIRE_VERSION = 1,
    WIRE_HEADER_BYTES = 32,
    WIRE_PART_BYTES = 32,
    WIRE_PARTS_MAX = 4096,
};

enum wire_type { WIRE_REQUEST = 1, WIRE_REPLY = 2, WIRE_OUTPUT = 3 };

enum wire_flag {
    WIRE_APPEND = 1,  /* k, v of the tokens are appended */
    WIRE_ATTEND = 2,  /* outputs are returned; after append: each token sees everything up to and including itself */
    WIRE_PARTIAL = 4, /* with ATTEND: lse is returned too */
    WIRE_OBSERVE = 8, /* queries that policies may learn from, no output */
};

enum wire_frame { WIRE_HAS_OUTPUTS = 1, WIRE_HAS_LSE = 2, WIRE_HAS_FAULTS = 4 }; /* frames after a reply's first */

struct wire_header {
    enum wire_type type;
    uint32_t n_parts, layer, frames; /* frames: of wire_frame, replies and outputs only */
    uint32_t credit;                 /* replies only: KiB that the connection may have outstanding; 0: not told */
    uint64_t id;                     /* request: chosen by the producer; reply: the request's; output: sequence of its topic */
};

struct wire_part {
    uint64_t stream;      /* the number that open answered */
    uint64_t first_token; /* append: index of the first token; attend alone: tokens held (the layer's count) */
    uint64_t position;    /* request: `confirmed`, tokens of this layer whose replies the producer has; reply: next index */
    uint32_t n_tokens;    /* reply: tokens whose outputs follow */
    uint16_t flags;
    uint16_t status; /* reply: 0 or the number of an error (wire_status) */
};

/* Frame 0 of any data message, decoded. parts: room for WIRE_PARTS_MAX or max_parts. ERR_MALFORMED, ERR_VERSION, ERR_TOO_LARGE;
 * header->id then is the message's where it could be read, else 0. A message that is refused as a whole is answered with a reply
 * of that id, n_parts 0 and frames WIRE_HAS_FAULTS: its faults frame has one object. */
int wire_decode(const void *frame, size_t bytes, struct wire_header *header, struct wire_part *parts, size_t max_parts,
                struct fault *fault);

/* Bytes of frame 0 for n parts, and writing it. */
size_t wire_encoded_bytes(size_t n_parts);
void wire_encode(const struct wire_header *header, const struct wire_part *parts, void *frame);

/* Error code <-> number on the wire (1..65535, stable between versions; 0 is done). */
uint16_t wire_status(int err);
int wire_status_err(uint16_t status);

#endif
