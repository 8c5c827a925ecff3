/* The reference: full attention in float64 from the numbers as sent, which every error is measured against.
 *
 *     softmax   out = sum_j e^(s_j) v_j / sum_j e^(s_j),  s_j = scale <q, k_j>,                          j up to the query's token
 *     tensor    out = sum_ij e^(s_ij) (v1_i o v2_j) / sum_ij e^(s_ij),  s_ij = scale <q o k1_i, k2_j>,  i and j up to it
 *
 * Nothing of the library is used here: two matrix products, an exponential, and for tensor attention the same again with n
 * queries q o k1_i. Threads: computed by an OpenMP team, read only afterwards. */
#ifndef ATTND_TOOLS_EVAL_REFERENCE_H
#define ATTND_TOOLS_EVAL_REFERENCE_H

#include "tools/eval/trace.h"

#include <stdbool.h>

struct reference {
    size_t first, n; /* tokens [first, first + n) of the trace */
    double *out;     /* (n_layers, n, H, e) */
    double *norm;    /* (n_layers, n, H): |out|_2 */
};

/* progress (may be NULL) is called now and then, from one thread, with blocks done and to be done; when it answers false the rest is
 * left out and the call answers ERR_FAILED. */
typedef bool reference_progress(void *context, size_t done, size_t total);

int reference_compute(struct reference *reference, const struct trace *trace, size_t first, reference_progress *progress,
                      void *context, struct fault *fault);
void reference_free(struct reference *reference);

#endif
