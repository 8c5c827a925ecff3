#include "tools/lm/divergence.h"

#include "tools/eval/measure.h"
#include "tools/lm/score.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

struct lm_divergence {
    size_t n, n_max, n_same;
    double kl[]; /* (n_max) */
};

/* log sum_i e^(logits_i) */
static double log_sum(const float *logits, size_t n)
{
    return lm_nll(logits, n, 0) + logits[0];
}

double lm_kl(const float *full, const float *other, size_t n)
{
    const double of_full = log_sum(full, n), of_other = log_sum(other, n);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double log_p = full[i] - of_full, log_q = other[i] - of_other;
        sum += exp(log_p) * (log_p - log_q);
    }
    return fmax(sum, 0); /* it is never negative, but terms of both signs round */
}

int lm_divergence_create(struct lm_divergence **out, size_t n_max, struct fault *fault)
{
    *out = n_max <= (SIZE_MAX - sizeof **out) / sizeof *(*out)->kl ? malloc(sizeof **out + n_max * sizeof *(*out)->kl) : NULL;
    if (!*out)
        return fault_set(fault, ERR_NO_MEMORY, "divergences of %zu positions", n_max);
    (*out)->n = (*out)->n_same = 0;
    (*out)->n_max = n_max;
    return 0;
}

void lm_divergence_destroy(struct lm_divergence *d)
{
    free(d);
}

void lm_divergence_add(struct lm_divergence *d, const float *full, const float *other, size_t n)
{
    assert(d->n < d->n_max);
    d->kl[d->n++] = lm_kl(full, other, n);
    d->n_same += lm_sample(full, n, 0, 0) == lm_sample(other, n, 0, 0);
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void lm_divergence_summary(struct lm_divergence *d, struct lm_divergence_summary *out)
{
    assert(d->n > 0);
    double sum = 0;
    for (size_t i = 0; i < d->n; i++)
        sum += d->kl[i];
    qsort(d->kl, d->n, sizeof *d->kl, compare);
    *out = (struct lm_divergence_summary){.kl_mean = sum / (double)d->n,
                                          .kl_p50 = quantile(d->kl, d->n, 0.5),
                                          .kl_p999 = quantile(d->kl, d->n, 0.999),
                                          .same_top = (double)d->n_same / (double)d->n};
}
