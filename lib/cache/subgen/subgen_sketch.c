#include "cache/subgen/subgen_sketch.h"

#include "base/coins.h"
#include "sketch/gather.h"
#include "sketch/slots.h"

#include <assert.h>
#include <math.h>

enum { START = 16 }; /* clusters, and samples, that blocks start with */

/* ---- room */

static size_t panels_up(size_t rows)
{
    return (rows + PANEL - 1) / PANEL * PANEL;
}

static struct row_format samples_format(const struct sketch_plan *plan)
{
    return (struct row_format){
        plan->net.storage, plan->value_storage, plan->net.d, sketch_is_paper(plan) ? 0 : plan->e, ROWS_WEIGHTED, 0};
}

/* A value's side is log(s |v|^2), a double. */
struct row_format sketch_values_format(const struct sketch_plan *plan)
{
    return (struct row_format){plan->net.storage, plan->value_storage, plan->net.d, plan->e, ROWS_SPLIT, sizeof(double)};
}

/* Clusters to have room for when there may be n: one more than may stay, since the newest is counted before they regroup. */
static size_t clusters_to_hold(const struct sketch_plan *plan, uint64_t n)
{
    size_t most = plan->net.most;
    return most > 0 && n > most ? most + 1 : (size_t)n;
}

static size_t capacity_for(size_t n, size_t most)
{
    return rows_doubled(n, START, most ? panels_up(most) : (size_t)1 << 62);
}

static size_t clusters_capacity(const struct sketch_plan *plan, size_t clusters)
{
    return capacity_for(clusters, plan->net.most ? plan->net.most + 1 : 0);
}

static size_t samples_capacity(const struct sketch_plan *plan, size_t clusters)
{
    return capacity_for(clusters * plan->n_samples, plan->net.most ? (plan->net.most + 1) * plan->n_samples : 0);
}

/* Two numbers per row of samples: gather's. */
static size_t moves_bytes(size_t capacity)
{
    return page_rounded(2 * capacity * sizeof(uint32_t));
}

size_t sketch_bytes(const struct sketch_plan *plan, uint64_t n_rows)
{
    struct row_format samples = samples_format(plan), values = sketch_values_format(plan);
    if (n_rows == 0)
        return 0;
    /* More rows than any memory could hold: the answer only has to be as large as nobody has. */
    if (plan->net.most == 0 && n_rows > (UINT64_C(1) << 40) / plan->n_samples)
        return SIZE_MAX / 8;
    size_t clusters = clusters_to_hold(plan, n_rows), capacity = samples_capacity(plan, clusters);
    return net_bytes(&plan->net, clusters_capacity(plan, clusters)) + rows_bytes(&samples, capacity) +
           (plan->refills ? moves_bytes(capacity) : 0) + (plan->n_values ? rows_bytes(&values, panels_up(plan->n_values)) : 0);
}

static bool fits(struct sketch_plan *plan, size_t most, size_t bytes)
{
    plan->net.most = most;
    return sketch_bytes(plan, UINT64_MAX) <= bytes;
}

/* Regions only ever round up, by less than a panel each: so the plain quotient is never too small, and it is too large by a few
 * panels at most, unless values take the bytes. */
size_t sketch_fitting(const struct sketch_plan *plan, size_t bytes)
{
    const size_t many = 64, margin = 128; /* rows that round nothing up; clusters */
    struct sketch_plan p = *plan;
    struct row_format format = samples_format(plan);
    size_t row = rows_bytes(&format, many) / many + (plan->refills ? 2 * sizeof(uint32_t) : 0);
    size_t cluster = plan->net.storage->key_bytes(plan->net.d) + sizeof(double) + sizeof(uint32_t) + row * plan->n_samples;
    size_t too_many = bytes / cluster + 1, few = too_many > margin ? too_many - margin : 0;
    if (few > 0 && !fits(&p, few, bytes))
        few = 0;
    while (too_many - few > 1) {
        size_t middle = few + (too_many - few) / 2;
        *(fits(&p, middle, bytes) ? &few : &too_many) = middle;
    }
    return few;
}

void sketch_init(struct sketch *sketch, const struct sketch_plan *plan, double delta, uint32_t lane)
{
    *sketch = (struct sketch){.plan = plan, .t = plan->n_samples, .lane = lane};
    net_init(&sketch->net, &plan->net, delta);
}

void sketch_release(struct sketch *sketch)
{
    net_release(&sketch->net);
    rows_release(&sketch->samples);
    rows_release(&sketch->values);
    page_release(&sketch->moves);
}

static int room_of_rows(struct rows *rows, const struct row_format *format, struct page_account *account, size_t n,
                        size_t capacity)
{
    if (rows->capacity == 0)
        return rows_create(rows, format, account, capacity);
    return rows->capacity < capacity ? rows_grow(rows, format, account, n, capacity) : rows_own(rows);
}

