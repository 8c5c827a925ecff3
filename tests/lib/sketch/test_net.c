/* The net against a plain one in float64, and what automatic delta does. */
#include "base/coins.h"
#include "sketch/net.h"
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { D_MAX = 32, N_MAX = 4096 };

static double uniform(uint64_t seed, uint64_t i, uint64_t c)
{
    return coin(seed, 70, i, c);
}

static double normal(uint64_t seed, uint64_t i, uint64_t c)
{
    return sqrt(-2 * log(1 - coin(seed, 71, i, c))) * cos(2 * 3.14159265358979323846 * coin(seed, 72, i, c));
}

/* m groups of standard normal centres, normal members of this deviation about them; m 0: about 0. */
static void grouped(float *key, size_t d, uint64_t seed, uint64_t i, size_t m, double deviation)
{
    uint64_t group = m ? (uint64_t)(uniform(seed, i, 0) * (double)m) : 0;
    for (size_t c = 0; c < d; c++)
        key[c] = (float)((m ? normal(seed + 1, group, c) : 0) + deviation * normal(seed + 2, i, c));
}

/* ---- one net in a page */

struct fixture {
    struct net_plan plan;
    struct net net;
    struct page_account account;
    const struct kernels *kernels;
    size_t regroupings;
};

static void open_net(struct fixture *f, enum storage_id storage, size_t d, size_t most, double delta,
                     const struct kernels *kernels)
{
    *f = (struct fixture){.plan = {.storage = &storage_table[storage], .d = d, .most = most, .automatic = delta == 0},
                          .kernels = kernels};
    net_init(&f->net, &f->plan, delta);
}

static void put(struct fixture *f, const float *key, double weight)
{
    float rounded[D_MAX], distance;
    size_t capacity = (f->net.n + 1 + PANEL - 1) / PANEL * PANEL;
    CU_ASSERT_EQUAL_FATAL(net_reserve(&f->net, &f->account, capacity), 0);
    net_round(&f->plan, f->kernels, key, rounded);
    size_t a = net_nearest(&f->net, f->kernels, rounded, 0, &distance);
    if (net_joins(&f->net, distance))
        net_join(&f->net, a, distance, rounded, weight);
    else
        net_found(&f->net, f->kernels, rounded, weight);
    for (unsigned round = 0; net_is_due(&f->net, round); round++) {
        double delta = f->net.delta;
        size_t before = net_regroup(&f->net, f->kernels, round);
        CU_ASSERT(f->plan.early || (f->net.delta > delta && f->net.n < before));
        for (size_t b = 0; b < before; b++)
            CU_ASSERT(net_move(&f->net, b).to <= b);
        f->regroupings++;
    }
}

static void close_net(struct fixture *f)
{
    const char *reason = "";
    CU_ASSERT(net_check(&f->net, f->kernels, &reason));
    CU_ASSERT_EQUAL(f->account.allocated, net_bytes(&f->plan, f->net.capacity));
    net_release(&f->net);
    CU_ASSERT_EQUAL(f->account.allocated, 0);
}

/* ---- given delta */

/* The definition in its plainest form. */
struct plain {
    size_t n, d, most;
    double delta, centre[64][D_MAX], count[64];
};

static double squared(const double *a, const double *b, size_t d)
{
    double sum = 0;
    for (size_t c = 0; c < d; c++)
        sum += (a[c] - b[c]) * (a[c] - b[c]);
    return sum;
}

static size_t plain_nearest(const struct plain *p, const double *key, size_t n, double *distance)
{
    size_t a = 0;
    *distance = INFINITY;
    for (size_t i = 0; i < n; i++)
        if (squared(p->centre[i], key, p->d) < *distance) {
            *distance = squared(p->centre[i], key, p->d);
            a = i;
        }
    return a;
}

static void plain_put(struct plain *p, const float *key32, double weight)
{
    double key[D_MAX], distance;
    for (size_t c = 0; c < p->d; c++)
        key[c] = key32[c];
    size_t a = plain_nearest(p, key, p->n, &distance);
    if (p->n > 0 && distance <= p->delta * p->delta) {
        p->count[a] += weight;
    } else {
        memcpy(p->centre[p->n], key, sizeof key);
        p->count[p->n++] = weight;
    }
    while (p->most && p->n > p->most) {
        size_t kept = 0, before = p->n;
        p->delta *= 2;
        for (size_t b = 0; b < before; b++) {
            a = plain_nearest(p, p->centre[b], kept, &distance);
            if (kept > 0 && distance <= p->delta * p->delta) {
                p->count[a] += p->count[b];
            } else {
                memmove(p->centre[kept], p->centre[b], sizeof p->centre[b]);
                p->count[kept++] = p->count[b];
            }
        }
        p->n = kept;
    }
}

