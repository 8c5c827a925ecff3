/* The estimators over thousands of seeds: unbiased, with the variance that is derived here, and a test that has power.
 *
 * Clusters don't depend on coins, so for given keys everything random is which members the slots hold. Slot j of cluster a (n_a
 * members) holds each with probability 1 / n_a, slots are independent. With x_i = e^(<q, k_i>):
 *
 *   denominator  Z = sum_a n_a / t sum_j x        E Z = sum_i x_i        Var Z = sum_a n_a^2 / t Var_a(x)
 *                Var_a: the variance of x over the members of a.
 *   numerator    (ratio) the same with x_i v_ic for x_i.  (paper) N_c = sum_j mu / (s |v|^2) x v_c over s slots that hold i with
 *                probability |v_i|^2 / mu:  E N_c = sum_i x_i v_ic,  Var N_c = (sum_i mu / |v_i|^2 (x_i v_ic)^2 - (E N_c)^2) / s
 *   pairs        Z = sum_ij A_i B_j x_ij with A_i, B_j the weights that stream 1 gives to i, stream 2 to j: independent, so
 *                E Z = sum_ij x_ij. Given A, stream 2 sees h_j = sum_i A_i x_ij:  Var Z = Var_A(sum_j h_j) + E_A sum_b n_b^2 / t
 *                Var_b(h). With V1(y) = sum_a n_a^2 / t Var_a(y) for rows y_i of stream 1, V2 likewise:
 *                Var Z = V1(sum_j x_.j) + V2(sum_i x_i.) + sum_b n_b / t sum_(j in b) V1(x_.j - mean_(l in b) x_.l)
 *
 * A mean over N seeds is within 4 standard errors (its sample deviation over sqrt(N)) but once in 16,000. A sample variance has
 * standard error sqrt((m4 - m2^2) / N), m4 the fourth central moment: again 4 of them. Seeds are fixed, so nothing flickers. */
#include "tests/lib/cache/drive.h"
#include "tests/test.h"

#include "base/coins.h"
#include "cache/subgen/subgen_sketch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 48, D = 3, E = 2, N_GROUPS = 5, T = 3, S = 7, SEEDS = 3000 };
static const double DELTA = 3; /* groups are farther apart, their members nearer */

/* Streams whose rows i are in group i % N_GROUPS; in stream 2 too, so that shared coins would pick the same tokens. */
struct stream {
    float key[N][D], value[N][E];
};

static double normal(uint64_t seed, uint64_t i)
{
    return sqrt(-2 * log(1 - coin(seed, 80, i, 0))) * cos(2 * 3.14159265358979323846 * coin(seed, 80, i, 1));
}

static void make_stream(struct stream *s, uint64_t seed)
{
    for (size_t i = 0; i < N; i++) {
        for (size_t c = 0; c < D; c++)
            s->key[i][c] = (float)((c == 0 ? 5.0 * (double)(i % N_GROUPS) : 0) + 0.4 * normal(seed, i * D + c));
        for (size_t c = 0; c < E; c++)
            s->value[i][c] = (float)(1 + (double)(i % 3) + normal(seed + 1, i * E + c));
    }
}

static size_t group_size(size_t a)
{
    return (N - a - 1) / N_GROUPS + 1;
}

static const double query[D] = {0.2, -0.7, 0.9};

static double score(const float *key)
{
    double sum = 0;
    for (size_t c = 0; c < D; c++)
        sum += query[c] * key[c];
    return sum;
}

/* sum_a n_a^2 / t Var_a(y): the variance of a sum that slots estimate. */
static double variance_of_slots(const double *y, size_t t)
{
    double sum = 0;
    for (size_t a = 0; a < N_GROUPS; a++) {
        double n = (double)group_size(a), mean = 0, squares = 0;
        for (size_t i = a; i < N; i += N_GROUPS)
            mean += y[i] / n;
        for (size_t i = a; i < N; i += N_GROUPS)
            squares += (y[i] - mean) * (y[i] - mean);
        sum += n * n / (double)t * squares / n;
    }
    return sum;
}

