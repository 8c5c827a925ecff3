/* The batch once more in float64 and in the plainest way, beside the batch itself. */
#include "base/coins.h"
#include "cache/merge/merge_batch.h"
#include "cache/merge/neighbours.h"
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { D = 6, E = 3, N_MAX = 200, POOL_SHARE = 2, ODDS_STEPS = 8 };

struct plain_row {
    double key[D], value[E], log_weight, mass;
    size_t near[NEIGHBOURS_MAX], n_near;
    double worth, cost;
    bool pooled, gone;
};

struct plain {
    size_t n, sinks, end, interval;
    double diagonal[D], within, distinctness, mean[D], spread;
    struct plain_row row[N_MAX];
};

static double key_square(const struct plain *p, size_t i, size_t j)
{
    double sum = 0;
    for (size_t c = 0; c < D; c++)
        sum += p->diagonal[c] * pow(p->row[i].key[c] - p->row[j].key[c], 2);
    return sum;
}

static double value_square(const struct plain *p, size_t i, size_t j)
{
    double sum = 0;
    for (size_t c = 0; c < E; c++)
        sum += pow(p->row[i].value[c] - p->row[j].value[c], 2);
    return sum;
}

static double norm(const double *x)
{
    double sum = 0;
    for (size_t c = 0; c < D; c++)
        sum += x[c] * x[c];
    return sqrt(sum);
}

static double worth(const struct plain *p, size_t i)
{
    double likeness = 0;
    for (size_t c = 0; c < D; c++)
        likeness += p->row[i].key[c] * p->mean[c] / norm(p->row[i].key);
    return (p->row[i].mass + 1e-6) * exp(-p->distinctness * likeness);
}

/* The pool's mean |v - v'|^2 over all pairs, a row with itself too. */
static double spread(const struct plain *p)
{
    double sum = 0, n = 0;
    for (size_t i = 0; i < p->n; i++)
        for (size_t j = 0; p->row[i].pooled && j < p->n; j++)
            if (p->row[j].pooled) {
                sum += value_square(p, i, j);
                n++;
            }
    return sum / n;
}

static void find_near(struct plain *p, size_t i)
{
    struct plain_row *row = &p->row[i];
    row->n_near = 0;
    for (size_t j = p->sinks; j < p->end; j++) {
        size_t at = row->n_near;
        if (j == i)
            continue;
        for (; at > 0 && key_square(p, i, row->near[at - 1]) > key_square(p, i, j); at--)
            if (at < NEIGHBOURS_MAX)
                row->near[at] = row->near[at - 1];
        if (at < NEIGHBOURS_MAX) {
            row->near[at] = j;
            row->n_near += row->n_near < NEIGHBOURS_MAX;
        }
    }
}

static void price(struct plain *p, size_t i)
{
    struct plain_row *row = &p->row[i];
    while (row->n_near > 0 && p->row[row->near[0]].gone) {
        row->n_near--;
        memmove(row->near, row->near + 1, row->n_near * sizeof *row->near);
    }
    row->cost = row->worth = worth(p, i);
    if (row->n_near == 0)
        return;
    size_t j = row->near[0];
    double x = key_square(p, i, j) * (1 + value_square(p, i, j) / p->spread) / 2, other = worth(p, j);
    row->cost = 1 / (1 / row->worth + 1 / other) * x / (4 * p->within * p->within + x); /* ties, to the bit */
}

static void merge(struct plain *p, size_t i, size_t j)
{
    struct plain_row *a = &p->row[i], *b = &p->row[j];
    double own = a->log_weight - b->log_weight, off = 2 * sqrt(key_square(p, i, j));
    double odds = fmin(fmax(log(a->worth / worth(p, j)), own - off), own + off);
    odds = floor(ODDS_STEPS * odds + 0.5) / ODDS_STEPS;
    double share = 1 / (1 + exp(-odds));
    for (size_t c = 0; c < D; c++)
        b->key[c] = share * a->key[c] + (1 - share) * b->key[c];
    for (size_t c = 0; c < E; c++)
        b->value[c] = share * a->value[c] + (1 - share) * b->value[c];
    b->log_weight = share * (a->log_weight - log(share)) + (1 - share) * (b->log_weight - log(1 - share));
    b->mass += a->mass;
}

static size_t lowest(const struct plain *p, bool of_cost)
{
    size_t best = SIZE_MAX;
    for (size_t i = p->sinks; i < p->end; i++) {
        const struct plain_row *row = &p->row[i], *least = best == SIZE_MAX ? NULL : &p->row[best];
        if (row->gone || row->pooled != of_cost)
            continue;
        if (!least || (of_cost ? row->cost < least->cost : row->worth < least->worth))
            best = i;
    }
    return best;
}

static size_t plain_run(struct plain *p)
{
    size_t n_merged = 0, pool = POOL_SHARE * p->interval < p->end - p->sinks ? POOL_SHARE * p->interval : p->end - p->sinks;
    for (size_t i = 0; i < p->n; i++)
        for (size_t c = 0; c < D; c++)
            p->mean[c] += p->row[i].key[c] / norm(p->row[i].key) / (double)p->n;
    for (size_t i = 0; i < p->n; i++)
        p->row[i].worth = worth(p, i);
    for (size_t x = 0; x < pool; x++)
        p->row[lowest(p, false)].pooled = true;
    p->spread = spread(p);
    for (size_t i = 0; i < p->n; i++)
        if (p->row[i].pooled) {
            find_near(p, i);
            price(p, i);
        }
    for (size_t n_gone = 0; n_gone < p->interval;) {
        size_t i = lowest(p, true);
        struct plain_row *row = &p->row[i];
        if (row->n_near > 0 && p->row[row->near[0]].gone) {
            price(p, i);
            continue;
        }
        row->gone = true;
        n_gone++;
        if (row->n_near == 0 || sqrt(key_square(p, i, row->near[0])) > p->within)
            continue;
        merge(p, i, row->near[0]);
        n_merged++;
        if (p->row[row->near[0]].pooled)
            price(p, row->near[0]);
    }
    return n_merged;
}

