/* The forward pass: tokens in, hidden states and logits out; attention is asked of a service, everything else is computed here.
 *
 *     lm_forward_begin(f, "full", context, &fault);        opens a stream in the service, position 0
 *     lm_forward_run(f, ids, n, &hidden, &fault);          a whole prompt, then token by token
 *     lm_forward_logits(f, hidden, n, logits);
 *     lm_forward_end(f, &totals, &fault);
 *
 * Threads: one at a time. The model and the service must live longer. */
#ifndef ATTND_TOOLS_LM_FORWARD_H
#define ATTND_TOOLS_LM_FORWARD_H

#include "tools/lm/model.h"
#include "tools/service.h"

struct lm_forward;

int lm_forward_create(struct lm_forward **out, const struct lm_model *model, struct attention_service *service,
                      struct fault *fault);
void lm_forward_destroy(struct lm_forward *f); /* NULL is allowed; closes what is open */

int lm_forward_begin(struct lm_forward *f, const char *profile, uint64_t expected_tokens, struct fault *fault);

/* Runs n tokens at the positions that come next; ids below the vocabulary. *hidden: (n, D) after the last norm, valid until the
 * next run. After an error only end and destroy make sense. */
int lm_forward_run(struct lm_forward *f, const uint32_t *ids, size_t n, const float **hidden, struct fault *fault);

/* logits (n, V) of n hidden states. */
void lm_forward_logits(const struct lm_forward *f, const float *hidden, size_t n, float *logits);

/* Time since begin that was spent waiting for attention. */
double lm_forward_attention_seconds(const struct lm_forward *f);

int lm_forward_end(struct lm_forward *f, struct service_totals *totals, struct fault *fault);

#endif