/* ---- sums of a quantity over seeds */

struct moments {
    size_t n;
    double x[SEEDS];
};

static void add(struct moments *m, double x)
{
    m->x[m->n++] = x;
}

static double mean_power(const struct moments *m, double about, int power)
{
    double sum = 0;
    for (size_t i = 0; i < m->n; i++)
        sum += pow(m->x[i] - about, power);
    return sum / (double)m->n;
}

/* How many standard errors the mean is away from the truth. */
static double bias(const struct moments *m, double truth)
{
    double mean = mean_power(m, 0, 1);
    return fabs(mean - truth) / sqrt(mean_power(m, mean, 2) / (double)m->n);
}

static void check_moments(const struct moments *m, double truth, double variance, const char *what, int line)
{
    double mean = mean_power(m, 0, 1), m2 = mean_power(m, mean, 2), m4 = mean_power(m, mean, 4);
    double error = fabs(m2 - variance) / sqrt((m4 - m2 * m2) / (double)m->n);
    bool good = bias(m, truth) <= 4 && (variance < 0 || error <= 4);
    if (!good)
        printf("\n%s: mean %g of %g, %g standard errors; variance %g of %g, %g of them", what, mean, truth, bias(m, truth), m2,
               variance, error);
    CU_assertImplementation(good, (unsigned)line, what, __FILE__, "", CU_FALSE);
}
#define CHECK_MOMENTS(m, truth, variance) check_moments(m, truth, variance, #m, __LINE__)
static const double ANY = -1; /* variance: not looked at */

/* ---- sketches */

/* Asked for once: finding out costs more than an append where CPUID traps. */
static const struct kernels *kernels(void)
{
    static const struct kernels *best;
    if (!best)
        best = kernels_best();
    return best;
}

static struct sketch_plan plan_of(enum storage_id storage, bool paper, uint64_t seed)
{
    return (struct sketch_plan){.net = {.storage = &storage_table[storage], .d = D},
                                .value_storage = &storage_table[storage],
                                .seed = seed,
                                .e = E,
                                .n_samples = T,
                                .n_values = paper ? S : 0};
}

struct fixture {
    struct sketch_plan plan;
    struct sketch sketch;
    struct page_account account;
};

static void put(struct fixture *f, const float *key, const float *value, uint64_t token, double weight)
{
    const char *reason = "";
    CU_ASSERT_EQUAL_FATAL(sketch_reserve(&f->sketch, &f->account, 1), 0);
    sketch_append(&f->sketch, kernels(), key, value, token, weight);
    CU_ASSERT(sketch_check(&f->sketch, kernels(), &reason));
}

static void fill(struct fixture *f, const struct sketch_plan *plan, double delta, uint32_t lane, const struct stream *s)
{
    *f = (struct fixture){.plan = *plan};
    sketch_init(&f->sketch, &f->plan, delta, lane);
    for (size_t i = 0; i < N; i++)
        put(f, s->key[i], s->value[i], i, 1);
}

/* Rows that a sketch shows: keys, values, weights (not their logarithms). */
struct shown {
    size_t n;
    float key[4096][D], value[4096][E];
    double den[4096], num[4096];
};

static void show(const struct sketch *sketch, struct shown *out)
{
    struct segment seg[SKETCH_SEGMENTS];
    size_t n_seg = sketch_show(sketch, seg);
    out->n = 0;
    for (size_t g = 0; g < n_seg; g++)
        for (size_t r = seg[g].row; r < seg[g].row + seg[g].n; r++, out->n++) {
            kernels()->unpack_keys[seg[g].key_storage->id](seg[g].keys, r, 1, D, out->key[out->n]);
            out->den[out->n] = exp(seg[g].log_den[r]);
            out->num[out->n] = seg[g].values ? exp(seg[g].log_num[r]) : 0;
            if (seg[g].values)
                kernels()->unpack_values[seg[g].value_storage->id](seg[g].values, r, 1, E, out->value[out->n]);
            else
                memset(out->value[out->n], 0, sizeof out->value[0]);
        }
}

