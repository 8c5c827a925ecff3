#include "workers/pool.h"

#include "base/clock.h"
#include "workers/head.h"

#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

/* Under this many operations a plan is not worth offering to others. Who runs a unit never changes its bits. */
static const double FORK_FLOPS = 2e6;

/* Multiply-adds of tasks that a thread takes together. */
static const double BATCH_WORK = 300e3;

/* Patient work that waits before a sleeping thread is woken for it: about what is done while one wakes. */
static const double WAKE_WORK = 600e3;

/* Units that a thread takes at once, at most, and times that it comes for some at least, where there are as many. */
enum { RUN_UNITS_MAX = 8, RUNS_OF_THREAD = 8 };

/* A plan whose units several threads take. Lives on its holder's stack. */
struct fork {
    const struct attend *attend;
    void *shared;
    size_t n_units, run_units; /* of them so many are taken at once: a thread reads on where it was */
    atomic_size_t next_unit;
    atomic_uint helpers; /* threads other than the holder that work on it; raised under the pool's lock */
    struct fork *next;
};

struct pool {
    char name[PROFILE_NAME_BYTES];
    size_t threads;
    int cpu[CONFIG_CPUS_MAX];
    size_t n_cpus;
    uint64_t spin_ns;
    pool_run *run;
    pthread_t thread; /* the team's first */
    struct engine_totals totals;

    pthread_mutex_t lock;
    pthread_cond_t work;   /* heads are ready, a fork was offered, or stop */
    pthread_cond_t joined; /* a helper left a fork; the team has started */
    struct head *ready_first, *ready_last;
    size_t n_ready;
    size_t n_changes;    /* neighbours among the ready heads that are of different streams */
    size_t n_impatient;  /* tasks that wait and that nobody but the team has promised to run */
    double waiting_work; /* of all tasks that wait */
    struct fork *forks;
    size_t sleepers;
    size_t started;
    bool failed, stop;
    atomic_uint pending; /* ready heads + open forks: what a spinning thread looks at without the lock */
};

/* What a thread takes together: turns of different heads. */
struct batch {
    struct turn turn[BATCH_TURNS_MAX];
    size_t n, n_tasks;
    double work;
};

/* ------------------------------------------------------------------ the inbox; all under the lock */

static void make_ready(struct pool *pool, struct head *head)
{
    head->next_ready = NULL;
    if (pool->ready_last) {
        pool->ready_last->next_ready = head;
        pool->n_changes += pool->ready_last->stream != head->stream;
    } else {
        pool->ready_first = head;
    }
    pool->ready_last = head;
    pool->n_ready++;
    atomic_fetch_add(&pool->pending, 1);
}

static struct head *pop_ready(struct pool *pool)
{
    struct head *head = pool->ready_first;
    pool->ready_first = head->next_ready;
    if (!pool->ready_first)
        pool->ready_last = NULL;
    else
        pool->n_changes -= pool->ready_first->stream != head->stream;
    pool->n_ready--;
    atomic_fetch_sub(&pool->pending, 1);
    return head;
}

/* Whether everybody who waits is a head of this one's stream: then nobody is delayed when it takes several tasks. */
static bool is_among_its_own(const struct pool *pool, const struct head *head)
{
    return !pool->ready_first || (pool->n_changes == 0 && pool->ready_first->stream == head->stream);
}

static bool fits(const struct batch *batch, const struct head_task *task)
{
    return batch->n_tasks < BATCH_TASKS_MAX && batch->work + task->work <= BATCH_WORK;
}

/* The next head's turn, with as many of its tasks as may go with the first. */
static void take_turn(struct pool *pool, struct batch *batch)
{
    struct head *head = pop_ready(pool);
    struct turn *turn = &batch->turn[batch->n++];
    struct head_task *task = head->first;
    *turn = (struct turn){.first = task};
    do {
        pool->n_impatient -= !task->patient;
        batch->work += task->work;
        batch->n_tasks++;
        turn->n++;
        task = task->n_done ? NULL : task->next; /* what was begun is long */
    } while (task && turn->n < TURN_TASKS_MAX && fits(batch, task) && is_among_its_own(pool, head));
}

