#include "cache/subgen/subgen_gauges.h"

#include <math.h>

enum { CLUSTERS, MERGED, RADIUS, SAMPLES, SHARE, SPREAD, FILL };

/* clang-format off */
const struct cache_gauge subgen_gauges[SUBGEN_GAUGES] = {
    [CLUSTERS] = {"clusters", "", "clusters of keys", false},
    [MERGED] = {"clusters_merged", "", "clusters that went into others to keep to the budget", false},
    [RADIUS] = {"cluster_radius", "", "delta: keys within it of a centre join its cluster", true},
    [SAMPLES] = {"cluster_samples", "", "rows sampled from each cluster", true},
    [SHARE] = {"cluster_share", "", "clusters for each row that came: near 1, the keys do not cluster within delta", true},
    [SPREAD] = {"cluster_spread", "", "mean squared distance of keys to their centres, as a share of that to the mean key: near 0, "
                "clusters tell keys apart; near 1 or above, the keys do not cluster at this budget", true},
    [FILL] = {"reservoir_fill", "", "share of the value samples that hold a row", true},
};
/* clang-format on */

static double share(double part, double whole)
{
    return whole > 0 && isfinite(part) && isfinite(whole) ? part / whole : 0;
}

void subgen_measure(const struct sketch *sketch, size_t n, double *values)
{
    for (size_t g = 0; g < SUBGEN_GAUGES; g++)
        values[g] = 0;
    for (size_t i = 0; i < n; i++) {
        const struct net *net = &sketch[i].net;
        values[CLUSTERS] += (double)net->n;
        values[MERGED] += (double)net->n_merged;
        values[RADIUS] += (isfinite(net->delta) ? net->delta : 0) / (double)n;
        values[SAMPLES] += (double)sketch[i].t / (double)n;
        values[SHARE] += share((double)net->n, (double)net->n_rows) / (double)n;
        values[SPREAD] += share(net->spread, net->squares) / (double)n;
        values[FILL] += (sketch[i].mu > 0) / (double)n;
    }
}
