#include "tests/lib/cache/drive.h"
#include "attention/attend.h"
#include "base/coins.h"
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- tokens */

uint64_t drive_random(uint64_t *state, uint64_t n)
{
    *state = mix(*state);
    return *state % n;
}

static float normal(uint64_t seed, uint64_t lane, uint64_t i)
{
    double u = 1 - coin(seed, lane, i, 0), v = coin(seed, lane, i, 1);
    return (float)(sqrt(-2 * log(u)) * cos(2 * 3.14159265358979323846 * v));
}

static float *normals(size_t n, float deviation, uint64_t seed, uint64_t lane)
{
    float *x = malloc((n + 1) * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = deviation * normal(seed, lane, i);
    return x;
}

void tokens_random(struct tokens *t, enum attention_kind kind, size_t n, size_t group, size_t d, size_t e, uint64_t seed)
{
    *t = (struct tokens){.kind = kind, .n = n, .group = group, .d = d, .e = e, .scale = 1 / sqrtf((float)d)};
    t->q = normals(n * group * d, 2 * t->scale, seed, 0);
    for (size_t s = 0; s < attention_streams(kind); s++) {
        t->key[s] = normals(n * d, 1, seed, 1 + 2 * s);
        t->value[s] = normals(n * e, 1, seed, 2 + 2 * s);
    }
}

void tokens_free(struct tokens *t)
{
    free(t->q);
    for (size_t s = 0; s < 2; s++) {
        free(t->key[s]);
        free(t->value[s]);
    }
    *t = (struct tokens){0};
}

static float round_to(float x, enum storage_id storage)
{
    uint32_t bits;
    if (storage != STORAGE_BF16)
        return x;
    memcpy(&bits, &x, sizeof bits);
    bits += 0x7fff + (bits >> 16 & 1); /* nearest, ties to even */
    bits &= 0xffff0000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}

void tokens_round(struct tokens *t, enum storage_id keys, enum storage_id values)
{
    for (size_t s = 0; s < attention_streams(t->kind); s++) {
        for (size_t i = 0; i < t->n * t->d; i++)
            t->key[s][i] = round_to(t->key[s][i], keys);
        for (size_t i = 0; i < t->n * t->e; i++)
            t->value[s][i] = round_to(t->value[s][i], values);
    }
}

void drive_stored(const struct storage *storage, float *rows, size_t n, size_t width)
{
    const struct kernels *scalar = kernels_find("scalar");
    void *block = calloc(n + 1, storage->value_bytes(width) + 1);
    scalar->pack_values[storage->id](rows, n, width, block, 0);
    scalar->unpack_values[storage->id](block, 0, n, width, rows);
    free(block);
}

/* ---- one cache */

static int open_quietly(struct drive *drive, const struct tokens *tokens, const char *text, const struct kernels *kernels,
                        uint64_t expected_tokens, struct fault *fault)
{
    struct profile_choice choice;
    struct profile *profile = malloc(sizeof *profile);
    *drive = (struct drive){.tokens = tokens, .kernels = kernels};
    drive->dims = (struct cache_dims){.kind = tokens->kind,
                                      .d = tokens->d,
                                      .e = tokens->e,
                                      .group = tokens->group,
                                      .scale = tokens->scale,
                                      .expected_tokens = expected_tokens};
    int err = profile_choice_parse(&choice, text, fault);
    if (!err)
        err = profile_find(profile, NULL, 0, choice.name, fault);
    if (!err)
        err = policy_resolve(&drive->policy, profile, &choice, &drive->dims, 0, 0, fault);
    drive->dims.seed = head_seed(drive->policy.seed, 0, 0);
    if (!err)
        err = drive->policy.ops->create(&drive->cache, &drive->dims, &drive->policy, kernels);
    free(profile);
    return err;
}

bool drive_open(struct drive *drive, const struct tokens *tokens, const char *choice, const struct kernels *kernels,
                uint64_t expected_tokens)
{
    struct fault fault = {0};
    int err = open_quietly(drive, tokens, choice, kernels, expected_tokens, &fault);
    CU_assertImplementation(err == 0, __LINE__, err ? fault.text : "opened", choice, "", CU_FALSE);
    return err == 0;
}

int drive_refusal(const struct tokens *tokens, const char *choice, uint64_t expected_tokens, struct fault *fault)
{
    struct drive drive;
    int err = open_quietly(&drive, tokens, choice, kernels_find("scalar"), expected_tokens, fault);
    drive_close(&drive);
    return err;
}

void drive_close(struct drive *drive)
{
    if (drive->cache)
        drive->cache->ops->destroy(drive->cache);
    drive->cache = NULL;
}

static void check_invariants(struct drive *drive)
{
    struct cache *cache = drive->cache;
    const struct cache_ops *ops = cache->ops;
    const char *reason = "";
    bool good = ops->check_state(cache, &reason);
    CU_assertImplementation(good, __LINE__, reason, ops->name, "", CU_FALSE);
    size_t allocated = cache->account.allocated;
    CU_ASSERT(cache->account.resident <= allocated);
    CU_ASSERT(allocated <= ops->worst_bytes(&drive->policy, &drive->dims, cache->n_tokens));
    uint64_t budget = policy_budget(&drive->policy, &drive->dims);
    CU_ASSERT(budget == 0 || allocated <= budget);
    CU_ASSERT(cache_control_bytes(cache) > 0 && cache_control_bytes(cache) < CACHE_CONTROL_MAX);
}

/* Blocks are filled with NaN first: nothing that was not written may reach an output. */
static void *nan_block(size_t bytes)
{
    size_t rounded = (bytes + 63) / 64 * 64 + 64;
    void *block = aligned_alloc(64, rounded);
    memset(block, 0xff, rounded);
    return block;
}

static void attend(struct drive *drive, uint64_t first_query, uint64_t step, const float *q, size_t n, float *out)
{
    const struct tokens *t = drive->tokens;
    struct attend a = {.kernels = drive->kernels,
                       .compute = drive->policy.compute,
                       .group = t->group,
                       .d = t->d,
                       .e = t->e,
                       .n_tokens = n,
                       .first_token = first_query,
                       .token_step = step,
                       .q = q,
                       .out = out,
                       .out_stride = t->group * t->e};
    a.n_views = drive->cache->ops->view(drive->cache, first_query, q, a.view);
    size_t n_units = attend_units(&a);
    void *shared = nan_block(attend_shared_bytes(&a)), *scratch = nan_block(attend_scratch_bytes(&a));
    for (size_t u = 0; u < n_units; u++)
        attend_unit(&a, u, shared, scratch);
    attend_finish(&a, shared);
    free(shared);
    free(scratch);
}

void drive_attend(struct drive *drive, const float *q, size_t n_tokens, float *out)
{
    attend(drive, drive->cache->n_tokens - 1, 0, q, n_tokens, out);
}

static int append(struct drive *drive, size_t at, size_t n)
{
    const struct tokens *t = drive->tokens;
    struct token_run run = {.first = at, .n = n};
    for (size_t s = 0; s < attention_streams(t->kind); s++) {
        run.key[s] = t->key[s] + at * t->d;
        run.value[s] = t->value[s] + at * t->e;
    }
    return drive->cache->ops->append(drive->cache, &run);
}

static void observe(struct drive *drive, size_t at, size_t n)
{
    const struct tokens *t = drive->tokens;
    struct attention_record record = {.first = at, .n_tokens = n, .q = t->q + at * t->group * t->d};
    if (drive->cache->ops->observe)
        drive->cache->ops->observe(drive->cache, &record);
}

int drive_append_within(struct drive *drive, size_t at, size_t n, size_t room)
{
    struct page_account *account = &drive->cache->account;
    account->limit = account->allocated + room;
    int err = append(drive, at, n);
    if (!err)
        observe(drive, at, n);
    account->limit = 0;
    return err;
}

void drive_run(struct drive *drive, size_t first, size_t n, size_t batch, float *out)
{
    const struct tokens *t = drive->tokens;
    struct cache *cache = drive->cache;
    uint64_t random = 7;
    for (size_t at = first; at < first + n;) {
        size_t message = batch ? batch : 1 + (size_t)drive_random(&random, 200), end = at + message;
        end = end < first + n ? end : first + n;
        while (at < end) {
            size_t most = cache->ops->run_max(cache), run = end - at < most ? end - at : most;
            CU_ASSERT_FATAL(most >= 1 && cache->n_tokens == at);
            CU_ASSERT_EQUAL_FATAL(append(drive, at, run), 0);
            CU_ASSERT_EQUAL(cache->n_tokens, at + run);
            check_invariants(drive);
            if (out)
                attend(drive, at, 1, t->q + at * t->group * t->d, run, out + (at - first) * t->group * t->e);
            observe(drive, at, run);
            check_invariants(drive);
            at += run;
        }
    }
}

/* ---- state */

static size_t last_views(struct drive *drive, struct view view[2])
{
    uint64_t n = drive->cache->n_tokens;
    return drive->cache->ops->view(drive->cache, n ? n - 1 : 0, drive->tokens->q, view);
}

size_t drive_rows(struct drive *drive, size_t which)
{
    struct view view[2];
    size_t n_views = last_views(drive, view), n = 0;
    for (size_t i = 0; which < n_views && i < view[which].n_seg; i++)
        n += view[which].seg[i].n;
    return n;
}

static uint64_t hash_bytes(uint64_t h, const void *data, size_t bytes)
{
    const unsigned char *at = data;
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ at[i]) * UINT64_C(0x100000001b3);
    return h;
}

