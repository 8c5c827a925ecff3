/* Random views and what attention over them is, in float64 from the rows as stored: the reference of the attend tests. */
#ifndef ATTND_TESTS_VIEWS_H
#define ATTND_TESTS_VIEWS_H

#include "attention/attend.h"
#include "tests/lib/kernels/numbers.h"

enum { VIEW_SEGMENTS_MAX = 6 };

/* A segment's rows as doubles, rounded to its storages. */
struct plain_rows {
    double *key, *value, *den, *num; /* (n, d), (n, e), (n,), (n,); value NULL where the segment has none */
    void *blocks[4];
};

struct test_view {
    struct segment seg[VIEW_SEGMENTS_MAX];
    struct plain_rows plain[VIEW_SEGMENTS_MAX];
    size_t n_seg, d, e;
};

/* How a segment comes about. */
struct segment_plan {
    size_t row, n;
    uint64_t first, span;
    enum storage_id keys, values;
    enum { WEIGHTS_NONE, WEIGHTS_EQUAL, WEIGHTS_DIFFER, WEIGHTS_DENOMINATOR } weights;
    bool no_values;
    float left_out; /* the share of rows that have weight -inf */
};

void test_view_add(struct test_view *view, const struct kernels *kernels, const struct segment_plan *plan, struct numbers *r);
void test_view_free(struct test_view *view);

/* A plan with everything drawn: storages, spans, weights, n rows. */
struct segment_plan segment_plan_random(struct numbers *r, uint64_t first, size_t n);

/* One query head of the plan: out (e,), the same of the terms' magnitudes (what out would be if nothing cancelled), and the log of
 * the denominator's sum. */
void reference_query(const struct attend *a, const struct test_view view[2], size_t query, double *out, double *magnitude,
                     double *lse);

/* The pairs of rows that its queries see, counted one by one. */
double reference_pairs(const struct attend *a, const struct test_view view[2]);

#endif