static int room_to_move(struct page **moves, struct page_account *account, size_t capacity)
{
    size_t bytes = moves_bytes(capacity);
    if (*moves && page_bytes(*moves) >= bytes)
        return page_write(moves, 0) ? 0 : ERR_NO_MEMORY;
    struct page *larger;
    int err = page_create(&larger, account, bytes);
    if (!err) {
        page_release(moves);
        *moves = larger;
    }
    return err;
}

int sketch_reserve(struct sketch *sketch, struct page_account *account, uint64_t clusters)
{
    const struct sketch_plan *plan = sketch->plan;
    struct row_format samples = samples_format(plan), values = sketch_values_format(plan);
    uint64_t n = sketch->net.n + clusters;
    if (plan->net.most == 0 && n > (UINT64_C(1) << 40) / plan->n_samples)
        return ERR_NO_MEMORY;
    size_t hold = clusters_to_hold(plan, n), capacity = samples_capacity(plan, hold);
    size_t n_rows = sketch->net.n * sketch->t;
    int err = net_reserve(&sketch->net, account, clusters_capacity(plan, hold));
    if (!err)
        err = room_of_rows(&sketch->samples, &samples, account, n_rows, capacity);
    if (!err && plan->refills)
        err = room_to_move(&sketch->moves, account, sketch->samples.capacity);
    if (!err && plan->n_values)
        err = room_of_rows(&sketch->values, &values, account, 0, panels_up(plan->n_values));
    return err;
}

/* ---- samples */

/* The block's log weights, of the numerator, for writing. */
static float *weights_of(struct rows *rows, const struct row_format *format)
{
    size_t at = (size_t)((const char *)rows_log_num(rows, format) - (const char *)page_data(rows->page));
    char *bytes = page_write(&rows->page, page_bytes(rows->page));
    assert(bytes);
    return (float *)(void *)(bytes + at);
}

static void weigh_cluster(struct sketch *sketch, float *weights, size_t cluster)
{
    float weight = (float)log(net_count(&sketch->net, cluster) / sketch->t);
    for (size_t j = 0; j < sketch->t; j++)
        weights[cluster * sketch->t + j] = weight;
}

/* Samples beyond the first t of each cluster are dropped. */
static void shrink(struct sketch *sketch, const struct row_format *format, const struct kernels *kernels, uint32_t t)
{
    for (size_t a = 0; a < sketch->net.n; a++)
        for (size_t j = 0; j < t; j++)
            if (a > 0)
                rows_copy(&sketch->samples, a * t + j, &sketch->samples, a * sketch->t + j, format);
    sketch->t = t;
    float *weights = weights_of(&sketch->samples, format);
    for (size_t a = 0; a < sketch->net.n; a++)
        weigh_cluster(sketch, weights, a);
}

static void make_room_for_one_more(struct sketch *sketch, const struct row_format *format, const struct kernels *kernels)
{
    uint32_t least = sketch->plan->n_samples, t = sketch->t;
    while (t > least && (sketch->net.n + 1) * t > sketch->samples.capacity)
        t = t - t / 8 - 1 > least ? t - t / 8 - 1 : least;
    if (t < sketch->t)
        shrink(sketch, format, kernels, t);
}

static void sample(struct sketch *sketch, const struct row_format *format, const struct kernels *kernels, size_t cluster,
                   const float *key, const float *value, const struct slots_draw *draw)
{
    for (size_t j = 0; j < sketch->t; j += SLOTS_AT_ONCE) {
        size_t n = sketch->t - j < SLOTS_AT_ONCE ? sketch->t - j : SLOTS_AT_ONCE;
        for (uint64_t taking = slots_taking(draw, j, n); taking; taking &= taking - 1) {
            size_t row = cluster * sketch->t + j + (size_t)__builtin_ctzll(taking);
            rows_write(&sketch->samples, format, kernels, row, 1, key, value);
        }
    }
}

/* ---- regrouping */

/* How many samples a cluster may have after a regrouping. An eighth of the room is left for new clusters, so that the next ones
 * don't shrink t at once. */
static uint32_t refilled(const struct sketch *sketch, unsigned round)
{
    size_t n = sketch->net.n, t = sketch->samples.capacity / (n + n / 8);
    if (!sketch->plan->refills || net_is_due(&sketch->net, round + 1) || t < sketch->t)
        return sketch->t;
    return (uint32_t)t;
}

/* The draw of the slots of a cluster that merges, and the number of the first one. */
static struct slots_draw merge_draw(const struct sketch *sketch, uint64_t token, const struct net_move *m)
{
    return slots_draw(sketch->plan->seed, LANE_MERGE + sketch->lane, token, m->total, m->weight);
}

static uint64_t merge_slot(size_t cluster, uint32_t t, unsigned round)
{
    return (uint64_t)cluster * t + ((uint64_t)round << 32);
}

