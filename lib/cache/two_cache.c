/* Two caches: tensor attention over explicit product rows (arXiv 2503.11108), an ordinary softmax cache of n^2 rows.
 *
 * Token i adds 2i + 1 rows, (i,0) .. (i,i) and then (0,i) .. (i-1,i), row (a,b) having key k1_a * k2_b and value v1_a * v2_b
 * (elementwise). Forming them takes all earlier factors, kept in f32: 2 n (d + e) numbers beside the n^2 (d + e).
 * The paper counts a step as faster by the multiplications that form products; on hardware that reads n^2 (d + e) numbers from
 * memory it need not be. */
#include "cache/policies.h"
#include "cache/policy.h"
#include "cache/rowlist.h"

#include <assert.h>
#include <stdlib.h>

/* Product rows are formed in tiles on the stack: as many rows as fit, at least TILE_FLOATS / SHAPE_DIM_MAX = 8. */
enum { TILE_FLOATS = 8192, TILE_ROWS_MAX = 64 };

struct two_cache {
    struct cache base;
    const struct kernels *kernels;
    struct row_format format, factor_format; /* a row of factors is k1 (d), k2 (d), v1 (e), v2 (e), as one f32 value row */
    struct row_list products, factors;
};

_Static_assert(sizeof(struct two_cache) < CACHE_CONTROL_MAX, "control state is small");

static struct row_format product_format(const struct policy *policy, const struct cache_dims *dims)
{
    return (struct row_format){policy->key_storage, policy->value_storage, dims->d, dims->e, ROWS_PLAIN, 0};
}

static struct row_format factor_format(const struct cache_dims *dims)
{
    const struct storage *f32 = &storage_table[STORAGE_F32];
    return (struct row_format){f32, f32, 0, 2 * (dims->d + dims->e), ROWS_PLAIN, 0};
}

/* The number of products, saturating where no memory could hold them. */
static uint64_t square(uint64_t n)
{
    return n < UINT32_MAX ? n * n : UINT64_MAX / 2;
}

static void two_cache_destroy(struct cache *cache)
{
    struct two_cache *c = (struct two_cache *)cache;
    if (!c)
        return;
    row_list_release(&c->products);
    row_list_release(&c->factors);
    free(c);
}

static int two_cache_create(struct cache **out, const struct cache_dims *dims, const struct policy *policy,
                            const struct kernels *kernels)
{
    struct two_cache *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c)
        return ERR_NO_MEMORY;
    c->base.ops = &policy_two_cache;
    c->kernels = kernels;
    c->format = product_format(policy, dims);
    c->factor_format = factor_format(dims);
    /* A product row stands for no single token: span 0, every query sees it. */
    row_list_init(&c->products, &c->format, &c->base.account, square(dims->expected_tokens), 0);
    row_list_init(&c->factors, &c->factor_format, &c->base.account, dims->expected_tokens, SPAN_ALL);
    *out = &c->base;
    return 0;
}

static size_t two_cache_worst_bytes(const struct policy *policy, const struct cache_dims *dims, uint64_t n_tokens)
{
    struct row_format format = product_format(policy, dims), factors = factor_format(dims);
    uint64_t rows = square(n_tokens);
    /* Past 2^32 pages reserving fails anyway; the answer only has to be as large as nobody has. */
    if (rows / CHUNK >= UINT32_MAX)
        return SIZE_MAX / 2;
    return row_list_bytes(&format, square(dims->expected_tokens), rows) +
           row_list_bytes(&factors, dims->expected_tokens, n_tokens);
}

/* Every row is seen by every query, so each token must be attended before the next comes. */
static size_t two_cache_run_max(const struct cache *cache)
{
    return 1;
}

/* The factors of token i, k1 first. */
static const float *factors_at(const struct two_cache *c, uint64_t i, size_t *n)
{
    size_t row;
    const struct rows *rows = row_list_at(&c->factors, i, &row, n);
    /* f32 values lie row after row as they came. */
    return (const float *)rows_segment(rows, &c->factor_format, 0, 0, 0, 0).values + row * c->factor_format.e;
}

