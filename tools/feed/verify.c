#include "tools/feed/verify.h"

#include "tools/eval/reference.h"
#include "tools/feed/line.h"

#include <math.h>
#include <stdlib.h>

/* ------------------------------------------------------------------ bits */

/* A replay of one stream. */
struct replay {
    const struct witness *witness;
    uint32_t *equal; /* (n_tokens) layers whose outputs are bit-equal */
};

static void compare(void *context, size_t stream, uint32_t layer, uint64_t first, uint32_t n, const float *out)
{
    struct replay *r = context;
    const struct shape *s = &r->witness->load->shape;
    size_t width = s->heads * s->value_dim;
    for (uint32_t t = 0; t < n; t++)
        r->equal[first + t] += fingerprint(out + t * width, width) == witness_print(r->witness, stream, layer, first + t);
}

static int replay_stream(struct replay *r, struct carrier *carrier, struct load *load, const struct line_options *options,
                         size_t stream, struct fault *fault)
{
    struct line line;
    struct fault ignored;
    int err = line_create(&line, load, options, carrier, stream, load->n_streams, fault);
    for (uint64_t t = 0; t < load->n_tokens; t++)
        r->equal[t] = 0;
    if (!err)
        err = line_open(&line, fault);
    if (!err)
        err = line_run(&line, load->n_tokens, 0, fault);
    line_close(&line, false, err ? &ignored : fault);
    line_destroy(&line);
    return err;
}

int verify_bits(struct verdict *verdict, const struct witness *witness, const char *who, const char *config, const char *isa,
                struct fault *fault)
{
    struct load load = *witness->load;
    struct replay replay = {witness, calloc(load.n_tokens, sizeof *replay.equal)};
    const struct line_options options = {
        .who = who, .prefix = "replay", .timeout = INFINITY, .sink = compare, .sink_context = &replay};
    struct carrier *carrier = NULL;
    load.n_parts = 1;
    int err = replay.equal ? 0 : fault_set(fault, ERR_NO_MEMORY, "no memory to verify a stream");
    if (!err)
        err = carrier_local_create(&carrier, config, isa, fault);
    verdict->verified = 0;
    for (size_t s = 0; s < load.n_streams && !err && !command_interrupted(); s++) {
        command_progress("streams verified", s, load.n_streams);
        err = replay_stream(&replay, carrier, &load, &options, s, fault);
        for (uint64_t t = 0; t < load.n_tokens && !err; t++)
            verdict->verified += replay.equal[t] == load.shape.n_layers;
    }
    command_progress("streams verified", 1, 1);
    if (carrier)
        carrier->ops->destroy(carrier);
    free(replay.equal);
    return err;
}

/* ------------------------------------------------------------------ errors */

struct errors {
    double sum, max;
    size_t n;
};

static void take_token(struct errors *errors, const struct shape *s, const struct reference *reference, size_t at,
                       const float *out)
{
    for (size_t h = 0; h < s->heads; h++) {
        const double *full = reference->out + (at * s->heads + h) * s->value_dim;
        double sum = 0, norm = reference->norm[at * s->heads + h];
        for (size_t c = 0; c < s->value_dim; c++) {
            double off = (double)out[h * s->value_dim + c] - full[c];
            sum += off * off;
        }
        double error = sum > 0 ? sqrt(sum) / norm : 0;
        errors->sum += error;
        errors->max = fmax(errors->max, error);
        errors->n++;
    }
}

/* The stream's first n tokens of one layer as a trace of its own. */
static int make_trace(struct trace *trace, const struct load *load, size_t stream, uint32_t layer, uint64_t n)
{
    *trace = (struct trace){.shape = load->shape, .n_tokens = n, .layer = calloc(1, sizeof *trace->layer)};
    trace->shape.n_layers = 1;
    trace->shape.kind[0] = load->shape.kind[layer];
    if (!trace->layer)
        return ERR_NO_MEMORY;
    float **tensor[] = {&trace->layer->q, &trace->layer->key[0], &trace->layer->value[0], &trace->layer->key[1],
                        &trace->layer->value[1]};
    for (size_t t = 0; t < source_tensors(&load->shape, layer); t++)
        if (!(*tensor[t] = source_widened(&load->source, stream, layer, t, n)))
            return ERR_NO_MEMORY;
    return 0;
}

/* Runs [begin, end) are of one stream. */
static int judge(struct errors *errors, const struct witness *w, uint32_t layer, size_t begin, size_t end, struct fault *fault)
{
    const struct witness_run *last = &w->run[end - 1];
    struct trace trace;
    struct reference reference;
    int err = make_trace(&trace, w->load, last->stream, layer, last->first + last->n);
    if (err)
        fault_set(fault, err, "no memory for the reference of a stream");
    for (size_t i = begin; i < end && !err; i++) {
        const struct witness_run *run = &w->run[i];
        trace.n_tokens = run->first + run->n;
        err = reference_compute(&reference, &trace, run->first, NULL, NULL, fault);
        for (uint32_t t = 0; t < run->n && !err; t++)
            if (witness_kept(w, i, layer, t))
                take_token(errors, &w->load->shape, &reference, t, witness_kept(w, i, layer, t));
        if (!err)
            reference_free(&reference);
    }
    trace_free(&trace);
    return err;
}

int verify_errors(struct verdict *verdict, const struct witness *w, struct fault *fault)
{
    const struct shape *s = &w->load->shape;
    struct errors errors = {0};
    int err = 0;
    for (size_t begin = 0, end; begin < w->n_runs && !err && !command_interrupted(); begin = end) {
        for (end = begin; end < w->n_runs && w->run[end].stream == w->run[begin].stream;)
            end++;
        for (uint32_t l = 0; l < s->n_layers && !err; l++) {
            command_progress("sampled tokens compared with full attention in float64, run", begin, w->n_runs);
            err = judge(&errors, w, l, begin, end, fault);
        }
    }
    command_progress("", 1, 1);
    size_t per_token = s->n_layers * s->heads;
    verdict->sampled = per_token ? errors.n / per_token : 0;
    verdict->error_mean = errors.n ? errors.sum / (double)errors.n : NAN;
    verdict->error_max = errors.n ? errors.max : NAN;
    return err;
}