static void given_delta_clusters_and_doubles_as_the_definition_says(void)
{
    static const struct {
        size_t d, most, groups;
        double delta, deviation;
    } cases[] = {{2, 8, 0, 1e-3, 1}, {5, 12, 7, 1e-9, 0.2}, {32, 20, 9, 0.5, 0.1}, {1, 5, 0, 1e-4, 1}, {8, 0, 6, 1.2, 0.05}};
    const struct kernels *kernels[KERNELS_MAX];
    size_t n_kernels = kernels_runnable(kernels);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t k = 0; k < n_kernels; k++) {
            struct fixture f;
            struct plain p = {.d = cases[i].d, .most = cases[i].most, .delta = cases[i].delta};
            open_net(&f, STORAGE_F32, p.d, p.most, p.delta, kernels[k]);
            for (uint64_t x = 0; x < 500; x++) {
                float key[D_MAX];
                double weight = 1 + (double)(x % 3);
                grouped(key, p.d, 40 + i, x, cases[i].groups, cases[i].deviation);
                put(&f, key, weight);
                plain_put(&p, key, weight);
                CU_ASSERT_EQUAL_FATAL(f.net.n, p.n);
                CU_ASSERT_EQUAL(f.net.delta, p.delta);
                for (size_t a = 0; a < p.n; a++)
                    CU_ASSERT_EQUAL(net_count(&f.net, a), p.count[a]);
            }
            CU_ASSERT(p.most == 0 || f.regroupings > 0);
            close_net(&f);
        }
}

/* Distances that a float doesn't hold are infinite, and so becomes delta. */
static void keys_that_no_distance_holds_still_merge(void)
{
    struct fixture f;
    open_net(&f, STORAGE_F32, 2, 3, 1, kernels_best());
    for (uint64_t x = 0; x < 20; x++) {
        float key[2] = {(float)x * 1e30f, -(float)x * 1e30f};
        put(&f, key, 1);
        CU_ASSERT(f.net.n <= 3);
    }
    close_net(&f);
}

/* ---- automatic delta */

static void equal_keys_share_a_cluster_in_every_storage(void)
{
    for (enum storage_id id = 0; id < N_ROW_STORAGE; id++) {
        struct fixture f;
        open_net(&f, id, 7, 100, 0, kernels_best());
        for (uint64_t x = 0; x < 200; x++) {
            float key[D_MAX];
            grouped(key, 7, 5, x % 40, 0, 1);
            put(&f, key, 1);
        }
        CU_ASSERT_EQUAL(f.net.n, 40);
        CU_ASSERT_EQUAL(f.net.delta, 0);
        for (size_t a = 0; a < 40; a++)
            CU_ASSERT_EQUAL(net_count(&f.net, a), 5);
        close_net(&f);
    }
}

/* Groups of deviation 0.01 in 8 dimensions: two members are about 0.04 apart, centres about 4. */
static void automatic_delta_settles_between_the_width_and_the_distance_of_groups(void)
{
    static const size_t mosts[] = {30, 60, 200};
    for (size_t i = 0; i < 3; i++) {
        struct fixture f;
        open_net(&f, STORAGE_F32, 8, mosts[i], 0, kernels_best());
        for (uint64_t x = 0; x < N_MAX; x++) {
            float key[D_MAX];
            grouped(key, 8, 6, x, 20, 0.01);
            put(&f, key, 1);
            CU_ASSERT(f.net.n <= mosts[i]);
        }
        CU_ASSERT(f.net.n >= 20 && f.net.delta > 0.01 && f.net.delta < 0.3);
        CU_ASSERT(f.net.spread < 1e-3 * f.net.squares);
        close_net(&f);
    }
}

/* One cluster for each group, though some keys are farther from their centre than what had to merge. Two members are 0.06 apart, give
 * or take a fifth, centres 5.6. */
static void delta_goes_into_the_gap_between_groups(void)
{
    struct fixture f;
    open_net(&f, STORAGE_F32, 16, 40, 0, kernels_best());
    for (uint64_t x = 0; x < N_MAX; x++) {
        float key[D_MAX];
        grouped(key, 16, 11, x, 24, 0.01);
        put(&f, key, 1);
    }
    CU_ASSERT_EQUAL(f.net.n, 24);
    CU_ASSERT(f.net.delta > 0.06 && f.net.delta < 0.25);
    CU_ASSERT(f.regroupings <= 3);
    close_net(&f);
}

