#include "tools/bench/planted.h"

#include "tools/limits/draw.h"

#include <math.h>
#include <stdlib.h>

enum { TOLD = 8192 /* tokens between two calls of progress */ };

static const float RADIUS = 0.05f, NOISE = 0.1f, QUERY = 8;

/* Rows of draws: each kind of vector has seeds of its own. */
enum { CENTRES, BALLS, OFFSETS, VALUES, NOISES, QUERIES, KINDS };

static uint64_t seed_of(const struct planted *p, unsigned kind, size_t stream)
{
    return (p->seed * 2 + stream) * KINDS + kind;
}

static void draw_normals(uint64_t seed, uint64_t row, float *out)
{
    for (size_t c = 0; c < PLANTED_DIM; c++)
        out[c] = (float)draw_normal(seed, row, c);
}

void planted_init(struct planted *p, uint64_t seed, bool isotropic)
{
    p->seed = seed;
    p->isotropic = isotropic;
    for (size_t s = 0; s < 2; s++)
        for (size_t a = 0; a < PLANTED_BALLS; a++) {
            draw_on_sphere(seed_of(p, CENTRES, s), a, PLANTED_DIM, p->centre[s][a]);
            draw_normals(seed_of(p, VALUES, s), a, p->value[s][a]);
        }
}

void planted_query(const struct planted *p, uint64_t index, float q[PLANTED_DIM])
{
    draw_on_sphere(seed_of(p, QUERIES, 0), index, PLANTED_DIM, q);
    for (size_t c = 0; c < PLANTED_DIM; c++)
        q[c] *= QUERY;
}

void planted_token(const struct planted *p, uint64_t index, size_t n_streams, struct planted_token *out)
{
    for (size_t s = 0; s < n_streams; s++) {
        size_t ball = (size_t)(draw_uniform(seed_of(p, BALLS, s), index, 0) * PLANTED_BALLS);
        float noise[PLANTED_DIM];
        draw_on_sphere(seed_of(p, OFFSETS, s), index, PLANTED_DIM, out->key[s]);
        draw_normals(seed_of(p, NOISES, s), index, noise);
        for (size_t c = 0; c < PLANTED_DIM; c++) {
            if (!p->isotropic)
                out->key[s][c] = p->centre[s][ball][c] + RADIUS * out->key[s][c];
            out->value[s][c] = p->value[s][ball][c] + NOISE * noise[c];
        }
    }
}

/* One query's sums so far, relative to its largest score. */
struct sums {
    double q[PLANTED_DIM], max, sum, acc[PLANTED_DIM];
};

static void take(struct sums *s, const struct planted_token *t)
{
    double score = 0;
    for (size_t c = 0; c < PLANTED_DIM; c++)
        score += s->q[c] * (double)t->key[0][c];
    if (score > s->max) {
        double down = exp(s->max - score);
        s->max = score;
        s->sum *= down;
        for (size_t c = 0; c < PLANTED_DIM; c++)
            s->acc[c] *= down;
    }
    double weight = exp(score - s->max);
    s->sum += weight;
    for (size_t c = 0; c < PLANTED_DIM; c++)
        s->acc[c] += weight * (double)t->value[0][c];
}

bool planted_reference(const struct planted *p, uint64_t n_tokens, size_t n_asked, planted_progress *progress, double *out)
{
    struct sums *sums = calloc(n_asked, sizeof *sums);
    struct planted_token t;
    bool goes_on = sums != NULL;
    for (size_t i = 0; goes_on && i < n_asked; i++) {
        float q[PLANTED_DIM];
        planted_query(p, n_tokens - n_asked + i, q);
        sums[i].max = -INFINITY;
        for (size_t c = 0; c < PLANTED_DIM; c++)
            sums[i].q[c] = (double)q[c];
    }
    for (uint64_t index = 0; goes_on && index < n_tokens; index++) {
        planted_token(p, index, 1, &t);
        for (size_t i = 0; i < n_asked; i++)
            take(&sums[i], &t);
        if (index % TOLD == 0)
            goes_on = progress((size_t)index, (size_t)n_tokens);
    }
    for (size_t i = 0; goes_on && i < n_asked; i++)
        for (size_t c = 0; c < PLANTED_DIM; c++)
            out[i * PLANTED_DIM + c] = sums[i].acc[c] / sums[i].sum;
    free(sums);
    return goes_on;
}
