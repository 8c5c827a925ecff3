/* Traces: what the attention of a model was given, token by token, kept in a safetensors file.
 *
 *     layer.L.q (n, H, d)   and   layer.L.k (n, Hkv, d), layer.L.v (n, Hkv, e)                          a softmax layer
 *                           or    layer.L.k1, layer.L.v1, layer.L.k2, layer.L.v2 of these shapes        a tensor layer
 *
 * for L = 0, 1, ...; F32, F16 or BF16. Metadata (heads, kv_heads, head_dim, tokens, layers, attention, scale) may be absent: all
 * but the scale follows from the tensors, and must agree with them where it is there. The scale is 1 / sqrt(d) by default.
 * Threads: a loaded trace is read only. */
#ifndef ATTND_TOOLS_EVAL_TRACE_H
#define ATTND_TOOLS_EVAL_TRACE_H

#include "base/shape.h"

struct trace_layer {
    float *q, *key[2], *value[2]; /* (n, H, d), (n, Hkv, d), (n, Hkv, e); key[1], value[1] of tensor layers only */
};

struct trace {
    struct shape shape; /* element f32, expected_tokens n_tokens */
    size_t n_tokens;
    struct trace_layer *layer; /* (shape.n_layers) */
};

/* What is wrong is told with the file's and the tensor's name. trace_free takes a trace that is half loaded, too. */
int trace_load(struct trace *trace, const char *path, struct fault *fault);
void trace_free(struct trace *trace);

/* Bit (1 << attention_kind) for each kind that its layers have. */
unsigned trace_kinds(const struct trace *trace);

#endif
