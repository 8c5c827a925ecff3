/* What comes out of logits: the next token, and how well a text is predicted.
 * Threads: as the forward pass that is handed in. */
#ifndef ATTND_TOOLS_LM_SCORE_H
#define ATTND_TOOLS_LM_SCORE_H

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

struct lm_score {
    double nll;                   /* nats per scored token, mean over windows */
    double seconds;               /* of all windows */
    double attention_seconds;     /* of these, waiting for the service */
    double head_seconds;          /* append and attend of all windows, summed over heads */
    struct service_totals totals; /* of the last window */
};

/* Each window reads `context` tokens as one run; its score is the mean nll of the token that follows each of the last
 * context - context / 2 of them. who: progress is shown under this name, NULL for none. ERR_INVALID when the text is too short. */
int lm_perplexity(struct lm_forward *f, const struct lm_config *config, const uint32_t *ids, size_t n_tokens, size_t context,
                  size_t windows, const char *profile, const char *who, struct lm_score *out, struct fault *fault);

#endif
