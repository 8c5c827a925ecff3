#include "tools/lm/score.h"

#include "base/clock.h"
#include "base/coins.h"

#include <math.h>
#include <stdlib.h>

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

/* Sum of the nll of ids[t + 1] after ids[t], t from first to context - 1; hidden (context, D). */
static double score_hidden(const struct lm_forward *f, const struct lm_config *config, const float *hidden, const uint32_t *ids,
                           size_t first, size_t context, float *logits)
{
    double sum = 0;
    for (size_t t = first, m; t < context; t += m) {
        m = context - t < SCORE_TOKENS ? context - t : SCORE_TOKENS;
        lm_forward_logits(f, hidden + t * config->hidden, m, logits);
        for (size_t i = 0; i < m; i++)
            sum += lm_nll(logits + i * config->vocab, config->vocab, ids[t + i + 1]);
    }
    return sum;
}

int lm_perplexity(struct lm_forward *f, const struct lm_config *config, const uint32_t *ids, size_t n_tokens, size_t context,
                  size_t windows, const char *profile, const char *who, struct lm_score *out, struct fault *fault)
{
    *out = (struct lm_score){0};
    if (context < 1 || windows < 1 || n_tokens < context + (windows > 1 ? 2 : 1))
        return fault_set(fault, ERR_INVALID, "a text of %zu tokens is too short for a context of %zu", n_tokens, context);
    float *logits = malloc(SCORE_TOKENS * config->vocab * sizeof *logits);
    if (!logits)
        return fault_set(fault, ERR_NO_MEMORY, "logits of %d tokens", SCORE_TOKENS);
    const size_t half = context / 2;
    const double start = clock_seconds();
    int err = 0;
    for (size_t i = 0; !err && i < windows; i++) {
        const uint32_t *window = ids + lm_window_start(n_tokens, context, windows, i);
        const float *hidden;
        if (who)
            command_progress(who, i, windows);
        if (command_interrupted()) {
            err = fault_set(fault, ERR_FAILED, "interrupted after %zu of %zu windows", i, windows);
            break;
        }
        err = lm_forward_begin(f, profile, context, fault);
        if (err)
            break;
        err = lm_forward_run(f, window, context, &hidden, fault);
        if (!err)
            out->nll += score_hidden(f, config, hidden, window, half, context, logits) / (double)(context - half);
        out->attention_seconds += lm_forward_attention_seconds(f);
        int close_err = lm_forward_end(f, &out->totals, err ? NULL : fault);
        out->head_seconds += out->totals.head_seconds;
        err = err ? err : close_err;
    }
    if (who)
        command_progress(who, windows, windows);
    out->nll /= (double)windows;
    out->seconds = clock_seconds() - start;
    free(logits);
    return err;
}
