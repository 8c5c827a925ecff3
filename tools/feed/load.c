#include "tools/feed/load.h"

#include "base/coins.h"
#include "tools/feed/spec.h"

#include <stdlib.h>
#include <string.h>

enum { RANDOM_MOST = 64, RANDOM_ONE_IN = 16 };

const struct load_options load_defaults = {
    .profile = "full", .streams = 1, .connections = 1, .parts = 1, .in_flight = 32, .seed = 1};

#define PLACE(field) offsetof(struct load_options, field)

const struct command_option load_option_table[] = {
    {"--trace", "FILE", OPTION_TEXT, PLACE(trace), 0, 0, false, "every stream gets the tokens of this safetensors file"},
    {"--synthetic", "KIND,...", OPTION_TEXT, PLACE(synthetic), 0, 0, false,
     "clustered, isotropic, drifting or heavy, then ,tokens=N,key_dim=D,heads=H,kv_heads=G and, if you like,\n"
     "                         ,value_dim=E (key_dim) ,layers=L (1) ,attention=softmax|tensor (softmax) ,scale=X "
     "(1/sqrt(key_dim))\n"
     "                         ,clusters=N (16) ,spread=X (0.25) ,hitters=X (1/64, as a number)"},
    {"--profile", "P", OPTION_TEXT, PLACE(profile), 0, 0, false, "cache profile with overrides (full)"},
    {"--streams", "N", OPTION_COUNT, PLACE(streams), 1, 1 << 20, false, "streams (1)"},
    {"--connections", "N", OPTION_COUNT, PLACE(connections), 1, 4096, false, "that the streams are dealt out to (1)"},
    {"--batch", "N|random", OPTION_TEXT, PLACE(batch), 0, 0, false, "tokens of a part; random: 1 to 64, 15 as a rule (1)"},
    {"--parts", "N", OPTION_COUNT, PLACE(parts), 1, 4096, false, "streams that share a message (1)"},
    {"--in-flight", "N", OPTION_COUNT, PLACE(in_flight), 1, 65536, false,
     "messages of a connection that may be unanswered, within its credit (32)"},
    {"--warm-up", "N", OPTION_COUNT, PLACE(warm_up), 0, 0x1p40, false,
     "first tokens of each stream, appended without asking for outputs, that count for neither rate nor latency (0)"},
    {"--rate", "TOKENS_PER_S", OPTION_NUMBER, PLACE(rate), 1e-3, 1e12, false,
     "of all streams together (as fast as they are answered)"},
    {"--element", "f32|f16|bf16", OPTION_TEXT, PLACE(element), 0, 0, false, "type of the numbers that are sent (f32)"},
    {"--seed", "N", OPTION_COUNT, PLACE(seed), 0, 0x1p53, false, "of synthetic tokens and random batches (1)"},
};
const size_t n_load_options = sizeof load_option_table / sizeof *load_option_table;

static int read_batch(struct load *load, const char *who, const char *text)
{
    char *end;
    if (!text) {
        load->batch = 1;
    } else if (strcmp(text, "random") == 0) {
        load->batch = 0;
    } else {
        unsigned long long n = strtoull(text, &end, 10);
        if (*text < '0' || *text > '9' || *end || n < 1 || n > 1 << 24)
            return command_usage(who, "--batch must be random or a whole number from 1 to %d, not '%s'", 1 << 24, text);
        load->batch = n;
    }
    return COMMAND_GO_ON;
}

static int read_numbers(struct load *load, const char *who, const struct load_options *o)
{
    int element = o->element ? element_from_name(o->element) : ELEMENT_F32;
    if (!o->trace == !o->synthetic)
        return command_usage(who, "one of --trace and --synthetic is required");
    if (element < 0)
        return command_usage(who, "--element must be f32, f16 or bf16, not '%s'", o->element);
    if (o->connections > o->streams)
        return command_usage(who, "%llu --connections need as many --streams, and there are %llu",
                             (unsigned long long)o->connections, (unsigned long long)o->streams);
    if (o->parts > o->streams / o->connections)
        return command_usage(who, "%llu --parts in a message need as many --streams of a connection, and there are %llu",
                             (unsigned long long)o->parts, (unsigned long long)(o->streams / o->connections));
    *load = (struct load){.n_streams = o->streams,
                          .n_connections = o->connections,
                          .n_parts = o->parts,
                          .in_flight = o->in_flight,
                          .seed = o->seed,
                          .rate = o->rate,
                          .profile = o->profile};
    load->shape.element = (enum element)element;
    return read_batch(load, who, o->batch);
}

static int take_trace(struct load *load, const char *path, struct fault *fault)
{
    struct trace trace;
    enum element element = load->shape.element;
    int err = trace_load(&trace, path, fault);
    if (!err) {
        load->shape = trace.shape;
        load->shape.element = element;
        load->n_tokens = trace.n_tokens;
        err = source_from_trace(&load->source, &load->shape, &trace, fault);
    }
    trace_free(&trace);
    return err;
}

static int take_synthetic(struct load *load, const struct spec *spec, struct fault *fault)
{
    struct synthetic synthetic = spec->synthetic;
    enum element element = load->shape.element;
    load->shape = spec->shape;
    load->shape.element = element;
    load->n_tokens = spec->n_tokens;
    synthetic.seed = load->seed;
    synthetic.period = source_rows_for(&load->shape, spec->n_tokens);
    return source_from_synthetic(&load->source, &load->shape, &synthetic, load_longest_batch(load), fault);
}

int load_create(struct load *load, const char *who, const struct load_options *options)
{
    struct fault fault = {0};
    struct spec spec = {0};
    *load = (struct load){0};
    int code = read_numbers(load, who, options);
    if (code == COMMAND_GO_ON && options->synthetic)
        code = spec_read(&spec, who, options->synthetic);
    if (code != COMMAND_GO_ON)
        return code;
    int err = options->trace ? take_trace(load, options->trace, &fault) : take_synthetic(load, &spec, &fault);
    if (err)
        return command_failed(who, &fault);
    load->warm_up = options->warm_up;
    if (load->warm_up >= load->n_tokens)
        return command_usage(who, "--warm-up must leave some of the %llu tokens", (unsigned long long)load->n_tokens);
    return COMMAND_GO_ON;
}

void load_free(struct load *load)
{
    source_free(&load->source);
}

uint64_t load_longest_batch(const struct load *load)
{
    uint64_t most = load->batch ? load->batch : RANDOM_MOST;
    return most < load->n_tokens ? most : load->n_tokens;
}

static bool begins_random_batch(const struct load *load, uint64_t stream, uint64_t token)
{
    return token % RANDOM_MOST == 0 || mix(mix(mix(load->seed) ^ stream) ^ token) < UINT64_MAX / RANDOM_ONE_IN;
}

uint64_t load_cut(const struct load *load, uint64_t stream, uint64_t at)
{
    uint64_t end = load->batch ? at - at % load->batch + load->batch : at + 1;
    while (!load->batch && end < load->n_tokens && !begins_random_batch(load, stream, end))
        end++;
    if (at < load->warm_up && load->warm_up < end)
        end = load->warm_up;
    return end < load->n_tokens ? end : load->n_tokens;
}