/* ---- the two beside each other */

struct pair {
    struct plain plain;
    struct held_plan plan;
    struct held held;
    struct page_account account;
    float diagonal[D];
    const struct kernels *kernels;
};

static void pair_fill(struct pair *p, uint64_t seed)
{
    const struct storage *f32 = &storage_table[STORAGE_F32];
    size_t n = p->plain.n;
    p->plan = (struct held_plan){.format = {f32, f32, D, E, ROWS_WEIGHTED, sizeof(float)},
                                 .limit = n,
                                 .capacity = (n + PANEL - 1) / PANEL * PANEL,
                                 .sinks = p->plain.sinks,
                                 .recent = n - p->plain.end,
                                 .interval = p->plain.interval};
    CU_ASSERT_EQUAL_FATAL(held_reserve(&p->held, &p->plan, &p->account, n), 0);
    for (size_t c = 0; c < D; c++)
        p->plain.diagonal[c] = p->diagonal[c] = (float)(2 * coin(seed, 0, c, 0));
    for (size_t i = 0; i < n; i++) {
        float key[D], value[E], mass = (float)coin(seed, 1, i, 0), log_weight = (float)(2 * coin(seed, 1, i, 1));
        for (size_t c = 0; c < D; c++)
            p->plain.row[i].key[c] = key[c] = (float)(3 * coin(seed, 2, i, c) - 1);
        for (size_t c = 0; c < E; c++)
            p->plain.row[i].value[c] = value[c] = (float)(2 * coin(seed, 3, i, c) - 1);
        held_append(&p->held, &p->plan, p->kernels, 1, key, value);
        rows_weigh(&p->held.rows, &p->plan.format, i, log_weight, log_weight);
        *(float *)rows_side(&p->held.rows, &p->plan.format, i) = mass;
        p->plain.row[i].log_weight = log_weight;
        p->plain.row[i].mass = mass;
    }
}

static void check_rows(struct pair *p)
{
    for (size_t i = 0; i < p->plain.n; i++) {
        const struct plain_row *row = &p->plain.row[i];
        float key[D], value[E];
        if (row->gone)
            continue;
        rows_read_keys(&p->held.rows, &p->plan.format, p->kernels, i, 1, key);
        rows_read_values(&p->held.rows, &p->plan.format, p->kernels, i, 1, value);
        for (size_t c = 0; c < D; c++)
            ASSERT_NEAR(key[c], row->key[c], 1e-5);
        for (size_t c = 0; c < E; c++)
            ASSERT_NEAR(value[c], row->value[c], 1e-5);
        ASSERT_NEAR(rows_log_den(&p->held.rows, &p->plan.format)[i], row->log_weight, 1e-5);
        ASSERT_NEAR(*(const float *)rows_side_const(&p->held.rows, &p->plan.format, i), row->mass, 1e-5);
    }
}

static size_t check_pair(const struct plain *shape, const struct kernels *kernels, uint64_t seed)
{
    struct pair *p = calloc(1, sizeof *p);
    uint32_t gone[HELD_INTERVAL_MAX];
    size_t n_wrong = 0;
    p->plain = *shape;
    p->kernels = kernels;
    pair_fill(p, seed);
    struct merge_batch batch = {.held = &p->held,
                                .plan = &p->plan,
                                .metric = {kernels, D, NULL, p->diagonal},
                                .within = (float)p->plain.within,
                                .distinctness = (float)p->plain.distinctness};
    size_t n_merged = merge_batch_run(&batch, gone);
    CU_ASSERT_EQUAL(n_merged, plain_run(&p->plain));
    for (size_t i = 0, g = 0; i < p->plain.n; i++) {
        bool goes = g < p->plain.interval && gone[g] == i;
        g += goes;
        n_wrong += goes != p->plain.row[i].gone;
    }
    CU_ASSERT_EQUAL(n_wrong, 0);
    check_rows(p);
    held_release(&p->held);
    free(p);
    return n_merged;
}

static void a_batch_does_what_float64_does(void)
{
    static const struct plain shapes[] = {
        {.n = 60, .sinks = 4, .end = 50, .interval = 4, .within = 1, .distinctness = 2},
        {.n = 200, .sinks = 0, .end = 180, .interval = 32, .within = 1.2, .distinctness = 0},
        {.n = 90, .sinks = 10, .end = 30, .interval = 15, .within = 100, .distinctness = 8},
        {.n = 40, .sinks = 1, .end = 20, .interval = 18, .within = 1.1, .distinctness = 1},
        {.n = 20, .sinks = 3, .end = 5, .interval = 1, .within = 100, .distinctness = 1},
    };
    const struct kernels *kernels[KERNELS_MAX];
    size_t n_kernels = kernels_runnable(kernels);
    for (size_t k = 0; k < n_kernels; k++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            size_t n_merged = 0;
            for (uint64_t seed = 0; seed < 10; seed++)
                n_merged += check_pair(&shapes[i], kernels[k], seed);
            CU_ASSERT(n_merged > 0);
        }
}

TEST_SUITE("lib/cache/merge/merge_batch", TEST(a_batch_does_what_float64_does))