static void sums(const struct shown *rows, double *den, double num[E])
{
    *den = num[0] = num[1] = 0;
    for (size_t r = 0; r < rows->n; r++) {
        double x = exp(score(rows->key[r]));
        *den += rows->den[r] * x;
        for (size_t c = 0; c < E; c++)
            num[c] += rows->num[r] * x * rows->value[r][c];
    }
}

static void sums_of_pairs(const struct shown *a, const struct shown *b, double *den, double num[E])
{
    *den = num[0] = num[1] = 0;
    for (size_t i = 0; i < a->n; i++)
        for (size_t j = 0; j < b->n; j++) {
            double s = 0;
            for (size_t c = 0; c < D; c++)
                s += query[c] * a->key[i][c] * b->key[j][c] / 16;
            *den += a->den[i] * b->den[j] * exp(s);
            for (size_t c = 0; c < E; c++)
                num[c] += a->num[i] * b->num[j] * exp(s) * a->value[i][c] * b->value[j][c];
        }
}

static void as_shown(const struct stream *s, struct shown *out)
{
    out->n = N;
    for (size_t i = 0; i < N; i++) {
        memcpy(out->key[i], s->key[i], sizeof s->key[i]);
        memcpy(out->value[i], s->value[i], sizeof s->value[i]);
        out->den[i] = out->num[i] = 1;
    }
}

static struct moments den, num[E]; /* large */
static struct shown rows[2], all[2];

static void clear(void)
{
    den.n = num[0].n = num[1].n = 0;
}

/* ---- softmax */

static void softmax_sums_are_unbiased_with_the_derived_variance(void)
{
    struct stream s;
    make_stream(&s, 3);
    double x[N], truth = 0, numerator[E] = {0}, mu = 0, paper[E] = {0};
    for (size_t i = 0; i < N; i++) {
        double norm = 0;
        x[i] = exp(score(s.key[i]));
        truth += x[i];
        for (size_t c = 0; c < E; c++)
            norm += (double)s.value[i][c] * s.value[i][c];
        mu += norm;
        for (size_t c = 0; c < E; c++) {
            numerator[c] += x[i] * s.value[i][c];
            paper[c] += pow(x[i] * s.value[i][c], 2) / norm;
        }
    }
    for (int is_paper = 0; is_paper < 2; is_paper++) {
        clear();
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            struct fixture f;
            struct sketch_plan plan = plan_of(STORAGE_F32, is_paper, mix(seed));
            double z, v[E];
            fill(&f, &plan, DELTA, LANE_NORMALISER_1, &s);
            CU_ASSERT_EQUAL(f.sketch.net.n, N_GROUPS);
            show(&f.sketch, &rows[0]);
            sums(&rows[0], &z, v);
            add(&den, z);
            add(&num[0], v[0]);
            add(&num[1], v[1]);
            sketch_release(&f.sketch);
        }
        CHECK_MOMENTS(&den, truth, variance_of_slots(x, T));
        for (size_t c = 0; c < E; c++) {
            double y[N];
            for (size_t i = 0; i < N; i++)
                y[i] = x[i] * s.value[i][c];
            CHECK_MOMENTS(&num[c], numerator[c],
                          is_paper ? (mu * paper[c] - numerator[c] * numerator[c]) / S : variance_of_slots(y, T));
        }
    }
}

