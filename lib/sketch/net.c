#include "sketch/net.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum {
    EARLY_ROWS = 256, /* that delta is first looked for in */
};
#define MERGED (UINT32_C(1) << 31)

/* Of automatic delta: see net.h. */
static const double GROWTH = 1.189207115002721; /* 2^(1/4), of further rounds */
static const double HOPELESS = 1.4;             /* delta^2 over the mean squared deviation; two keys are twice that apart */
static const double GAP = 2;                    /* between distances, within groups and from one to another */
static const double EVERYTHING = 2;             /* delta over the deviation, once hopeless */

/* Where the page's regions begin, in bytes. */
struct layout {
    size_t counts, into, mean, end;
};

static struct layout layout_of(const struct net_plan *plan, size_t capacity)
{
    struct layout l;
    l.counts = page_rounded(capacity * plan->storage->key_bytes(plan->d));
    l.into = l.counts + page_rounded(capacity * sizeof(double));
    l.mean = l.into + page_rounded(capacity * sizeof(uint32_t));
    l.end = l.mean + page_rounded(plan->d * sizeof(double));
    return l;
}

size_t net_bytes(const struct net_plan *plan, size_t capacity)
{
    return capacity ? layout_of(plan, capacity).end : 0;
}

/* The page's regions for writing; it has one owner since net_reserve. */
struct regions {
    void *centres;
    double *counts;
    uint32_t *into; /* where a cluster goes; before that, its squared distance to an older one, as bits */
    double *mean;
};

static struct regions regions_of(struct net *net)
{
    struct layout l = layout_of(net->plan, net->capacity);
    char *bytes = page_write(&net->page, l.end);
    assert(bytes);
    return (struct regions){bytes, (void *)(bytes + l.counts), (void *)(bytes + l.into), (void *)(bytes + l.mean)};
}

void net_init(struct net *net, const struct net_plan *plan, double delta)
{
    *net = (struct net){.plan = plan, .delta = delta};
}

void net_release(struct net *net)
{
    page_release(&net->page);
    net->n = net->capacity = 0;
}

int net_reserve(struct net *net, struct page_account *account, size_t capacity)
{
    assert(capacity % PANEL == 0);
    if (capacity <= net->capacity)
        return net->page == NULL || page_write(&net->page, 0) ? 0 : ERR_NO_MEMORY;
    struct page *larger;
    int err = page_create(&larger, account, net_bytes(net->plan, capacity));
    if (err)
        return err;
    if (net->page) {
        struct layout old = layout_of(net->plan, net->capacity), new = layout_of(net->plan, capacity);
        const char *from = page_data(net->page);
        char *to = page_write(&larger, new.end);
        memcpy(to, from, old.counts);
        memcpy(to + new.counts, from + old.counts, net->n * sizeof(double));
        memcpy(to + new.mean, from + old.mean, net->plan->d * sizeof(double));
        page_release(&net->page);
    }
    net->page = larger;
    net->capacity = capacity;
    return 0;
}

/* What rounds an element rounds it the same way in a key and in a value. */
void net_round(const struct net_plan *plan, const struct kernels *kernels, const float *key, float *out)
{
    float packed[SHAPE_DIM_MAX];
    enum storage_id id = plan->storage->id;
    if (id == STORAGE_F32) {
        memmove(out, key, plan->d * sizeof *key);
        return;
    }
    kernels->pack_values[id](key, 1, plan->d, packed, 0);
    kernels->unpack_values[id](packed, 0, 1, plan->d, out);
}

static size_t nearest(const struct net *net, const struct kernels *kernels, const float *key, size_t first, size_t n,
                      float *distance)
{
    const struct storage *s = net->plan->storage;
    size_t d = net->plan->d, from = first / PANEL * PANEL;
    if (n == 0) {
        *distance = INFINITY;
        return 0;
    }
    const char *centres = page_data(net->page);
    return from + kernels->nearest[s->id](key, d, centres + from * s->key_bytes(d), n - from, distance);
}

