#include "wire/control.h"
#include "wire/json_fields.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Replies come from a daemon that the client chose, and a status of ten thousand streams is long. */
enum { REPLY_TEXT_MAX = 64 << 20 };

#define FIELDS(table) table, sizeof table / sizeof *table

static json_t *reply_start(uint64_t id, const char *op, bool ok)
{
    json_t *root = json_object();
    if (op)
        json_object_set_new(root, "op", json_string(op));
    json_object_set_new(root, "id", json_integer((json_int_t)id));
    json_object_set_new(root, "ok", json_boolean(ok));
    return root;
}

/* Adds the members of `more` to root and prints it; takes both. Either may be NULL: there was no memory. */
static char *reply_end(json_t *root, json_t *more)
{
    if (!root || !more || json_object_update(root, more)) {
        json_decref(root);
        json_decref(more);
        return NULL;
    }
    json_decref(more);
    return fields_dump(root);
}

static json_t *encode_endpoints(const char endpoints[][CONTROL_ENDPOINT_BYTES], size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, fields_text(endpoints[i]));
    return list;
}

char *control_encode_hello(uint64_t id, const struct control_hello *hello)
{
    json_t *profiles = json_array();
    for (size_t i = 0; hello->profiles && hello->profiles[i]; i++)
        json_array_append_new(profiles, fields_text(hello->profiles[i]));
    json_t *limits =
        json_pack("{s:I, s:I, s:I, s:I, s:I}", "message_bytes", (json_int_t)hello->message_bytes, "parts",
                  (json_int_t)hello->parts, "tokens_per_message", (json_int_t)hello->tokens_per_message, "credit_bytes",
                  (json_int_t)hello->credit_bytes, "lease_seconds", (json_int_t)hello->lease_seconds);
    json_t *body =
        json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "protocol", (json_int_t)hello->protocol, "version",
                  fields_text(hello->version), "isa", fields_text(hello->isa), "instance", fields_text(hello->instance),
                  "outputs", encode_endpoints(hello->outputs, hello->n_outputs), "telemetry",
                  encode_endpoints(hello->telemetry, hello->n_telemetry), "limits", limits, "profiles", profiles);
    return reply_end(reply_start(id, "hello", true), body);
}

char *control_encode_open(uint64_t id, const struct control_open *open)
{
    char seed[24];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)open->seed);
    json_t *next = json_array();
    for (size_t i = 0; i < open->n_layers; i++)
        json_array_append_new(next, json_integer((json_int_t)open->next_token[i]));
    json_t *body = json_pack("{s:I, s:s, s:o, s:o, s:o}", "stream", (json_int_t)open->stream, "seed", seed, "isa",
                             fields_text(open->isa), "next_token", next, "rules", fields_text(open->rules ? open->rules : ""));
    return reply_end(reply_start(id, "open", true), body);
}

char *control_encode_close(uint64_t id, const struct control_close *close)
{
    json_t *body = json_pack("{s:I, s:I, s:I, s:f}", "bytes", (json_int_t)close->bytes, "bytes_full_bf16",
                             (json_int_t)close->bytes_full_bf16, "tokens", (json_int_t)close->tokens, "attention_seconds",
                             close->attention_seconds);
    return reply_end(reply_start(id, "close", true), body);
}

char *control_encode_lease(uint64_t lease_seconds)
{
    return fields_dump(json_pack("{s:s, s:I}", "op", "lease", "lease_seconds", (json_int_t)lease_seconds));
}

char *control_encode_confirm(uint64_t id, const struct control_confirm *confirm)
{
    json_t *body = json_pack("{s:I}", "unconfirmed_bytes", (json_int_t)confirm->unconfirmed_bytes);
    return reply_end(reply_start(id, "confirm", true), body);
}

char *control_encode_status(uint64_t id, const char *status_json)
{
    /* Spliced as text: a status can be long, and parsing it only to print it again would hold up the gateway. */
    static const char head[] = "{\"op\":\"status\",\"id\":%llu,\"ok\":true,\"status\":%s}";
    size_t size = sizeof head + 20 + strlen(status_json);
    char *text = malloc(size);
    if (text)
        snprintf(text, size, head, (unsigned long long)id, status_json);
    return text;
}

char *control_encode_reload(uint64_t id, const struct control_reload *reload)
{
    json_t *body = json_pack("{s:I, s:I, s:I, s:I, s:f}", "pools", (json_int_t)reload->pools, "threads",
                             (json_int_t)reload->threads, "profiles", (json_int_t)reload->profiles, "heads_moved",
                             (json_int_t)reload->heads_moved, "seconds", reload->seconds);
    return reply_end(reply_start(id, "reload", true), body);
}

