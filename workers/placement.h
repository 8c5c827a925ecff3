/* Placement: which head lives in which pool. By kv head where a pool names its heads; else the least loaded pool. */
#ifndef ATTND_WORKERS_PLACEMENT_H
#define ATTND_WORKERS_PLACEMENT_H

#include "config/config.h"

struct placement_pool {
    bool heads_auto;
    uint64_t first_head, last_head;
    uint64_t threads;
    uint64_t placed; /* heads that live there now */
};

/* The index of the pool for this kv head; counts it as placed. A head that no pool names and for which there is no `auto` pool goes
 * to the least loaded of all. Load is heads per thread; ties go to the first. */
size_t placement_choose(struct placement_pool *pools, size_t n, uint64_t kv_head);

#endif
