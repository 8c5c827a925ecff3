#include "tools/feed/synthetic.h"

#include "base/coins.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* Lanes 0..4 are the noise of q, k1, v1, k2, v2. */
enum lane {
    LANE_A = 8,       /* + tensor: centres */
    LANE_B = 16,      /* + tensor: where drifting centres turn to */
    LANE_W = 24,      /* + tensor: values of clusters */
    LANE_CHOICE = 32, /* + stream */
    LANE_AIM = 34,    /* + stream */
    LANE_HITTER = 36,
    LANE_M = 37,
};

static const double two_pi = 6.283185307179586, hitter_nats = 6;

static const char *const names[N_SYNTHETIC] = {"isotropic", "clustered", "drifting", "heavy"};

const char *synthetic_name(enum synthetic_kind kind)
{
    return names[kind];
}

int synthetic_from_name(const char *name)
{
    for (int i = 0; i < N_SYNTHETIC; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return ERR_INVALID;
}

static uint64_t series(const struct synthetic *s, uint32_t layer, uint64_t lane, uint64_t token)
{
    return mix(mix(mix(mix(s->seed) ^ layer) ^ lane) ^ token);
}

static double uniform(uint64_t base, uint64_t i)
{
    return (double)(mix(base + i) >> 11) * 0x1p-53;
}

static float normal(uint64_t base, uint64_t i)
{
    uint64_t w = mix(base + i);
    uint64_t sum = (w & 0xffff) + (w >> 16 & 0xffff) + (w >> 32 & 0xffff) + (w >> 48);
    return ((float)sum - 131070.0f) * (1.7320508f / 65536);
}

/* How the vectors of a cluster are put together at this token. */
struct turn {
    float along, across; /* of A and B */
    bool turns;
};

static struct turn turn_of(const struct synthetic *s, uint64_t token)
{
    double w = two_pi * (double)token / (double)s->period;
    return s->kind == SYNTHETIC_DRIFTING ? (struct turn){(float)cos(w), (float)sin(w), true} : (struct turn){1, 0, false};
}

/* out[c] *= the centre of key tensor `tensor` of the cluster at the numbers of a kv head. */
static void times_centre(const struct synthetic *s, uint32_t layer, uint64_t token, size_t tensor, uint64_t cluster,
                         size_t kv_head, size_t width, float *out)
{
    uint64_t a = series(s, layer, LANE_A + tensor, cluster), b = series(s, layer, LANE_B + tensor, cluster);
    struct turn turn = turn_of(s, token);
    for (size_t c = 0; c < width; c++) {
        float centre = normal(a, kv_head * width + c);
        if (turn.turns)
            centre = turn.along * centre + turn.across * normal(b, kv_head * width + c);
        out[c] *= centre;
    }
}

static uint64_t draw(const struct synthetic *s, uint32_t layer, uint64_t lane, uint64_t token, size_t head)
{
    return (uint64_t)(uniform(series(s, layer, lane, token), head) * (double)s->clusters);
}

/* The structure of one head's vector, without its noise, and how much noise goes on top. */
static float clustered_head(const struct synthetic *s, const struct shape *shape, uint32_t layer, uint64_t token, size_t tensor,
                            size_t head, size_t width, float *out)
{
    size_t streams = attention_streams((enum attention_kind)shape->kind[layer]);
    for (size_t c = 0; c < width; c++)
        out[c] = 1;
    if (tensor == 0) {
        size_t kv_head = head / (shape->heads / shape->kv_heads);
        for (size_t i = 0; i < streams; i++)
            times_centre(s, layer, token, 1 + 2 * i, draw(s, layer, LANE_AIM + i, token, head), kv_head, width, out);
        return (float)s->spread;
    }
    uint64_t cluster = draw(s, layer, LANE_CHOICE + (tensor - 1) / 2, token, head);
    if (tensor % 2) {
        times_centre(s, layer, token, tensor, cluster, head, width, out);
        return (float)s->spread;
    }
    uint64_t w = series(s, layer, LANE_W + tensor, cluster);
    for (size_t c = 0; c < width; c++)
        out[c] = normal(w, head * width + c);
    return 1;
}

static float heavy_head(const struct synthetic *s, const struct shape *shape, uint32_t layer, uint64_t token, size_t tensor,
                        size_t head, size_t width, float *out)
{
    uint64_t m = series(s, layer, LANE_M, 0);
    bool hitter = token == 0 || uniform(series(s, layer, LANE_HITTER, token), 0) < s->hitters;
    size_t kv_head = tensor == 0 ? head / (shape->heads / shape->kv_heads) : head;
    float share = tensor == 0 ? 1 : tensor == 1 && hitter ? (float)(hitter_nats / ((double)shape->scale * (double)width)) : 0;
    for (size_t c = 0; c < width; c++)
        out[c] = share != 0 ? share * normal(m, kv_head * width + c) : tensor == 3 && hitter ? 1 : 0;
    return 1;
}

void synthetic_fill(const struct synthetic *s, const struct shape *shape, uint32_t layer, uint64_t token, size_t tensor,
                    float *out)
{
    size_t heads = tensor == 0 ? shape->heads : shape->kv_heads;
    size_t width = tensor == 0 || tensor % 2 ? shape->key_dim : shape->value_dim;
    uint64_t noise = series(s, layer, tensor, token);
    for (size_t h = 0; h < heads; h++) {
        float *x = out + h * width, share = 1;
        switch (s->kind) {
        case SYNTHETIC_CLUSTERED:
        case SYNTHETIC_DRIFTING: share = clustered_head(s, shape, layer, token, tensor, h, width, x); break;
        case SYNTHETIC_HEAVY: share = heavy_head(s, shape, layer, token, tensor, h, width, x); break;
        case SYNTHETIC_ISOTROPIC:
        case N_SYNTHETIC: memset(x, 0, width * sizeof *x); break;
        }
        for (size_t c = 0; c < width; c++)
            x[c] += share * normal(noise, h * width + c);
    }
}
