#include "io/safetensors.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The same bound as the format's own reader: a longer header is an attack or another kind of file. */
enum { HEADER_BYTES_MAX = 100000000, LENGTH_BYTES = 8, DIMS_MAX = 8 };

static const char metadata_key[] = "__metadata__";

static const struct {
    const char *name;
    size_t bytes;
} type_row[] = {
    [TENSOR_F32] = {"F32", 4}, [TENSOR_F16] = {"F16", 2}, [TENSOR_BF16] = {"BF16", 2}, [TENSOR_F64] = {"F64", 8},
    [TENSOR_I64] = {"I64", 8}, [TENSOR_I32] = {"I32", 4}, [TENSOR_U8] = {"U8", 1},
};
_Static_assert(sizeof type_row / sizeof *type_row == N_TENSOR_TYPE, "one row per tensor type");

struct safetensors {
    void *map; /* whole file; NULL before it is mapped */
    size_t map_bytes;
    json_t *header;        /* owns the names */
    struct tensor *tensor; /* (n), in the order of their data */
    size_t n;
};

static int map_file(struct safetensors *file, const char *path, struct fault *fault)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fault_set(fault, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%.120s: %s", path, strerror(errno));
    int err = 0;
    if (fstat(fd, &status) != 0)
        err = fault_set(fault, ERR_IO, "%.120s: %s", path, strerror(errno));
    else if (!S_ISREG(status.st_mode))
        err = fault_set(fault, ERR_IO, "%.120s: not a regular file", path);
    else if (status.st_size < LENGTH_BYTES)
        err = fault_set(fault, ERR_MALFORMED, "%.120s: %lld bytes are too few for a safetensors file", path,
                        (long long)status.st_size);
    if (!err) {
        file->map_bytes = (size_t)status.st_size;
        file->map = mmap(NULL, file->map_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
        if (file->map == MAP_FAILED) {
            file->map = NULL;
            err = fault_set(fault, ERR_IO, "%.120s: mmap: %s", path, strerror(errno));
        }
    }
    close(fd);
    return err;
}

static uint64_t little_endian_64(const unsigned char *b)
{
    uint64_t x = 0;
    for (int i = 7; i >= 0; i--)
        x = x << 8 | b[i];
    return x;
}

/* A whole number >= 0 of the header. */
static bool read_size(const json_t *json, size_t *out)
{
    if (!json_is_integer(json) || json_integer_value(json) < 0)
        return false;
    *out = (size_t)json_integer_value(json);
    return true;
}

static int read_type(struct tensor *t, const json_t *dtype, const char *path, struct fault *fault)
{
    const char *name = json_string_value(dtype);
    if (!name)
        return fault_set(fault, ERR_MALFORMED, "%.100s: tensor %.80s: dtype is not a string", path, t->name);
    for (size_t i = 0; i < N_TENSOR_TYPE; i++)
        if (strcmp(name, type_row[i].name) == 0) {
            t->type = (enum tensor_type)i;
            return 0;
        }
    return fault_set(fault, ERR_UNSUPPORTED, "%.100s: tensor %.80s: dtype %.16s is not read here", path, t->name, name);
}

static int read_shape(struct tensor *t, const json_t *shape, const char *path, struct fault *fault)
{
    if (!json_is_array(shape))
        return fault_set(fault, ERR_MALFORMED, "%.100s: tensor %.80s: shape is not an array", path, t->name);
    t->n_dims = json_array_size(shape);
    if (t->n_dims > DIMS_MAX)
        return fault_set(fault, ERR_UNSUPPORTED, "%.100s: tensor %.80s: %zu dimensions are more than %d", path, t->name,
                         t->n_dims, DIMS_MAX);
    t->n = 1;
    for (size_t i = 0; i < t->n_dims; i++) {
        if (!read_size(json_array_get(shape, i), &t->dim[i]))
            return fault_set(fault, ERR_MALFORMED, "%.100s: tensor %.80s: shape[%zu] is not a whole number from 0", path,
                             t->name, i);
        if (__builtin_mul_overflow(t->n, t->dim[i], &t->n))
            return fault_set(fault, ERR_MALFORMED, "%.100s: tensor %.80s: the product of its shape overflows", path, t->name);
    }
    if (__builtin_mul_overflow(t->n, type_row[t->type].bytes, &t->bytes))
        return fault_set(fault, ERR_MALFORMED, "%.100s: tensor %.80s: its bytes overflow", path, t->name);
    return 0;
}

static int read_tensor(struct tensor *t, const json_t *entry, const unsigned char *data, size_t data_bytes, const char *path,
                       struct fault *fault)
{
    size_t begin, end;
    const json_t *offsets = json_object_get(entry, "data_offsets");
    if (!json_is_object(entry))
        return fault_set(fault, ERR_MALFORMED, "%.100s: tensor %.80s: its entry is not an object", path, t->name);
    int err = read_type(t, json_object_get(entry, "dtype"), path, fault);
    if (!err)
        err = read_shape(t, json_object_get(entry, "shape"), path, fault);
    if (err)
        return err;
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 || !read_size(json_array_get(offsets, 0), &begin) ||
        !read_size(json_array_get(offsets, 1), &end))
        return fault_set(fault, ERR_MALFORMED, "%.100s: tensor %.80s: data_offsets are not two whole numbers from 0", path,
                         t->name);
    if (begin > end || end > data_bytes)
        return fault_set(fault, ERR_MALFORMED,
                         "%.100s: tensor %.80s: data_offsets [%zu, %zu] do not lie in the %zu bytes of data", path, t->name,
                         begin, end, data_bytes);
    if (end - begin != t->bytes)
        return fault_set(fault, ERR_MALFORMED, "%.100s: tensor %.80s: %zu bytes of data, its shape and dtype need %zu", path,
                         t->name, end - begin, t->bytes);
    t->data = data + begin;
    return 0;
}