size_t net_nearest(const struct net *net, const struct kernels *kernels, const float *key, size_t first, float *distance)
{
    return nearest(net, kernels, key, first, net->n, distance);
}

static bool within(const struct net *net, float distance)
{
    return (double)distance <= net->delta * net->delta;
}

bool net_joins(const struct net *net, float distance)
{
    return net->n > 0 && within(net, distance);
}

/* Welford's update of the mean and of the sum of squares about it, by a row of weight w. */
static void count_row(struct net *net, const float *key, double weight)
{
    double *mean = regions_of(net).mean, squares = 0;
    net->n_rows++;
    net->weight += weight;
    double share = weight / net->weight;
    for (size_t c = 0; c < net->plan->d; c++) {
        double off = key[c] - mean[c];
        mean[c] += share * off;
        squares += off * (key[c] - mean[c]);
    }
    net->squares += weight * squares;
}

double net_join(struct net *net, size_t cluster, float distance, const float *key, double weight)
{
    double *counts = regions_of(net).counts;
    count_row(net, key, weight);
    net->spread += weight * distance;
    return counts[cluster] += weight;
}

void net_found(struct net *net, const struct kernels *kernels, const float *key, double weight)
{
    struct regions r = regions_of(net);
    assert(net->n < net->capacity);
    count_row(net, key, weight);
    kernels->pack_keys[net->plan->storage->id](key, 1, net->plan->d, r.centres, net->n);
    r.counts[net->n++] = weight;
}

double net_count(const struct net *net, size_t cluster)
{
    const char *bytes = page_data(net->page);
    return ((const double *)(const void *)(bytes + layout_of(net->plan, net->capacity).counts))[cluster];
}

/* ---- regrouping */

/* What an automatic regrouping comes down to. */
static size_t goal(const struct net_plan *plan)
{
    size_t share = plan->most - plan->most / 4;
    return share > 1 ? share : 1;
}

/* Once there are keys to learn from; again at twice as many while delta is still 0. */
static bool is_early(const struct net *net)
{
    uint64_t n = net->n_rows;
    return net->plan->early && net->delta == 0 && n >= EARLY_ROWS && (n & (n - 1)) == 0;
}

bool net_is_due(const struct net *net, unsigned round)
{
    const struct net_plan *plan = net->plan;
    bool is_full = plan->most > 0 && net->n > plan->most;
    if (round == 0)
        return is_full || is_early(net);
    return plan->automatic && net->was_full && net->n > goal(plan);
}

static void read_centre(const struct net *net, const struct kernels *kernels, size_t cluster, float *key)
{
    kernels->unpack_keys[net->plan->storage->id](page_data(net->page), cluster, 1, net->plan->d, key);
}

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static double of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Squared distances of clusters 1 .. n - 1 to their nearest older one, as bits, which are ordered as the numbers are. */
static const uint32_t *older_neighbours(struct net *net, const struct kernels *kernels)
{
    uint32_t *into = regions_of(net).into;
    float key[SHAPE_DIM_MAX], distance;
    for (size_t b = 1; b < net->n; b++) {
        read_centre(net, kernels, b, key);
        nearest(net, kernels, key, 0, b, &distance);
        into[b] = bits_of(distance);
    }
    return into + 1;
}

/* The rank-th smallest of n, rank >= 1: bisection over all that it could be. */
static uint32_t ranked(const uint32_t *x, size_t n, size_t rank)
{
    uint32_t lo = 0, hi = bits_of(INFINITY);
    while (lo < hi) {
        uint32_t middle = lo + (hi - lo) / 2;
        size_t below = 0;
        for (size_t i = 0; i < n; i++)
            below += x[i] <= middle;
        if (below >= rank)
            hi = middle;
        else
            lo = middle + 1;
    }
    return lo;
}

/* The smallest double whose square is not below x. */
static double root_above(double x)
{
    double root = sqrt(x);
    while (root * root < x)
        root = nextafter(root, INFINITY);
    return root;
}