/* Few regroupings, since each frees a quarter of the bound and delta only grows: covering numbers in the plane go with its
 * square, so a quarter fewer clusters take 1.15 times delta, from the closest two of the first ones (about 1 / most) to what
 * covers the square (1 / sqrt(most)): log(sqrt(most)) / log(1.15) regroupings, 17 for 128. */
static void regrouping_is_rare(void)
{
    struct fixture f;
    open_net(&f, STORAGE_F32, 2, 128, 0, kernels_best());
    for (uint64_t x = 0; x < 20000; x++) {
        float key[2] = {(float)uniform(8, x, 0), (float)uniform(8, x, 1)};
        put(&f, key, 1);
    }
    CU_ASSERT(f.regroupings >= 3 && f.regroupings <= 40);
    CU_ASSERT(f.net.n > 40); /* not thrown together */
    close_net(&f);
}

/* Normal keys in 32 dimensions: two are 8 apart, give or take an eighth. 64 clusters can tell none of them from another. */
static void keys_that_do_not_cluster_end_in_one_cluster_and_say_so(void)
{
    struct fixture f;
    open_net(&f, STORAGE_F32, 32, 64, 0, kernels_best());
    for (uint64_t x = 0; x < N_MAX; x++) {
        float key[D_MAX];
        grouped(key, 32, 9, x, 0, 1);
        put(&f, key, 1);
    }
    CU_ASSERT(f.net.n <= 8);
    CU_ASSERT(f.net.spread > f.net.squares);
    close_net(&f);
}

/* Tight groups: two members are 0.06 apart, centres 5.6. Where there are none, two keys are 5.6 apart and their deviation is 4, so
 * delta waits for the bound. */
static void early_delta_is_set_by_the_first_keys_where_they_cluster(void)
{
    struct fixture tight, wide;
    open_net(&tight, STORAGE_F32, 16, 600, 0, kernels_best());
    open_net(&wide, STORAGE_F32, 16, 600, 0, kernels_best());
    tight.plan.early = wide.plan.early = true;
    for (uint64_t x = 0; x < 600; x++) {
        float key[D_MAX];
        grouped(key, 16, 10, x, 10, 0.01);
        put(&tight, key, 1);
        grouped(key, 16, 11, x, 0, 1);
        put(&wide, key, 1);
        CU_ASSERT((tight.net.delta > 0) == (x >= 255));
    }
    CU_ASSERT(tight.net.n >= 10 && tight.net.n <= 15);
    CU_ASSERT(wide.net.n == 600 && wide.net.delta == 0);
    close_net(&tight);
    close_net(&wide);
}

/* Welford's sums against the definition. */
static void the_spread_of_all_keys_is_their_weighted_variance(void)
{
    enum { N = 300, D = 6 };
    struct fixture f;
    double mean[D] = {0}, total = 0, squares = 0;
    open_net(&f, STORAGE_F32, D, 0, 100, kernels_best());
    for (uint64_t x = 0; x < N; x++) {
        float key[D_MAX];
        grouped(key, D, 12, x, 3, 0.5);
        put(&f, key, 1 + (double)(x % 5));
        total += 1 + (double)(x % 5);
        for (size_t c = 0; c < D; c++)
            mean[c] += (1 + (double)(x % 5)) * key[c];
    }
    for (uint64_t x = 0; x < N; x++) {
        float key[D_MAX];
        grouped(key, D, 12, x, 3, 0.5);
        for (size_t c = 0; c < D; c++)
            squares += (1 + (double)(x % 5)) * (key[c] - mean[c] / total) * (key[c] - mean[c] / total);
    }
    ASSERT_NEAR(f.net.squares / squares, 1, 1e-12);
    ASSERT_NEAR(f.net.weight, total, 0);
    close_net(&f);
}

TEST_SUITE("lib/sketch/net", TEST(given_delta_clusters_and_doubles_as_the_definition_says),
           TEST(keys_that_no_distance_holds_still_merge), TEST(equal_keys_share_a_cluster_in_every_storage),
           TEST(automatic_delta_settles_between_the_width_and_the_distance_of_groups),
           TEST(delta_goes_into_the_gap_between_groups), TEST(regrouping_is_rare),
           TEST(keys_that_do_not_cluster_end_in_one_cluster_and_say_so),
           TEST(early_delta_is_set_by_the_first_keys_where_they_cluster),
           TEST(the_spread_of_all_keys_is_their_weighted_variance))
