/* Synthetic streams: tokens whose structure is known, made from coins alone, so that anybody can make them again.
 *
 * Coins. mix() is base/coins.h's. Of a seed, layer l, lane a, token t (or cluster j) and number i:
 *
 *     word(a, t, i) = mix(mix(mix(mix(mix(seed) ^ l) ^ a) ^ t) + i)
 *     G(a, t, i)    = sqrt(3) / 65536 (s - 131070),  s the sum of the word's four 16-bit quarters: mean 0, variance 1, |G| < 3.5
 *     U(a, t, i)    = word / 2^64, in [0, 1)
 *
 * The index i of a number is head * width + its place, width being d or e; h is the kv head, x = h for keys and values.
 * A(j), B(j), W(j) are vectors of G's in the lanes A, B, W + the tensor, index i as above, taken at "token" j. s(t) is `spread`.
 *
 *     isotropic   q, k, v (k1, v1, k2, v2) are G's: scores at scale 1/sqrt(d) have variance 1, attention is spread out
 *     clustered   k = A(j) + spread G, v = W(j) + G, with j = floor(clusters U(CHOICE + stream, t, h)); a query head's q aims at the
 *                 cluster j' = floor(clusters U(AIM + stream, t, query head)): q = A(j') + spread G; of tensor layers
 *                 q = A1(j1') o A2(j2') + spread G, so that pairs of these two clusters weigh most: by about e^sqrt(d) at scale 1/sqrt(d)
 *     drifting    as clustered, with centres that turn: cos(w) A(j) + sin(w) B(j), w = 2 pi t / period, so that old rows stop
 *                 mattering after a quarter of the period
 *     heavy       q = M + G, and one token in 1 / hitters, token 0 always, has k = G + 6 / (scale d) M, M the vector of G's in
 *                 lane M of the query's kv head: its score is 6 nats higher. Tensor layers: such a token's k1 is that, its k2 = G + 1.
 *
 * `period` tokens are made. Token i of stream number n is token (mix(mix(seed) ^ n) + i) mod period of these, so a longer stream
 * repeats. Threads: pure functions. */
#ifndef ATTND_TOOLS_FEED_SYNTHETIC_H
#define ATTND_TOOLS_FEED_SYNTHETIC_H

#include "base/shape.h"

enum synthetic_kind { SYNTHETIC_ISOTROPIC, SYNTHETIC_CLUSTERED, SYNTHETIC_DRIFTING, SYNTHETIC_HEAVY, N_SYNTHETIC };

struct synthetic {
    enum synthetic_kind kind;
    uint64_t seed;
    uint64_t period;   /* tokens, at least 1 */
    uint64_t clusters; /* at least 1 */
    double spread;     /* of the members of a cluster, in each number */
    double hitters;    /* share of the tokens */
};

const char *synthetic_name(enum synthetic_kind kind);
int synthetic_from_name(const char *name); /* or ERR_INVALID */

/* Numbers of tensor 0..4 (q, k1, v1, k2, v2) of one token of one layer: (heads, width). token < period. */
void synthetic_fill(const struct synthetic *synthetic, const struct shape *shape, uint32_t layer, uint64_t token, size_t tensor,
                    float *out);

#endif
