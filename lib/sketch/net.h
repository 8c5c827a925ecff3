/* Net: online clusters of keys within a radius delta, SubGen's delta-net (arXiv 2402.06082).
 *
 *     a key joins the nearest cluster when |k - centre| <= delta, the older one of equally near ones;
 *     else it becomes the centre of a new one. Centres are thus more than delta apart.
 *
 * A bound on the number of clusters is kept by regrouping (doubling k-centre): delta grows, and in order of age each cluster
 * within delta of an older one that stays merges into the nearest of those. How delta grows:
 *
 *   given      it doubles until some two centres are within it. One cluster too many came, so the regrouping that follows, which
 *              merges at least those two, is enough.
 *   automatic  it starts at 0 (only equal keys share a cluster) and grows no further than it must, to the smallest delta within
 *              which a quarter of the bound have an older neighbour; regrouping goes on until the clusters are down to three
 *              quarters of the bound. In high dimension distances concentrate, and a doubling would throw hundreds of clusters
 *              into a handful. Keys in groups show a gap: from some such distance on, the next larger one is more than twice as
 *              large. If a quarter of the clusters or more are beyond it, delta goes into the gap (sqrt(2) times its low end), so
 *              that each group is one cluster. When delta^2 comes to 0.7 of the mean squared distance of two keys, these don't
 *              cluster at this bound: a centre says next to nothing about its members, and the uneven counts only add variance.
 *              Then delta jumps to twice the keys' deviation from their mean, which leaves one cluster of nearly everything
 *              (sampled uniformly) and the outliers.
 *   early      (where memory is not there to be filled) automatic delta, set after 256 rows to twice the median distance to an
 *              older key, if that is at most half of the deviation, as where keys are in tight groups. If not, it grows when the
 *              clusters are too many.
 *
 * What a regrouping costs: n^2/2 distances to find delta, at most as many to group, per round. Given: delta doubles each time, so
 * there are at most as many regroupings as doublings from the smallest to the largest distance in the stream, whatever its
 * length. Automatic: the first round of each is paid for by the bound / 4 new clusters that came since the last one, about four
 * searches each; further rounds grow delta by 2^(1/4) at least, so there are few. The time per key stays what one search for the
 * nearest takes, a few times over.
 *
 * The net holds centres and counts; what samples a cluster has is the owner's. All memory is one page: the centres in panels, as
 * stored, then counts, then scratch for regrouping, then the mean of all keys.
 * Threads: whoever holds the head's turn. Failing: net_reserve only, with nothing changed. */
#ifndef ATTND_SKETCH_NET_H
#define ATTND_SKETCH_NET_H

#include "base/pages.h"
#include "kernels/kernels.h"
#include <stdbool.h>

struct net_plan {
    const struct storage *storage; /* of centres. Keys go in as it rounds them: net_round */
    size_t d;
    size_t most;    /* clusters; 0: any number */
    bool automatic; /* delta; needs a bound */
    bool early;     /* automatic delta may be set by the first keys already */
};

struct net {
    const struct net_plan *plan; /* the owner's */
    struct page *page;
    size_t n, capacity; /* clusters */
    double delta;
    double weight;  /* of all rows */
    double squares; /* sum of w |k - mean|^2 over all rows */
    double spread;  /* sum of w |k - centre|^2, that of regrouped clusters estimated: w |centre - new centre|^2 more */
    uint64_t n_rows, n_merged;
    bool was_full; /* what the last regrouping was for */
};

/* Bytes of a page for so many clusters (a multiple of PANEL; 0: none). */
size_t net_bytes(const struct net_plan *plan, size_t capacity);

/* delta > 0; automatic: 0. */
void net_init(struct net *net, const struct net_plan *plan, double delta);
void net_release(struct net *net);

/* Room for `capacity` clusters (a multiple of PANEL) in a page of this owner alone. ERR_NO_MEMORY. */
int net_reserve(struct net *net, struct page_account *account, size_t capacity);

/* The key (d,) as centres are stored. out may be key. */
void net_round(const struct net_plan *plan, const struct kernels *kernels, const float *key, float *out);

/* The nearest cluster of those from `first` on, or of its panel (first: 0, or below n), and the squared distance to its centre; no
 * clusters: 0 and infinity. */
size_t net_nearest(const struct net *net, const struct kernels *kernels, const float *key, size_t first, float *distance);

/* Whether a key at this squared distance from the nearest centre joins its cluster. */
bool net_joins(const struct net *net, float distance);

/* A row of this weight in a cluster that it joins; returns the cluster's weight. And one in a new cluster, n - 1 then. */
double net_join(struct net *net, size_t cluster, float distance, const float *key, double weight);
void net_found(struct net *net, const struct kernels *kernels, const float *key, double weight);

double net_count(const struct net *net, size_t cluster); /* its weight */

/* Regrouping, after a row went in:
 *
 *     for (unsigned round = 0; net_is_due(net, round); round++) {
 *         size_t before = net_regroup(net, kernels, round);
 *         for (size_t b = 0; b < before; b++)
 *             ... net_move(net, b) ...
 *     }
 *
 * net_regroup grows delta, groups, and leaves net->n clusters; then each of the clusters from before is moved, in order. */
bool net_is_due(const struct net *net, unsigned round);
size_t net_regroup(struct net *net, const struct kernels *kernels, unsigned round);

struct net_move {
    size_t to; /* the cluster that it is now, or a part of; at most its old number */
    bool merges;
    double weight, total; /* its own, and that of the new cluster with it */
};
struct net_move net_move(struct net *net, size_t cluster);
/* The same without moving its count: may be asked for any cluster before it is moved. */
size_t net_destination(const struct net *net, size_t cluster, bool *merges);

/* For tests: counts add up to the weight, and the last centre is farther than delta from all others. */
bool net_check(const struct net *net, const struct kernels *kernels, const char **reason);

#endif
