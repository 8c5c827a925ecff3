/* SubGen's sketch of one stream of rows: a net of clusters with samples, and a reservoir of values (arXiv 2402.06082).
 *
 *     samples   t rows of each cluster, each drawn uniformly from its n_a members: log weight log(n_a / t)
 *     values    s rows, each drawn from all with probability w |v|^2 / mu, mu = sum w |v|^2: log weight log(mu / (s |v|^2))
 *
 *     paper     samples (keys alone) make the denominator, values the numerator; both unbiased, independent of each other
 *     ratio     samples (with their values) make both, so that the output lies in the hull of the values; there are no values
 *
 * A row may stand for w rows (weight w). Coins: of samples on the sketch's lane, of values on the next, of clusters that merge
 * on LANE_MERGE + the sketch's lane, slot b t + j for sample j of the younger cluster, which has number b. A token that regroups
 * in several rounds (automatic delta) has fresh coins in each, slot + round 2^32: the same ones would tie one merge to the next.
 *
 * Room: clusters and samples grow by doubling to what the plan allows. Under a budget in bytes, and with an automatic delta
 * (refills), rows must not lie idle when regrouping leaves few clusters: t grows to what there is room for, and shrinks by
 * eighths, never below n_samples, while new clusters come. A slot that is added starts as a copy of another, so it too is a
 * uniform sample; and clusters merge with the larger t, so that what was sampled in many small ones is not thrown away.
 *
 * Layout: samples of cluster a are rows [a t, (a + 1) t) of their block; values fill theirs from the first row that has one.
 * Threads: whoever holds the head's turn. Failing: sketch_reserve only, with nothing changed but room. */
#ifndef ATTND_CACHE_SUBGEN_SKETCH_H
#define ATTND_CACHE_SUBGEN_SKETCH_H

#include "cache/rows.h"
#include "sketch/net.h"

struct sketch_plan {
    struct net_plan net; /* storage: of keys */
    const struct storage *value_storage;
    uint64_t seed;
    uint32_t e;
    uint32_t n_samples; /* t at least, 1.. */
    uint32_t n_values;  /* s; ratio: 0 */
    bool refills;
};

static inline bool sketch_is_paper(const struct sketch_plan *plan)
{
    return plan->n_values > 0;
}

/* What a sketch counts once n_rows have come, at most. */
size_t sketch_bytes(const struct sketch_plan *plan, uint64_t n_rows);

/* The largest net.most with which a sketch never counts more than `bytes`; 0: there is none. */
size_t sketch_fitting(const struct sketch_plan *plan, size_t bytes);

/* The format of values, for those who share bytes out. */
struct row_format sketch_values_format(const struct sketch_plan *plan);

struct sketch {
    const struct sketch_plan *plan; /* the owner's */
    struct net net;
    struct rows samples, values;
    struct page *moves; /* refills: where samples go, per row of the block */
    double mu;
    uint32_t t, lane;
};

void sketch_init(struct sketch *sketch, const struct sketch_plan *plan, double delta, uint32_t lane);
void sketch_release(struct sketch *sketch);

/* Room for `clusters` more, or as many as the plan allows. ERR_NO_MEMORY. */
int sketch_reserve(struct sketch *sketch, struct page_account *account, uint64_t clusters);

/* One row of weight w > 0: key (d,), value (e,); token: the index that its coins have. It was reserved, as a cluster of its own. */
void sketch_append(struct sketch *sketch, const struct kernels *kernels, const float *key, const float *value, uint64_t token,
                   double weight);
/* The same with the nearest cluster known; the key as net_round leaves it. */
void sketch_append_found(struct sketch *sketch, const struct kernels *kernels, const float *key, const float *value,
                         uint64_t token, double weight, size_t cluster, float distance);

/* Segments of samples and values; returns their number, at most SKETCH_SEGMENTS. */
enum { SKETCH_SEGMENTS = 2 };
size_t sketch_show(const struct sketch *sketch, struct segment *seg);

/* Samples as rows of the ratio form, for those who pair them: their number, keys and values of n of them, weight of one. */
size_t sketch_n_samples(const struct sketch *sketch);
void sketch_read(const struct sketch *sketch, const struct kernels *kernels, size_t row, size_t n, float *keys, float *values);
double sketch_weight(const struct sketch *sketch, size_t row);

size_t sketch_allocated(const struct sketch *sketch);
bool sketch_check(const struct sketch *sketch, const struct kernels *kernels, const char **reason);

#endif
