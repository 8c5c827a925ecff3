#include "tools/feed/witness.h"

#include "base/coins.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    RUN_TOKENS = 16,
    EXPONENTIAL = 64, /* multiply-adds that one takes as long as */
};

uint64_t fingerprint(const float *x, size_t n)
{
    /* Four independent chains, so that the multiplications overlap; each step is a bijection of its chain. */
    uint64_t h[4] = {1, 2, 3, 4}, w[4];
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        memcpy(w, x + i, sizeof w);
        for (size_t k = 0; k < 4; k++) {
            h[k] = (h[k] ^ w[k]) * 0x9E3779B97F4A7C15u;
            h[k] ^= h[k] >> 32;
        }
    }
    for (; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        h[i % 4] = mix(h[i % 4] ^ bits);
    }
    return mix(mix(mix(h[0] + n) ^ h[1]) ^ mix(mix(h[2]) ^ h[3])) | 1;
}

static size_t outputs_of(const struct load *load)
{
    return load->shape.heads * load->shape.value_dim;
}

/* Multiply-adds of the reference for one token near the end of a stream, all layers. */
static double work_of(const struct load *load)
{
    double n = (double)load->n_tokens, work = 0;
    for (size_t l = 0; l < load->shape.n_layers; l++)
        work += n * (load->shape.kind[l] == ATTENTION_TENSOR ? n : 1);
    return work * (double)(load->shape.heads * (load->shape.key_dim + load->shape.value_dim + EXPONENTIAL));
}

/* The second half of each stream in runs; when there are too many, as many of them, evenly apart, as the work allows. */
static int choose_runs(struct witness *w)
{
    const struct load *load = w->load;
    uint64_t begin = load->n_tokens / 2 > load->warm_up ? load->n_tokens / 2 : load->warm_up, half = load->n_tokens - begin;
    double token_bytes = (double)(outputs_of(load) * load->shape.n_layers * sizeof(float));
    double most = fmax(1, fmin(WITNESS_WORK / work_of(load), WITNESS_BYTES / token_bytes));
    bool everything = (double)half * (double)load->n_streams <= most;
    w->run_tokens = everything ? half : (size_t)fmin(fmin(RUN_TOKENS, most), (double)half);
    uint64_t per_stream = (half + w->run_tokens - 1) / w->run_tokens, all = per_stream * load->n_streams;
    uint64_t n = (uint64_t)fmin((double)all, most / (double)w->run_tokens);
    w->run = calloc(n, sizeof *w->run);
    if (!w->run)
        return ERR_NO_MEMORY;
    for (w->n_runs = 0; w->n_runs < n; w->n_runs++) {
        /* The middle of the n-th part of all, so that a single one is neither the first nor the last. */
        uint64_t i = (uint64_t)(((double)w->n_runs + 0.5) * (double)all / (double)n),
                 first = begin + i % per_stream * w->run_tokens;
        uint64_t left = load->n_tokens - first;
        w->run[w->n_runs] =
            (struct witness_run){i / per_stream, first, (uint32_t)(left < w->run_tokens ? left : w->run_tokens)};
    }
    return 0;
}

int witness_create(struct witness *w, const struct load *load, struct fault *fault)
{
    *w = (struct witness){.load = load};
    int err = choose_runs(w);
    w->print = calloc(load->n_streams * load->shape.n_layers, load->n_tokens * sizeof *w->print);
    w->kept = calloc(w->n_runs * load->shape.n_layers, w->run_tokens * outputs_of(load) * sizeof *w->kept);
    if (err || !w->print || !w->kept)
        return fault_set(fault, ERR_NO_MEMORY, "no memory to verify %zu streams of %llu tokens", load->n_streams,
                         (unsigned long long)load->n_tokens);
    return 0;
}

void witness_free(struct witness *w)
{
    free(w->print);
    free(w->run);
    free(w->kept);
    *w = (struct witness){0};
}

static uint64_t *print_of(const struct witness *w, size_t stream, uint32_t layer, uint64_t token)
{
    return &w->print[(stream * w->load->shape.n_layers + layer) * w->load->n_tokens + token];
}

static float *kept_of(const struct witness *w, size_t run, uint32_t layer, uint32_t at)
{
    return w->kept + ((run * w->load->shape.n_layers + layer) * w->run_tokens + at) * outputs_of(w->load);
}

/* The first run that ends behind this token of this stream. */
static size_t find_run(const struct witness *w, size_t stream, uint64_t token)
{
    size_t low = 0, high = w->n_runs;
    while (low < high) {
        size_t i = (low + high) / 2;
        bool before = w->run[i].stream < stream || (w->run[i].stream == stream && w->run[i].first + w->run[i].n <= token);
        low = before ? i + 1 : low;
        high = before ? high : i;
    }
    return low;
}

void witness_note(void *context, size_t stream, uint32_t layer, uint64_t first, uint32_t n, const float *out)
{
    struct witness *w = context;
    size_t width = outputs_of(w->load);
    for (uint32_t t = 0; t < n; t++)
        *print_of(w, stream, layer, first + t) = fingerprint(out + t * width, width);
    for (size_t i = find_run(w, stream, first); i < w->n_runs && w->run[i].stream == stream && w->run[i].first < first + n;
         i++) {
        const struct witness_run *run = &w->run[i];
        uint64_t from = run->first > first ? run->first : first;
        uint64_t to = run->first + run->n < first + n ? run->first + run->n : first + n;
        memcpy(kept_of(w, i, layer, (uint32_t)(from - run->first)), out + (from - first) * width,
               (to - from) * width * sizeof *out);
    }
}

uint64_t witness_print(const struct witness *w, size_t stream, uint32_t layer, uint64_t token)
{
    return *print_of(w, stream, layer, token);
}

const float *witness_kept(const struct witness *w, size_t run, uint32_t layer, uint32_t at)
{
    return *print_of(w, w->run[run].stream, layer, w->run[run].first + at) ? kept_of(w, run, layer, at) : NULL;
}