static int by_data(const void *a, const void *b)
{
    const struct tensor *x = a, *y = b;
    if (x->data != y->data)
        return (const char *)x->data < (const char *)y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* empty tensors before the one that begins at the same place */
}

/* The format wants the data to be covered exactly: no overlaps, no holes, nothing behind the last tensor. */
static int check_cover(const struct safetensors *file, const unsigned char *data, size_t data_bytes, const char *path,
                       struct fault *fault)
{
    size_t covered = 0;
    for (size_t i = 0; i < file->n; i++) {
        const struct tensor *t = &file->tensor[i];
        size_t begin = (size_t)((const unsigned char *)t->data - data);
        if (begin < covered)
            return fault_set(fault, ERR_MALFORMED, "%.80s: tensors %.60s and %.60s overlap", path, file->tensor[i - 1].name,
                             t->name);
        if (begin > covered)
            return fault_set(fault, ERR_MALFORMED, "%.100s: %zu bytes before tensor %.80s belong to no tensor", path,
                             begin - covered, t->name);
        covered = begin + t->bytes;
    }
    if (covered != data_bytes)
        return fault_set(fault, ERR_MALFORMED, "%.120s: the last %zu bytes belong to no tensor", path, data_bytes - covered);
    return 0;
}

static int check_metadata(const json_t *metadata, const char *path, struct fault *fault)
{
    const char *key;
    json_t *value;
    if (metadata && !json_is_object(metadata))
        return fault_set(fault, ERR_MALFORMED, "%.120s: %s is not an object", path, metadata_key);
    json_object_foreach((json_t *)metadata, key, value) if (!json_is_string(value)) return fault_set(
        fault, ERR_MALFORMED, "%.100s: %s: %.80s is not a string", path, metadata_key, key);
    return 0;
}

static int read_header(struct safetensors *file, const char *path, struct fault *fault)
{
    assert(file->map);
    const unsigned char *bytes = file->map;
    size_t rest = file->map_bytes - LENGTH_BYTES;
    uint64_t length = little_endian_64(bytes);
    if (length > rest || length > HEADER_BYTES_MAX)
        return fault_set(fault, ERR_MALFORMED, "%.120s: a header of %llu bytes does not fit (file has %zu, limit %d)", path,
                         (unsigned long long)length, rest, HEADER_BYTES_MAX);
    json_error_t error;
    file->header = json_loadb((const char *)bytes + LENGTH_BYTES, (size_t)length, JSON_REJECT_DUPLICATES, &error);
    if (!file->header)
        return fault_set(fault, ERR_MALFORMED, "%.100s: header: byte %d: %.120s", path, error.position, error.text);
    if (!json_is_object(file->header))
        return fault_set(fault, ERR_MALFORMED, "%.120s: the header is not a JSON object", path);
    int err = check_metadata(json_object_get(file->header, metadata_key), path, fault);
    if (err)
        return err;

    const unsigned char *data = bytes + LENGTH_BYTES + length;
    size_t data_bytes = rest - (size_t)length;
    file->tensor = calloc(json_object_size(file->header) + 1, sizeof *file->tensor);
    if (!file->tensor)
        return fault_set(fault, ERR_NO_MEMORY, "%.120s: table of tensors", path);
    const char *name;
    json_t *entry;
    json_object_foreach(file->header, name, entry)
    {
        if (strcmp(name, metadata_key) == 0)
            continue;
        file->tensor[file->n].name = name;
        err = read_tensor(&file->tensor[file->n], entry, data, data_bytes, path, fault);
        if (err)
            return err;
        file->n++;
    }
    qsort(file->tensor, file->n, sizeof *file->tensor, by_data);
    return check_cover(file, data, data_bytes, path, fault);
}

int safetensors_open(struct safetensors **out, const char *path, struct fault *fault)
{
    *out = NULL;
    struct safetensors *file = calloc(1, sizeof *file);
    if (!file)
        return fault_set(fault, ERR_NO_MEMORY, "%.120s: could not be opened", path);
    int err = map_file(file, path, fault);
    if (!err)
        err = read_header(file, path, fault);
    if (err) {
        safetensors_close(file);
        return err;
    }
    *out = file;
    return 0;
}

