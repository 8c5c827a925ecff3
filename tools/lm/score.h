/* What comes out of logits: the next token, and how well a text is predicted.
 * Threads: as the forward pass that is handed in. */
#ifndef ATTND_TOOLS_LM_SCORE_H
#define ATTND_TOOLS_LM_SCORE_H

#include "tools/lm/divergence.h"
#include "tools/lm/forward.h"

/* The next token. temperature 0: the most likely one, the first of equals. Else drawn from softmax(logits / temperature) by
 * uniform, a number in [0, 1). */
uint32_t lm_sample(const float *logits, size_t n, double temperature, double uniform);

/* The number that draws token `index` under a seed: the same whatever was drawn before. */
double lm_sample_coin(uint64_t seed, uint64_t index);

/* -log softmax(logits)[target], in nats. */
double lm_nll(const float *logits, size_t n, uint32_t target);

/* First token of window i: windows are spread evenly from the first token to the last that leaves context + 2. */
size_t lm_window_start(size_t n_tokens, size_t context, size_t windows, size_t i);

/* What is scored: each window reads `context` tokens as one run, and the token that follows each of the last
 * context - context / 2 of them counts. */
struct lm_windows {
    const uint32_t *ids; /* (n_tokens): the text */
    size_t n_tokens, context, windows;
    const char *profile; /* NULL: "full" */
    bool compare;        /* with the full cache: unless the profile is plain "full", each window is read once more under it */
    const char *who;     /* progress is shown under this name; NULL: none */
};

struct lm_score {
    double nll; /* nats per scored token, mean over windows */
    /* Of the profile's own reading; the comparison is not in them. */
    double seconds;                          /* of all windows */
    double attention_seconds;                /* of these, waiting for the service */
    double head_seconds;                     /* append and attend of all windows, summed over heads */
    struct service_totals totals;            /* of the last window */
    bool compared;                           /* whether the next is known */
    struct lm_divergence_summary divergence; /* from the full cache; of "full" itself by definition 0, 0, 0, 1 */
};

/* The profile's stream of a window is closed before that of the full cache is opened, so both never lie in memory at once, and
 * logits are formed for a few tokens at a time. ERR_INVALID when the text is too short. */
int lm_perplexity(struct lm_forward *f, const struct lm_config *config, const struct lm_windows *windows, struct lm_score *out,
                  struct fault *fault);

#endif
