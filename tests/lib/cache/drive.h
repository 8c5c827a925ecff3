/* Drive: puts a head's tokens through a cache and attention, as the engine does, and computes what must come out in float64.
 * For the tests of every policy.
 *
 *     struct tokens t;
 *     tokens_random(&t, ATTENTION_SOFTMAX, 200, 2, 17, 5, 1);
 *     struct drive drive;
 *     drive_open(&drive, &t, "window,window_tokens=32", kernels, 0);
 *     drive_run(&drive, 0, t.n, batch, out);               appends and attends, all invariants checked on the way
 *     drive_close(&drive);
 *     tokens_free(&t);
 *
 * What fails is asserted through CUnit, so callers go on. */
#ifndef ATTND_TESTS_CACHE_DRIVE_H
#define ATTND_TESTS_CACHE_DRIVE_H

#include "cache/cache.h"
#include "cache/policy.h"

#include <stdbool.h>

/* One head's tokens. q (n, group, d) is scaled already. */
struct tokens {
    enum attention_kind kind;
    size_t n, group, d, e;
    float scale;
    float *q, *key[2], *value[2];
};

/* Normal q (of standard deviation 2), k, v; scale 1/sqrt(d). The same seed gives the same tokens. */
void tokens_random(struct tokens *t, enum attention_kind kind, size_t n, size_t group, size_t d, size_t e, uint64_t seed);
/* A golden file's: q, k, v or q, k1, v1, k2, v2, with its scale. */
void tokens_golden(struct tokens *t, enum attention_kind kind, const char *path);
/* Rounds the rows to what a storage keeps, by this file's own arithmetic (f32, bf16). */
void tokens_round(struct tokens *t, enum storage_id keys, enum storage_id values);
void tokens_free(struct tokens *t);
/* What a storage keeps of n rows (n, width), by the scalar kernels: for tests of what stands on them. */
void drive_stored(const struct storage *storage, float *rows, size_t n, size_t width);

/* Uniform in [0, n), from a state that the caller keeps. */
uint64_t drive_random(uint64_t *state, uint64_t n);

struct drive {
    const struct tokens *tokens;
    const struct kernels *kernels;
    struct cache_dims dims;
    struct policy policy;
    struct cache *cache; /* NULL when opening failed */
};

/* A cache for the tokens' shape under `choice` (NAME,key=value,...). False, with an assertion, when it is refused. */
bool drive_open(struct drive *drive, const struct tokens *tokens, const char *choice, const struct kernels *kernels,
                uint64_t expected_tokens);
/* The refusal that opening gives, or 0; asserts nothing. */
int drive_refusal(const struct tokens *tokens, const char *choice, uint64_t expected_tokens, struct fault *fault);
void drive_close(struct drive *drive);

/* Appends tokens [first, first + n) in messages of `batch` tokens (0: random sizes up to 200) and attends with their queries.
 * out (n, group, e) by token, from token `first`; NULL: append only. A policy that observes gets the queries either way. After
 * each run: the policy's own invariants, allocated bytes within worst_bytes and within the budget. */
void drive_run(struct drive *drive, size_t first, size_t n, size_t batch, float *out);

/* Appends one run, tokens [at, at + n), where the account has `room` more bytes, and lets it be observed: append's answer. */
int drive_append_within(struct drive *drive, size_t at, size_t n, size_t room);

/* The same queries again from where the cache stands: (n_tokens, group, d) to (n_tokens, group, e). */
void drive_attend(struct drive *drive, const float *q, size_t n_tokens, float *out);

/* Whether two caches show the same rows to the bit and allocate the same bytes. */
bool drive_same_state(struct drive *a, struct drive *b);
/* Fingerprints of the same: of the rows that are shown, and of them and the bytes. */
uint64_t drive_shown(struct drive *drive);
uint64_t drive_state(struct drive *drive);

/* Rows shown to a query of the last token, of view `which`. */
size_t drive_rows(struct drive *drive, size_t which);

/* What a row is to a query: not there, there, or there with score 0 whatever its key (unmasked windows). */
enum see { HIDDEN, SEEN, ZERO };

/* Query g of token t in float64 over rows [0, n) of stream 1 (and stream 2) as see says; pairs with a ZERO row score 0. */
void reference_attend(const struct tokens *t, size_t token, size_t g, const unsigned char *see1, const unsigned char *see2,
                      double *out);
/* What a window shows at a token (window >= n: everything up to it). see (n,). */
void reference_window(size_t n, size_t token, size_t window, size_t sinks, bool unmasked, unsigned char *see);
/* All tokens' outputs (n, group, e) under windows w[0] x w[1]; SIZE_MAX: everything. */
double *reference_outputs(const struct tokens *t, const size_t w[2], size_t sinks, bool unmasked);

/* The largest relative error (Euclidean, per token and query) of out against reference, both (n_queries, e). */
double drive_worst_error(const float *out, const double *reference, size_t n_queries, size_t e);
double drive_worst_difference(const float *a, const float *b, size_t n_queries, size_t e);

#endif
