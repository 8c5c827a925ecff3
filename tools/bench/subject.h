/* Subjects: what `attn bench kernels` measures, behind one interface.
 *
 * decode    one token's attention of all heads over caches that hold `tokens`: the policies' views (lib/cache) and the units of
 *           attention (lib/attention), every thread taking units of any head. Nothing around them, so this is the kernels' speed.
 * prompt    a message of `tokens` tokens through the engine, appended and attended: exact causal attention as users get it.
 * append    the same without queries, and beside it the same bytes copied into equally fresh pages.
 * compose   tensor attention by OpenBLAS, and beside it the same by attnd (tools/bench/compose.h). */
#ifndef ATTND_TOOLS_BENCH_SUBJECT_H
#define ATTND_TOOLS_BENCH_SUBJECT_H

#include "cache/policy.h"
#include "kernels/kernels.h"

struct bench_case {
    const char *kernel; /* what results call it */
    enum attention_kind kind;
    const char *policy;
    enum storage_id key_storage, value_storage;
    size_t heads, kv_heads, d, e, tokens;
    size_t window[2];     /* tokens that each stream holds; 0: all */
    enum compute compute; /* of tensor attention */
};

struct subject;

struct subject_ops {
    /* Seconds of one pass, the mean of n_times in a row. */
    int (*run)(struct subject *subject, size_t n_times, double *seconds, struct fault *fault);
    /* Seconds of the same work done another way, and what that is called: append: the copy. NULL for others. */
    int (*beside)(struct subject *subject, size_t n_times, double *seconds, struct fault *fault);
    const char *beside_name;
    void (*destroy)(struct subject *subject);
};

/* The head of every implementation. */
struct subject {
    const struct subject_ops *ops;
    double bytes; /* that one pass reads at least once: rows; append: the tokens given */
    double flops; /* multiply-adds of one pass as two operations, over the pairs that queries see */
    double error; /* |out - out in f32| / |out in f32| where compute is another */
    size_t n_times_max;
};

int decode_create(struct subject **out, const struct bench_case *c, const struct kernels *kernels, size_t n_threads,
                  struct fault *fault);
int prompt_create(struct subject **out, const struct bench_case *c, const struct kernels *kernels, size_t n_threads,
                  struct fault *fault);
int append_create(struct subject **out, const struct bench_case *c, const struct kernels *kernels, size_t n_threads,
                  struct fault *fault);

/* n numbers between -1 and 1 whose values don't matter, only that they are not all alike. */
void subject_fill(float *x, size_t n);

/* "full,key_storage=bf16,value_storage=f32": the case's policy as a profile with overrides. */
void subject_profile(const struct bench_case *c, char *text, size_t size);

#endif