/* t stays: what is written lies before what is still to be read. */
static void move_in_order(struct sketch *sketch, const struct row_format *format, const struct kernels *kernels, size_t before,
                          uint64_t token, unsigned round)
{
    struct rows *rows = &sketch->samples;
    uint32_t t = sketch->t;
    for (size_t b = 0; b < before; b++) {
        struct net_move m = net_move(&sketch->net, b);
        if (!m.merges) {
            for (size_t j = 0; m.to != b && j < t; j++)
                rows_copy(rows, m.to * t + j, rows, b * t + j, format);
            continue;
        }
        struct slots_draw draw = merge_draw(sketch, token, &m);
        for (size_t j = 0; j < t; j += SLOTS_AT_ONCE) {
            uint64_t taking = slots_taking(&draw, merge_slot(b, t, round) + j, t - j < SLOTS_AT_ONCE ? t - j : SLOTS_AT_ONCE);
            for (; taking; taking &= taking - 1) {
                size_t slot = j + (size_t)__builtin_ctzll(taking);
                rows_copy(rows, m.to * t + slot, rows, b * t + slot, format);
            }
        }
    }
}

struct mover {
    struct rows *rows;
    const struct row_format *format;
    const struct kernels *kernels;
    float key[SHAPE_DIM_MAX], value[SHAPE_DIM_MAX]; /* the spare row */
};

static void move_row(void *context, size_t to, size_t source)
{
    struct mover *m = context;
    if (to == GATHER_SPARE) {
        rows_read_keys(m->rows, m->format, m->kernels, source, 1, m->key);
        if (m->format->e)
            rows_read_values(m->rows, m->format, m->kernels, source, 1, m->value);
    } else if (source == GATHER_SPARE) {
        rows_write(m->rows, m->format, m->kernels, to, 1, m->key, m->value);
    } else {
        rows_copy(m->rows, to, m->rows, source, m->format);
    }
}

/* t grows: each new slot says which old row it takes, and then all rows move. */
static void move_and_grow(struct sketch *sketch, const struct row_format *format, const struct kernels *kernels, size_t before,
                          uint64_t token, unsigned round, uint32_t t)
{
    size_t capacity = sketch->samples.capacity;
    uint32_t *from = page_write(&sketch->moves, moves_bytes(capacity)), old = sketch->t;
    assert(from);
    for (size_t b = 0; b < before; b++) {
        struct net_move m = net_move(&sketch->net, b);
        struct slots_draw draw = {0};
        if (m.merges)
            draw = merge_draw(sketch, token, &m);
        for (size_t j = 0; j < t; j += SLOTS_AT_ONCE) {
            size_t n = t - j < SLOTS_AT_ONCE ? t - j : SLOTS_AT_ONCE;
            uint64_t taking = m.merges ? slots_taking(&draw, merge_slot(b, t, round) + j, n) : UINT64_MAX;
            for (size_t i = 0; i < n; i++)
                if (taking >> i & 1)
                    from[m.to * t + j + i] = (uint32_t)(b * old + (j + i) % old);
        }
    }
    struct mover mover = {.rows = &sketch->samples, .format = format, .kernels = kernels};
    gather(from, from + capacity, sketch->net.n * t, capacity, move_row, &mover);
    sketch->t = t;
}

static void regroup(struct sketch *sketch, const struct row_format *format, const struct kernels *kernels, uint64_t token)
{
    for (unsigned round = 0; net_is_due(&sketch->net, round); round++) {
        size_t before = net_regroup(&sketch->net, kernels, round);
        uint32_t t = refilled(sketch, round);
        if (t > sketch->t)
            move_and_grow(sketch, format, kernels, before, token, round, t);
        else
            move_in_order(sketch, format, kernels, before, token, round);
    }
    float *weights = weights_of(&sketch->samples, format);
    for (size_t a = 0; a < sketch->net.n; a++)
        weigh_cluster(sketch, weights, a);
}

/* ---- values */

static double squared_norm(const float *x, size_t n)
{
    double sum = 0;
    for (size_t c = 0; c < n; c++)
        sum += (double)x[c] * x[c];
    return sum;
}

