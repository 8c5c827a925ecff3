#include "tests/lib/cache/ranked/simulate.h"
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void simulate_probabilities(const struct simulation *s, size_t token, double *p)
{
    const struct tokens *t = s->t;
    double *score = malloc(s->n * sizeof *score);
    memset(p, 0, s->n * sizeof *p);
    for (size_t g = 0; g < t->group; g++) {
        const float *q = t->q + (token * t->group + g) * t->d;
        double max = -INFINITY, sum = 0;
        for (size_t j = 0; j < s->n; j++) {
            score[j] = 0;
            for (size_t c = 0; c < t->d; c++)
                score[j] += (double)q[c] * t->key[0][s->held[j] * t->d + c];
            max = score[j] > max ? score[j] : max;
        }
        for (size_t j = 0; j < s->n; j++)
            sum += exp(score[j] - max);
        for (size_t j = 0; j < s->n; j++)
            p[j] += exp(score[j] - max) / sum;
    }
    free(score);
}

/* Marks the candidates of lowest rank, the oldest of equal ones first, and takes them out. */
static void drop(struct simulation *s)
{
    double *rank = malloc(s->n * sizeof *rank);
    s->rank(s, rank);
    for (size_t i = 0; i < s->interval; i++) {
        size_t lowest = s->sinks;
        for (size_t j = s->sinks; j < s->limit - s->recent; j++)
            if (rank[j] < rank[lowest])
                lowest = j;
        rank[lowest] = INFINITY;
        s->held[lowest] = SIZE_MAX;
    }
    size_t n = 0;
    for (size_t j = 0; j < s->n; j++)
        if (s->held[j] != SIZE_MAX)
            s->held[n++] = s->held[j];
    s->n = n;
    free(rank);
}

/* Values hold their token's number. */
static bool shows_the_same(const struct simulation *s, struct drive *drive)
{
    struct view view[2];
    drive->cache->ops->view(drive->cache, drive->cache->n_tokens - 1, s->t->q, view);
    const struct segment *seg = view[0].seg;
    if (view[0].n_seg != 1 || seg->n != s->n)
        return false;
    const float *values = seg->values;
    for (size_t j = 0; j < s->n; j++)
        if (values[(seg->row + j) * s->t->e] != (float)s->held[j])
            return false;
    return true;
}

void simulate(const struct simulation *rule, size_t n, size_t d, uint64_t seed)
{
    struct simulation s = *rule;
    struct tokens t;
    struct drive drive;
    tokens_random(&t, ATTENTION_SOFTMAX, n, 2, d, 1, seed);
    for (size_t i = 0; i < n; i++)
        t.value[0][i] = (float)i;
    s.t = &t;
    s.held = calloc(s.limit, sizeof *s.held);
    s.score = calloc(n, sizeof *s.score);
    size_t n_different = 0;
    if (drive_open(&drive, &t, s.choice, kernels_best(), 0)) {
        for (size_t i = 0; i < n; i++) {
            if (s.n == s.limit)
                drop(&s);
            s.held[s.n++] = i;
            drive_run(&drive, i, 1, 1, NULL);
            n_different += !shows_the_same(&s, &drive);
            if (s.learn)
                s.learn(&s, i);
        }
        CU_assertImplementation(n_different == 0, __LINE__, "the rows held are those of float64", s.choice, "", CU_FALSE);
    }
    drive_close(&drive);
    free(s.held);
    free(s.score);
    tokens_free(&t);
}
