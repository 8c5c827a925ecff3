#include "tools/lm/session.h"

#include "tools/lm/record.h"
#include "tools/lm/text.h"

int lm_session_open(struct lm_session *s, const char *folder, const struct service_options *options, struct fault *fault)
{
    *s = (struct lm_session){0};
    command_catch_interrupt();
    int err = lm_model_load(&s->model, folder, fault);
    if (!err)
        err = service_create(&s->service, options, fault);
    if (!err)
        err = lm_forward_create(&s->forward, s->model, s->service, fault);
    if (err)
        lm_session_close(s);
    return err;
}

int lm_session_record(struct lm_session *s, const char *kind, struct fault *fault)
{
    int err = lm_record_create(&s->record, s->service, kind, fault);
    if (err)
        return err;
    lm_forward_destroy(s->forward);
    return lm_forward_create(&s->forward, s->model, s->record, fault);
}

void lm_session_close(struct lm_session *s)
{
    lm_forward_destroy(s->forward);
    service_destroy(s->record);
    service_destroy(s->service);
    lm_model_destroy(s->model);
    *s = (struct lm_session){0};
}

int lm_session_tokens(const struct lm_session *s, const char *ids_file, const void *bytes, size_t n_bytes, uint32_t **ids,
                      size_t *n, struct fault *fault)
{
    const size_t vocab = s->model->config.vocab;
    *ids = NULL;
    if (ids_file)
        return lm_ids_read(ids_file, vocab, ids, n, fault);
    if (vocab != LM_BYTE_VOCAB)
        return fault_set(fault, ERR_UNSUPPORTED, "the model has %zu tokens, so text must come as a file of token ids", vocab);
    *n = n_bytes;
    return lm_ids_of_bytes(bytes, n_bytes, ids, fault);
}