/* Rows that stand for w rows count for w of them: rows i of weight 1 + i % 4. */
static void weighted_rows_are_unbiased(void)
{
    struct stream s;
    make_stream(&s, 4);
    double truth = 0, numerator[E] = {0};
    for (size_t i = 0; i < N; i++)
        for (size_t w = 0; w < 1 + i % 4; w++) {
            truth += exp(score(s.key[i]));
            for (size_t c = 0; c < E; c++)
                numerator[c] += exp(score(s.key[i])) * s.value[i][c];
        }
    for (int is_paper = 0; is_paper < 2; is_paper++) {
        clear();
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            struct fixture f = {.plan = plan_of(STORAGE_F32, is_paper, mix(seed))};
            double z, v[E];
            sketch_init(&f.sketch, &f.plan, DELTA, LANE_NORMALISER_P);
            for (size_t i = 0; i < N; i++)
                put(&f, s.key[i], s.value[i], i, 1 + (double)(i % 4));
            show(&f.sketch, &rows[0]);
            sums(&rows[0], &z, v);
            add(&den, z);
            add(&num[0], v[0]);
            add(&num[1], v[1]);
            sketch_release(&f.sketch);
        }
        CHECK_MOMENTS(&den, truth, ANY);
        CHECK_MOMENTS(&num[0], numerator[0], ANY);
        CHECK_MOMENTS(&num[1], numerator[1], ANY);
    }
}

/* Merging, whether delta doubles or is found, and samples that come and go with the room: still every member with the same
 * probability. Without structure in the keys, so that regroupings are many. */
static void regrouping_and_refilling_keep_the_sums_unbiased(void)
{
    static const struct {
        double delta; /* 0: automatic */
        size_t most, n_samples;
        bool refills;
    } cases[] = {{0.05, 6, 3, false}, {0, 6, 3, false}, {0.05, 10, 2, true}, {0, 10, 2, true}, {0, 3, 1, true}};
    struct stream s;
    make_stream(&s, 5);
    double truth = 0;
    for (size_t i = 0; i < N; i++) {
        s.key[i][0] = (float)normal(77, i);
        truth += exp(score(s.key[i]));
    }
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        size_t merged = 0, grew = 0;
        clear();
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            struct fixture f;
            struct sketch_plan plan = plan_of(STORAGE_F32, false, mix(seed));
            double z, v[E];
            plan.net.most = cases[k].most;
            plan.net.automatic = cases[k].delta == 0;
            plan.n_samples = (uint32_t)cases[k].n_samples;
            plan.refills = cases[k].refills;
            fill(&f, &plan, cases[k].delta, LANE_NORMALISER_1, &s);
            CU_ASSERT(f.sketch.net.n <= cases[k].most);
            merged += f.sketch.net.n_merged;
            grew += f.sketch.t > cases[k].n_samples;
            show(&f.sketch, &rows[0]);
            sums(&rows[0], &z, v);
            add(&den, z);
            sketch_release(&f.sketch);
        }
        CU_ASSERT(merged > 3 * SEEDS);
        CU_ASSERT(!cases[k].refills || grew > 0);
        CHECK_MOMENTS(&den, truth, ANY);
    }
}

/* ---- pairs */

static void run_pairs(const struct stream s[2], uint32_t lane2, bool paper)
{
    clear();
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct fixture f[2];
        struct sketch_plan plan = plan_of(STORAGE_F32, paper, mix(seed));
        double z, v[E];
        fill(&f[0], &plan, DELTA, LANE_NORMALISER_1, &s[0]);
        fill(&f[1], &plan, DELTA, lane2, &s[1]);
        for (size_t i = 0; i < 2; i++) {
            show(&f[i].sketch, &rows[i]);
            sketch_release(&f[i].sketch);
        }
        sums_of_pairs(&rows[0], &rows[1], &z, v);
        add(&den, z);
        add(&num[0], v[0]);
        add(&num[1], v[1]);
    }
}

