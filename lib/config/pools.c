/* Pools: teams of threads, where they run, and which heads are theirs. */
#include "config/section.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char cpus_form[] = "a list of CPU numbers or ranges like [0, 1, 4-7]";
static const char heads_form[] = "auto, a number from 0 to 1023, or a range like 0-3 or 4- (to the end)";

static read_value read_cpus, read_heads;

static const struct field pool_fields[] = {
    {.key = {.name = "name",
             .offset = offsetof(struct config_pool, name),
             .initial = "pool0, pool1, ...",
             .help = "What telemetry calls the pool."},
     .read = read_name,
     .form = name_form},
    {.key = {"threads", KEY_COUNT, offsetof(struct config_pool, threads), 0, 1024, "threads", "0",
             "Size of the team; 0: one for each CPU that the process may use.", NULL}},
    {.key = {.name = "cpus",
             .offset = 0,
             .initial = "[]",
             .help = "Pins thread i to the i-th of these (then from the start again); []: not pinned."},
     .read = read_cpus,
     .form = cpus_form},
    {.key = {.name = "heads",
             .offset = 0,
             .initial = "auto",
             .help = "Which kv heads of every layer are the pool's; auto: those that no other pool names, balanced by load."},
     .read = read_heads,
     .form = heads_form},
};
const struct section pool_section = {pool_fields, sizeof pool_fields / sizeof *pool_fields};

static void read_heads(struct reader *r, const struct node *node, const struct place *place, void *target)
{
    struct config_pool *pool = target;
    const char *text = expect_text(r, node, place, heads_form);
    if (!text)
        return;
    pool->heads_auto = true;
    if (strcmp(text, "auto") == 0)
        return;
    if (parse_range(text, SHAPE_HEADS_MAX - 1, &pool->first_head, &pool->last_head))
        pool->heads_auto = false;
    else
        report_error(&r->reporter, node->line, place, NULL, "must be %s, not '%.63s'", heads_form, text);
}

static void add_cpu(struct reader *r, const struct node *node, const struct place *place, struct config_pool *pool, int cpu,
                    const cpu_set_t *usable)
{
    for (size_t i = 0; i < pool->n_cpus; i++)
        if (pool->cpu[i] == cpu) {
            report_error(&r->reporter, node->line, place, NULL, "names CPU %d twice", cpu);
            return;
        }
    if (cpu >= CPU_SETSIZE || !CPU_ISSET((size_t)cpu, usable)) {
        report_error(&r->reporter, node->line, place, NULL, "CPU %d is not there, or not for this process to use", cpu);
        return;
    }
    if (pool->n_cpus == CONFIG_CPUS_MAX) {
        report_error(&r->reporter, node->line, place, NULL, "is one too many; %d are allowed", CONFIG_CPUS_MAX);
        return;
    }
    pool->cpu[pool->n_cpus++] = cpu;
}

static void read_cpus(struct reader *r, const struct node *node, const struct place *place, void *target)
{
    struct config_pool *pool = target;
    size_t index = 0;
    cpu_set_t usable;
    if (!expect_list(r, node, place, cpus_form))
        return;
    /* Of the main thread, since this one may be pinned itself. It fails on machines too large for the set: allow all then. */
    if (sched_getaffinity(getpid(), sizeof usable, &usable) != 0)
        memset(&usable, 0xff, sizeof usable);
    pool->n_cpus = 0;
    for (const struct node *child = node->child; child; child = child->next, index++) {
        struct place here = place_index(place, index);
        const char *text = expect_text(r, child, &here, "a CPU number or a range of them");
        uint64_t first, last;
        if (!text)
            continue;
        if (!parse_range(text, CPU_SETSIZE - 1, &first, &last) || last == UINT64_MAX) {
            report_error(&r->reporter, child->line, &here, NULL, "must be a CPU number or a range like 4-7, not '%.63s'", text);
            continue;
        }
        for (uint64_t cpu = first; cpu <= last; cpu++)
            add_cpu(r, child, &here, pool, (int)cpu, &usable);
    }
}

static void check_against_earlier(struct reader *r, size_t index, const struct node *node, const struct place *place)
{
    const struct config_pool *pool = &r->config->pool[index];
    for (size_t i = 0; i < index; i++) {
        const struct config_pool *earlier = &r->config->pool[i];
        if (strcmp(pool->name, earlier->name) == 0)
            report_error(&r->reporter, node->line, place, "name", "pools[%zu] is called '%s' already", i, pool->name);
        if (!pool->heads_auto && !earlier->heads_auto && pool->first_head <= earlier->last_head &&
            earlier->first_head <= pool->last_head)
            report_error(&r->reporter, node->line, place, "heads", "overlaps with the heads of pools[%zu]", i);
    }
}

void read_pools(struct reader *r, const struct node *node, const struct place *place, void *target)
{
    struct config *config = r->config;
    size_t index = 0;
    (void)target;
    if (!expect_list(r, node, place, "a list of pools"))
        return;
    config->n_pools = 0;
    for (const struct node *child = node->child; child; child = child->next, index++) {
        struct place here = place_index(place, index);
        if (config->n_pools == CONFIG_POOLS_MAX) {
            report_error(&r->reporter, child->line, &here, NULL, "is one too many; %d are allowed", CONFIG_POOLS_MAX);
            return;
        }
        struct config_pool *pool = &config->pool[config->n_pools];
        *pool = (struct config_pool){.heads_auto = true, .last_head = UINT64_MAX};
        snprintf(pool->name, sizeof pool->name, "pool%zu", index);
        section_set_defaults(&pool_section, pool);
        section_read(r, child, &here, &pool_section, pool, NULL);
        check_against_earlier(r, config->n_pools, child, &here);
        config->n_pools++;
    }
    if (index == 0)
        report_error(&r->reporter, node->line, place, NULL, "must have at least one pool, or nothing computes");
}