static json_t *encode_error(const struct fault *fault)
{
    json_t *error =
        json_pack("{s:s, s:o, s:s}", "code", err_name(fault->err), "message",
                  fields_text(fault->text[0] ? fault->text : err_sentence(fault->err)), "advice", err_advice(fault->err));
    if (error && (fault->err == ERR_WRONG_INDEX || fault->err == ERR_BUSY))
        json_object_set_new(error, "expected", json_integer((json_int_t)fault->expected));
    return error;
}

char *control_encode_fault(uint64_t id, const char *op, const struct fault *fault)
{
    return reply_end(reply_start(id, op, false), json_pack("{s:o}", "error", encode_error(fault)));
}

char *control_encode_faults(const struct part_fault *faults, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *error = encode_error(&faults[i].fault);
        if (faults[i].part != PART_WHOLE)
            json_object_set_new(error, "part", json_integer(faults[i].part));
        json_array_append_new(list, error);
    }
    return fields_dump(list);
}

struct error_text {
    char code[32];
    uint64_t expected, part;
};

static const struct field error_fields[] = {
    {"code", FIELD_TEXT, true, offsetof(struct error_text, code), 1, 32},
    {"expected", FIELD_COUNT, false, offsetof(struct error_text, expected), 0, INT64_MAX},
    {"part", FIELD_COUNT, false, offsetof(struct error_text, part), 0, UINT32_MAX},
};

/* A daemon's error into *fault. Returns 0 when it was understood, whatever it says. */
static int decode_error(const json_t *object, struct fault *said, uint32_t *part, struct fault *fault)
{
    struct error_text text = {.part = PART_WHOLE};
    int err = fields_read(object, "error", FIELDS(error_fields), FIELDS_LOOSE, &text, fault);
    if (err)
        return err;
    const char *message = json_string_value(json_object_get(object, "message"));
    int code = err_from_name(text.code);
    fault_set(said, code ? code : ERR_MALFORMED, "%s", message ? message : err_sentence(code));
    said->expected = text.expected;
    *part = (uint32_t)text.part;
    return 0;
}

int control_decode_faults(const void *text, size_t bytes, struct part_fault *out, size_t max, size_t *n)
{
    *n = 0;
    if (bytes > REPLY_TEXT_MAX)
        return ERR_TOO_LARGE;
    json_t *list = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, NULL);
    int err = json_is_array(list) ? 0 : ERR_MALFORMED;
    if (!err && json_array_size(list) > max)
        err = ERR_TOO_LARGE;
    for (size_t i = 0; !err && i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        err = json_is_object(item) ? decode_error(item, &out[i].fault, &out[i].part, NULL) : ERR_MALFORMED;
        if (!err)
            *n = i + 1;
    }
    json_decref(list);
    return err;
}

struct reply_text {
    uint64_t id;
    bool ok;
    json_t *error;
};

/* Parses a reply: its id, and its body when it says "ok": true. The daemon's own error comes back as the result. */
static int decode_reply(const void *text, size_t bytes, uint64_t *id, json_t **out, struct fault *fault)
{
    static const struct field fields[] = {
        {"id", FIELD_COUNT, true, offsetof(struct reply_text, id), 0, JSON_COUNT_MAX},
        {"ok", FIELD_SWITCH, true, offsetof(struct reply_text, ok), 0, 0},
        {"error", FIELD_OBJECT, false, offsetof(struct reply_text, error), 0, 0},
    };
    struct reply_text reply = {0};
    *id = 0;
    int err = fields_parse(text, bytes, REPLY_TEXT_MAX, out, fault);
    if (err)
        return err;
    err = fields_read(*out, "reply", FIELDS(fields), FIELDS_LOOSE, &reply, fault);
    if (!err) {
        *id = reply.id;
        if (!reply.ok && !reply.error)
            err = fault_set(fault, ERR_MALFORMED, "reply: neither ok nor an error");
        if (!reply.ok && reply.error) {
            struct fault said;
            uint32_t part;
            err = decode_error(reply.error, &said, &part, fault);
            if (!err) {
                err = said.err;
                if (fault)
                    *fault = said;
            }
        }
    }
    if (err) {
        json_decref(*out);
        *out = NULL;
    }
    return err;
}

int control_peek_id(const void *text, size_t bytes, uint64_t *id)
{
    json_t *root;
    int err = fields_parse(text, bytes, REPLY_TEXT_MAX, &root, NULL);
    *id = 0;
    if (err)
        return err;
    json_t *value = json_object_get(root, "id");
    if (json_is_integer(value) && json_integer_value(value) >= 0)
        *id = (uint64_t)json_integer_value(value);
    else
        err = ERR_MALFORMED;
    json_decref(root);
    return err;
}

