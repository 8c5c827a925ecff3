#include "tools/lm/team.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>

enum { THREADS_MAX = 256 };

struct lm_team {
    pthread_mutex_t lock; /* of all that follows */
    pthread_cond_t work, done;
    void (*run)(void *context, size_t i);
    void *context;
    size_t n, next; /* items of the job; the first that nobody took */
    size_t busy;    /* helpers inside run */
    bool stop;
    size_t n_helpers;
    pthread_t helper[THREADS_MAX];
};

static void *help(void *argument)
{
    struct lm_team *t = argument;
    pthread_mutex_lock(&t->lock);
    for (;;) {
        while (!t->stop && t->next >= t->n)
            pthread_cond_wait(&t->work, &t->lock);
        if (t->stop)
            break;
        const size_t i = t->next++;
        t->busy++;
        pthread_mutex_unlock(&t->lock);
        t->run(t->context, i);
        pthread_mutex_lock(&t->lock);
        if (--t->busy == 0)
            pthread_cond_signal(&t->done);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

static size_t cpus(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? (size_t)CPU_COUNT(&set) : 1;
}

int lm_team_create(struct lm_team **out, size_t n_threads, struct fault *fault)
{
    struct lm_team *t = *out = calloc(1, sizeof *t);
    if (!t) {
        fault_set(fault, ERR_NO_MEMORY, "a team of threads");
        return ERR_NO_MEMORY;
    }
    if (n_threads == 0)
        n_threads = cpus();
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->work, NULL);
    pthread_cond_init(&t->done, NULL);
    /* Fewer threads than asked for give the same numbers, only later. */
    while (t->n_helpers + 1 < n_threads && t->n_helpers < THREADS_MAX &&
           pthread_create(&t->helper[t->n_helpers], NULL, help, t) == 0)
        t->n_helpers++;
    return 0;
}

void lm_team_destroy(struct lm_team *team)
{
    if (!team)
        return;
    pthread_mutex_lock(&team->lock);
    team->stop = true;
    pthread_cond_broadcast(&team->work);
    pthread_mutex_unlock(&team->lock);
    for (size_t i = 0; i < team->n_helpers; i++)
        pthread_join(team->helper[i], NULL);
    pthread_cond_destroy(&team->done);
    pthread_cond_destroy(&team->work);
    pthread_mutex_destroy(&team->lock);
    free(team);
}

void lm_team_run(struct lm_team *team, size_t n, void (*run)(void *context, size_t i), void *context)
{
    if (!team || n == 1) {
        for (size_t i = 0; i < n; i++)
            run(context, i);
        return;
    }
    pthread_mutex_lock(&team->lock);
    team->run = run;
    team->context = context;
    team->n = n;
    team->next = 0;
    pthread_cond_broadcast(&team->work);
    while (team->next < n) {
        const size_t i = team->next++;
        pthread_mutex_unlock(&team->lock);
        run(context, i);
        pthread_mutex_lock(&team->lock);
    }
    while (team->busy > 0)
        pthread_cond_wait(&team->done, &team->lock);
    pthread_mutex_unlock(&team->lock);
}