/* Whether there is more than what is done while a sleeping thread wakes. */
static bool is_worth_waking(const struct pool *pool)
{
    return pool->ready_first && (pool->n_impatient || pool->waiting_work > WAKE_WORK);
}

/* The turns that a thread takes together: small ones, and of many no more than leave every thread of the team its share. None: nobody is
 * ready, or, for a guest, not with a patient task. */
static bool take_batch(struct pool *pool, struct batch *batch, bool guest)
{
    size_t most = is_worth_waking(pool) ? pool->n_ready / (2 * pool->threads) : BATCH_TURNS_MAX;
    batch->n = batch->n_tasks = 0;
    batch->work = 0;
    while (pool->ready_first && batch->n < BATCH_TURNS_MAX) {
        const struct head_task *next = pool->ready_first->first;
        if ((guest && !next->patient) || (batch->n && (batch->n >= most || next->n_done || !fits(batch, next))))
            break;
        take_turn(pool, batch);
    }
    pool->waiting_work -= batch->work;
    return batch->n > 0;
}

static struct fork *open_fork(struct pool *pool)
{
    for (struct fork *f = pool->forks; f; f = f->next)
        if (atomic_load(&f->next_unit) < f->n_units)
            return f;
    return NULL;
}

static void remove_fork(struct pool *pool, struct fork *fork)
{
    struct fork **at = &pool->forks;
    while (*at != fork)
        at = &(*at)->next;
    *at = fork->next;
    atomic_fetch_sub(&pool->pending, 1);
}

/* Wakes a sleeping thread if there is work that it is meant for; whoever wakes wakes the next while there is more. */
static void wake_one(struct pool *pool)
{
    if ((is_worth_waking(pool) || pool->forks) && pool->sleepers)
        pthread_cond_signal(&pool->work);
}

void pool_submit(struct pool *pool, struct head_task *first)
{
    size_t n_tasks = 0;
    pthread_mutex_lock(&pool->lock);
    for (struct head_task *task = first, *next; task; task = next) {
        struct head *head = task->head;
        next = task->next;
        task->next = NULL;
        if (head->last)
            head->last->next = task;
        else
            head->first = task;
        head->last = task;
        if (!head->in_turn) {
            head->in_turn = true;
            make_ready(pool, head);
        }
        pool->n_impatient += !task->patient;
        pool->waiting_work += task->work;
        n_tasks++;
    }
    atomic_fetch_add(&pool->totals.queued, n_tasks);
    wake_one(pool);
    pthread_mutex_unlock(&pool->lock);
}

/* ------------------------------------------------------------------ forked attention */

static void run_units(struct worker *worker, struct fork *fork)
{
    void *scratch = scratch_get(&worker->scratch, attend_scratch_bytes(fork->attend));
    if (!scratch)
        return;
    for (;;) {
        size_t first = atomic_fetch_add(&fork->next_unit, fork->run_units);
        if (first >= fork->n_units)
            return;
        for (size_t unit = first; unit < fork->n_units && unit < first + fork->run_units; unit++)
            attend_unit(fork->attend, unit, fork->shared, scratch);
    }
}

/* At a plan's end others wait for a thread's last run, so its share is several. */
static size_t run_of(const struct pool *pool, size_t n_units)
{
    size_t run = n_units / (RUNS_OF_THREAD * pool->threads);
    return run < 1 ? 1 : run > RUN_UNITS_MAX ? RUN_UNITS_MAX : run;
}

