#include "cache/cache.h"
#include "cache/policies.h"

#include <string.h>

#define POLICY_ROW(name) &policy_##name,
const struct cache_ops *const cache_table[] = {POLICY_LIST(POLICY_ROW) NULL};
#undef POLICY_ROW

const struct cache_ops *cache_find(const char *name)
{
    for (size_t i = 0; cache_table[i]; i++)
        if (strcmp(cache_table[i]->name, name) == 0)
            return cache_table[i];
    return NULL;
}

size_t cache_control_bytes(const struct cache *cache)
{
    return cache->ops->control_bytes;
}
