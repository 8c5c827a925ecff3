#include "tools/lm/record.h"

#include "io/safetensors.h"
#include "kernels/element.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The tensors of a layer, in the order in which they are written: q, then key and value of each row stream. */
enum { Q, PARTS_MAX = SHAPE_STREAMS_MAX_TENSORS };
static const char *const part_name[N_ATTENTION][PARTS_MAX] = {
    [ATTENTION_SOFTMAX] = {"q", "k", "v"},
    [ATTENTION_TENSOR] = {"q", "k1", "v1", "k2", "v2"},
};

struct noted { /* what one layer was asked */
    size_t n, room;
    float *part[PARTS_MAX]; /* (room, part_width) each, n tokens of them known */
};

struct record {
    struct attention_service base;
    struct attention_service *service;
    const char *asked_kind;   /* NULL: chosen at open */
    enum attention_kind kind; /* noted */
    enum { RECORD_NEW, RECORD_NOTES, RECORD_WHOLE, RECORD_BROKEN } state;
    char profile[128];
    struct shape shape; /* of the stream that was noted, and what it was opened as */
    struct noted layer[SHAPE_LAYERS_MAX];
};

static size_t n_parts(const struct record *r)
{
    return 1 + 2 * attention_streams(r->kind);
}

/* Heads, and numbers of each, of part i. */
static void part_shape(const struct record *r, size_t i, size_t *heads, size_t *dim)
{
    *heads = i == Q ? r->shape.heads : r->shape.kv_heads;
    *dim = i == Q || i % 2 == 1 ? r->shape.key_dim : r->shape.value_dim;
}

static size_t part_width(const struct record *r, size_t i)
{
    size_t heads, dim;
    part_shape(r, i, &heads, &dim);
    return heads * dim;
}

static int choose_kind(struct record *r, const struct shape *shape, struct fault *fault)
{
    unsigned kinds = 0;
    for (size_t l = 0; l < shape->n_layers; l++)
        kinds |= 1u << shape->kind[l];
    const int asked = r->asked_kind                     ? attention_from_name(r->asked_kind)
                      : kinds & 1u << ATTENTION_SOFTMAX ? ATTENTION_SOFTMAX
                                                        : ATTENTION_TENSOR;
    if (asked < 0 || !(kinds & 1u << asked))
        return fault_set(fault, ERR_INVALID, "there are no layers of %.40s attention to record",
                         r->asked_kind ? r->asked_kind : "any");
    r->kind = (enum attention_kind)asked;
    return 0;
}

static int open_record(struct attention_service *service, const struct shape *shape, const char *profile, struct fault *fault)
{
    struct record *r = (struct record *)service;
    int err = r->state == RECORD_NEW ? choose_kind(r, shape, fault) : 0;
    if (!err)
        err = service_open(r->service, shape, profile, fault);
    if (!err && r->state == RECORD_NEW) {
        r->shape = *shape;
        snprintf(r->profile, sizeof r->profile, "%s", profile);
        r->state = RECORD_NOTES;
    }
    return err;
}

/* Room for n more tokens: the expected ones at first, then twice as many. */
static int make_room(const struct record *r, struct noted *to, size_t n, struct fault *fault)
{
    if (to->n + n <= to->room)
        return 0;
    size_t room = to->room ? 2 * to->room : (size_t)r->shape.expected_tokens;
    room = room < to->n + n ? to->n + n : room;
    for (size_t i = 0; i < n_parts(r); i++) {
        float *larger = reallocarray(to->part[i], room, part_width(r, i) * sizeof *larger);
        if (!larger)
            return fault_set(fault, ERR_NO_MEMORY, "a record of %zu tokens", room);
        to->part[i] = larger;
    }
    to->room = room;
    return 0;
}

static int note(const struct record *r, struct noted *to, size_t n, const float *q, const float *const key[2],
                const float *const value[2], struct fault *fault)
{
    const float *const from[PARTS_MAX] = {q, key[0], value[0], key[1], value[1]};
    int err = make_room(r, to, n, fault);
    if (err)
        return err;
    for (size_t i = 0; i < n_parts(r); i++) {
        const size_t width = part_width(r, i);
        memcpy(to->part[i] + to->n * width, from[i], n * width * sizeof *from[i]);
    }
    to->n += n;
    return 0;
}

static int step_record(struct attention_service *service, uint32_t layer, size_t n_tokens, const float *q,
                       const float *const key[2], const float *const value[2], float *out, struct fault *fault)
{
    struct record *r = (struct record *)service;
    int err = service_step(r->service, layer, n_tokens, q, key, value, out, fault);
    if (!err && r->state == RECORD_NOTES && r->shape.kind[layer] == r->kind)
        err = note(r, &r->layer[layer], n_tokens, q, key, value, fault);
    if (err && r->state == RECORD_NOTES)
        r->state = RECORD_BROKEN;
    return err;
}

/* Tokens that every noted layer has; 0 when they differ. */
static size_t noted_tokens(const struct record *r)
{
    size_t n = 0;
    for (size_t l = 0; l < r->shape.n_layers; l++)
        if (r->shape.kind[l] == r->kind) {
            if (r->layer[l].n == 0 || (n && r->layer[l].n != n))
                return 0;
            n = r->layer[l].n;
        }
    return n;
}

static int close_record(struct attention_service *service, struct service_totals *totals, struct fault *fault)
{
    struct record *r = (struct record *)service;
    if (r->state == RECORD_NOTES)
        r->state = noted_tokens(r) ? RECORD_WHOLE : RECORD_BROKEN;
    return service_close(r->service, totals, fault);
}

