/* SubGen4Cache: tensor attention with SubGen on each of the two streams (Chen, Li, Liang, Shi, Song, Tian: arXiv 2503.11108;
 * the algorithm is derived here).
 *
 * All pairs of a row that stream 1 shows and a row that stream 2 shows attend, weights multiplied. The samples of the streams
 * are drawn with coins of their own, so the expectation of a product is the product of expectations, and numerator and denominator
 * stay unbiased; shared coins would tie i to j. Exponents inside a pair of clusters differ by at most 2 r (delta1 R2 + delta2 R1)
 * where |k1| <= R1 and |k2| <= R2; O(d ((m1 + m2) t + s)) bytes, O((m1 + m2) d) to append, O(d (m1 m2 t^2 + s^2)) to attend, as
 * matrix products. Each stream has half of the budget. */
#include "cache/policies.h"
#include "cache/subgen/subgen_streams.h"

static const struct key subgen4_keys[] = {
    SUBGEN_KEYS("radius of clusters, for both streams or one for each like 0.5x0.7; auto: found from the stream"),
};

const struct cache_ops policy_subgen4 = {
    .name = "subgen4",
    .help = "subgen on both streams of tensor attention, with independent coins",
    .kinds = 1u << ATTENTION_TENSOR,
    .companion = "subgen",
    SUBGEN_STREAMS_SLOTS,
    .keys = subgen4_keys,
    .n_keys = sizeof subgen4_keys / sizeof *subgen4_keys,
};
