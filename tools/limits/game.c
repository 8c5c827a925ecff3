#include "tools/limits/game.h"

#include "base/coins.h"
#include "tools/limits/draw.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { QUESTIONS = 256 /* of one part */, TRIES_MAX = 1 << 20 };

double game_keys_there_are(size_t d)
{
    return exp2((double)(d < 40 ? d : 40));
}

double bits_carried(double p)
{
    if (p <= 0.5)
        return 0;
    return p >= 1 ? 1 : 1 + p * log2(p) + (1 - p) * log2(1 - p);
}

double play_distance(const struct play *play)
{
    return play->fano > 0 ? play->bits / play->fano : INFINITY;
}

void game_free(struct game *g)
{
    free(g->place);
    free(g->key);
    free(g->value);
    free(g->chatter);
    free(g->question);
    free(g->ones);
    *g = (struct game){0};
}

static double inner(const float *a, const float *b, size_t d)
{
    double sum = 0;
    for (size_t c = 0; c < d; c++)
        sum += (double)a[c] * (double)b[c];
    return sum;
}

/* Key i of one draw: signs / sqrt(d) unlike all before it, found by drawing again. Raises *eps. */
static bool embed(const struct game *g, size_t draw, size_t i, uint64_t seed, uint64_t *tries, double *eps)
{
    float *key = g->key + (g->place[i] * g->draws + draw) * g->d;
    double size = 1 / sqrt((double)g->d), nearest;
    do {
        if (++*tries > TRIES_MAX)
            return false;
        nearest = -1;
        for (size_t c = 0; c < g->d; c++)
            key[c] = (float)(size * draw_sign(seed, *tries, c));
        for (size_t j = 0; j < i && nearest < 1 - 1e-6; j++)
            nearest = fmax(nearest, inner(key, g->key + (g->place[j] * g->draws + draw) * g->d, g->d));
    } while (nearest > 1 - 1e-6);
    *eps = fmax(*eps, nearest);
    return true;
}

static bool fill_draw(struct game *g, size_t draw, uint64_t seed)
{
    uint64_t tries = 0;
    double eps = 0; /* rows of key 0 are as near as that */
    for (size_t i = 0; i < g->m; i++) {
        float *value = g->value + (g->place[i] * g->draws + draw) * g->e;
        if (!embed(g, draw, i, mix(seed), &tries, &eps))
            return false;
        for (size_t c = 0; c < g->e; c++)
            value[c] = draw_sign(mix(seed + 1), i, c) > 0 ? 1 : 0;
    }
    double strength = 2 * log((double)(g->n > 1 ? g->n : 2)) / (1 - eps), size = 1 / sqrt((double)g->d);
    for (size_t i = 0; i < g->m; i++)
        for (size_t c = 0; c < g->d; c++)
            g->question[(i * g->draws + draw) * g->d + c] =
                (float)(strength * (double)g->key[(g->place[i] * g->draws + draw) * g->d + c]);
    for (size_t t = 0; t < g->n; t++)
        for (size_t c = 0; c < g->d; c++)
            g->chatter[(t * g->draws + draw) * g->d + c] = (float)(strength * size * draw_sign(mix(seed + 2), t, c));
    g->eps = fmax(g->eps, eps);
    g->strength = fmax(g->strength, strength);
    return true;
}

int game_create(struct game *g, size_t n, size_t m, size_t d, size_t e, size_t draws, uint64_t seed, struct fault *fault)
{
    size_t wide = d > e ? d : e;
    *g = (struct game){.n = n, .m = m, .d = d, .e = e, .draws = draws};
    g->place = calloc(m, sizeof *g->place);
    g->key = calloc(n * draws, d * sizeof(float));
    g->value = calloc(n * draws, e * sizeof(float));
    g->chatter = calloc(n * draws, d * sizeof(float));
    g->question = calloc(m * draws, d * sizeof(float));
    g->ones = calloc(n * draws, wide * sizeof(float));
    if (!g->place || !g->key || !g->value || !g->chatter || !g->question || !g->ones) {
        game_free(g);
        return fault_set(fault, ERR_NO_MEMORY, "an INDEX game");
    }
    for (size_t i = 0; i < m; i++)
        g->place[i] = i * n / m;
    for (size_t i = 0; i < n * draws * wide; i++)
        g->ones[i] = 1;
    for (size_t draw = 0; draw < draws; draw++)
        if (!fill_draw(g, draw, mix(seed ^ mix(draw)))) {
            game_free(g);
            return fault_set(fault, ERR_INVALID, "%zu dimensions have no %zu keys that differ", d, m);
        }
    return 0;
}

