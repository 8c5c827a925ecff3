#include "tools/feed/spec.h"

#include "tools/command.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The keys, as numbers. */
struct numbers {
    double tokens, key_dim, heads, kv_heads, value_dim, layers, scale, clusters, spread, hitters;
};

static const struct key {
    const char *name;
    size_t offset;
    double min, max;
    bool whole, required;
} keys[] = {
    {"tokens", offsetof(struct numbers, tokens), 1, 0x1p40, true, true},
    {"key_dim", offsetof(struct numbers, key_dim), 1, SHAPE_DIM_MAX, true, true},
    {"heads", offsetof(struct numbers, heads), 1, SHAPE_HEADS_MAX, true, true},
    {"kv_heads", offsetof(struct numbers, kv_heads), 1, SHAPE_HEADS_MAX, true, true},
    {"value_dim", offsetof(struct numbers, value_dim), 1, SHAPE_DIM_MAX, true, false},
    {"layers", offsetof(struct numbers, layers), 1, SHAPE_LAYERS_MAX, true, false},
    {"scale", offsetof(struct numbers, scale), 1e-6, 1e6, false, false},
    {"clusters", offsetof(struct numbers, clusters), 1, 0x1p30, true, false},
    {"spread", offsetof(struct numbers, spread), 0, 100, false, false},
    {"hitters", offsetof(struct numbers, hitters), 0, 1, false, false},
};
enum { N_KEYS = sizeof keys / sizeof *keys };

static const char option[] = "--synthetic";

static double *place(struct numbers *numbers, const struct key *key)
{
    return (double *)(void *)((char *)numbers + key->offset);
}

static int read_number(const char *who, const struct key *key, const char *text, double *out)
{
    char *end;
    *out = strtod(text, &end);
    if (end == text || *end || !(*out >= key->min && *out <= key->max) || (key->whole && *out != floor(*out)))
        return command_usage(who, "%s: %s must be a %snumber from %g to %g, not '%s'", option, key->name,
                             key->whole ? "whole " : "", key->min, key->max, text);
    return COMMAND_GO_ON;
}

/* One `key=value`; value NULL: there was no '='. */
static int read_pair(struct numbers *numbers, bool *seen, enum attention_kind *kind, const char *who, const char *name,
                     const char *value)
{
    if (!value)
        return command_usage(who, "%s: '%s' must be key=value", option, name);
    if (strcmp(name, "attention") == 0) {
        int known = attention_from_name(value);
        if (known < 0)
            return command_usage(who, "%s: attention must be softmax or tensor, not '%s'", option, value);
        *kind = (enum attention_kind)known;
        return COMMAND_GO_ON;
    }
    for (size_t i = 0; i < N_KEYS; i++)
        if (strcmp(keys[i].name, name) == 0) {
            if (seen[i])
                return command_usage(who, "%s: %s is given twice", option, name);
            seen[i] = true;
            return read_number(who, &keys[i], value, place(numbers, &keys[i]));
        }
    return command_usage(who, "%s: there is no key '%s'", option, name);
}

static int take(struct spec *spec, const char *who, const struct numbers *n, enum attention_kind kind)
{
    struct fault fault;
    struct shape *s = &spec->shape;
    s->n_layers = (size_t)n->layers;
    memset(s->kind, kind, s->n_layers);
    s->heads = (size_t)n->heads;
    s->kv_heads = (size_t)n->kv_heads;
    s->key_dim = (size_t)n->key_dim;
    s->value_dim = (size_t)(n->value_dim > 0 ? n->value_dim : n->key_dim);
    s->scale = (float)(n->scale > 0 ? n->scale : 1 / sqrt(n->key_dim));
    s->expected_tokens = spec->n_tokens = (uint64_t)n->tokens;
    spec->synthetic.clusters = (uint64_t)n->clusters;
    spec->synthetic.spread = n->spread;
    spec->synthetic.hitters = n->hitters;
    return shape_check(s, &fault) ? command_usage(who, "%s: %s", option, fault.text) : COMMAND_GO_ON;
}

int spec_read(struct spec *spec, const char *who, const char *text)
{
    struct numbers numbers = {.layers = 1, .clusters = 16, .spread = 0.25, .hitters = 1.0 / 64};
    bool seen[N_KEYS] = {false};
    enum attention_kind kind = ATTENTION_SOFTMAX;
    char *copy = strdup(text), *rest = copy, *word = copy ? strsep(&rest, ",") : NULL;
    *spec = (struct spec){0};
    int known = word ? synthetic_from_name(word) : ERR_NO_MEMORY, code = COMMAND_GO_ON;
    if (known < 0)
        code = command_usage(who, "%s must begin with isotropic, clustered, drifting or heavy, not '%s'", option,
                             word ? word : "");
    else
        spec->synthetic.kind = (enum synthetic_kind)known;
    while (code == COMMAND_GO_ON && (word = strsep(&rest, ","))) {
        char *value = strchr(word, '=');
        if (value)
            *value++ = 0;
        code = read_pair(&numbers, seen, &kind, who, word, value);
    }
    for (size_t i = 0; i < N_KEYS && code == COMMAND_GO_ON; i++)
        if (keys[i].required && !seen[i])
            code = command_usage(who, "%s: %s=N is required", option, keys[i].name);
    if (code == COMMAND_GO_ON)
        code = take(spec, who, &numbers, kind);
    free(copy);
    return code;
}
