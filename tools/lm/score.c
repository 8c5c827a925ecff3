#include "tools/lm/score.h"

#include "base/clock.h"
#include "base/coins.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    SCORE_TOKENS = 64, /* logits are formed for as many tokens at once: a large vocabulary times a context fills memory */
    LANE_NEXT_TOKEN = 0x6C6D, /* apart from every lane of base/coins.h */
};

static size_t most_likely(const float *logits, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

uint32_t lm_sample(const float *logits, size_t n, double temperature, double uniform)
{
    const size_t best = most_likely(logits, n);
    if (temperature <= 0)
        return (uint32_t)best;
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += exp(((double)logits[i] - logits[best]) / temperature);
    double left = uniform * sum;
    for (size_t i = 0; i < n; i++) {
        left -= exp(((double)logits[i] - logits[best]) / temperature);
        if (left < 0)
            return (uint32_t)i;
    }
    return (uint32_t)best; /* rounding used up the whole sum */
}

double lm_sample_coin(uint64_t seed, uint64_t index)
{
    return coin(seed, LANE_NEXT_TOKEN, index, 0);
}

double lm_nll(const float *logits, size_t n, uint32_t target)
{
    const size_t best = most_likely(logits, n);
    double others = 0; /* relative to the largest, whose own share is 1 */
    for (size_t i = 0; i < n; i++)
        if (i != best)
            others += exp((double)logits[i] - logits[best]);
    return log1p(others) + logits[best] - logits[target];
}

size_t lm_window_start(size_t n_tokens, size_t context, size_t windows, size_t i)
{
    return windows > 1 ? i * (n_tokens - context - 2) / (windows - 1) : 0;
}

struct scoring {
    struct lm_forward *f;
    const struct lm_config *config;
    const struct lm_windows *windows;
    struct lm_score *out;
    float *logits[2];                 /* (SCORE_TOKENS, V): the profile's, the full cache's */
    float *hidden;                    /* (context - context / 2, D): the profile's, while the full cache reads the window */
    struct lm_divergence *divergence; /* NULL: nothing is compared */
};

static bool is_plain_full(const char *profile)
{
    return !profile || strcmp(profile, "full") == 0;
}

static int prepare(struct scoring *s, struct fault *fault)
{
    const struct lm_windows *w = s->windows;
    const size_t block = SCORE_TOKENS * s->config->vocab, scored = w->context - w->context / 2;
    const bool compare = w->compare && !is_plain_full(w->profile);
    s->logits[0] = malloc(block * sizeof(float));
    if (compare) {
        s->logits[1] = malloc(block * sizeof(float));
        s->hidden = malloc(scored * s->config->hidden * sizeof(float));
    }
    if (!s->logits[0] || (compare && (!s->logits[1] || !s->hidden)))
        return fault_set(fault, ERR_NO_MEMORY, "logits of %d tokens", SCORE_TOKENS);
    return compare ? lm_divergence_create(&s->divergence, w->windows * scored, fault) : 0;
}

/* One window under one profile, from open to close. hidden (context, D) stays valid until the next run. */
static int read_window(struct scoring *s, const uint32_t *ids, const char *profile, const float **hidden,
                       struct service_totals *totals, struct fault *fault)
{
    int err = lm_forward_begin(s->f, profile, s->windows->context, fault);
    if (err)
        return err;
    err = lm_forward_run(s->f, ids, s->windows->context, hidden, fault);
    int close_err = lm_forward_end(s->f, totals, err ? NULL : fault);
    return err ? err : close_err;
}

/* Under the full cache, when the profile's hidden states are in safety. */
static int read_window_full(struct scoring *s, const uint32_t *ids, const float **hidden, struct fault *fault)
{
    struct fault inner = {0};
    int err = read_window(s, ids, "full", hidden, NULL, &inner);
    return err ? fault_set(fault, err, "the full cache, to compare with (--no-compare does without): %.180s", inner.text) : 0;
}

/* Scored tokens t of the window, from context / 2 on, in blocks: own and full are the hidden states of t = context / 2 and what
 * follows; ids too. */
static void score_window(struct scoring *s, const uint32_t *ids, const float *own, const float *full)
{
    const size_t V = s->config->vocab, D = s->config->hidden, scored = s->windows->context - s->windows->context / 2;
    double sum = 0;
    for (size_t t = 0, m; t < scored; t += m) {
        m = scored - t < SCORE_TOKENS ? scored - t : SCORE_TOKENS;
        const double start = clock_seconds();
        lm_forward_logits(s->f, own + t * D, m, s->logits[0]);
        for (size_t i = 0; i < m; i++)
            sum += lm_nll(s->logits[0] + i * V, V, ids[t + i + 1]);
        s->out->seconds += clock_seconds() - start;
        if (!s->divergence)
            continue;
        lm_forward_logits(s->f, full + t * D, m, s->logits[1]);
        for (size_t i = 0; i < m; i++)
            lm_divergence_add(s->divergence, s->logits[1] + i * V, s->logits[0] + i * V, V);
    }
    s->out->nll += sum / (double)scored;
}

static int run_window(struct scoring *s, size_t i, struct fault *fault)
{
    const struct lm_windows *w = s->windows;
    const size_t D = s->config->hidden, half = w->context / 2;
    const uint32_t *ids = w->ids + lm_window_start(w->n_tokens, w->context, w->windows, i);
    const float *own, *full = NULL;
    const double start = clock_seconds();
    int err = read_window(s, ids, w->profile, &own, &s->out->totals, fault);
    if (err)
        return err;
    s->out->seconds += clock_seconds() - start;
    s->out->attention_seconds += lm_forward_attention_seconds(s->f);
    s->out->head_seconds += s->out->totals.head_seconds;
    own += half * D;
    if (s->divergence) {
        memcpy(s->hidden, own, (w->context - half) * D * sizeof *own);
        own = s->hidden;
        err = read_window_full(s, ids, &full, fault);
        if (err)
            return err;
        full += half * D;
    }
    score_window(s, ids + half, own, full);
    return 0;
}

int lm_perplexity(struct lm_forward *f, const struct lm_config *config, const struct lm_windows *windows, struct lm_score *out,
                  struct fault *fault)
{
    const size_t context = windows->context, n = windows->windows;
    struct scoring s = {.f = f, .config = config, .windows = windows, .out = out};
    *out = (struct lm_score){.compared = windows->compare || is_plain_full(windows->profile), .divergence = {.same_top = 1}};
    if (context < 1 || n < 1 || windows->n_tokens < context + (n > 1 ? 2 : 1))
        return fault_set(fault, ERR_INVALID, "a text of %zu tokens is too short for a context of %zu", windows->n_tokens,
                         context);
    int err = prepare(&s, fault);
    for (size_t i = 0; !err && i < n; i++) {
        if (windows->who)
            command_progress(windows->who, i, n);
        if (command_interrupted())
            err = fault_set(fault, ERR_FAILED, "interrupted after %zu of %zu windows", i, n);
        else
            err = run_window(&s, i, fault);
    }
    if (windows->who)
        command_progress(windows->who, n, n);
    out->nll /= (double)n;
    if (!err && s.divergence)
        lm_divergence_summary(s.divergence, &out->divergence);
    lm_divergence_destroy(s.divergence);
    free(s.hidden);
    free(s.logits[0]);
    free(s.logits[1]);
    return err;
}
