/* Witness: what is remembered of outputs, so that they can be judged afterwards: a fingerprint of 64 bits of each token and layer
 * (equal ones of different bits come once in 2^63), and the outputs themselves of a sample of tokens.
 *
 * The sample lies in the second halves of the streams, behind the warm-up, and is as large as WITNESS_WORK allows: all of them, or
 * runs of up to 16 neighbours, evenly apart. Full attention in float64 of one token costs H n (d + e) multiply-adds and H n
 * exponentials, of tensor attention n times as much.
 * Threads: lines may note different streams at a time; everything else before or after. */
#ifndef ATTND_TOOLS_FEED_WITNESS_H
#define ATTND_TOOLS_FEED_WITNESS_H

#include "tools/feed/load.h"

#define WITNESS_WORK 1e10    /* multiply-adds of the reference, a few seconds */
#define WITNESS_BYTES 0x1p28 /* of the outputs that are kept */

struct witness_run { /* tokens [first, first + n) of a stream */
    size_t stream;
    uint64_t first;
    uint32_t n;
};

struct witness {
    const struct load *load;
    uint64_t *print;           /* (n_streams, n_layers, n_tokens); 0: none yet */
    struct witness_run *run;   /* (n_runs) by stream, then first */
    size_t n_runs, run_tokens; /* the most of a run */
    float *kept;               /* (n_runs, n_layers, run_tokens, H, e) */
};

/* ERR_NO_MEMORY. witness_free takes a half made one, too. */
int witness_create(struct witness *witness, const struct load *load, struct fault *fault);
void witness_free(struct witness *witness);

/* A line's sink. context: the witness. */
void witness_note(void *context, size_t stream, uint32_t layer, uint64_t first, uint32_t n, const float *out);

uint64_t witness_print(const struct witness *witness, size_t stream, uint32_t layer, uint64_t token);
/* The outputs (H, e) of token `at` of a run; NULL when they never came. */
const float *witness_kept(const struct witness *witness, size_t run, uint32_t layer, uint32_t at);

/* Never 0. x: n floats. */
uint64_t fingerprint(const float *x, size_t n);

#endif
