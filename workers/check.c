/* Checks of a part's numbers, before any head sees it: finite, within the row storage, and results that stay finite. */
#include "workers/stream.h"

#include <float.h>
#include <math.h>

static int check_tensor(const struct engine_stream *stream, const char *name, const void *data, size_t n, float limit,
                        float *magnitude, struct fault *fault)
{
    *magnitude = engine_kernels(stream->engine)->magnitude[stream->shape.element](data, n);
    if (isinf(*magnitude))
        return fault_set(fault, ERR_NOT_FINITE, "tensor %s holds NaN or infinity", name);
    if (*magnitude > limit)
        return fault_set(fault, ERR_OVERFLOW, "tensor %s reaches %g, its row storage ends at %g", name, (double)*magnitude,
                         (double)limit);
    return 0;
}

/* What comes out must be finite too. Scores are scale q.k or scale (q o k1).k2: the largest intermediate result must stay
 * finite, whatever order a kernel takes the factors in. Rows held before count like the part's own. */
static int check_scores(const struct part *part, double q, struct fault *fault)
{
    const struct shape *s = &part->stream->shape;
    const struct stream_layer *l = &part->stream->layer[part->layer];
    double bound = fmax(1, fabs((double)s->scale)) * (double)s->key_dim * fmax(1, q);
    for (size_t i = 0; i < attention_streams((enum attention_kind)s->kind[part->layer]); i++)
        bound *= fmax(1, fmax((double)l->key_magnitude[i], (double)part->key_magnitude[i]));
    if (bound > (double)FLT_MAX / 4)
        return fault_set(fault, ERR_OVERFLOW, "scores could reach %g with tensor q up to %g: no float holds that", bound, q);
    return 0;
}

/* Weights are at most 1, so sums of values over 2^20 rows stay finite when 2^20 times the largest does; of pairs of rows,
 * 2^40 times the largest product. */
static int check_values(const struct part *part, struct fault *fault)
{
    const struct shape *s = &part->stream->shape;
    const struct stream_layer *l = &part->stream->layer[part->layer];
    double bound = 1;
    for (size_t i = 0; i < attention_streams((enum attention_kind)s->kind[part->layer]); i++)
        bound *= 0x1p20 * fmax(1, fmax((double)l->value_magnitude[i], (double)part->value_magnitude[i]));
    if (bound > (double)FLT_MAX)
        return fault_set(fault, ERR_OVERFLOW, "sums of values could reach %g: no float holds that", bound);
    return 0;
}

int engine_check_part(struct part *part, struct fault *fault)
{
    static const char *const names[2][5] = {{"k", "v", NULL, NULL, "q"}, {"k1", "v1", "k2", "v2", "q"}};
    struct engine_stream *stream = part->stream;
    const struct shape *s = &stream->shape;
    struct stream_layer *l = &stream->layer[part->layer];
    enum attention_kind kind = (enum attention_kind)s->kind[part->layer];
    float q = 0;
    int err = 0;
    for (size_t i = 0; i < 2; i++)
        part->key_magnitude[i] = part->value_magnitude[i] = 0;
    if (part->flags & PART_APPEND && l->needs_queries && !part->q)
        return fault_set(fault, ERR_NEEDS_QUERIES, "layer %u's policy learns from queries: append needs q", part->layer);
    if (part->q)
        err = check_tensor(stream, "q", part->q, part->n_tokens * s->heads * s->key_dim, FLT_MAX, &q, fault);
    for (size_t i = 0; part->flags & PART_APPEND && i < attention_streams(kind) && !err; i++) {
        size_t n = part->n_tokens * s->kv_heads;
        err = check_tensor(stream, names[kind][2 * i], part->key[i], n * s->key_dim, l->key_limit, &part->key_magnitude[i],
                           fault);
        if (!err)
            err = check_tensor(stream, names[kind][2 * i + 1], part->value[i], n * s->value_dim, l->value_limit,
                               &part->value_magnitude[i], fault);
    }
    if (!err && part->flags & PART_APPEND)
        err = check_values(part, fault);
    if (!err && part->flags & (PART_ATTEND | PART_OBSERVE))
        err = check_scores(part, (double)q, fault);
    return err;
}