static size_t decode_endpoints(const json_t *list, char out[][CONTROL_ENDPOINT_BYTES])
{
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(list) && n < CONTROL_ENDPOINTS_MAX; i++) {
        const char *endpoint = json_string_value(json_array_get(list, i));
        if (endpoint && strlen(endpoint) < CONTROL_ENDPOINT_BYTES)
            memcpy(out[n++], endpoint, strlen(endpoint) + 1);
    }
    return n;
}

struct hello_text {
    uint64_t protocol;
    json_t *outputs, *telemetry, *limits;
};

int control_decode_hello(const void *text, size_t bytes, uint64_t *id, struct control_hello *out, struct fault *fault)
{
    static const struct field fields[] = {
        {"protocol", FIELD_COUNT, true, offsetof(struct hello_text, protocol), 1, UINT32_MAX},
        {"outputs", FIELD_ARRAY, false, offsetof(struct hello_text, outputs), 0, SIZE_MAX},
        {"telemetry", FIELD_ARRAY, false, offsetof(struct hello_text, telemetry), 0, SIZE_MAX},
        {"limits", FIELD_OBJECT, true, offsetof(struct hello_text, limits), 0, 0},
    };
    static const struct field names[] = {
        {"version", FIELD_TEXT, true, offsetof(struct control_hello, version), 0, sizeof out->version},
        {"isa", FIELD_TEXT, true, offsetof(struct control_hello, isa), 0, sizeof out->isa},
        {"instance", FIELD_TEXT, true, offsetof(struct control_hello, instance), 0, sizeof out->instance},
    };
    static const struct field limits[] = {
        {"message_bytes", FIELD_COUNT, true, offsetof(struct control_hello, message_bytes), 0, INT64_MAX},
        {"parts", FIELD_COUNT, true, offsetof(struct control_hello, parts), 0, INT64_MAX},
        {"tokens_per_message", FIELD_COUNT, true, offsetof(struct control_hello, tokens_per_message), 0, INT64_MAX},
        {"credit_bytes", FIELD_COUNT, true, offsetof(struct control_hello, credit_bytes), 0, INT64_MAX},
        {"lease_seconds", FIELD_COUNT, false, offsetof(struct control_hello, lease_seconds), 0, INT64_MAX},
    };
    json_t *root;
    struct hello_text hello = {0};
    memset(out, 0, sizeof *out);
    int err = decode_reply(text, bytes, id, &root, fault);
    if (err)
        return err;
    err = fields_read(root, "hello", FIELDS(fields), FIELDS_LOOSE, &hello, fault);
    if (!err)
        err = fields_read(root, "hello", FIELDS(names), FIELDS_LOOSE, out, fault);
    if (!err)
        err = fields_read(hello.limits, "limits", FIELDS(limits), FIELDS_LOOSE, out, fault);
    if (!err) {
        out->protocol = (unsigned)hello.protocol;
        out->n_outputs = decode_endpoints(hello.outputs, out->outputs);
        out->n_telemetry = decode_endpoints(hello.telemetry, out->telemetry);
    }
    json_decref(root);
    return err;
}

struct open_text {
    uint64_t stream;
    char seed[24];
    json_t *next_token;
};

static int decode_next_tokens(const json_t *list, struct control_open *out, struct fault *fault)
{
    out->n_layers = json_array_size(list);
    for (size_t i = 0; i < out->n_layers; i++) {
        const json_t *item = json_array_get(list, i);
        if (!json_is_integer(item) || json_integer_value(item) < 0)
            return fault_set(fault, ERR_MALFORMED, "open: next_token[%zu] must be a whole number", i);
        out->next_token[i] = (uint64_t)json_integer_value(item);
    }
    return 0;
}

int control_decode_open(const void *text, size_t bytes, uint64_t *id, struct control_open *out, struct fault *fault)
{
    static const struct field fields[] = {
        {"stream", FIELD_COUNT, true, offsetof(struct open_text, stream), 1, JSON_COUNT_MAX},
        {"seed", FIELD_TEXT, true, offsetof(struct open_text, seed), 1, sizeof((struct open_text *)0)->seed},
        {"next_token", FIELD_ARRAY, true, offsetof(struct open_text, next_token), 1, SHAPE_LAYERS_MAX},
    };
    static const struct field names[] = {{"isa", FIELD_TEXT, false, offsetof(struct control_open, isa), 0, sizeof out->isa}};
    json_t *root;
    struct open_text open = {0};
    memset(out, 0, sizeof *out);
    int err = decode_reply(text, bytes, id, &root, fault);
    if (err)
        return err;
    err = fields_read(root, "open", FIELDS(fields), FIELDS_LOOSE, &open, fault);
    if (!err)
        err = fields_read(root, "open", FIELDS(names), FIELDS_LOOSE, out, fault);
    if (!err && open.seed[strspn(open.seed, "0123456789")])
        err = fault_set(fault, ERR_MALFORMED, "open: \"seed\" must be digits");
    if (!err) {
        out->stream = open.stream;
        out->seed = strtoull(open.seed, NULL, 10);
        err = decode_next_tokens(open.next_token, out, fault);
    }
    json_decref(root);
    return err;
}

