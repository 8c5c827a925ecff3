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

/* Multiply-adds of tasks that one turn takes together, while they are rows of one cache that is warm; and how many at most. */
static const double TURN_WORK = 300e3;

/* Patient work that waits before a sleeping thread is woken for it: about what is done while one wakes. */
static const double WAKE_WORK = 600e3;

/* A plan whose units several threads take. Lives on its holder's stack. */
struct fork {
    const struct attend *attend;
    void *shared;
    size_t n_units;
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
    size_t n_changes;    /* neighbours among the ready heads that are of different streams */
    size_t n_impatient;  /* tasks that wait and that nobody but the team has promised to run */
    double waiting_work; /* of all tasks that wait */
    struct fork *forks;
    size_t sleepers;
    size_t started;
    bool failed, stop;
    atomic_uint pending; /* ready heads + open forks: what a spinning thread looks at without the lock */
};

/* A head's turn: the tasks that it takes off the FIFO, which stay linked there until it ends. */
struct turn {
    struct head *head;
    struct head_task *first;
    size_t n;
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
    atomic_fetch_add(&pool->pending, 1);
}

/* Whether everybody who waits is a head of this one's stream: then nobody is delayed when it takes several tasks. */
static bool is_among_its_own(const struct pool *pool, const struct head *head)
{
    return !pool->ready_first || (pool->n_changes == 0 && pool->ready_first->stream == head->stream);
}

static bool take_ready(struct pool *pool, struct turn *turn)
{
    struct head *head = pool->ready_first;
    if (!head)
        return false;
    pool->ready_first = head->next_ready;
    if (!pool->ready_first)
        pool->ready_last = NULL;
    else
        pool->n_changes -= pool->ready_first->stream != head->stream;
    atomic_fetch_sub(&pool->pending, 1);

    struct head_task *first = head->first;
    double work = first->work;
    *turn = (struct turn){.head = head, .first = first, .n = 1};
    pool->n_impatient -= !first->patient;
    for (struct head_task *next = first->n_done ? NULL : first->next; /* what was begun is long */
         next && turn->n < HEAD_TASKS_MAX && work + next->work <= TURN_WORK && is_among_its_own(pool, head);
         next = next->next) {
        pool->n_impatient -= !next->patient;
        work += next->work;
        turn->n++;
    }
    pool->waiting_work -= work;
    return true;
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
    bool ready = pool->ready_first && (pool->n_impatient || pool->waiting_work > WAKE_WORK);
    if ((ready || pool->forks) && pool->sleepers)
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
        size_t unit = atomic_fetch_add(&fork->next_unit, 1);
        if (unit >= fork->n_units)
            return;
        attend_unit(fork->attend, unit, fork->shared, scratch);
    }
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

/* Takes the turn's tasks out of the FIFO, unless there is more of it to do, and lets the next turn come. */
static void end_turn(struct pool *pool, const struct turn *turn, bool done)
{
    struct head *head = turn->head;
    struct head_task *last = turn->first;
    for (size_t i = 1; i < turn->n; i++)
        last = last->next;
    pthread_mutex_lock(&pool->lock);
    head->first = done ? last->next : last;
    if (!done) {
        pool->n_impatient += !last->patient;
        pool->waiting_work += last->work;
    }
    if (head->first) {
        make_ready(pool, head); /* at the end: others' turns come first */
    } else {
        head->last = NULL;
        head->in_turn = false;
    }
    pthread_mutex_unlock(&pool->lock);
}

static void run_turn(struct worker *worker, const struct turn *turn)
{
    struct pool *pool = worker->pool;
    struct head_task *task = turn->first, *next;
    uint64_t start = clock_ns();
    if (task->n_done == 0)
        atomic_fetch_sub(&pool->totals.queued, turn->n); /* they wait no more */
    bool done = pool->run(worker, task, turn->n);
    atomic_fetch_add(&pool->totals.busy_ns, clock_ns() - start);
    end_turn(pool, turn, done);                                 /* unless all is done, others may be at it already */
    for (size_t i = 0; i < turn->n && done; i++, task = next) { /* a part may be gone after this, after the last the head too */
        next = i + 1 < turn->n ? task->next : NULL;
        part_head_done(task->part);
    }
}

bool pool_help(struct pool *pool, struct worker *guest)
{
    struct turn turn;
    if (!atomic_load(&pool->pending))
        return false;
    pthread_mutex_lock(&pool->lock);
    bool any = pool->ready_first && pool->ready_first->first->patient && take_ready(pool, &turn);
    pthread_mutex_unlock(&pool->lock);
    if (!any)
        return false;
    guest->pool = pool;
    run_turn(guest, &turn);
    return true;
}

void pool_hurry(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
}

/* Waits for a turn or a fork; false when the pool stops. */
static bool next_work(struct pool *pool, struct turn *turn, struct fork **fork)
{
    uint64_t give_up = clock_ns() + pool->spin_ns;
    while (!atomic_load(&pool->pending) && clock_ns() < give_up)
        sched_yield();
    *turn = (struct turn){0};
    *fork = NULL;
    pthread_mutex_lock(&pool->lock);
    while (!take_ready(pool, turn) && !(*fork = open_fork(pool)) && !pool->stop) {
        pool->sleepers++;
        pthread_cond_wait(&pool->work, &pool->lock);
        pool->sleepers--;
    }
    if (*fork)
        atomic_fetch_add(&(*fork)->helpers, 1);
    wake_one(pool);
    pthread_mutex_unlock(&pool->lock);
    return turn->head || *fork;
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
    struct turn turn;
    struct fork *fork;
    pin(pool, thread);
    pthread_mutex_lock(&pool->lock);
    pool->started++;
    pool->failed = team_size != pool->threads;
    pthread_cond_broadcast(&pool->joined);
    pthread_mutex_unlock(&pool->lock);
    while (next_work(pool, &turn, &fork)) {
        if (turn.head)
            run_turn(&worker, &turn);
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
