/* Attend: one head's queries against the view of its cache, as a plan of units that any threads may carry out.
 *
 * There are no threads here. A caller asks for the number of units, runs attend_unit for each (in any order, on any thread,
 * each thread with scratch of its own), then attend_finish once. What a unit is depends on shapes only, and the finish
 * merges in index order: the bits do not depend on who ran what.
 *
 * Softmax (one view):  the queries of a few tokens: a unit is one chunk of rows, read once for all of them; many tokens (a
 * prompt): a unit is a block of queries that walks over all rows it may see.
 * Tensor (two views):  a unit is (query, TENSOR_CHUNK rows of stream 1), or with many queries a whole query; row i of stream 1
 * asks stream 2 the query q*k1_i, so a chunk is a matrix product, exp, and a matrix product, tiled with online softmax; n x n
 * is never in memory.
 *     out = sum_i e^(num1_i + a_i - A) v1_i * N_i / sum_i e^(den1_i + b_i - B) Z_i * e^(A - B)          (derived; design section 1)
 *     N_i, Z_i: row i's numerator and denominator over stream 2, a_i, b_i their maxima; A, B the maxima over i.
 *
 * A query of token t sees what segment.span says: at most rows up to its own token. */
#ifndef ATTND_ATTENTION_ATTEND_H
#define ATTND_ATTENTION_ATTEND_H

#include "attention/view.h"
#include "kernels/kernels.h"

/* What products of tensor attention are computed in: f32, or pairs of bf16 (kernels.h), which CPUs with AVX-512 BF16 multiply twice as
 * fast; others emulate them, with the same outputs, in up to half more time than f32 takes. Each factor is rounded to 8 bits: q * k1, k2,
 * weights and v2. So a score is off by about 2^-9 of the norm of its terms, and outputs by some thousandths: 0.0005 at n = 4096,
 * 0.005 on the golden files, where a token with a score of 16 has 0.018. Sums, maxima, and what joins the rows stay f32.
 * Softmax attention ignores it: there reading rows is the limit. */
enum compute { COMPUTE_F32, COMPUTE_BF16 };

/* What attend_units counts and the other functions rely on. */
struct attend_plan {
    bool many; /* a unit is a block of queries, else a piece of rows */
    size_t n_queries, n_pieces, n_units;
    size_t block_tokens;       /* query tokens per unit */
    size_t pieces_per_segment; /* of all segments but the last; 0: they differ */
};

struct attend {
    const struct kernels *kernels;
    enum compute compute; /* of two views */
    struct view view[2];
    size_t n_views;          /* 1 softmax (and two_cache), 2 tensor */
    size_t group, d, e;      /* g queries per token share the rows */
    size_t n_tokens;         /* query tokens */
    uint64_t first_token;    /* absolute index of the first query token */
    uint64_t token_step;     /* 1: query i is token first_token + i (causal run); 0: all stand at first_token (attend alone) */
    const float *q;          /* (n_tokens, group, d) contiguous, scale already multiplied in */
    const float *sink_logit; /* (group,) or NULL */
    float *out;              /* (n_tokens, group, e), token t at out + t * out_stride */
    size_t out_stride;
    float *lse; /* (n_tokens, group), token t at lse + t * lse_stride; NULL when not asked for */
    size_t lse_stride;
    struct attend_plan plan; /* set by attend_units */
};

size_t attend_units(struct attend *a);               /* comes first: the plan; again after any change to what is above it */
size_t attend_shared_bytes(const struct attend *a);  /* one block for the whole plan: the units' partials; 64-byte aligned */
size_t attend_scratch_bytes(const struct attend *a); /* one block per thread; 64-byte aligned */
void attend_unit(const struct attend *a, size_t unit, void *shared, void *scratch);
void attend_finish(const struct attend *a, void *shared);

/* Multiply-adds counted as two operations, over the pairs that queries actually see; and row bytes read at least once.
 * For telemetry and benches. */
double attend_flops(const struct attend *a);
double attend_row_bytes(const struct attend *a);

#endif