int control_decode_close(const void *text, size_t bytes, uint64_t *id, struct control_close *out, struct fault *fault)
{
    static const struct field fields[] = {
        {"bytes", FIELD_COUNT, true, offsetof(struct control_close, bytes), 0, INT64_MAX},
        {"bytes_full_bf16", FIELD_COUNT, true, offsetof(struct control_close, bytes_full_bf16), 0, INT64_MAX},
        {"tokens", FIELD_COUNT, true, offsetof(struct control_close, tokens), 0, INT64_MAX},
        {"attention_seconds", FIELD_NUMBER, true, offsetof(struct control_close, attention_seconds), 0, 0},
    };
    json_t *root;
    memset(out, 0, sizeof *out);
    int err = decode_reply(text, bytes, id, &root, fault);
    if (err)
        return err;
    err = fields_read(root, "close", FIELDS(fields), FIELDS_LOOSE, out, fault);
    json_decref(root);
    return err;
}

int control_decode_reload(const void *text, size_t bytes, uint64_t *id, struct control_reload *out, struct fault *fault)
{
    static const struct field fields[] = {
        {"pools", FIELD_COUNT, true, offsetof(struct control_reload, pools), 0, INT64_MAX},
        {"threads", FIELD_COUNT, true, offsetof(struct control_reload, threads), 0, INT64_MAX},
        {"profiles", FIELD_COUNT, true, offsetof(struct control_reload, profiles), 0, INT64_MAX},
        {"heads_moved", FIELD_COUNT, true, offsetof(struct control_reload, heads_moved), 0, INT64_MAX},
        {"seconds", FIELD_NUMBER, true, offsetof(struct control_reload, seconds), 0, 0},
    };
    json_t *root;
    memset(out, 0, sizeof *out);
    int err = decode_reply(text, bytes, id, &root, fault);
    if (err)
        return err;
    err = fields_read(root, "reload", FIELDS(fields), FIELDS_LOOSE, out, fault);
    json_decref(root);
    return err;
}

int control_decode_confirm(const void *text, size_t bytes, uint64_t *id, struct control_confirm *out, struct fault *fault)
{
    static const struct field fields[] = {
        {"unconfirmed_bytes", FIELD_COUNT, true, offsetof(struct control_confirm, unconfirmed_bytes), 0, INT64_MAX},
    };
    json_t *root;
    memset(out, 0, sizeof *out);
    int err = decode_reply(text, bytes, id, &root, fault);
    if (err)
        return err;
    err = fields_read(root, "confirm", FIELDS(fields), FIELDS_LOOSE, out, fault);
    json_decref(root);
    return err;
}

char *control_decode_status(const void *text, size_t bytes, uint64_t *id, struct fault *fault)
{
    json_t *root;
    if (decode_reply(text, bytes, id, &root, fault))
        return NULL;
    json_t *status = json_object_get(root, "status");
    char *out = json_is_object(status) ? json_dumps(status, JSON_COMPACT) : NULL;
    if (!out)
        fault_set(fault, json_is_object(status) ? ERR_NO_MEMORY : ERR_MALFORMED, "status: \"status\" must be an object");
    json_decref(root);
    return out;
}

int control_decode_telemetry(const void *text, size_t bytes, struct control_telemetry *out)
{
    static const struct field fields[] = {
        {"instance", FIELD_TEXT, true, offsetof(struct control_telemetry, instance), 1, sizeof out->instance},
        {"sequence", FIELD_COUNT, true, offsetof(struct control_telemetry, sequence), 0, JSON_COUNT_MAX},
    };
    json_t *root;
    memset(out, 0, sizeof *out);
    int err = fields_parse(text, bytes, REPLY_TEXT_MAX, &root, NULL);
    if (err)
        return err;
    err = fields_read(root, "telemetry", FIELDS(fields), FIELDS_LOOSE, out, NULL);
    json_decref(root);
    return err;
}
