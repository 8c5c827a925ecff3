/* Planted: streams of one head whose answers are known to be easy or hard to compress, for `attn bench policies`. d = e = 64.
 *
 *     clustered   keys in 64 balls of radius 0.05 about unit vectors; values: one for each ball, and a tenth of noise
 *     isotropic   keys uniform on the unit sphere, values likewise (64 in turn): nothing to find
 *
 * Queries point anywhere and are of norm 8, so that their scores (scale 1) spread by one nat. Tensor streams have keys drawn like
 * this on either side. A token is a function of (seed, index) alone, so none is kept. */
#ifndef ATTND_TOOLS_BENCH_PLANTED_H
#define ATTND_TOOLS_BENCH_PLANTED_H

#include "base/shape.h"
#include "kernels/kernels.h"

#include <stdbool.h>

enum { PLANTED_DIM = 64, PLANTED_BALLS = 64 };

struct planted {
    float centre[2][PLANTED_BALLS][PLANTED_DIM], value[2][PLANTED_BALLS][PLANTED_DIM];
    uint64_t seed;
    bool isotropic;
};

void planted_init(struct planted *p, uint64_t seed, bool isotropic);

struct planted_token {
    float key[2][PLANTED_DIM], value[2][PLANTED_DIM];
};
/* n_streams: 1, or 2 for tensor attention; the others' rows are left alone. */
void planted_token(const struct planted *p, uint64_t index, size_t n_streams, struct planted_token *out);
void planted_query(const struct planted *p, uint64_t index, float q[PLANTED_DIM]);

/* Softmax attention of the queries of the stream's last n_asked tokens to all its n_tokens rows, in float64.
 * out (n_asked, PLANTED_DIM). False when progress, called now and then, says so. */
typedef bool planted_progress(size_t done, size_t of);
bool planted_reference(const struct planted *p, uint64_t n_tokens, size_t n_asked, planted_progress *progress, double *out);

#endif
