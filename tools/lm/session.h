/* What `attn lm generate` and `attn lm perplexity` have in common: a model, a service for its attention, a forward pass.
 * Threads: one. */
#ifndef ATTND_TOOLS_LM_SESSION_H
#define ATTND_TOOLS_LM_SESSION_H

#include "tools/lm/forward.h"

struct lm_session {
    struct lm_model *model;
    struct attention_service *service;
    struct attention_service *record; /* NULL, or what stands between the forward pass and service: tools/lm/record.h */
    struct lm_forward *forward;
};

/* Loads folder and makes the service. On an error nothing is left behind. */
int lm_session_open(struct lm_session *s, const char *folder, const struct service_options *options, struct fault *fault);
/* From here on what attention is asked passes through s->record, which notes the next stream. kind: as lm_record_create. */
int lm_session_record(struct lm_session *s, const char *kind, struct fault *fault);
void lm_session_close(struct lm_session *s);

/* Tokens from what the options gave: bytes for models of bytes, or a file of ids, which every model takes. One of ids_file and
 * bytes is given. ERR_UNSUPPORTED: bytes for a model whose vocabulary is not bytes. */
int lm_session_tokens(const struct lm_session *s, const char *ids_file, const void *bytes, size_t n_bytes, uint32_t **ids,
                      size_t *n, struct fault *fault);

/* The subcommands of `attn lm`. */
int command_lm_generate(int argc, char **argv);
int command_lm_perplexity(int argc, char **argv);

#endif