static double variance_of_pairs(const struct stream s[2])
{
    static double x[N][N], centred[N][N]; /* by row of stream 2, then of stream 1 */
    double over1[N] = {0}, over2[N] = {0}, sum = 0;
    for (size_t j = 0; j < N; j++)
        for (size_t i = 0; i < N; i++) {
            double score = 0;
            for (size_t c = 0; c < D; c++)
                score += query[c] * s[0].key[i][c] * s[1].key[j][c] / 16;
            x[j][i] = exp(score);
            over1[j] += x[j][i];
            over2[i] += x[j][i];
        }
    for (size_t j = 0; j < N; j++) {
        double n = (double)group_size(j % N_GROUPS);
        for (size_t i = 0; i < N; i++) {
            double mean = 0;
            for (size_t l = j % N_GROUPS; l < N; l += N_GROUPS)
                mean += x[l][i] / n;
            centred[j][i] = x[j][i] - mean;
        }
        sum += n / T * variance_of_slots(centred[j], T);
    }
    return sum + variance_of_slots(over2, T) + variance_of_slots(over1, T);
}

static void pairs_with_independent_coins_are_unbiased_with_the_derived_variance(void)
{
    struct stream s[2];
    double truth, numerator[E];
    make_stream(&s[0], 6);
    make_stream(&s[1], 7);
    as_shown(&s[0], &all[0]);
    as_shown(&s[1], &all[1]);
    sums_of_pairs(&all[0], &all[1], &truth, numerator);
    for (int paper = 0; paper < 2; paper++) {
        run_pairs(s, LANE_NORMALISER_2, paper);
        CHECK_MOMENTS(&den, truth, variance_of_pairs(s));
        CHECK_MOMENTS(&num[0], numerator[0], ANY);
        CHECK_MOMENTS(&num[1], numerator[1], ANY);
    }
}

/* With the same coins on both streams the slots of both hold the same tokens: pairs (i, i) come up too often. Keys and values of
 * stream 2 are those of stream 1 here, so such pairs are unlike others, and the test above must see it. */
static void shared_coins_are_caught_as_biased(void)
{
    struct stream s[2];
    double truth, numerator[E];
    make_stream(&s[0], 8);
    s[1] = s[0];
    as_shown(&s[0], &all[0]);
    as_shown(&s[1], &all[1]);
    sums_of_pairs(&all[0], &all[1], &truth, numerator);
    run_pairs(s, LANE_NORMALISER_2, false);
    CHECK_MOMENTS(&num[0], numerator[0], ANY);
    CHECK_MOMENTS(&num[1], numerator[1], ANY);
    run_pairs(s, LANE_NORMALISER_1, false);
    CU_ASSERT(bias(&num[0], numerator[0]) > 4 && bias(&num[1], numerator[1]) > 4); /* 6.1 and 7.5 */
}

/* ---- the policies themselves */

/* Sums over everything that a softmax view shows, with weights of 1 where a segment has none. */
static void view_sums(struct cache *cache, double *z, double v[E])
{
    struct view view[2];
    struct shown *out = &rows[0];
    cache->ops->view(cache, cache->n_tokens - 1, NULL, view);
    out->n = 0;
    for (size_t g = 0; g < view[0].n_seg; g++) {
        const struct segment *seg = &view[0].seg[g];
        for (size_t r = seg->row; r < seg->row + seg->n; r++, out->n++) {
            kernels()->unpack_keys[seg->key_storage->id](seg->keys, r, 1, D, out->key[out->n]);
            out->den[out->n] = seg->log_den ? exp(seg->log_den[r]) : 1;
            out->num[out->n] = seg->values ? seg->log_num ? exp(seg->log_num[r]) : 1 : 0;
            memset(out->value[out->n], 0, sizeof out->value[0]);
            if (seg->values)
                kernels()->unpack_values[seg->value_storage->id](seg->values, r, 1, E, out->value[out->n]);
        }
    }
    sums(out, z, v);
}

