/* Contenders: every combination of policy, storage and budget that lists of words ask for, as profiles that a trial opens.
 * Policies come in the order of cache_table; one that takes no budget comes once per storage. */
#ifndef ATTND_TOOLS_EVAL_CONTENDERS_H
#define ATTND_TOOLS_EVAL_CONTENDERS_H

#include "cache/cache.h"
#include "tools/eval/words.h"

struct contender {
    const struct cache_ops *ops;
    const struct storage *storage;
    double budget;           /* budget_fraction; 0: none */
    const char *budget_text; /* as it was asked for; "" for none. Points into the words */
    char profile[160];
};

struct contenders {
    struct contender *item;
    size_t n;
};

/* kinds: bit (1 << attention_kind) for each kind of layer that there is. A policy contends when it serves at least one of them
 * and its companions the others. more: overrides that every profile gets, such as ",seed=3", or "". ERR_NO_MEMORY. */
int contenders_list(struct contenders *out, unsigned kinds, const struct words *policies, const struct words *storages,
                    const struct words *budgets, const char *more, struct fault *fault);
void contenders_free(struct contenders *contenders);

bool contender_fits(const struct cache_ops *ops, unsigned kinds);

#endif