static uint64_t hash_number(uint64_t h, uint64_t x)
{
    return hash_bytes(h, &x, sizeof x);
}

static uint64_t hash_segment(uint64_t h, const struct segment *s, const struct tokens *t)
{
    const struct kernels *scalar = kernels_find("scalar");
    float *row = malloc((t->d + t->e) * sizeof *row);
    h = hash_number(hash_number(hash_number(h, s->n), s->first), s->span);
    for (size_t i = s->row; i < s->row + s->n; i++) {
        scalar->unpack_keys[s->key_storage->id](s->keys, i, 1, t->d, row);
        h = hash_bytes(h, row, t->d * sizeof *row);
        if (s->values) {
            scalar->unpack_values[s->value_storage->id](s->values, i, 1, t->e, row);
            h = hash_bytes(h, row, t->e * sizeof *row);
        }
        if (s->log_den)
            h = hash_bytes(h, &s->log_den[i], sizeof(float));
        if (s->log_num)
            h = hash_bytes(h, &s->log_num[i], sizeof(float));
    }
    free(row);
    return h;
}

uint64_t drive_shown(struct drive *drive)
{
    struct view view[2];
    size_t n_views = last_views(drive, view);
    uint64_t h = hash_number(UINT64_C(0xcbf29ce484222325), drive->cache->n_tokens);
    for (size_t v = 0; v < n_views; v++) {
        h = hash_number(h, view[v].n_seg);
        for (size_t i = 0; i < view[v].n_seg; i++)
            h = hash_segment(h, &view[v].seg[i], drive->tokens);
    }
    return h;
}