static int stream(struct trial *trial, const struct game *g, enum attention_kind kind, struct fault *fault)
{
    struct trial_step step = {.n_tokens = g->n,
                              .flags = PART_APPEND,
                              .q = g->chatter,
                              .key = {g->key, kind == ATTENTION_TENSOR ? g->ones : NULL},
                              .value = {g->value, kind == ATTENTION_TENSOR ? g->ones : NULL}};
    return trial_step(trial, &step, fault);
}

static int ask(struct trial *trial, const struct game *g, size_t first_row, struct play *out, struct fault *fault)
{
    size_t n_right = 0, n_whole = 0, rows = (g->m - first_row) * g->draws;
    float *answer = malloc(QUESTIONS * g->draws * g->e * sizeof *answer);
    int err = answer ? 0 : fault_set(fault, ERR_NO_MEMORY, "answers");
    for (size_t i = first_row, n; i < g->m && !err; i += n) {
        n = g->m - i < QUESTIONS ? g->m - i : QUESTIONS;
        struct trial_step step = {.n_tokens = n, .flags = PART_ATTEND, .q = g->question + i * g->draws * g->d, .out = answer};
        err = trial_step(trial, &step, fault);
        for (size_t r = 0; r < n * g->draws && !err; r++) {
            const float *value = g->value + (g->place[i + r / g->draws] * g->draws + r % g->draws) * g->e;
            size_t right = 0;
            for (size_t c = 0; c < g->e; c++)
                right += (answer[r * g->e + c] >= 0.5f) == (value[c] > 0.5f);
            n_right += right;
            n_whole += right == g->e;
        }
    }
    free(answer);
    out->success = (double)n_right / (double)(rows * g->e);
    out->readable = (double)n_whole / (double)rows;
    out->fano = bits_carried(out->success) * (double)(g->m - first_row) * (double)g->e;
    return err;
}

int game_play(struct trial *trial, const struct game *g, enum attention_kind kind, const char *profile, size_t first_row,
              struct play *out, struct fault *fault)
{
    struct shape *shape = calloc(1, sizeof *shape);
    *out = (struct play){0};
    if (!shape)
        return fault_set(fault, ERR_NO_MEMORY, "a stream's shape");
    *shape = (struct shape){.n_layers = 1,
                            .kind = {(unsigned char)kind},
                            .heads = g->draws,
                            .kv_heads = g->draws,
                            .key_dim = g->d,
                            .value_dim = g->e,
                            .scale = 1,
                            .expected_tokens = g->n};
    int err = trial_open(trial, shape, profile, fault);
    free(shape);
    if (!err)
        err = stream(trial, g, kind, fault);
    if (!err) {
        struct engine_stream_state state;
        trial_state(trial, &state);
        out->bits = 8 * (double)state.allocated / (double)g->draws;
        out->kept = (double)state.allocated / (double)state.full_bf16;
        err = ask(trial, g, first_row, out, fault);
    }
    trial_close(trial);
    return err;
}

/* The row whose first `signs` signs differ least from those of a question, the first of equally near ones. */
static size_t look_up(const struct game *g, size_t draw, const float *question, size_t signs)
{
    size_t best = 0, least = SIZE_MAX;
    for (size_t i = 0; i < g->m; i++) {
        const float *key = g->key + (g->place[i] * g->draws + draw) * g->d;
        size_t differ = 0;
        for (size_t c = 0; c < signs; c++)
            differ += (key[c] > 0) != (question[c] > 0);
        if (differ < least) {
            least = differ;
            best = i;
        }
    }
    return best;
}

void game_sketch(const struct game *g, struct play *out)
{
    double wanted = ceil(4 * log2((double)g->n));
    size_t signs = wanted < (double)g->d ? (size_t)wanted : g->d, n_right = 0, n_whole = 0, rows = g->m * g->draws;
    for (size_t r = 0; r < rows; r++) {
        size_t draw = r % g->draws, found = look_up(g, draw, g->question + r * g->d, signs), right = 0;
        const float *asked = g->value + (g->place[r / g->draws] * g->draws + draw) * g->e;
        const float *answer = g->value + (g->place[found] * g->draws + draw) * g->e;
        for (size_t c = 0; c < g->e; c++)
            right += (asked[c] > 0.5f) == (answer[c] > 0.5f);
        n_right += right;
        n_whole += right == g->e;
    }
    *out = (struct play){.bits = (double)(g->m * (signs + g->e)),
                         .success = (double)n_right / (double)(rows * g->e),
                         .readable = (double)n_whole / (double)rows};
    out->kept = out->bits / (16 * (double)g->n * (double)(g->d + g->e));
    out->fano = bits_carried(out->success) * (double)(g->m * g->e);
}
