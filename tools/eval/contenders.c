#include "tools/eval/contenders.h"

#include "tools/eval/trial.h"

#include <stdio.h>
#include <stdlib.h>

bool contender_fits(const struct cache_ops *ops, unsigned kinds)
{
    unsigned served = 0;
    if (!(ops->kinds & kinds))
        return false;
    for (int hop = 0; ops && hop < N_ATTENTION; hop++) {
        served |= ops->kinds;
        ops = ops->companion ? cache_find(ops->companion) : NULL;
    }
    return (kinds & ~served) == 0;
}

static int add(struct contenders *list, const struct cache_ops *ops, const struct storage *storage, double budget,
               const char *budget_text, const char *more)
{
    struct contender *grown = realloc(list->item, (list->n + 1) * sizeof *grown);
    if (!grown)
        return ERR_NO_MEMORY;
    list->item = grown;
    struct contender *c = &grown[list->n++];
    *c = (struct contender){.ops = ops, .storage = storage, .budget = budget, .budget_text = budget_text};
    int at = snprintf(c->profile, sizeof c->profile, TRIAL_POLICY "%s,storage=%s%s", ops->name, storage->name, more);
    if (budget > 0)
        snprintf(c->profile + at, sizeof c->profile - (size_t)at, ",budget_fraction=%.17g", budget);
    return 0;
}

int contenders_list(struct contenders *out, unsigned kinds, const struct words *policies, const struct words *storages,
                    const struct words *budgets, const char *more, struct fault *fault)
{
    int err = 0;
    *out = (struct contenders){0};
    for (size_t p = 0; cache_table[p] && !err; p++) {
        const struct cache_ops *ops = cache_table[p];
        if (!words_ask_for(policies, ops->name) || !contender_fits(ops, kinds))
            continue;
        for (size_t s = 0; s < N_STORAGE && !err; s++) {
            if (!words_ask_for(storages, storage_table[s].name))
                continue;
            if (!ops->takes_budget)
                err = add(out, ops, &storage_table[s], 0, "", more);
            for (size_t b = 0; ops->takes_budget && b < budgets->n && !err; b++)
                err = add(out, ops, &storage_table[s], budgets->number[b], budgets->item[b], more);
        }
    }
    if (err) {
        contenders_free(out);
        return fault_set(fault, err, "a list of policies");
    }
    return 0;
}

void contenders_free(struct contenders *contenders)
{
    free(contenders->item);
    *contenders = (struct contenders){0};
}