static void join(struct pool *pool, struct fork *fork)
{
    uint64_t give_up = clock_ns() + pool->spin_ns;
    while (atomic_load(&fork->helpers) && clock_ns() < give_up)
        sched_yield();
    pthread_mutex_lock(&pool->lock);
    remove_fork(pool, fork);
    while (atomic_load(&fork->helpers))
        pthread_cond_wait(&pool->joined, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

int pool_attend(struct worker *worker, struct attend *attend)
{
    struct pool *pool = worker->pool;
    struct fork fork = {.attend = attend, .n_units = attend_units(attend)};
    fork.run_units = run_of(pool, fork.n_units);
    size_t shared_bytes = attend_shared_bytes(attend);
    fork.shared = scratch_get(&worker->shared, shared_bytes);
    if ((shared_bytes && !fork.shared) || !scratch_get(&worker->scratch, attend_scratch_bytes(attend) + 1))
        return ERR_NO_MEMORY;
    if (fork.n_units < 2 || pool->threads < 2 || attend_flops(attend) < FORK_FLOPS) {
        run_units(worker, &fork);
    } else {
        pthread_mutex_lock(&pool->lock);
        fork.next = pool->forks;
        pool->forks = &fork;
        atomic_fetch_add(&pool->pending, 1);
        if (pool->sleepers)
            pthread_cond_broadcast(&pool->work);
        pthread_mutex_unlock(&pool->lock);
        run_units(worker, &fork);
        join(pool, &fork);
    }
    attend_finish(attend, fork.shared);
    return 0;
}

static void help(struct worker *worker, struct fork *fork)
{
    struct pool *pool = worker->pool;
    run_units(worker, fork);
    pthread_mutex_lock(&pool->lock);
    if (atomic_fetch_sub(&fork->helpers, 1) == 1)
        pthread_cond_broadcast(&pool->joined);
    pthread_mutex_unlock(&pool->lock);
}

/* ------------------------------------------------------------------ the team */

/* Takes the turn's tasks out of the FIFO, unless there is more of it to do, and lets the head's next turn come. Under the lock. */
static void end_turn(struct pool *pool, const struct turn *turn)
{
    struct head *head = turn->first->head;
    struct head_task *last = turn->first;
    for (size_t i = 1; i < turn->n; i++)
        last = last->next;
    head->first = turn->ended ? last->next : last;
    if (!turn->ended) {
        pool->n_impatient += !last->patient;
        pool->waiting_work += last->work;
    }
    if (head->first) {
        make_ready(pool, head); /* at the end: others' turns come first */
    } else {
        head->last = NULL;
        head->in_turn = false;
    }
}

/* Reports what is done: a part may be gone after that, and after the last of a head's the head too. */
static void report(const struct batch *batch)
{
    struct part *part = NULL;
    unsigned n_heads = 0; /* of the part, in a row */
    for (size_t t = 0; t < batch->n; t++) {
        struct head_task *task = batch->turn[t].first, *next;
        for (size_t i = 0; i < batch->turn[t].n && batch->turn[t].ended; i++, task = next) {
            next = i + 1 < batch->turn[t].n ? task->next : NULL;
            if (task->part != part && part)
                part_heads_done(part, n_heads);
            n_heads = task->part == part ? n_heads + 1 : 1;
            part = task->part;
        }
    }
    if (part)
        part_heads_done(part, n_heads);
}

static void run_batch(struct worker *worker, struct batch *batch, bool guest)
{
    struct pool *pool = worker->pool;
    uint64_t start = clock_ns(), now = start;
    size_t n_begun = 0;
    for (size_t t = 0; t < batch->n; t++)
        n_begun += batch->turn[t].first->n_done == 0 ? batch->turn[t].n : 0;
    if (n_begun)
        atomic_fetch_sub(&pool->totals.queued, n_begun); /* they wait no more */
    pool->run(worker, batch->turn, batch->n, &now);
    atomic_fetch_add(&pool->totals.busy_ns, now - start);
    pthread_mutex_lock(&pool->lock);
    for (size_t t = 0; t < batch->n; t++)
        end_turn(pool, &batch->turn[t]);
    if (guest) /* who may leave what has become ready, and the team has looked for it in vain meanwhile */
        wake_one(pool);
    pthread_mutex_unlock(&pool->lock); /* unless all is done, others may be at it already */
    report(batch);
}

bool pool_help(struct pool *pool, struct worker *guest)
{
    struct batch batch;
    if (!atomic_load(&pool->pending))
        return false;
    pthread_mutex_lock(&pool->lock);
    bool any = take_batch(pool, &batch, true);
    pthread_mutex_unlock(&pool->lock);
    if (!any)
        return false;
    guest->pool = pool;
    run_batch(guest, &batch, true);
    return true;
}

void pool_hurry(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
}

/* Waits for a turn or a fork; false when the pool stops. */
static bool next_work(struct pool *pool, struct batch *batch, struct fork **fork)
{
    uint64_t give_up = clock_ns() + pool->spin_ns;
    while (!atomic_load(&pool->pending) && clock_ns() < give_up)
        sched_yield();
    *fork = NULL;
    pthread_mutex_lock(&pool->lock);
    while (!take_batch(pool, batch, false) && !(*fork = open_fork(pool)) && !pool->stop) {
        pool->sleepers++;
        pthread_cond_wait(&pool->work, &pool->lock);
        pool->sleepers--;
    }
    if (*fork)
        atomic_fetch_add(&(*fork)->helpers, 1);
    wake_one(pool);
    pthread_mutex_unlock(&pool->lock);
    return batch->n || *fork;
}

static void pin(const struct pool *pool, size_t thread)
{
    if (!pool->n_cpus)
        return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)pool->cpu[thread % pool->n_cpus], &set);
    sched_setaffinity(0, sizeof set, &set); /* config checked that the CPU exists; if it went away, run unpinned */
}