/* Products of one token's factors (k (d,), v (e,)) with those of tokens [0, n), whose keys and values begin at these offsets in
 * their rows of factors. */
static void append_products(struct two_cache *c, const float *k, const float *v, uint64_t n, size_t key_at, size_t value_at)
{
    size_t d = c->format.d, e = c->format.e, width = d > e ? d : e, stride = c->factor_format.e;
    size_t tile = TILE_FLOATS / width < TILE_ROWS_MAX ? TILE_FLOATS / width : TILE_ROWS_MAX;
    float keys[TILE_FLOATS], values[TILE_FLOATS];
    for (uint64_t j = 0; j < n;) {
        size_t there;
        const float *factors = factors_at(c, j, &there);
        size_t run = there < tile ? there : tile;
        run = n - j < run ? (size_t)(n - j) : run;
        for (size_t r = 0; r < run; r++) {
            c->kernels->multiply(k, factors + r * stride + key_at, d, keys + r * d);
            c->kernels->multiply(v, factors + r * stride + value_at, e, values + r * e);
        }
        row_list_append(&c->products, c->kernels, run, keys, values);
        j += run;
    }
}

static int two_cache_append(struct cache *cache, const struct token_run *run)
{
    struct two_cache *c = (struct two_cache *)cache;
    assert(run->n == 1);
    uint64_t i = c->base.n_tokens;
    size_t d = c->format.d, e = c->format.e;
    int err = row_list_reserve(&c->products, 2 * i + 1);
    if (!err)
        err = row_list_reserve(&c->factors, 1);
    if (err) {
        row_list_trim(&c->products);
        return err;
    }
    float factors[4 * SHAPE_DIM_MAX];
    const struct {
        const float *from;
        size_t n, at;
    } part[4] = {{run->key[0], d, 0}, {run->key[1], d, d}, {run->value[0], e, 2 * d}, {run->value[1], e, 2 * d + e}};
    for (size_t p = 0; p < 4; p++)
        for (size_t x = 0; x < part[p].n; x++)
            factors[part[p].at + x] = part[p].from[x];
    row_list_append(&c->factors, c->kernels, 1, NULL, factors);
    append_products(c, run->key[0], run->value[0], i + 1, d, 2 * d + e);
    append_products(c, run->key[1], run->value[1], i, 0, 2 * d);
    c->base.n_tokens++;
    return 0;
}

static size_t two_cache_view(struct cache *cache, uint64_t first_query, const float *q, struct view out[2])
{
    const struct two_cache *c = (const struct two_cache *)cache;
    out[0] = row_list_view(&c->products);
    return 1;
}

static bool two_cache_check_state(const struct cache *cache, const char **reason)
{
    const struct two_cache *c = (const struct two_cache *)cache;
    if (!row_list_check(&c->products, reason) || !row_list_check(&c->factors, reason))
        return false;
    *reason = "products or factors and tokens differ in number";
    if (c->factors.n_rows != c->base.n_tokens || c->products.n_rows != square(c->base.n_tokens))
        return false;
    *reason = "the account differs from the pages";
    return row_list_allocated(&c->products) + row_list_allocated(&c->factors) == c->base.account.allocated;
}

const struct cache_ops policy_two_cache = {
    .name = "two_cache",
    .help = "keeps the products of all pairs of rows explicitly, n^2 of them, and attends to them as softmax attention does",
    .kinds = 1u << ATTENTION_TENSOR,
    .companion = "full",
    .product_rows = true,
    .control_bytes = sizeof(struct two_cache),
    .create = two_cache_create,
    .destroy = two_cache_destroy,
    .worst_bytes = two_cache_worst_bytes,
    .run_max = two_cache_run_max,
    .append = two_cache_append,
    .view = two_cache_view,
    .check_state = two_cache_check_state,
};
