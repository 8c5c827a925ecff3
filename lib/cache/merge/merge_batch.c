#include "cache/merge/merge_batch.h"
#include "cache/merge/neighbours.h"
#include "cache/ranked/likeness.h"
#include "cache/ranked/lowest.h"
#include "sketch/dot.h"

#include <assert.h>
#include <math.h>

enum {
    TILE_FLOATS = 8 * SHAPE_DIM_MAX,
    POOL_SHARE = 2, /* times as many rows as must go are looked at, those of least worth */
    ODDS_STEPS = 8, /* in a nat */
};

static const float LEAST_MASS = 1e-6f; /* of a row that no query saw: ranks then go by likeness alone */
static const float ODDS_MAX = 12;      /* in nats */
static const float DEVIATIONS = 2;     /* of scores' differences, which odds may be off by */

/* A row that may go; its neighbours are the entry of the same number. */
struct going {
    float worth, cost;
    bool gone;
};

/* What a batch works on, beside the rows. */
struct scene {
    const struct merge_batch *b;
    float mean[SHAPE_DIM_MAX]; /* of unit keys */
    float spread;              /* the mean of |v - v'|^2 over pairs of the pool */
    size_t n;                  /* of the pool, by row */
    struct neighbours near[LOWEST_MAX];
    struct going pool[LOWEST_MAX];
};

static void read_key(const struct merge_batch *b, size_t row, float *key)
{
    rows_read_keys(&b->held->rows, &b->plan->format, b->metric.kernels, row, 1, key);
}

static void read_value(const struct merge_batch *b, size_t row, float *value)
{
    rows_read_values(&b->held->rows, &b->plan->format, b->metric.kernels, row, 1, value);
}

static float squared_distance(const struct merge_batch *b, size_t row, size_t other)
{
    float k[SHAPE_DIM_MAX], l[SHAPE_DIM_MAX];
    read_key(b, row, k);
    read_key(b, other, l);
    return metric_square(&b->metric, k, l);
}

/* ---- what a row is worth */

static float mass_of(const struct merge_batch *b, size_t row)
{
    return *(const float *)rows_side_const(&b->held->rows, &b->plan->format, row);
}

/* Of rows [row, row + n), keys (n, d) given. */
static void appraise(const struct scene *s, size_t row, size_t n, const float *keys, float *worth)
{
    likeness_of(s->mean, keys, n, s->b->plan->format.d, worth);
    for (size_t i = 0; i < n; i++)
        worth[i] = (mass_of(s->b, row + i) + LEAST_MASS) * expf(-s->b->distinctness * worth[i]);
}

static float worth_of(const struct scene *s, size_t row)
{
    float key[SHAPE_DIM_MAX], worth;
    read_key(s->b, row, key);
    appraise(s, row, 1, key, &worth);
    return worth;
}

/* ---- the pool: rows of least worth, and their neighbours */

static void fill_pool(struct scene *s)
{
    const struct row_format *f = &s->b->plan->format;
    size_t first = s->b->plan->sinks, end = first + held_candidates(s->b->plan), step = TILE_FLOATS / f->d;
    float keys[TILE_FLOATS], worth[TILE_FLOATS];
    uint32_t rows[LOWEST_MAX];
    struct lowest lowest;
    lowest_init(&lowest, s->n);
    for (size_t row = first, n; row < end; row += n) {
        n = end - row < step ? end - row : step;
        rows_read_keys(&s->b->held->rows, f, s->b->metric.kernels, row, n, keys);
        appraise(s, row, n, keys, worth);
        for (size_t i = 0; i < n; i++)
            lowest_offer(&lowest, worth[i], row + i);
    }
    lowest_rows(&lowest, rows);
    for (size_t i = 0; i < s->n; i++) {
        s->near[i].row = rows[i];
        s->pool[i] = (struct going){.worth = worth_of(s, rows[i])};
    }
    neighbours_find(s->near, s->n, &s->b->held->rows, f, &s->b->metric, first, end);
}

/* Twice the variance of the pool's values. */
static float value_spread(const struct scene *s)
{
    size_t e = s->b->plan->format.e;
    float value[SHAPE_DIM_MAX], mean[SHAPE_DIM_MAX] = {0}, square = 0, share = 1 / (float)s->n;
    for (size_t i = 0; i < s->n; i++) {
        read_value(s->b, s->near[i].row, value);
        s->b->metric.kernels->combine(1, mean, share, value, e);
        square += share * dot(value, value, e);
    }
    float variance = square - dot(mean, mean, e);
    return variance > 0 ? 2 * variance : 0;
}

/* The place of a row in the pool, or n: by halving, since the pool is in order. */
static size_t place_of(const struct scene *s, uint32_t row)
{
    size_t lo = 0, hi = s->n;
    while (lo < hi) {
        size_t middle = (lo + hi) / 2;
        if (s->near[middle].row < row)
            lo = middle + 1;
        else
            hi = middle;
    }
    return lo < s->n && s->near[lo].row == row ? lo : s->n;
}

static bool is_gone(const struct scene *s, uint32_t row)
{
    size_t place = place_of(s, row);
    return place < s->n && s->pool[place].gone;
}

/* ---- what goes */

