/* safetensors files: models, traces, golden files. 8-byte little-endian header length, JSON header, raw data.
 * The file is mapped; tensors point into the mapping and may be unaligned. Everything the header says is checked.
 * Threads: a file is read only after opening. */
#ifndef ATTND_IO_SAFETENSORS_H
#define ATTND_IO_SAFETENSORS_H

#include "base/err.h"
#include "base/shape.h"

enum tensor_type { TENSOR_F32, TENSOR_F16, TENSOR_BF16, TENSOR_F64, TENSOR_I64, TENSOR_I32, TENSOR_U8, N_TENSOR_TYPE };

struct tensor {
    const char *name;
    enum tensor_type type;
    size_t n_dims, dim[8];
    size_t n; /* product of dims */
    const void *data;
    size_t bytes;
};

struct safetensors;

int safetensors_open(struct safetensors **out, const char *path, struct fault *fault);
void safetensors_close(struct safetensors *file);
size_t safetensors_count(const struct safetensors *file);
const struct tensor *safetensors_at(const struct safetensors *file, size_t i);
const struct tensor *safetensors_find(const struct safetensors *file, const char *name); /* or NULL */
const char *safetensors_metadata(const struct safetensors *file, const char *key);       /* or NULL */

/* Any floating type (or integer) as new arrays; free() them. ERR_NO_MEMORY, ERR_UNSUPPORTED. */
int tensor_to_f32(const struct tensor *t, float **out, struct fault *fault);
int tensor_to_f64(const struct tensor *t, double **out, struct fault *fault);

/* Writing: describe all tensors, then their data is written in order. metadata: key, value, ..., NULL. */
int safetensors_write(const char *path, const struct tensor *tensors, size_t n, const char *const *metadata,
                      struct fault *fault);

#endif
