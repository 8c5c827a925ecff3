/* The shape of a stream: what its messages carry and what its caches hold. Plain data, given at open, never changed. */
#ifndef ATTND_BASE_SHAPE_H
#define ATTND_BASE_SHAPE_H

#include "base/err.h"
#include <stddef.h>
#include <stdint.h>

enum attention_kind { ATTENTION_SOFTMAX, ATTENTION_TENSOR, N_ATTENTION };

/* Element types on the wire and in files. f32: IEEE single. f16: IEEE half. bf16: the upper half of f32. Little endian. */
enum element { ELEMENT_F32, ELEMENT_F16, ELEMENT_BF16, N_ELEMENT };

enum {
    SHAPE_LAYERS_MAX = 1024,
    SHAPE_HEADS_MAX = 1024,
    SHAPE_DIM_MAX = 1024,
    SHAPE_STREAMS_MAX_TENSORS = 5, /* q, k1, v1, k2, v2 */
};

/* Of expected_tokens: so many tokens of the widest rows are still far from overflowing 64 bits of bytes. */
#define SHAPE_TOKENS_MAX ((uint64_t)1 << 40)

/* Letters used everywhere: H query heads, Hkv kv heads, g = H / Hkv the query group that shares one kv head's rows,
 * d key dimension, e value dimension. Softmax layers have one row stream (k, v), tensor layers two (k1, v1), (k2, v2). */
struct shape {
    size_t n_layers;
    unsigned char kind[SHAPE_LAYERS_MAX]; /* enum attention_kind, one per layer */
    size_t heads, kv_heads;               /* H, Hkv */
    size_t key_dim, value_dim;            /* d, e: 1..SHAPE_DIM_MAX */
    float scale;                          /* of q.k; tensor: of sum_c q k1 k2 */
    enum element element;                 /* of q, k, v on the wire; outputs are always f32 */
    uint64_t expected_tokens;             /* what budget_fraction refers to */
    size_t n_sink_logits;                 /* 0 or H */
    float sink_logit[SHAPE_HEADS_MAX];    /* one more score in each query head's denominator */
};

const char *attention_name(enum attention_kind kind); /* "softmax", "tensor" */
int attention_from_name(const char *name);            /* or ERR_INVALID */
const char *element_name(enum element element);       /* "f32", "f16", "bf16" */
int element_from_name(const char *name);              /* or ERR_INVALID */
size_t element_bytes(enum element element);

/* Row streams of a layer of this kind: 1 or 2. */
size_t attention_streams(enum attention_kind kind);

/* Bytes that the full cache of one kv head takes in bf16 after n tokens: n (d + e) 2, twice that for tensor layers. */
uint64_t shape_full_bf16_bytes(const struct shape *shape, enum attention_kind kind, uint64_t n_tokens);

/* 0, or ERR_INVALID / ERR_TOO_LARGE with the reason. */
int shape_check(const struct shape *shape, struct fault *fault);

#endif
