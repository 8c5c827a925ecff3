#include "workers/teams.h"

#include "workers/stream.h"

#include <sched.h>
#include <string.h>

static uint64_t usable_cpus(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? (uint64_t)CPU_COUNT(&set) : 1;
}

int teams_start(struct teams *teams, const struct config *config, struct fault *fault)
{
    *teams = (struct teams){0};
    for (size_t i = 0; i < config->n_pools; i++) {
        struct config_pool pool = config->pool[i];
        if (pool.threads == 0)
            pool.threads = usable_cpus();
        int err = pool_create(&teams->pool[i], &pool, config->spin_seconds, head_run, fault);
        if (err) {
            teams_stop(teams);
            return err;
        }
        teams->place[i] = (struct placement_pool){pool.heads_auto, pool.first_head, pool.last_head, pool.threads, 0};
        teams->n = i + 1;
    }
    return 0;
}

void teams_stop(struct teams *teams)
{
    for (size_t i = 0; i < teams->n; i++)
        pool_destroy(teams->pool[i]);
    *teams = (struct teams){0};
}

static size_t control_bytes(const struct head *head)
{
    return sizeof *head + cache_control_bytes(head->cache);
}

static size_t full_bytes(const struct head *head)
{
    const struct shape *s = &head->stream->shape;
    return shape_full_bf16_bytes(s, (enum attention_kind)s->kind[head->layer], head->cache->n_tokens);
}

void teams_take(struct teams *teams, struct head *head)
{
    head->pool = teams->pool[placement_choose(teams->place, teams->n, head->kv_head)];
    struct engine_totals *totals = pool_totals(head->pool);
    atomic_fetch_add(&totals->allocated, head->allocated);
    atomic_fetch_add(&totals->resident, head->resident);
    atomic_fetch_add(&totals->audited, head->audited);
    atomic_fetch_add(&totals->control, control_bytes(head));
    atomic_fetch_add(&totals->full_bf16, full_bytes(head));
}

void teams_drop(struct teams *teams, const struct head *head)
{
    struct engine_totals *totals = pool_totals(head->pool);
    for (size_t i = 0; i < teams->n; i++)
        if (teams->pool[i] == head->pool)
            teams->place[i].placed--;
    atomic_fetch_sub(&totals->control, control_bytes(head));
    atomic_fetch_sub(&totals->full_bf16, full_bytes(head));
}

static void inherit(struct engine_totals *totals, struct engine_totals *old)
{
    atomic_fetch_add(&totals->tokens, atomic_load(&old->tokens));
    atomic_fetch_add(&totals->busy_ns, atomic_load(&old->busy_ns));
    histogram_merge(&totals->wait, &old->wait);
    histogram_merge(&totals->append, &old->append);
    histogram_merge(&totals->attend, &old->attend);
}

void teams_inherit(struct teams *teams, const struct teams *old)
{
    for (size_t j = 0; j < old->n; j++) {
        size_t heir = teams->n - 1;
        while (heir > 0 && strcmp(pool_name(teams->pool[heir]), pool_name(old->pool[j])) != 0)
            heir--;
        inherit(pool_totals(teams->pool[heir]), pool_totals(old->pool[j]));
    }
}
