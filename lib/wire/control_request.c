#include "wire/control.h"
#include "wire/json_fields.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Everything that any request may say, as the table of fields writes it; moved into the caller's struct once all is checked. */
struct request_text {
    char op[16];
    uint64_t id, version, stream;
    char name[CONTROL_NAME_BYTES], profile[CONTROL_PROFILE_BYTES];
    bool resume;
    json_t *shape, *received;
    const char *config;
    char file[CONTROL_FILE_BYTES];
};

struct shape_text {
    json_t *layers, *sink_logits;
    uint64_t heads, kv_heads, key_dim, value_dim, expected_tokens;
    double scale;
    char element[16];
};

struct group_text {
    uint64_t count;
    char attention[16];
};

#define OF_REQUEST(member) offsetof(struct request_text, member)
#define OF_SHAPE(member) offsetof(struct shape_text, member)

#define OP_AND_ID                                                                                                              \
    {"op", FIELD_IGNORE, true, 0, 0, 0},                                                                                       \
    {                                                                                                                          \
        "id", FIELD_COUNT, true, OF_REQUEST(id), 0, JSON_COUNT_MAX                                                             \
    }

static const struct field hello_fields[] = {
    OP_AND_ID,
    {"version", FIELD_COUNT, true, OF_REQUEST(version), 1, 65535},
};

static const struct field open_fields[] = {
    OP_AND_ID,
    {"name", FIELD_TEXT, true, OF_REQUEST(name), 1, CONTROL_NAME_BYTES},
    {"profile", FIELD_TEXT, false, OF_REQUEST(profile), 1, CONTROL_PROFILE_BYTES},
    {"resume", FIELD_SWITCH, false, OF_REQUEST(resume), 0, 0},
    {"shape", FIELD_OBJECT, true, OF_REQUEST(shape), 0, 0},
};

static const struct field close_fields[] = {
    OP_AND_ID,
    {"stream", FIELD_COUNT, true, OF_REQUEST(stream), 1, JSON_COUNT_MAX},
};

static const struct field confirm_fields[] = {
    OP_AND_ID,
    {"stream", FIELD_COUNT, true, OF_REQUEST(stream), 1, JSON_COUNT_MAX},
    {"received", FIELD_ARRAY, true, OF_REQUEST(received), 1, SHAPE_LAYERS_MAX},
};

static const struct field status_fields[] = {
    OP_AND_ID,
    {"stream", FIELD_COUNT, false, OF_REQUEST(stream), 0, JSON_COUNT_MAX},
};

static const struct field reload_fields[] = {
    OP_AND_ID,
    {"config", FIELD_STRING, false, OF_REQUEST(config), 0, CONTROL_TEXT_MAX},
    {"file", FIELD_TEXT, false, OF_REQUEST(file), 1, CONTROL_FILE_BYTES},
};

#define FIELDS(table) table, sizeof table / sizeof *table

static const struct {
    const char *name;
    const struct field *fields;
    size_t n_fields;
} ops[N_CONTROL] = {
    [CONTROL_HELLO] = {"hello", FIELDS(hello_fields)},    [CONTROL_OPEN] = {"open", FIELDS(open_fields)},
    [CONTROL_CLOSE] = {"close", FIELDS(close_fields)},    [CONTROL_STATUS] = {"status", FIELDS(status_fields)},
    [CONTROL_RELOAD] = {"reload", FIELDS(reload_fields)}, [CONTROL_CONFIRM] = {"confirm", FIELDS(confirm_fields)},
};

static const struct field shape_fields[] = {
    {"layers", FIELD_ARRAY, true, OF_SHAPE(layers), 1, SHAPE_LAYERS_MAX},
    {"heads", FIELD_COUNT, true, OF_SHAPE(heads), 1, SHAPE_HEADS_MAX},
    {"kv_heads", FIELD_COUNT, true, OF_SHAPE(kv_heads), 1, SHAPE_HEADS_MAX},
    {"key_dim", FIELD_COUNT, true, OF_SHAPE(key_dim), 1, SHAPE_DIM_MAX},
    {"value_dim", FIELD_COUNT, true, OF_SHAPE(value_dim), 1, SHAPE_DIM_MAX},
    {"scale", FIELD_NUMBER, false, OF_SHAPE(scale), 0, 0},
    {"element", FIELD_TEXT, false, OF_SHAPE(element), 1, 16},
    {"expected_tokens", FIELD_COUNT, true, OF_SHAPE(expected_tokens), 0, JSON_COUNT_MAX},
    {"sink_logits", FIELD_ARRAY, false, OF_SHAPE(sink_logits), 0, SHAPE_HEADS_MAX},
};

static const struct field group_fields[] = {
    {"count", FIELD_COUNT, true, offsetof(struct group_text, count), 1, SHAPE_LAYERS_MAX},
    {"attention", FIELD_TEXT, true, offsetof(struct group_text, attention), 1, 16},
};