uint64_t drive_state(struct drive *drive)
{
    return hash_number(drive_shown(drive), drive->cache->account.allocated);
}

bool drive_same_state(struct drive *a, struct drive *b)
{
    return drive_state(a) == drive_state(b);
}

/* ---- references */

static double dot(const float *a, const float *b, const float *c, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * b[i] * (c ? c[i] : 1);
    return sum;
}

void reference_attend(const struct tokens *t, size_t token, size_t g, const unsigned char *see1, const unsigned char *see2,
                      double *out)
{
    const float *q = t->q + (token * t->group + g) * t->d;
    bool tensor = t->kind == ATTENTION_TENSOR;
    size_t n2 = tensor ? t->n : 1;
    double max = -INFINITY, sum = 0, *s = malloc(t->n * n2 * sizeof *s);
    for (size_t i = 0; i < t->n; i++)
        for (size_t j = 0; j < n2; j++) {
            unsigned char a = see1[i], b = tensor ? see2[j] : SEEN;
            double x = -INFINITY;
            if (a == SEEN && b == SEEN)
                x = dot(q, t->key[0] + i * t->d, tensor ? t->key[1] + j * t->d : NULL, t->d);
            else if (a != HIDDEN && b != HIDDEN)
                x = 0;
            s[i * n2 + j] = x;
            max = x > max ? x : max;
        }
    for (size_t c = 0; c < t->e; c++)
        out[c] = 0;
    for (size_t i = 0; i < t->n; i++)
        for (size_t j = 0; j < n2; j++) {
            double p = s[i * n2 + j] == -INFINITY ? 0 : exp(s[i * n2 + j] - max);
            sum += p;
            for (size_t c = 0; p > 0 && c < t->e; c++)
                out[c] += p * t->value[0][i * t->e + c] * (tensor ? t->value[1][j * t->e + c] : 1);
        }
    for (size_t c = 0; c < t->e; c++)
        out[c] /= sum;
    free(s);
}

void reference_window(size_t n, size_t token, size_t window, size_t sinks, bool unmasked, unsigned char *see)
{
    for (size_t i = 0; i < n; i++) {
        bool inside = i < sinks || token - i < window;
        see[i] = i > token ? HIDDEN : inside ? SEEN : unmasked ? ZERO : HIDDEN;
    }
}

double *reference_outputs(const struct tokens *t, const size_t w[2], size_t sinks, bool unmasked)
{
    double *out = malloc(t->n * t->group * t->e * sizeof *out);
    unsigned char *see = malloc(2 * t->n);
    for (size_t token = 0; token < t->n; token++)
        for (size_t g = 0; g < t->group; g++) {
            for (size_t s = 0; s < 2; s++)
                reference_window(t->n, token, w[s], sinks, unmasked, see + s * t->n);
            reference_attend(t, token, g, see, see + t->n, out + (token * t->group + g) * t->e);
        }
    free(see);
    return out;
}

double drive_worst_error(const float *out, const double *reference, size_t n_queries, size_t e)
{
    double worst = 0;
    for (size_t i = 0; i < n_queries; i++) {
        double error = test_relative_error(out + i * e, reference + i * e, e);
        worst = error > worst || isnan(error) ? error : worst;
        if (isnan(worst))
            break;
    }
    return worst;
}

double drive_worst_difference(const float *a, const float *b, size_t n_queries, size_t e)
{
    double worst = 0, *wide = malloc((n_queries * e + 1) * sizeof *wide);
    for (size_t i = 0; i < n_queries * e; i++)
        wide[i] = b[i];
    worst = drive_worst_error(a, wide, n_queries, e);
    free(wide);
    return worst;
}