static float value_square(const struct merge_batch *b, size_t row, size_t other)
{
    size_t e = b->plan->format.e;
    float v[SHAPE_DIM_MAX], u[SHAPE_DIM_MAX];
    read_value(b, row, v);
    read_value(b, other, u);
    for (size_t c = 0; c < e; c++)
        v[c] -= u[c];
    return dot(v, v, e);
}

/* What is lost where row i of the pool goes into its nearest, or, when that is far, altogether. To the bit the same for two rows that
 * are each other's nearest: the older goes, whatever the instruction set. */
static void price(struct scene *s, size_t i)
{
    const struct merge_batch *b = s->b;
    struct neighbours *g = &s->near[i];
    struct going *going = &s->pool[i];
    float far = 4 * b->within * b->within;
    while (g->n > 0 && is_gone(s, g->near[0]))
        neighbours_pop(g);
    going->cost = going->worth;
    if (g->n == 0)
        return;
    float other = worth_of(s, g->near[0]), apart = squared_distance(b, g->row, g->near[0]);
    apart *= s->spread > 0 ? 0.5f + 0.5f * value_square(b, g->row, g->near[0]) / s->spread : 0.5f;
    going->cost = 1 / (1 / going->worth + 1 / other) * (far > 0 ? apart / (far + apart) : 1);
}

static float between(float x, float least, float most)
{
    return x < least ? least : x > most ? most : x;
}

/* The share of row i of the pool in what it and its nearest, `square` = D^2 away, become: within (0, 1). In steps, so that rows
 * merged by scores that differ in their last digits (of another instruction set) are the same. */
static float share_of(const struct scene *s, size_t i, float square)
{
    uint32_t row = s->near[i].row, into = s->near[i].near[0];
    const float *log_weight = rows_log_den(&s->b->held->rows, &s->b->plan->format);
    float own = log_weight[row] - log_weight[into], off = DEVIATIONS * sqrtf(square);
    float odds = between(logf(s->pool[i].worth / worth_of(s, into)), own - off, own + off);
    odds = floorf(ODDS_STEPS * between(odds, -ODDS_MAX, ODDS_MAX) + 0.5f) / ODDS_STEPS;
    return 1 / (1 + expf(-odds));
}

/* to (n,) = share x + (1 - share) to. */
static void mix_in(float *to, const float *x, float share, size_t n)
{
    for (size_t c = 0; c < n; c++)
        to[c] = share * x[c] + (1 - share) * to[c];
}

/* A row into another, of which it gets `share`. */
static void absorb(const struct merge_batch *b, uint32_t row, uint32_t into, float share)
{
    const struct row_format *f = &b->plan->format;
    struct rows *rows = &b->held->rows;
    float key[SHAPE_DIM_MAX], value[SHAPE_DIM_MAX], x[SHAPE_DIM_MAX], rest = 1 - share;
    read_key(b, into, key);
    read_key(b, row, x);
    mix_in(key, x, share, f->d);
    read_value(b, into, value);
    read_value(b, row, x);
    mix_in(value, x, share, f->e);
    const float *log_weight = rows_log_den(rows, f);
    double weight = share * (log_weight[row] - log((double)share)) + rest * (log_weight[into] - log((double)rest));
    rows_write(rows, f, b->metric.kernels, into, 1, key, value);
    rows_weigh(rows, f, into, (float)weight, (float)weight);
    *(float *)rows_side(rows, f, into) += mass_of(b, row);
}

/* A row that another merged into is worth more now, and lies elsewhere. */
static void reprice(struct scene *s, uint32_t row)
{
    size_t place = place_of(s, row);
    if (place == s->n)
        return;
    s->pool[place].worth = worth_of(s, row);
    price(s, place);
}

static size_t cheapest(const struct scene *s)
{
    size_t best = s->n;
    for (size_t i = 0; i < s->n; i++)
        if (!s->pool[i].gone && (best == s->n || s->pool[i].cost < s->pool[best].cost))
            best = i;
    assert(best < s->n);
    return best;
}

/* Row i of the pool goes; returns whether it was merged. */
static bool send_away(struct scene *s, size_t i)
{
    const struct merge_batch *b = s->b;
    const struct neighbours *g = &s->near[i];
    s->pool[i].gone = true;
    if (g->n == 0)
        return false;
    float square = squared_distance(b, g->row, g->near[0]);
    if (square > b->within * b->within)
        return false;
    absorb(b, g->row, g->near[0], share_of(s, i, square));
    reprice(s, g->near[0]);
    return true;
}

size_t merge_batch_run(const struct merge_batch *b, uint32_t *gone)
{
    struct scene s;
    size_t candidates = held_candidates(b->plan), pool = POOL_SHARE * b->plan->interval, n_gone = 0, n_merged = 0;
    s.b = b;
    s.n = candidates < pool ? candidates : pool;
    likeness_mean(b->held, b->plan, b->metric.kernels, s.mean);
    fill_pool(&s);
    s.spread = value_spread(&s);
    for (size_t i = 0; i < s.n; i++)
        price(&s, i);
    while (n_gone < b->plan->interval) {
        size_t i = cheapest(&s);
        if (s.near[i].n > 0 && is_gone(&s, s.near[i].near[0])) {
            price(&s, i); /* another neighbour is its nearest now */
            continue;
        }
        gone[n_gone++] = s.near[i].row;
        n_merged += send_away(&s, i);
    }
    rows_sort(gone, n_gone);
    return n_merged;
}
