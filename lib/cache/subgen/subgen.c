/* SubGen: softmax attention from clusters of keys with a few samples each (Zandieh, Han, Mirrokni, Karbasi: arXiv 2402.06082).
 *
 * State: clusters a of keys within delta of their centre (sketch/net.h), n_a members, t of them sampled, S_a; s samples M of
 * (k, v), drawn by |v|^2; mu = sum |v|^2.
 *
 *     paper   out = sum_M mu / (s |v|^2) e^(<q,k>) v  /  sum_a n_a / t sum_(S_a) e^(<q,k>)
 *     ratio   out = sum_a n_a / t sum_(S_a) e^(<q,k>) v  /  sum_a n_a / t sum_(S_a) e^(<q,k>)
 *
 * In `paper` both sums are unbiased, but drawn apart: their quotient is good where each is, and scores of real models spread so
 * far that it isn't. In `ratio` they err together, so the output stays in the hull of the values. With keys in m balls of radius
 * delta and queries up to norm r (scaled), t = O(eps^-2 e^(2 delta r) log n) and s = O(d / eps^2) give |out - full| <=
 * eps |softmax|_2 |V|_op, in O(d (m t + s)) bytes and time a token, sublinear when m is. Where keys do not cluster nothing of that
 * holds, and the gauges say so (cluster_share and cluster_spread near 1).
 *
 * Not in the paper: exact sink tokens and a recent window in front (both sums run over exact rows and samples together), a byte
 * budget (clusters merge: net.h), delta found from the stream, and samples that fill what the budget leaves over. */
#include "cache/policies.h"
#include "cache/subgen/subgen_streams.h"

static const struct key subgen_keys[] = {
    SUBGEN_KEYS("radius of clusters; auto: found from the stream, as small as the budget allows"),
};

const struct cache_ops policy_subgen = {
    .name = "subgen",
    .help = "clusters keys within a radius and samples each cluster",
    .kinds = 1u << ATTENTION_SOFTMAX,
    .companion = "subgen4",
    SUBGEN_STREAMS_SLOTS,
    .keys = subgen_keys,
    .n_keys = sizeof subgen_keys / sizeof *subgen_keys,
};
