/* The INDEX game [Haris, Onak: arXiv 2502.15955]: what a cache must carry to answer every question.
 *
 * Alice holds bits x (m, e). She streams rows with values v_i = x_i and keys k_i that both sides know from shared randomness:
 * sign vectors / sqrt(d), nearly orthogonal. Bob, who gets only her cache, wants bit (i, c): he asks q = C k_i at scale 1 with
 *
 *     C = 2 ln n / (1 - eps),   eps = the largest <k_i, k_j> over i != j, measured,
 *
 * so that all other rows together weigh at most 1/n, and reads the bit as out_c >= 1/2. A cache that answers a share p of the
 * questions has carried at least (1 - H(p)) m e bits (Fano; p < 1/2 counts as 1/2, H the binary entropy).
 *
 * Tensor attention: K1 = k, V1 = x, K2 = V2 = ones, which gives row i the same weight. Where fewer than n keys are embedded (in d
 * dimensions there are only 2^d sign vectors), the rows between them have key 0 and value 0.
 * Several independent draws are heads of one stream. While she streams, Alice's own queries are random and know nothing of Bob's.*/
#ifndef ATTND_TOOLS_LIMITS_GAME_H
#define ATTND_TOOLS_LIMITS_GAME_H

#include "tools/eval/trial.h"

struct game {
    size_t n, m, d, e, draws; /* tokens, of which m are embedded rows; draws (= heads) */
    double eps, strength;     /* the largest over the draws; strength is C */
    size_t *place;            /* (m,): the token of each embedded row */
    float *key, *value;       /* (n, draws, d), (n, draws, e) */
    float *chatter;           /* (n, draws, d): Alice's queries */
    float *question;          /* (m, draws, d): Bob's */
    float *ones;              /* (n, draws, max(d, e)) */
};

/* 2^d for d < 40: how many keys there are. */
double game_keys_there_are(size_t d);

int game_create(struct game *game, size_t n, size_t m, size_t d, size_t e, size_t draws, uint64_t seed, struct fault *fault);
void game_free(struct game *game); /* zeroed is allowed */

struct play {
    double bits;     /* that one draw's cache takes */
    double kept;     /* of the full cache in bf16 */
    double success;  /* share of bits answered right */
    double readable; /* share of rows answered right in every bit */
    double fano;     /* bits that were carried at least */
};

/* Streams the game under a profile and asks for all bits of the embedded rows from first_row on. */
int game_play(struct trial *trial, const struct game *game, enum attention_kind kind, const char *profile, size_t first_row,
              struct play *out, struct fault *fault);

/* The same game with a cache made for it, which is no policy: 4 log2 n signs of each embedded key and one bit for each coordinate
 * of its value; Bob looks the row up whose signs differ least from his. What comes closest to the limit that is known here. */
void game_sketch(const struct game *game, struct play *out);

/* bits / fano; infinite when nothing was carried. */
double play_distance(const struct play *play);

/* (1 - H(p)) for p in [1/2, 1]; 0 below. */
double bits_carried(double p);

#endif