void safetensors_close(struct safetensors *file)
{
    if (!file)
        return;
    if (file->map)
        munmap(file->map, file->map_bytes);
    json_decref(file->header);
    free(file->tensor);
    free(file);
}

size_t safetensors_count(const struct safetensors *file)
{
    return file->n;
}

const struct tensor *safetensors_at(const struct safetensors *file, size_t i)
{
    return i < file->n ? &file->tensor[i] : NULL;
}

const struct tensor *safetensors_find(const struct safetensors *file, const char *name)
{
    for (size_t i = 0; i < file->n; i++)
        if (strcmp(file->tensor[i].name, name) == 0)
            return &file->tensor[i];
    return NULL;
}

const char *safetensors_metadata(const struct safetensors *file, const char *key)
{
    return json_string_value(json_object_get(json_object_get(file->header, metadata_key), key));
}

/* Checks one tensor that is to be written and adds its line to the header. */
static int describe(json_t *header, const struct tensor *t, size_t *offset, struct fault *fault)
{
    size_t n = 1, bytes = 0, end;
    if (t->type >= N_TENSOR_TYPE || t->n_dims > DIMS_MAX)
        return fault_set(fault, ERR_INVALID, "tensor %.80s: unknown type or more than %d dimensions", t->name, DIMS_MAX);
    for (size_t i = 0; i < t->n_dims; i++)
        if (__builtin_mul_overflow(n, t->dim[i], &n))
            return fault_set(fault, ERR_INVALID, "tensor %.80s: the product of its shape overflows", t->name);
    if (__builtin_mul_overflow(n, type_row[t->type].bytes, &bytes) || n != t->n || bytes != t->bytes ||
        __builtin_add_overflow(*offset, bytes, &end))
        return fault_set(fault, ERR_INVALID, "tensor %.80s: n or bytes do not agree with its shape", t->name);
    if (strcmp(t->name, metadata_key) == 0 || json_object_get(header, t->name))
        return fault_set(fault, ERR_INVALID, "tensor %.80s: the name is reserved or used twice", t->name);

    json_t *shape = json_array();
    for (size_t i = 0; i < t->n_dims; i++)
        json_array_append_new(shape, json_integer((json_int_t)t->dim[i]));
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", type_row[t->type].name, "shape", shape, "data_offsets",
                              (json_int_t)*offset, (json_int_t)end);
    if (!entry || json_array_size(shape) != t->n_dims || json_object_set_new(header, t->name, entry) != 0)
        return fault_set(fault, ERR_INVALID, "tensor %.80s: its name is not UTF-8, or memory ran out", t->name);
    *offset = end;
    return 0;
}

static int write_all(const char *path, const char *header, const struct tensor *tensors, size_t n, struct fault *fault)
{
    FILE *f = fopen(path, "wb");
    if (!f)
        return fault_set(fault, ERR_IO, "%.120s: %s", path, strerror(errno));
    size_t length = strlen(header), padding = -length & 7; /* data begins at a multiple of 8 */
    unsigned char prefix[LENGTH_BYTES];
    for (int i = 0; i < LENGTH_BYTES; i++)
        prefix[i] = (unsigned char)((uint64_t)(length + padding) >> (8 * i));
    bool ok = fwrite(prefix, 1, sizeof prefix, f) == sizeof prefix && fwrite(header, 1, length, f) == length &&
              fwrite("       ", 1, padding, f) == padding;
    for (size_t i = 0; ok && i < n; i++)
        ok = tensors[i].bytes == 0 || fwrite(tensors[i].data, 1, tensors[i].bytes, f) == tensors[i].bytes;
    int reason = errno;
    if (fclose(f) != 0 && ok) {
        ok = false;
        reason = errno;
    }
    return ok ? 0 : fault_set(fault, ERR_IO, "%.120s: writing: %s", path, strerror(reason));
}

int safetensors_write(const char *path, const struct tensor *tensors, size_t n, const char *const *metadata,
                      struct fault *fault)
{
    json_t *header = json_object(), *texts = json_object();
    size_t offset = 0;
    int err = header && texts ? 0 : fault_set(fault, ERR_NO_MEMORY, "%.120s: header", path);
    for (size_t i = 0; !err && metadata && metadata[i]; i += 2)
        if (json_object_set_new(texts, metadata[i], json_string(metadata[i + 1])) != 0)
            err = fault_set(fault, ERR_INVALID, "metadata %.80s: not UTF-8, or memory ran out", metadata[i]);
    if (!err && json_object_size(texts) > 0)
        json_object_set(header, metadata_key, texts);
    for (size_t i = 0; !err && i < n; i++)
        err = describe(header, &tensors[i], &offset, fault);
    char *text = err ? NULL : json_dumps(header, JSON_COMPACT);
    if (!err)
        err = text ? write_all(path, text, tensors, n, fault) : fault_set(fault, ERR_NO_MEMORY, "%.120s: header", path);
    free(text);
    json_decref(texts);
    json_decref(header);
    return err;
}
