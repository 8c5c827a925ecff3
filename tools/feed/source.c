#include "tools/feed/source.h"

#include "base/coins.h"
#include "kernels/element.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

size_t source_tensors(const struct shape *shape, uint32_t layer)
{
    return 1 + 2 * attention_streams((enum attention_kind)shape->kind[layer]);
}

size_t source_numbers(const struct shape *shape, size_t tensor)
{
    return tensor == 0 ? shape->heads * shape->key_dim : shape->kv_heads * (tensor % 2 ? shape->key_dim : shape->value_dim);
}

uint64_t source_rows_for(const struct shape *shape, uint64_t n_tokens)
{
    uint64_t bytes = 0; /* of a token */
    for (uint32_t l = 0; l < shape->n_layers; l++)
        for (size_t t = 0; t < source_tensors(shape, l); t++)
            bytes += source_numbers(shape, t) * element_bytes(shape->element);
    uint64_t most = SOURCE_BYTES / (bytes ? bytes : 1);
    return most == 0 ? 1 : most < n_tokens ? most : n_tokens;
}

/* f32 numbers into the element type; false when one of them is finite no more. */
static bool narrow(const float *from, size_t n, enum element element, void *to)
{
    bool finite = true;
    assert(to);
    for (size_t i = 0; i < n; i++) {
        if (element == ELEMENT_F32) {
            ((float *)to)[i] = from[i];
        } else if (element == ELEMENT_F16) {
            uint16_t h = ((uint16_t *)to)[i] = f16_of_f32(from[i]);
            finite = finite && isfinite(f16_to_f32(h));
        } else {
            uint16_t h = ((uint16_t *)to)[i] = bf16_of_f32(from[i]);
            finite = finite && isfinite(bf16_to_f32(h));
        }
    }
    return finite;
}

static void *row_of(const struct source *s, uint32_t layer, size_t tensor, uint64_t row)
{
    return (char *)s->tensor[layer][tensor] + row * source_numbers(s->shape, tensor) * element_bytes(s->shape->element);
}

static int make_room(struct source *s, struct fault *fault)
{
    const struct shape *shape = s->shape;
    bool ok = (s->tensor = calloc(shape->n_layers, sizeof *s->tensor)) != NULL;
    for (uint32_t l = 0; ok && l < shape->n_layers; l++)
        for (size_t t = 0; ok && t < source_tensors(shape, l); t++)
            ok = (s->tensor[l][t] = calloc(s->n_rows + s->tail, source_numbers(shape, t) * element_bytes(shape->element))) !=
                 NULL;
    return ok ? 0 : fault_set(fault, ERR_NO_MEMORY, "no memory for %llu tokens", (unsigned long long)s->n_rows);
}

int source_from_synthetic(struct source *s, const struct shape *shape, const struct synthetic *synthetic, uint64_t run,
                          struct fault *fault)
{
    size_t widest = 0;
    for (size_t t = 0; t < 3; t++)
        widest = source_numbers(shape, t) > widest ? source_numbers(shape, t) : widest;
    *s = (struct source){.shape = shape, .n_rows = synthetic->period, .tail = run, .seed = synthetic->seed};
    float *numbers = malloc((widest + 1) * sizeof *numbers);
    int err = numbers ? make_room(s, fault) : fault_set(fault, ERR_NO_MEMORY, "no memory for a token");
    for (uint32_t l = 0; !err && l < shape->n_layers; l++)
        for (size_t t = 0; t < source_tensors(shape, l); t++)
            for (uint64_t row = 0; row < s->n_rows + s->tail; row++) {
                synthetic_fill(synthetic, shape, l, row % s->n_rows, t, numbers);
                narrow(numbers, source_numbers(shape, t), shape->element, row_of(s, l, t, row));
            }
    free(numbers);
    return err;
}

int source_from_trace(struct source *s, const struct shape *shape, const struct trace *trace, struct fault *fault)
{
    *s = (struct source){.shape = shape, .n_rows = trace->n_tokens, .same_start = true};
    int err = make_room(s, fault);
    for (uint32_t l = 0; !err && l < shape->n_layers; l++) {
        const struct trace_layer *from = &trace->layer[l];
        const float *numbers[SHAPE_STREAMS_MAX_TENSORS] = {from->q, from->key[0], from->value[0], from->key[1], from->value[1]};
        for (size_t t = 0; !err && t < source_tensors(shape, l); t++)
            if (!narrow(numbers[t], trace->n_tokens * source_numbers(shape, t), shape->element, s->tensor[l][t]))
                err = fault_set(fault, ERR_INVALID, "layer %u of the trace has numbers that are too large for %s", l,
                                element_name(shape->element));
    }
    return err;
}

void source_free(struct source *s)
{
    for (uint32_t l = 0; s->tensor && l < s->shape->n_layers; l++)
        for (size_t t = 0; t < SHAPE_STREAMS_MAX_TENSORS; t++)
            free(s->tensor[l][t]);
    free(s->tensor);
    *s = (struct source){0};
}

static uint64_t row_number(const struct source *s, uint64_t stream, uint64_t token)
{
    uint64_t start = s->same_start ? 0 : mix(mix(s->seed) ^ stream) % s->n_rows;
    return (start + token) % s->n_rows;
}

const void *source_at(const struct source *s, uint64_t stream, uint32_t layer, size_t tensor, uint64_t token)
{
    return row_of(s, layer, tensor, row_number(s, stream, token));
}

float *source_widened(const struct source *s, uint64_t stream, uint32_t layer, size_t tensor, uint64_t n)
{
    size_t numbers = source_numbers(s->shape, tensor);
    float *out = malloc((n * numbers + 1) * sizeof *out);
    for (uint64_t t = 0; out && t < n; t++) {
        const void *from = source_at(s, stream, layer, tensor, t);
        float *to = out + t * numbers;
        if (s->shape->element == ELEMENT_F32)
            memcpy(to, from, numbers * sizeof *to);
        for (size_t i = 0; s->shape->element != ELEMENT_F32 && i < numbers; i++) {
            uint16_t h = ((const uint16_t *)from)[i];
            to[i] = s->shape->element == ELEMENT_F16 ? f16_to_f32(h) : bf16_to_f32(h);
        }
    }
    return out;
}