bool control_is(const void *frame, size_t bytes)
{
    return bytes > 0 && *(const char *)frame == '{';
}

const char *control_op_name(enum control_op op)
{
    return (unsigned)op < N_CONTROL ? ops[op].name : NULL;
}

static int decode_layers(const json_t *layers, struct shape *shape, struct fault *fault)
{
    shape->n_layers = 0;
    for (size_t i = 0; i < json_array_size(layers); i++) {
        const json_t *item = json_array_get(layers, i);
        struct group_text group;
        if (!json_is_object(item))
            return fault_set(fault, ERR_MALFORMED, "shape: layers[%zu] must be an object", i);
        int err = fields_read(item, "layers", FIELDS(group_fields), FIELDS_STRICT, &group, fault);
        if (err)
            return err;
        int kind = attention_from_name(group.attention);
        if (kind < 0)
            return fault_set(fault, ERR_INVALID, "layers: \"attention\" must be softmax or tensor, not \"%s\"",
                             group.attention);
        if (group.count > SHAPE_LAYERS_MAX - shape->n_layers)
            return fault_set(fault, ERR_TOO_LARGE, "shape: more than %d layers", SHAPE_LAYERS_MAX);
        memset(shape->kind + shape->n_layers, kind, group.count);
        shape->n_layers += group.count;
    }
    return 0;
}

/* Numbers of a shape are floats: what does not fit one is refused here, before a conversion would make it infinite. */
static int decode_float(double x, const char *name, float *out, struct fault *fault)
{
    const double max = 3.4028234663852886e38; /* the largest float */
    if (!(fabs(x) <= max))
        return fault_set(fault, ERR_INVALID, "shape: \"%s\" holds %g, which no float can", name, x);
    *out = (float)x;
    return 0;
}

static int decode_sink_logits(const json_t *logits, struct shape *shape, struct fault *fault)
{
    shape->n_sink_logits = json_array_size(logits);
    for (size_t i = 0; i < shape->n_sink_logits; i++) {
        const json_t *item = json_array_get(logits, i);
        if (!json_is_number(item))
            return fault_set(fault, ERR_MALFORMED, "shape: sink_logits[%zu] must be a number", i);
        int err = decode_float(json_number_value(item), "sink_logits", &shape->sink_logit[i], fault);
        if (err)
            return err;
    }
    return 0;
}

static int decode_shape(const json_t *object, struct shape *shape, struct fault *fault)
{
    struct shape_text text = {.element = "f32"};
    int err = fields_read(object, "shape", FIELDS(shape_fields), FIELDS_STRICT, &text, fault);
    if (!err)
        err = decode_layers(text.layers, shape, fault);
    if (!err && text.sink_logits)
        err = decode_sink_logits(text.sink_logits, shape, fault);
    if (err)
        return err;
    int element = element_from_name(text.element);
    if (element < 0)
        return fault_set(fault, ERR_INVALID, "shape: \"element\" must be f32, f16 or bf16, not \"%s\"", text.element);
    shape->element = (enum element)element;
    shape->heads = text.heads;
    shape->kv_heads = text.kv_heads;
    shape->key_dim = text.key_dim;
    shape->value_dim = text.value_dim;
    shape->expected_tokens = text.expected_tokens;
    if (!json_object_get(object, "scale"))
        text.scale = 1 / sqrt((double)text.key_dim);
    err = decode_float(text.scale, "scale", &shape->scale, fault);
    return err ? err : shape_check(shape, fault);
}

static int check_name(const char *name, struct fault *fault)
{
    size_t good = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    if (name[good])
        return fault_set(fault, ERR_INVALID, "open: \"name\" may hold letters, digits, '.', '_' and '-', not \"%s\"", name);
    return 0;
}

static int decode_received(const json_t *list, struct control_request *out, struct fault *fault)
{
    out->n_layers = json_array_size(list);
    for (size_t i = 0; i < out->n_layers; i++) {
        const json_t *item = json_array_get(list, i);
        json_int_t n = json_integer_value(item);
        if (!json_is_integer(item) || n < 0 || (uint64_t)n > JSON_COUNT_MAX)
            return fault_set(fault, ERR_MALFORMED, "confirm: received[%zu] must be a whole number up to 2^53", i);
        out->received[i] = (uint64_t)n;
    }
    return 0;
}

static int decode_op(const json_t *root, struct control_request *out, struct fault *fault)
{
    const char *op = json_string_value(json_object_get(root, "op"));
    for (int i = 0; op && i < N_CONTROL; i++)
        if (strcmp(op, ops[i].name) == 0) {
            out->op = (enum control_op)i;
            return 0;
        }
    if (!op)
        return fault_set(fault, ERR_MALFORMED, "\"op\" is missing or no text");
    return fault_set(fault, ERR_MALFORMED, "unknown op \"%.40s\"; known are hello, open, close, status, reload, confirm", op);
}

