/* Verification: what was answered beside the same profile in this process, bit by bit, and beside full attention in float64. */
#ifndef ATTND_TOOLS_FEED_VERIFY_H
#define ATTND_TOOLS_FEED_VERIFY_H

#include "tools/feed/witness.h"

struct verdict {
    uint64_t verified;            /* tokens whose outputs came, all layers, and have the bits of the same profile in process */
    uint64_t sampled;             /* tokens that were compared with full attention */
    double error_mean, error_max; /* |out - full|_2 / |full|_2 over them, all layers and query heads; NAN when there are none */
};

/* Feeds every stream to an engine in this process, in the same batches. config: YAML of its profiles, NULL: the built-in default; isa: the
 * kernels that gave the answers. Ctrl-C ends it early. */
int verify_bits(struct verdict *verdict, const struct witness *witness, const char *who, const char *config, const char *isa,
                struct fault *fault);

int verify_errors(struct verdict *verdict, const struct witness *witness, struct fault *fault);

#endif