static void run_policy(const struct tokens *tokens, const char *choice, uint64_t seeds)
{
    struct drive drive;
    clear();
    if (!drive_open(&drive, tokens, choice, kernels(), 0))
        return;
    for (uint64_t seed = 0; seed < seeds; seed++) {
        double z, v[E];
        drive_close(&drive);
        drive.dims.seed = mix(seed);
        CU_ASSERT_EQUAL_FATAL(drive.policy.ops->create(&drive.cache, &drive.dims, &drive.policy, kernels()), 0);
        drive_run(&drive, 0, tokens->n, 1, NULL);
        view_sums(drive.cache, &z, v);
        add(&den, z);
        add(&num[0], v[0]);
        add(&num[1], v[1]);
    }
    drive_close(&drive);
}

static void exact_rows_and_samples_together_are_unbiased(void)
{
    static const char *const choices[] = {
        "subgen,delta=3,sink_tokens=2,recent_tokens=6",
        "subgen,delta=3,sink_tokens=2,recent_tokens=6,estimator=paper,value_samples=9",
        "subgen,max_clusters=5,samples=2,sink_tokens=3,recent_tokens=0",
        "subgen,budget_bytes=2048,samples=1",
        "subgen,budget_bytes=3072,samples=2,estimator=paper",
    };
    struct stream s;
    make_stream(&s, 9);
    struct tokens tokens = {ATTENTION_SOFTMAX, N, 1, D, E, 1, NULL, {s.key[0]}, {s.value[0]}};
    double truth, numerator[E];
    as_shown(&s, &all[0]);
    sums(&all[0], &truth, numerator);
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        run_policy(&tokens, choices[i], 1500);
        CHECK_MOMENTS(&den, truth, ANY);
        CHECK_MOMENTS(&num[0], numerator[0], ANY);
        CHECK_MOMENTS(&num[1], numerator[1], ANY);
    }
}

/* Products from history, and from samples of factors: the second samples twice. */
static void sums_over_products_are_unbiased(void)
{
    static const char *const choices[] = {
        "subgen2,history=true,delta=9,samples=2,sink_tokens=2",
        "subgen2,delta=9,factor_delta=3,samples=2,sink_tokens=0,estimator=paper,value_samples=9",
        "subgen2,delta=9,factor_delta=3,samples=2",
        "subgen2,max_clusters=6,samples=1",
    };
    enum { N_FEW = 14 };
    struct stream s[2];
    make_stream(&s[0], 10);
    make_stream(&s[1], 11);
    for (size_t i = 0; i < N; i++)
        for (size_t c = 0; c < D; c++)
            s[1].key[i][c] /= 5;
    struct tokens tokens = {
        ATTENTION_TENSOR, N_FEW, 1, D, E, 1, NULL, {s[0].key[0], s[1].key[0]}, {s[0].value[0], s[1].value[0]}};
    double truth = 0, numerator[E] = {0};
    for (size_t i = 0; i < N_FEW; i++)
        for (size_t j = 0; j < N_FEW; j++) {
            float key[D];
            for (size_t c = 0; c < D; c++)
                key[c] = s[0].key[i][c] * s[1].key[j][c];
            truth += exp(score(key));
            for (size_t c = 0; c < E; c++)
                numerator[c] += exp(score(key)) * s[0].value[i][c] * s[1].value[j][c];
        }
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        run_policy(&tokens, choices[i], 1500);
        CHECK_MOMENTS(&den, truth, ANY);
        CHECK_MOMENTS(&num[0], numerator[0], ANY);
        CHECK_MOMENTS(&num[1], numerator[1], ANY);
    }
}

TEST_SUITE("lib/cache/subgen/subgen_estimates", TEST(softmax_sums_are_unbiased_with_the_derived_variance),
           TEST(weighted_rows_are_unbiased), TEST(regrouping_and_refilling_keep_the_sums_unbiased),
           TEST(pairs_with_independent_coins_are_unbiased_with_the_derived_variance), TEST(shared_coins_are_caught_as_biased),
           TEST(exact_rows_and_samples_together_are_unbiased), TEST(sums_over_products_are_unbiased))
