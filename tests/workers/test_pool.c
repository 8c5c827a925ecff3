/* Pools by themselves: heads that count instead of attending. */
#include "tests/test.h"
#include "workers/head.h"
#include "workers/pool.h"
#include "workers/stream.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { HEADS_MAX = 40, TASKS_MAX = 60 };

/* A head with its tasks; parts that never end, so that no engine is asked. */
struct dummy {
    struct head head;
    struct head_task task[TASKS_MAX];
    atomic_bool running;
    size_t next;           /* task, the turn's holder writes */
    atomic_size_t n_wrong; /* out of order, or two at a time */
    atomic_size_t n_done;
    size_t longest;    /* tasks of one turn */
    atomic_bool *gate; /* its turns wait for it; NULL: for nothing */
    int cpu;           /* where the last one ran */
};

static struct engine_stream no_stream, other_stream;
static struct part endless = {.stream = &no_stream};

/* Every third task takes three turns, when it has them for itself. */
static bool count_turn(struct worker *worker, struct head_task *task, size_t n)
{
    struct dummy *d = (struct dummy *)task->head;
    bool alone = !atomic_exchange(&d->running, true), done = n > 1 || d->next % 3 || ++task->n_done == 3;
    while (d->gate && !atomic_load(d->gate))
        sched_yield();
    d->longest = n > d->longest ? n : d->longest;
    for (size_t t = 0; t < n; t++) {
        atomic_fetch_add(&d->n_wrong, !alone || task != &d->task[d->next] || worker->pool != d->head.pool);
        task = t + 1 < n ? task->next : NULL;
        d->next += done;
        for (volatile int i = 0; i < 200; i++)
            ;
    }
    d->cpu = sched_getcpu();
    atomic_store(&d->running, false);
    atomic_fetch_add(&d->n_done, done ? n : 0);
    return done;
}

static void count(struct worker *worker, struct turn *turn, size_t n, uint64_t *now)
{
    size_t n_tasks = 0;
    for (size_t i = 0; i < n; i++) {
        n_tasks += turn[i].n;
        turn[i].ended = count_turn(worker, turn[i].first, turn[i].n);
    }
    if (n > BATCH_TURNS_MAX || n_tasks > BATCH_TASKS_MAX)
        abort();
}

static struct pool *make(size_t threads, double spin_seconds)
{
    struct config_pool config = {.name = "test", .threads = threads, .heads_auto = true};
    struct pool *pool = NULL;
    struct fault fault;
    CU_ASSERT_EQUAL_FATAL(pool_create(&pool, &config, spin_seconds, count, &fault), 0);
    return pool;
}

static void take_a_nap(long ns)
{
    struct timespec t = {.tv_nsec = ns};
    nanosleep(&t, NULL);
}

static void wait_for(struct dummy *dummies, size_t n, size_t n_tasks)
{
    for (size_t i = 0; i < n; i++)
        for (int nap = 0; atomic_load(&dummies[i].n_done) < n_tasks && nap < 200000; nap++)
            take_a_nap(100000);
    for (size_t i = 0; i < n; i++) {
        CU_ASSERT_EQUAL(atomic_load(&dummies[i].n_done), n_tasks);
        CU_ASSERT_EQUAL(atomic_load(&dummies[i].n_wrong), 0);
    }
}

/* Round after round, task t of each head in one hand-over, with naps of every kind between, so that threads are found at work, looking
 * and asleep. The heads may be freed when the pool is gone. */
static struct dummy *drive(struct pool *pool, size_t n_heads, size_t n_tasks)
{
    struct dummy *dummies = calloc(n_heads, sizeof *dummies);
    atomic_store(&endless.heads_left, 1u << 30);
    for (size_t i = 0; i < n_heads; i++)
        dummies[i].head.pool = pool;
    for (size_t t = 0; t < n_tasks; t++) {
        struct head_task *first = NULL, **end = &first;
        for (size_t i = 0; i < n_heads; i++) {
            dummies[i].task[t] = (struct head_task){.part = &endless, .head = &dummies[i].head};
            *end = &dummies[i].task[t];
            end = &dummies[i].task[t].next;
        }
        pool_submit(pool, first);
        if (t % 7 == 3)
            take_a_nap(t % 2 ? 20000 : 300000);
    }
    wait_for(dummies, n_heads, n_tasks);
    CU_ASSERT_EQUAL(atomic_load(&pool_totals(pool)->queued), 0);
    return dummies;
}