static int decode_body(const json_t *root, struct control_request *out, struct fault *fault)
{
    struct request_text text = {.profile = "full", .file = "config"};
    int err = fields_read(root, ops[out->op].name, ops[out->op].fields, ops[out->op].n_fields, FIELDS_STRICT, &text, fault);
    if (err)
        return err;
    out->version = (unsigned)text.version;
    out->stream = text.stream;
    if (out->op == CONTROL_RELOAD) {
        memcpy(out->file, text.file, sizeof out->file);
        out->config = text.config ? strdup(text.config) : NULL;
        return text.config && !out->config ? fault_set(fault, ERR_NO_MEMORY, "reload: the configuration") : 0;
    }
    if (out->op == CONTROL_CONFIRM)
        return decode_received(text.received, out, fault);
    if (out->op != CONTROL_OPEN)
        return 0;
    memcpy(out->name, text.name, sizeof out->name);
    memcpy(out->profile, text.profile, sizeof out->profile);
    out->resume = text.resume;
    err = check_name(out->name, fault);
    return err ? err : decode_shape(text.shape, &out->shape, fault);
}

int control_decode_request(const void *text, size_t bytes, struct control_request *out, struct fault *fault)
{
    memset(out, 0, sizeof *out);
    out->op = N_CONTROL;
    json_t *root;
    int err = fields_parse(text, bytes, CONTROL_TEXT_MAX, &root, fault);
    if (err)
        return err;
    json_int_t id = json_integer_value(json_object_get(root, "id"));
    out->id = id > 0 && (uint64_t)id <= JSON_COUNT_MAX ? (uint64_t)id : 0;
    err = decode_op(root, out, fault);
    if (!err)
        err = decode_body(root, out, fault);
    json_decref(root);
    return err;
}

static json_t *encode_layers(const struct shape *shape)
{
    json_t *layers = json_array();
    for (size_t i = 0, next; i < shape->n_layers; i = next) {
        for (next = i + 1; next < shape->n_layers && shape->kind[next] == shape->kind[i];)
            next++;
        const char *attention = attention_name((enum attention_kind)shape->kind[i]);
        if (json_array_append_new(layers, json_pack("{s:I, s:s}", "count", (json_int_t)(next - i), "attention", attention)))
            break;
    }
    return layers;
}

static json_t *encode_shape(const struct shape *shape)
{
    json_t *object =
        json_pack("{s:o, s:I, s:I, s:I, s:I, s:f, s:s, s:I}", "layers", encode_layers(shape), "heads", (json_int_t)shape->heads,
                  "kv_heads", (json_int_t)shape->kv_heads, "key_dim", (json_int_t)shape->key_dim, "value_dim",
                  (json_int_t)shape->value_dim, "scale", (double)shape->scale, "element", element_name(shape->element),
                  "expected_tokens", (json_int_t)shape->expected_tokens);
    if (!object || shape->n_sink_logits == 0)
        return object;
    json_t *logits = json_array();
    for (size_t i = 0; i < shape->n_sink_logits; i++)
        json_array_append_new(logits, json_real(shape->sink_logit[i]));
    json_object_set_new(object, "sink_logits", logits);
    return object;
}

static json_t *encode_received(const struct control_request *request)
{
    json_t *list = json_array();
    for (size_t i = 0; i < request->n_layers; i++)
        json_array_append_new(list, json_integer((json_int_t)request->received[i]));
    return list;
}

char *control_encode_request(const struct control_request *request)
{
    json_t *root = json_pack("{s:s, s:I}", "op", control_op_name(request->op), "id", (json_int_t)request->id);
    int failed = 0;
    switch (request->op) {
    case CONTROL_HELLO: failed = json_object_set_new(root, "version", json_integer(request->version)); break;
    case CONTROL_OPEN:
        failed = json_object_set_new(root, "name", json_string(request->name)) ||
                 json_object_set_new(root, "profile", json_string(request->profile[0] ? request->profile : "full")) ||
                 json_object_set_new(root, "resume", json_boolean(request->resume)) ||
                 json_object_set_new(root, "shape", encode_shape(&request->shape));
        break;
    case CONTROL_CLOSE:
    case CONTROL_STATUS: failed = json_object_set_new(root, "stream", json_integer((json_int_t)request->stream)); break;
    case CONTROL_RELOAD:
        failed = request->config && (json_object_set_new(root, "config", json_string(request->config)) ||
                                     json_object_set_new(root, "file", json_string(request->file)));
        break;
    case CONTROL_CONFIRM:
        failed = json_object_set_new(root, "stream", json_integer((json_int_t)request->stream)) ||
                 json_object_set_new(root, "received", encode_received(request));
        break;
    case N_CONTROL: failed = 1; break;
    }
    if (!failed)
        return fields_dump(root);
    json_decref(root);
    return NULL;
}
