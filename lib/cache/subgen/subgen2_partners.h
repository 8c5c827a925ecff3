/* Partners: the rows that a new token's factors are multiplied with, for subgen2. Either the factors of all tokens before it (with
 * history), or sink tokens and the samples of a sketch of each stream's factors, which stand for them.
 *
 * Products of token i, in this order, each with the weight of its partner:
 *     k1_i * partners of stream 2,   (i, i) with weight 1,   partners of stream 1 * k2_i
 * Threads: whoever holds the head's turn. Failing: partners_reserve only, with nothing changed but room. */
#ifndef ATTND_CACHE_SUBGEN2_PARTNERS_H
#define ATTND_CACHE_SUBGEN2_PARTNERS_H

#include "cache/cache.h"
#include "cache/rowlist.h"
#include "cache/subgen/subgen_sketch.h"

struct partners_plan {
    struct sketch_plan sketch; /* of either stream's factors, ratio form */
    struct row_format sinks_format, history_format;
    uint32_t sinks;
    bool keeps_history;
};

/* format: of the rows. sketch: bounded by the caller. */
struct partners_plan partners_plan(const struct sketch_plan *sketch, uint64_t sinks, bool keeps_history);

/* What is counted once n_tokens have come, at most. */
size_t partners_bytes(const struct partners_plan *plan, uint64_t n_tokens, uint64_t expected_tokens);

struct partners {
    const struct partners_plan *plan; /* the owner's */
    struct sketch sketch[2];
    struct rows sinks[2];
    struct row_list history; /* a row is k1, k2, v1, v2 as one f32 value row */
    uint64_t n_tokens;
};

void partners_init(struct partners *p, const struct partners_plan *plan, const double delta[2], struct page_account *account,
                   uint64_t expected_tokens);
void partners_release(struct partners *p);

/* Products that the next token comes to. */
size_t partners_n_products(const struct partners *p);

/* Some of them. */
enum { PRODUCTS_FLOATS = 4096, PRODUCTS_ROWS_MAX = 16 };
struct products {
    size_t n;
    float keys[PRODUCTS_FLOATS], values[PRODUCTS_FLOATS]; /* (n, d), (n, e) */
    double weights[PRODUCTS_ROWS_MAX];
};
typedef void (*products_visit)(void *context, const struct products *products);

/* Shows all products of the next token, whose factors are in run, a few at a time. */
void partners_each_product(const struct partners *p, const struct kernels *kernels, const struct token_run *run,
                           products_visit visit, void *context);

/* Room for the next token's factors; then they become partners. Reserve this last: what it took is not given back. */
int partners_reserve(struct partners *p, struct page_account *account);
void partners_append(struct partners *p, const struct kernels *kernels, const struct token_run *run);

size_t partners_allocated(const struct partners *p);
bool partners_check(const struct partners *p, const struct kernels *kernels, const char **reason);

#endif