static void every_task_runs_in_its_heads_order_and_never_two_at_a_time(void)
{
    static const struct {
        size_t threads, heads;
    } sizes[] = {{1, 1}, {1, 40}, {2, 1}, {2, 2}, {3, 40}, {8, 5}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int spin = 0; spin < 2; spin++) {
            struct pool *pool = make(sizes[i].threads, spin ? 50e-6 : 0);
            struct dummy *dummies = drive(pool, sizes[i].heads, TASKS_MAX);
            pool_destroy(pool);
            free(dummies);
        }
}

static void pools_come_and_go_many_times(void)
{
    for (size_t i = 0; i < 60; i++) {
        struct pool *pool = make(1 + i % 4, 0);
        CU_ASSERT_EQUAL(pool_threads(pool), 1 + i % 4);
        struct dummy *dummies = i % 3 ? NULL : drive(pool, 3, 2);
        pool_destroy(pool);
        free(dummies);
    }
    pool_destroy(NULL);
}

static void several_pools_work_side_by_side(void)
{
    struct pool *pools[4];
    struct dummy *dummies[4];
    for (size_t i = 0; i < 4; i++)
        pools[i] = make(2, 20e-6);
    for (size_t i = 0; i < 4; i++)
        dummies[i] = drive(pools[i], 4, 20);
    for (size_t i = 0; i < 4; i++) {
        pool_destroy(pools[i]);
        free(dummies[i]);
    }
}

static void a_pinned_pool_runs_where_it_was_told(void)
{
    cpu_set_t set;
    CU_ASSERT_EQUAL_FATAL(sched_getaffinity(0, sizeof set, &set), 0);
    for (int cpu = 0, seen = 0; cpu < CPU_SETSIZE && seen < 3; cpu++) {
        if (!CPU_ISSET((size_t)cpu, &set))
            continue;
        struct config_pool config = {.name = "pinned", .threads = 2, .cpu = {cpu}, .n_cpus = 1, .heads_auto = true};
        struct pool *pool = NULL;
        struct dummy *d = calloc(1, sizeof *d);
        CU_ASSERT_EQUAL_FATAL(pool_create(&pool, &config, 0, count, NULL), 0);
        d->head.pool = pool;
        d->task[0] = (struct head_task){.part = &endless, .head = &d->head};
        atomic_store(&endless.heads_left, 1u << 30);
        pool_submit(pool, &d->task[0]);
        wait_for(d, 1, 1);
        pool_destroy(pool);
        CU_ASSERT_EQUAL(d->cpu, cpu);
        free(d);
        seen++;
    }
    cpu_set_t after; /* whoever made the pool is where it was */
    CU_ASSERT_EQUAL(sched_getaffinity(0, sizeof after, &after), 0);
    CU_ASSERT(CPU_EQUAL(&set, &after));
}

/* n tasks of one head, one hand-over each. */
static void submit_each(struct dummy *d, size_t n, double work, bool patient)
{
    for (size_t t = 0; t < n; t++) {
        d->task[t] = (struct head_task){.part = &endless, .head = &d->head, .work = work, .patient = patient};
        pool_submit(d->head.pool, &d->task[t]);
    }
}