/* Where keys are in groups, distances within groups end far below those between them. The distance at the low end of such a gap,
 * squared, no less than the squared `least`, that leaves a quarter of the clusters at least; 0: there is none. */
static double below_gap(const uint32_t *older, size_t n, double least)
{
    for (double x = least;;) {
        double next = INFINITY;
        size_t above = 0;
        for (size_t i = 0; i < n; i++) {
            double y = of_bits(older[i]);
            above += y > x;
            next = y > x && y < next ? y : next;
        }
        if (4 * above < n + 1)
            return 0;
        if (next >= GAP * GAP * x)
            return x;
        x = next;
    }
}

static double grown(const struct net *net, const uint32_t *older, unsigned round)
{
    const struct net_plan *plan = net->plan;
    size_t n = net->n - 1;
    double delta = net->delta;
    if (!plan->automatic) {
        double least = of_bits(ranked(older, n, 1));
        do
            delta *= 2;
        while (delta * delta < least);
        return delta;
    }
    double deviation = sqrt(net->squares / net->weight);
    if (!net->was_full) {
        double near = 2 * sqrt(of_bits(ranked(older, n, (n + 1) / 2)));
        return near <= deviation / 2 ? near : delta;
    }
    double least = of_bits(ranked(older, n, net->n - goal(plan))), group = below_gap(older, n, least);
    double needed = root_above(fmax(GAP * group, least));
    if (round > 0)
        needed = fmax(needed, delta * GROWTH);
    if (needed * needed > HOPELESS * deviation * deviation)
        needed = fmax(needed, EVERYTHING * deviation);
    return needed;
}

size_t net_regroup(struct net *net, const struct kernels *kernels, unsigned round)
{
    struct regions r = regions_of(net);
    size_t before = net->n, kept = 0, d = net->plan->d;
    float key[SHAPE_DIM_MAX], distance;
    if (round == 0)
        net->was_full = net->plan->most > 0 && before > net->plan->most;
    if (before > 1)
        net->delta = grown(net, older_neighbours(net, kernels), round);
    for (size_t b = 0; b < before; b++) {
        read_centre(net, kernels, b, key);
        size_t a = nearest(net, kernels, key, 0, kept, &distance);
        if (kept > 0 && within(net, distance)) {
            r.into[b] = (uint32_t)a | MERGED;
            net->spread += r.counts[b] * distance;
            net->n_merged++;
            continue;
        }
        r.into[b] = (uint32_t)kept;
        if (kept < b)
            kernels->pack_keys[net->plan->storage->id](key, 1, d, r.centres, kept);
        kept++;
    }
    net->n = kept;
    return before;
}

size_t net_destination(const struct net *net, size_t cluster, bool *merges)
{
    const char *bytes = page_data(net->page);
    uint32_t into = ((const uint32_t *)(const void *)(bytes + layout_of(net->plan, net->capacity).into))[cluster];
    *merges = into & MERGED;
    return into & ~MERGED;
}

struct net_move net_move(struct net *net, size_t cluster)
{
    double *counts = regions_of(net).counts;
    struct net_move m = {.weight = counts[cluster]};
    m.to = net_destination(net, cluster, &m.merges);
    counts[m.to] = m.total = m.merges ? counts[m.to] + m.weight : m.weight;
    return m;
}

bool net_check(const struct net *net, const struct kernels *kernels, const char **reason)
{
    *reason = "more clusters than there is room for";
    if (net->n > net->capacity || (net->plan->most > 0 && net->n > net->plan->most))
        return false;
    double sum = 0;
    for (size_t a = 0; a < net->n; a++)
        sum += net_count(net, a);
    *reason = "the counts of clusters don't add up";
    if (fabs(sum - net->weight) > 1e-9 * net->weight)
        return false;
    *reason = "two centres are within delta";
    float key[SHAPE_DIM_MAX], distance;
    if (net->n > 1) {
        read_centre(net, kernels, net->n - 1, key);
        nearest(net, kernels, key, 0, net->n - 1, &distance);
        return !within(net, distance);
    }
    return true;
}