void worker_free(struct worker *worker)
{
    scratch_free(&worker->input);
    scratch_free(&worker->shared);
    scratch_free(&worker->scratch);
    scratch_free(&worker->audit);
}

static void team_member(struct pool *pool, size_t thread, size_t team_size)
{
    struct worker worker = {.pool = pool};
    struct batch batch;
    struct fork *fork;
    pin(pool, thread);
    pthread_mutex_lock(&pool->lock);
    pool->started++;
    pool->failed = team_size != pool->threads;
    pthread_cond_broadcast(&pool->joined);
    pthread_mutex_unlock(&pool->lock);
    while (next_work(pool, &batch, &fork)) {
        if (batch.n)
            run_batch(&worker, &batch, false);
        else
            help(&worker, fork);
    }
    worker_free(&worker);
}

static void *team(void *context)
{
    struct pool *pool = context;
    omp_set_dynamic(0);
#pragma omp parallel num_threads((int)pool->threads)
    team_member(pool, (size_t)omp_get_thread_num(), (size_t)omp_get_num_threads());
    return NULL;
}

int pool_create(struct pool **out, const struct config_pool *config, double spin_seconds, pool_run *run, struct fault *fault)
{
    struct pool *pool = calloc(1, sizeof *pool);
    *out = NULL;
    if (!pool)
        return fault_set(fault, ERR_NO_MEMORY, "pool '%s'", config->name);
    memcpy(pool->name, config->name, sizeof pool->name);
    memcpy(pool->cpu, config->cpu, sizeof pool->cpu);
    pool->n_cpus = config->n_cpus;
    pool->threads = config->threads;
    pool->spin_ns = (uint64_t)(spin_seconds * 1e9);
    pool->run = run;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->joined, NULL);
    if (pthread_create(&pool->thread, NULL, team, pool)) {
        free(pool);
        return fault_set(fault, ERR_NO_MEMORY, "pool '%s': its thread could not be started", config->name);
    }
    pthread_mutex_lock(&pool->lock);
    while (pool->started < pool->threads && !pool->failed)
        pthread_cond_wait(&pool->joined, &pool->lock);
    bool failed = pool->failed;
    pthread_mutex_unlock(&pool->lock);
    if (failed) {
        pool_destroy(pool);
        return fault_set(fault, ERR_INVALID, "pool '%s': OpenMP does not give %zu threads (see OMP_THREAD_LIMIT)", config->name,
                         (size_t)config->threads);
    }
    *out = pool;
    return 0;
}

void pool_destroy(struct pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stop = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    pthread_join(pool->thread, NULL);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->work);
    pthread_cond_destroy(&pool->joined);
    free(pool);
}

const char *pool_name(const struct pool *pool)
{
    return pool->name;
}

size_t pool_threads(const struct pool *pool)
{
    return pool->threads;
}

struct engine_totals *pool_totals(struct pool *pool)
{
    return &pool->totals;
}
