#include "workers/placement.h"

static size_t least_loaded(const struct placement_pool *pools, size_t n, bool only_auto)
{
    size_t best = n;
    for (size_t i = 0; i < n; i++) {
        if (only_auto && !pools[i].heads_auto)
            continue;
        if (best == n || pools[i].placed * pools[best].threads < pools[best].placed * pools[i].threads)
            best = i;
    }
    return best;
}

size_t placement_choose(struct placement_pool *pools, size_t n, uint64_t kv_head)
{
    size_t chosen = n;
    for (size_t i = 0; i < n && chosen == n; i++)
        if (!pools[i].heads_auto && kv_head >= pools[i].first_head && kv_head <= pools[i].last_head)
            chosen = i;
    if (chosen == n)
        chosen = least_loaded(pools, n, true);
    if (chosen == n)
        chosen = least_loaded(pools, n, false);
    pools[chosen].placed++;
    return chosen;
}