static void patient_tasks_wait_for_help_and_others_do_not(void)
{
    struct pool *pool = make(2, 0);
    struct worker guest = {0};
    atomic_store(&endless.heads_left, 1u << 30);
    for (int kind = 0; kind < 4; kind++) { /* helped; hurried; too much to wait; not patient */
        struct dummy *d = calloc(1, sizeof *d);
        d->head.pool = pool;
        take_a_nap(2000000); /* the team sleeps, or is found looking: who runs a task does not matter */
        submit_each(d, TASKS_MAX, kind == 2 ? 1e6 : 1, kind < 3);
        while (kind == 0 && pool_help(pool, &guest))
            ;
        if (kind == 1)
            pool_hurry(pool);
        if (kind == 3)
            CU_ASSERT_FALSE(pool_help(pool, &guest));
        wait_for(d, 1, TASKS_MAX);
        CU_ASSERT_FALSE(pool_help(pool, &guest));
        pool_destroy(pool);
        pool = make(2, 0);
        free(d);
    }
    pool_destroy(pool);
    worker_free(&guest);
}

static void *help_once(void *context)
{
    struct worker guest = {0};
    CU_ASSERT(pool_help(context, &guest));
    worker_free(&guest);
    return NULL;
}

/* A head is with a helper when its next task comes, so the team is woken for nothing or not at all; then the helper leaves. */
static void what_a_helper_leaves_is_not_forgotten(void)
{
    struct pool *pool = make(1, 0);
    struct dummy *d = calloc(1, sizeof *d);
    atomic_bool gate = false;
    pthread_t helper;
    atomic_store(&endless.heads_left, 1u << 30);
    d->head.pool = pool;
    d->gate = &gate;
    take_a_nap(2000000); /* the team sleeps */
    submit_each(d, 1, 1, true);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&helper, NULL, help_once, pool), 0);
    while (!atomic_load(&d->running))
        sched_yield();
    d->task[1] = (struct head_task){.part = &endless, .head = &d->head, .work = 1};
    pool_submit(pool, &d->task[1]);
    atomic_store(&gate, true);
    pthread_join(helper, NULL);
    wait_for(d, 1, 2);
    pool_destroy(pool);
    free(d);
}

/* The only thread is held up while two heads get a backlog; then each has its turns. */
static size_t longest_turn(struct engine_stream *second_stream, double work)
{
    struct pool *pool = make(1, 0);
    struct dummy *d = calloc(3, sizeof *d);
    atomic_bool gate = false;
    atomic_store(&endless.heads_left, 1u << 30);
    for (size_t i = 0; i < 3; i++) {
        d[i].head.pool = pool;
        d[i].head.stream = i < 2 ? &no_stream : second_stream;
    }
    d[0].gate = &gate;
    submit_each(&d[0], 1, 1, false);
    while (!atomic_load(&d[0].running))
        sched_yield();
    submit_each(&d[1], TASKS_MAX, work, false);
    submit_each(&d[2], TASKS_MAX, work, false);
    atomic_store(&gate, true);
    wait_for(&d[0], 1, 1);
    wait_for(&d[1], 2, TASKS_MAX);
    pool_destroy(pool);
    size_t longest = d[1].longest;
    free(d);
    return longest;
}

static void a_turn_takes_several_small_tasks_when_only_its_own_stream_waits(void)
{
    CU_ASSERT_EQUAL(longest_turn(&no_stream, 1), TURN_TASKS_MAX);
    CU_ASSERT_EQUAL(longest_turn(&no_stream, 1e6), 1); /* none is small */
    size_t some = longest_turn(&no_stream, 60e3);      /* a few of them are */
    CU_ASSERT(some > 1 && some < TURN_TASKS_MAX);
    CU_ASSERT_EQUAL(longest_turn(&other_stream, 1), 1);
}

TEST_SUITE("workers/pool", TEST(every_task_runs_in_its_heads_order_and_never_two_at_a_time), TEST(pools_come_and_go_many_times),
           TEST(several_pools_work_side_by_side), TEST(a_pinned_pool_runs_where_it_was_told),
           TEST(patient_tasks_wait_for_help_and_others_do_not), TEST(what_a_helper_leaves_is_not_forgotten),
           TEST(a_turn_takes_several_small_tasks_when_only_its_own_stream_waits))
