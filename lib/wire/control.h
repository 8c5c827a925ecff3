/* Control messages: one frame of JSON each way. lib/wire/README.md is the normative layout; jansson does the parsing.
 *
 * Requests: {"op": "hello" | "open" | "close" | "status" | "reload" | "confirm", "id": N, ...}.
 * Replies repeat op and id and say "ok": true with the answer or
 * "ok": false with "error": {"code", "message", "advice"}. Unknown keys of requests are errors, of replies are ignored.
 * Whole numbers are at most 2^53, so that any JSON reader holds them; a seed, which may be larger, is a string of digits.
 * Ownership: decoders allocate nothing that outlives them but control_decode_status's text and a reload's config; encoders return a malloc'd
 * NUL-terminated string, or NULL when there is no memory. Threads: pure functions. */
#ifndef ATTND_WIRE_CONTROL_H
#define ATTND_WIRE_CONTROL_H

#include "base/shape.h"
#include <stdbool.h>

enum {
    CONTROL_NAME_BYTES = 64,
    CONTROL_PROFILE_BYTES = 256,
    CONTROL_FILE_BYTES = 256,
    CONTROL_TEXT_MAX = 1 << 20,
    CONTROL_ENDPOINTS_MAX = 8,
    CONTROL_ENDPOINT_BYTES = 256
};

enum control_op { CONTROL_HELLO, CONTROL_OPEN, CONTROL_CLOSE, CONTROL_STATUS, CONTROL_RELOAD, CONTROL_CONFIRM, N_CONTROL };

struct control_request {
    enum control_op op;
    uint64_t id;
    unsigned version;                    /* hello: what the client speaks */
    char name[CONTROL_NAME_BYTES];       /* open: the stream's name, [A-Za-z0-9._-]+, unique in the daemon */
    char profile[CONTROL_PROFILE_BYTES]; /* open: "window,budget_fraction=0.125" */
    bool resume;                         /* open: take over the stream of this name if there is one */
    struct shape shape;                  /* open */
    uint64_t stream;                     /* close, confirm; status of one stream (0: of all) */
    size_t n_layers;                     /* confirm */
    uint64_t received[SHAPE_LAYERS_MAX]; /* confirm: replies of each layer have arrived up to this token */
    char *config;                        /* reload: YAML, NULL for the daemon's own file; malloc'd, the receiver frees it */
    char file[CONTROL_FILE_BYTES];       /* reload: what errors call it */
};

/* Text that begins with '{' is control; everything else is a data message. */
bool control_is(const void *frame, size_t bytes);

/* When it fails, out->id and out->op are the request's where they could be read, else 0 and N_CONTROL: what a refusal repeats. */
int control_decode_request(const void *text, size_t bytes, struct control_request *out, struct fault *fault);
char *control_encode_request(const struct control_request *request);
const char *control_op_name(enum control_op op); /* "hello"; NULL for N_CONTROL */

struct control_hello { /* what hello answers */
    unsigned protocol;
    char version[32], isa[16], instance[40];
    char outputs[CONTROL_ENDPOINTS_MAX][CONTROL_ENDPOINT_BYTES], telemetry[CONTROL_ENDPOINTS_MAX][CONTROL_ENDPOINT_BYTES];
    size_t n_outputs, n_telemetry;
    uint64_t message_bytes, parts, tokens_per_message, credit_bytes, lease_seconds;
    const char **profiles; /* NULL-terminated names; encode only */
};

struct control_open { /* what open answers */
    uint64_t stream;
    uint64_t seed;
    char isa[16];
    size_t n_layers;
    uint64_t next_token[SHAPE_LAYERS_MAX]; /* of each layer */
    const char *rules;                     /* description of the resolved rules, one a line; encode only */
};

struct control_confirm {        /* what confirm answers */
    uint64_t unconfirmed_bytes; /* of the stream's replies that are still kept */
};

struct control_close { /* what close answers: the stream's last numbers */
    uint64_t bytes, bytes_full_bf16, tokens;
    double attention_seconds; /* append and attend, summed over heads */
};

struct control_reload { /* what reload answers */
    uint64_t pools, threads, profiles;
    uint64_t heads_moved;
    double seconds; /* that nothing was computed */
};

/* The answers. `id` and `op` are those of the request; op NULL: it could not be read. NULL when there is no memory. */
char *control_encode_hello(uint64_t id, const struct control_hello *hello);
char *control_encode_open(uint64_t id, const struct control_open *open);
char *control_encode_close(uint64_t id, const struct control_close *close);
/* No answer, but a line that the daemon sends by itself. */
char *control_encode_lease(uint64_t lease_seconds);
char *control_encode_confirm(uint64_t id, const struct control_confirm *confirm);
char *control_encode_status(uint64_t id, const char *status_json); /* status_json: a JSON object */
char *control_encode_reload(uint64_t id, const struct control_reload *reload);
char *control_encode_fault(uint64_t id, const char *op, const struct fault *fault);

/* The client's side: 0 and the answer, or the daemon's error as *fault. The reply's id in *id. */
int control_decode_hello(const void *text, size_t bytes, uint64_t *id, struct control_hello *out, struct fault *fault);
int control_decode_open(const void *text, size_t bytes, uint64_t *id, struct control_open *out, struct fault *fault);
int control_decode_close(const void *text, size_t bytes, uint64_t *id, struct control_close *out, struct fault *fault);
int control_decode_reload(const void *text, size_t bytes, uint64_t *id, struct control_reload *out, struct fault *fault);
int control_decode_confirm(const void *text, size_t bytes, uint64_t *id, struct control_confirm *out, struct fault *fault);
/* The object as text, which the caller frees; NULL: see fault. */
char *control_decode_status(const void *text, size_t bytes, uint64_t *id, struct fault *fault);
/* The id of any control reply. */
int control_peek_id(const void *text, size_t bytes, uint64_t *id);

/* What every telemetry publication says of itself: the daemon's instance and the sequence of its topic. */
struct control_telemetry {
    char instance[40];
    uint64_t sequence;
};
int control_decode_telemetry(const void *text, size_t bytes, struct control_telemetry *out);

/* The faults frame of a data reply: a JSON array, one object per refused part. */
#define PART_WHOLE UINT32_MAX /* not one part: the message as a whole */
struct part_fault {
    uint32_t part;
    struct fault fault;
};
char *control_encode_faults(const struct part_fault *faults, size_t n);
int control_decode_faults(const void *text, size_t bytes, struct part_fault *out, size_t max, size_t *n);

#endif
