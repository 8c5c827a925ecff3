/* One trace through one profile, token by token as a model would send it: what it costs and how far the answers are from the
 * reference. The measures are the project's own everywhere:
 *
 *     error        |out - full|_2 / |full|_2 of one token, layer and query head; statistics over all of them in the reference
 *     bytes        what all heads together allocate at the end; of the full cache in bf16 beside it
 *     seconds      per token and layer, summed over its heads */
#ifndef ATTND_TOOLS_EVAL_MEASURE_H
#define ATTND_TOOLS_EVAL_MEASURE_H

#include "tools/eval/reference.h"
#include "tools/eval/trial.h"

enum { MEASURE_POINTS = 64, MEASURE_GAUGES = 2 * CACHE_GAUGES_MAX };

struct measurement {
    double bytes, bytes_full_bf16;
    double error_mean, error_p50, error_p90, error_p99;
    size_t worst_layer, worst_head; /* with the largest mean error */
    double append_seconds, attend_seconds;
    size_t n_points; /* time per token and layer (both) around a position, over the trace */
    double position[MEASURE_POINTS], seconds[MEASURE_POINTS];
    size_t n_gauges; /* of the policies, at the end */
    const char *gauge_name[MEASURE_GAUGES];
    double gauge[MEASURE_GAUGES];
};

/* Called after each step of all layers; false stops. */
typedef bool measure_progress(void *context, size_t tokens, size_t of);

/* trial has a stream of the trace's shape open, and nothing appended yet. batch: tokens of one part. */
int measure(struct measurement *out, struct trial *trial, const struct trace *trace, const struct reference *reference,
            size_t batch, measure_progress *progress, void *context, struct fault *fault);

/* The value that a share p of x[0, n) is not above, between neighbours by a straight line. x is sorted, n > 0. */
double quantile(const double *x, size_t n, double p);

#endif
