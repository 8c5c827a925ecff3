/* The same attention in process: the engine that the daemon has, without the daemon. The interface is house.h. */
#include "tests/e2e/house.h"

#include <string.h>

static void ignore(void *context, struct part *part)
{
    (void)context, (void)part;
}

bool local_open(struct local *local, const struct config *config, const struct shape *shape, const char *profile)
{
    struct fault fault;
    memset(local, 0, sizeof *local);
    return engine_create(&local->engine, config, kernels_best(), ignore, NULL, &fault) == 0 &&
           engine_open(local->engine, shape, profile, &local->stream, &fault) == 0 &&
           part_create(&local->part, local->engine, local->stream) == 0;
}

void local_close(struct local *local)
{
    part_destroy(local->part);
    if (local->engine)
        engine_close(local->engine, &local->stream);
    engine_destroy(local->engine);
}

int local_step(struct local *local, const struct tokens *tokens, uint32_t layer, uint64_t at, size_t n, unsigned flags,
               float *out, float *lse)
{
    struct part *part = local->part;
    bool append = flags & PART_APPEND;
    part->stream = local->stream;
    part->layer = layer;
    part->n_tokens = (uint32_t)n;
    part->flags = flags;
    part->first_token = engine_next_token(local->stream, layer);
    part->q = flags & (PART_ATTEND | PART_OBSERVE) ? tokens_q(tokens, at) : NULL;
    for (int s = 0; s < 2; s++) {
        part->key[s] = append ? tokens_key(tokens, s, at) : NULL;
        part->value[s] = append ? tokens_value(tokens, s, at) : NULL;
    }
    part->out = out;
    part->lse = lse;
    int err = engine_check_part(part, NULL);
    if (err)
        return err;
    engine_submit(local->engine, part);
    engine_drain(local->engine);
    return atomic_load(&part->err);
}