static void keep_value(struct sketch *sketch, const struct kernels *kernels, const float *key, const float *value,
                       uint64_t token, double weight)
{
    const struct sketch_plan *plan = sketch->plan;
    struct row_format format = sketch_values_format(plan);
    size_t s = plan->n_values;
    double norm = squared_norm(value, plan->e), mass = weight * norm;
    if (mass == 0)
        return;
    sketch->mu += mass;
    struct slots_draw draw = slots_draw(plan->seed, sketch->lane + 1, token, sketch->mu, mass);
    double *sides = rows_side(&sketch->values, &format, 0), side = log((double)s * norm);
    for (size_t j = 0; j < s; j += SLOTS_AT_ONCE) {
        uint64_t taking = slots_taking(&draw, j, s - j < SLOTS_AT_ONCE ? s - j : SLOTS_AT_ONCE);
        for (; taking; taking &= taking - 1) {
            size_t row = j + (size_t)__builtin_ctzll(taking);
            rows_write(&sketch->values, &format, kernels, row, 1, key, value);
            rows_weigh(&sketch->values, &format, row, -INFINITY, 0);
            sides[row] = side;
        }
    }
    float *weights = weights_of(&sketch->values, &format);
    double log_mu = log(sketch->mu);
    for (size_t j = 0; j < s; j++)
        weights[j] = (float)(log_mu - sides[j]);
}

/* ---- rows in, rows out */

void sketch_append_found(struct sketch *sketch, const struct kernels *kernels, const float *key, const float *value,
                         uint64_t token, double weight, size_t cluster, float distance)
{
    struct row_format format = samples_format(sketch->plan);
    if (net_joins(&sketch->net, distance)) {
        double total = net_join(&sketch->net, cluster, distance, key, weight);
        struct slots_draw draw = slots_draw(sketch->plan->seed, sketch->lane, token, total, weight);
        sample(sketch, &format, kernels, cluster, key, value, &draw);
    } else {
        make_room_for_one_more(sketch, &format, kernels);
        cluster = sketch->net.n;
        net_found(&sketch->net, kernels, key, weight);
        for (size_t j = 0; j < sketch->t; j++)
            rows_write(&sketch->samples, &format, kernels, cluster * sketch->t + j, 1, key, value);
    }
    weigh_cluster(sketch, weights_of(&sketch->samples, &format), cluster);
    if (sketch->plan->n_values)
        keep_value(sketch, kernels, key, value, token, weight);
    if (net_is_due(&sketch->net, 0))
        regroup(sketch, &format, kernels, token);
}

void sketch_append(struct sketch *sketch, const struct kernels *kernels, const float *key, const float *value, uint64_t token,
                   double weight)
{
    float rounded[SHAPE_DIM_MAX], distance;
    net_round(&sketch->plan->net, kernels, key, rounded);
    size_t cluster = net_nearest(&sketch->net, kernels, rounded, 0, &distance);
    sketch_append_found(sketch, kernels, rounded, value, token, weight, cluster, distance);
}

/* Samples stand for no single token: span 0, every query sees them. */
size_t sketch_show(const struct sketch *sketch, struct segment *seg)
{
    struct row_format samples = samples_format(sketch->plan), values = sketch_values_format(sketch->plan);
    size_t n = 0;
    if (sketch->net.n > 0)
        seg[n++] = rows_segment(&sketch->samples, &samples, 0, sketch->net.n * sketch->t, 0, 0);
    if (sketch->mu > 0)
        seg[n++] = rows_segment(&sketch->values, &values, 0, sketch->plan->n_values, 0, 0);
    return n;
}

size_t sketch_n_samples(const struct sketch *sketch)
{
    return sketch->net.n * sketch->t;
}

void sketch_read(const struct sketch *sketch, const struct kernels *kernels, size_t row, size_t n, float *keys, float *values)
{
    struct row_format format = samples_format(sketch->plan);
    rows_read_keys(&sketch->samples, &format, kernels, row, n, keys);
    rows_read_values(&sketch->samples, &format, kernels, row, n, values);
}

double sketch_weight(const struct sketch *sketch, size_t row)
{
    return net_count(&sketch->net, row / sketch->t) / sketch->t;
}

size_t sketch_allocated(const struct sketch *sketch)
{
    const struct page *pages[] = {sketch->net.page, sketch->samples.page, sketch->values.page, sketch->moves};
    size_t bytes = 0;
    for (size_t p = 0; p < sizeof pages / sizeof *pages; p++)
        bytes += pages[p] ? page_bytes(pages[p]) : 0;
    return bytes;
}

bool sketch_check(const struct sketch *sketch, const struct kernels *kernels, const char **reason)
{
    struct row_format format = samples_format(sketch->plan);
    if (!net_check(&sketch->net, kernels, reason))
        return false;
    *reason = "clusters have fewer samples than they must, or more than there is room for";
    if (sketch->t < sketch->plan->n_samples || sketch_n_samples(sketch) > sketch->samples.capacity)
        return false;
    *reason = "a sample does not weigh its share of the cluster";
    const float *weights = sketch->net.n > 0 ? rows_log_num(&sketch->samples, &format) : NULL;
    for (size_t a = 0; a < sketch->net.n; a++, weights += sketch->t) {
        float weight = (float)log(net_count(&sketch->net, a) / sketch->t);
        for (size_t j = 0; j < sketch->t; j++)
            if (weights[j] != weight)
                return false;
    }
    return true;
}
