#include "tools/lm/checkpoint.h"
#include "tools/file.h"

#include "io/safetensors.h"
#include "tools/lm/text.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

struct shard {
    struct safetensors *file;
};

struct entry {
    const struct tensor *tensor;
    bool used;
};

struct checkpoint {
    char folder[PATH_BYTES];
    struct shard *shard; /* (n_shards) */
    size_t n_shards;
    struct entry *entry; /* (n), sorted by name */
    size_t n;
};

static int join(char path[PATH_BYTES], const char *folder, const char *name, struct fault *fault)
{
    int n = snprintf(path, PATH_BYTES, "%s/%s", folder, name);
    return n > 0 && n < PATH_BYTES ? 0 : fault_set(fault, ERR_TOO_LARGE, "%.120s: the path is too long", folder);
}

static int open_file(struct checkpoint *c, const char *name, struct fault *fault)
{
    char path[PATH_BYTES];
    int err = join(path, c->folder, name, fault);
    if (err)
        return err;
    struct shard *larger = realloc(c->shard, (c->n_shards + 1) * sizeof *larger);
    if (!larger)
        return fault_set(fault, ERR_NO_MEMORY, "%.160s", path);
    c->shard = larger;
    err = safetensors_open(&c->shard[c->n_shards].file, path, fault);
    c->n_shards += !err;
    return err;
}

/* Opens the files that weight_map names, each once. Names are kept inside the folder. */
static int open_listed(struct checkpoint *c, const json_t *index, const char *path, struct fault *fault)
{
    json_t *map = json_object_get(index, "weight_map"), *file, *opened = json_object();
    const char *weight;
    int err = 0;
    if (!opened)
        return fault_set(fault, ERR_NO_MEMORY, "%.160s", path);
    if (!json_is_object(map) || json_object_size(map) == 0)
        err = fault_set(fault, ERR_MALFORMED, "%.160s: weight_map is missing or empty", path);
    json_object_foreach(map, weight, file)
    {
        const char *name = json_string_value(file);
        if (err)
            break;
        if (!name || strchr(name, '/') || name[0] == '.') {
            err = fault_set(fault, ERR_MALFORMED, "%.120s: weight_map: %.80s: not a file name of this folder", path, weight);
        } else if (!json_object_get(opened, name)) {
            err = open_file(c, name, fault);
            if (!err && json_object_set_new(opened, name, json_true()) != 0)
                err = fault_set(fault, ERR_NO_MEMORY, "%.160s", path);
        }
    }
    json_decref(opened);
    return err;
}

static int open_sharded(struct checkpoint *c, const char *path, struct fault *fault)
{
    char *text;
    size_t bytes;
    json_error_t error;
    int err = file_read(path, &text, &bytes, fault);
    if (err)
        return err;
    json_t *index = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    free(text);
    if (!index)
        return fault_set(fault, ERR_MALFORMED, "%.120s:%d: %.100s", path, error.line, error.text);
    err = open_listed(c, index, path, fault);
    json_decref(index);
    return err;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->tensor->name, ((const struct entry *)b)->tensor->name);
}

static int list_entries(struct checkpoint *c, struct fault *fault)
{
    size_t n = 0;
    for (size_t f = 0; f < c->n_shards; f++)
        n += safetensors_count(c->shard[f].file);
    c->entry = calloc(n + 1, sizeof *c->entry);
    if (!c->entry)
        return fault_set(fault, ERR_NO_MEMORY, "%.160s: table of tensors", c->folder);
    for (size_t f = 0; f < c->n_shards; f++)
        for (size_t i = 0; i < safetensors_count(c->shard[f].file); i++)
            c->entry[c->n++].tensor = safetensors_at(c->shard[f].file, i);
    qsort(c->entry, c->n, sizeof *c->entry, by_name);
    for (size_t i = 1; i < c->n; i++)
        if (by_name(&c->entry[i - 1], &c->entry[i]) == 0)
            return fault_set(fault, ERR_MALFORMED, "%.100s: tensor %.80s is in two files", c->folder, c->entry[i].tensor->name);
    return 0;
}

int checkpoint_open(struct checkpoint **out, const char *folder, struct fault *fault)
{
    char path[PATH_BYTES];
    *out = NULL;
    struct checkpoint *c = calloc(1, sizeof *c);
    if (!c)
        return fault_set(fault, ERR_NO_MEMORY, "%.160s", folder);
    snprintf(c->folder, sizeof c->folder, "%s", folder);
    int err = join(path, folder, "model.safetensors.index.json", fault);
    if (!err)
        err = access(path, F_OK) == 0 ? open_sharded(c, path, fault) : open_file(c, "model.safetensors", fault);
    if (!err)
        err = list_entries(c, fault);
    if (err) {
        checkpoint_close(c);
        return err;
    }
    *out = c;
    return 0;
}

void checkpoint_close(struct checkpoint *c)
{
    if (!c)
        return;
    for (size_t f = 0; f < c->n_shards; f++)
        safetensors_close(c->shard[f].file);
    free(c->shard);
    free(c->entry);
    free(c);
}

static struct entry *find(const struct checkpoint *c, const char *name)
{
    const struct tensor wanted = {.name = name};
    const struct entry key = {.tensor = &wanted};
    return bsearch(&key, c->entry, c->n, sizeof *c->entry, by_name);
}

static void print_shape(char *text, size_t size, size_t n, const size_t *dim)
{
    size_t at = (size_t)snprintf(text, size, "(");
    for (size_t i = 0; i < n && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%zu", i ? ", " : "", dim[i]);
    if (at < size)
        snprintf(text + at, size - at, ")");
}

int checkpoint_take(struct checkpoint *c, const char *name, size_t rows, size_t columns, float **out, struct fault *fault)
{
    struct entry *e = find(c, name);
    *out = NULL;
    if (!e)
        return fault_set(fault, ERR_NOT_FOUND, "%.100s: there is no tensor %.80s", c->folder, name);
    const struct tensor *t = e->tensor;
    const size_t need[2] = {rows ? rows : columns, columns}, n_need = rows ? 2 : 1;
    if (t->n_dims != n_need || memcmp(t->dim, need, n_need * sizeof *need) != 0) {
        char has[64], wants[64];
        print_shape(has, sizeof has, t->n_dims, t->dim);
        print_shape(wants, sizeof wants, n_need, need);
        return fault_set(fault, ERR_WRONG_SHAPE, "%.60s: tensor %.60s: its shape is %s, config.json asks for %s", c->folder,
                         name, has, wants);
    }
    if (t->type != TENSOR_F32 && t->type != TENSOR_F16 && t->type != TENSOR_BF16)
        return fault_set(fault, ERR_UNSUPPORTED, "%.100s: tensor %.80s: weights must be F32, F16 or BF16", c->folder, name);
    e->used = true;
    return tensor_to_f32(t, out, fault);
}

void checkpoint_skip(struct checkpoint *c, const char *name)
{
    struct entry *e = find(c, name);
    if (e)
        e->used = true;
}

int checkpoint_finish(const struct checkpoint *c, struct fault *fault)
{
    for (size_t i = 0; i < c->n; i++)
        if (!c->entry[i].used)
            return fault_set(fault, ERR_UNSUPPORTED,
                             "%.100s: tensor %.80s has no place in the model that config.json describes", c->folder,
                             c->entry[i].tensor->name);
    return 0;
}