static void destroy_record(struct attention_service *service)
{
    struct record *r = (struct record *)service;
    for (size_t l = 0; l < SHAPE_LAYERS_MAX; l++)
        for (size_t i = 0; i < PARTS_MAX; i++)
            free(r->layer[l].part[i]);
    free(r);
}

static const struct service_ops ops_record = {open_record, step_record, close_record, destroy_record};

int lm_record_create(struct attention_service **out, struct attention_service *service, const char *kind, struct fault *fault)
{
    *out = NULL;
    struct record *r = calloc(1, sizeof *r);
    if (!r)
        return fault_set(fault, ERR_NO_MEMORY, "a record of attention");
    r->base.ops = &ops_record;
    r->base.tokens_max = service->tokens_max;
    r->base.bytes_max = service->bytes_max;
    r->service = service;
    r->asked_kind = kind;
    *out = &r->base;
    return 0;
}

int lm_record_check_path(const char *path, struct fault *fault)
{
    char folder[4096];
    const char *slash = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
    struct stat about;
    const int unknown = stat(path, &about);
    if (!unknown && S_ISDIR(about.st_mode))
        errno = EISDIR;
    else if (unknown ? errno == ENOENT && access(folder, W_OK | X_OK) == 0 : access(path, W_OK) == 0)
        return 0;
    return fault_set(fault, ERR_IO, "%.120s: %s", path, strerror(errno));
}

/* What is written, and the memory it stands on. */
struct trace_file {
    struct tensor *tensor;
    char (*name)[32];
    uint16_t **narrow; /* (n): bf16 of each tensor, or NULL */
    size_t n;
};

static int make_narrow(struct trace_file *file, size_t i, const float *x, struct fault *fault)
{
    struct tensor *t = &file->tensor[i];
    uint16_t *y = file->narrow[i] = malloc(t->n * sizeof *y);
    if (!y)
        return fault_set(fault, ERR_NO_MEMORY, "%s in bf16", t->name);
    for (size_t k = 0; k < t->n; k++)
        y[k] = bf16_of_f32(x[k]);
    t->type = TENSOR_BF16;
    t->data = y;
    t->bytes = t->n * sizeof *y;
    return 0;
}

static int add_layer(struct trace_file *file, const struct record *r, const struct noted *noted, size_t number,
                     enum element element, struct fault *fault)
{
    int err = 0;
    for (size_t i = 0; !err && i < n_parts(r); i++) {
        const size_t k = file->n++, n = noted->n * part_width(r, i);
        snprintf(file->name[k], sizeof file->name[k], "layer.%zu.%s", number, part_name[r->kind][i]);
        struct tensor *t = &file->tensor[k];
        *t = (struct tensor){.name = file->name[k], .type = TENSOR_F32, .n_dims = 3, .dim = {noted->n}, .n = n};
        part_shape(r, i, &t->dim[1], &t->dim[2]);
        t->data = noted->part[i];
        t->bytes = n * sizeof(float);
        if (element == ELEMENT_BF16)
            err = make_narrow(file, k, noted->part[i], fault);
    }
    return err;
}

static int write_file(const struct trace_file *file, const struct record *r, size_t layers, const char *path,
                      struct fault *fault)
{
    enum { COUNTS = 5 };
    const size_t count[COUNTS] = {layers, r->shape.heads, r->shape.kv_heads, r->shape.key_dim, noted_tokens(r)};
    char text[COUNTS][24], scale[32];
    for (size_t i = 0; i < COUNTS; i++)
        snprintf(text[i], sizeof text[i], "%zu", count[i]);
    snprintf(scale, sizeof scale, "%.9g", (double)r->shape.scale); /* names one f32 */
    const char *const metadata[] = {"attention", attention_name(r->kind),
                                    "layers",    text[0],
                                    "heads",     text[1],
                                    "kv_heads",  text[2],
                                    "head_dim",  text[3],
                                    "scale",     scale,
                                    "tokens",    text[4],
                                    "layout",    "[token][head][dim], what the layer hands to attention",
                                    "profile",   r->profile,
                                    NULL};
    return safetensors_write(path, file->tensor, file->n, metadata, fault);
}

int lm_record_write(const struct attention_service *record, const char *path, enum element element, struct fault *fault)
{
    const struct record *r = (const struct record *)record;
    if (r->state != RECORD_WHOLE)
        return fault_set(fault, ERR_INVALID, "%.120s: no stream was recorded from open to close", path);
    const size_t most = r->shape.n_layers * n_parts(r);
    struct trace_file file = {.tensor = calloc(most, sizeof *file.tensor),
                              .name = calloc(most, sizeof *file.name),
                              .narrow = calloc(most, sizeof *file.narrow)};
    int err = file.tensor && file.name && file.narrow ? 0 : fault_set(fault, ERR_NO_MEMORY, "%.120s: header", path);
    size_t layers = 0;
    for (size_t l = 0; !err && l < r->shape.n_layers; l++)
        if (r->shape.kind[l] == r->kind)
            err = add_layer(&file, r, &r->layer[l], layers++, element, fault);
    if (!err)
        err = write_file(&file, r, layers, path, fault);
    for (size_t i = 0; file.narrow && i < most; i++)
        free(file.narrow[i]);
    free(file.narrow);
    free(file.name);
    free(file.tensor);
    return err;
}
