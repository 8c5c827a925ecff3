#include "tools/lm/ops.h"

#include <cblas.h>
#include <math.h>

/* A product is cut into tiles of constant size, so that a tile's numbers never depend on who computes it. Tokens: enough rows
 * for sgemm to reach its speed; outputs: a tile of weights, 512 x a few thousand, that fits the second-level cache. */
enum { TILE_TOKENS = 64, TILE_OUTPUTS = 512 };

/* Below this many multiply-adds waking other threads costs more than they save (about 50 us of one core). */
static const double parallel_from = 2e6;

void lm_ops_start(void)
{
    openblas_set_num_threads(1);
}

struct product {
    const struct lm_linear *linear;
    const float *x;
    size_t n_tokens, tile_rows;
    float *y;
};

/* One tile: up to TILE_TOKENS tokens, up to TILE_OUTPUTS outputs. */
static void product_tile(void *context, size_t i)
{
    const struct product *p = context;
    const struct lm_linear *l = p->linear;
    const size_t t = i % p->tile_rows * TILE_TOKENS, o = i / p->tile_rows * TILE_OUTPUTS;
    const size_t n = p->n_tokens - t < TILE_TOKENS ? p->n_tokens - t : TILE_TOKENS;
    const size_t m = l->n_out - o < TILE_OUTPUTS ? l->n_out - o : TILE_OUTPUTS;
    const float *w = l->w + o * l->n_in, *in = p->x + t * l->n_in;
    float *out = p->y + t * l->n_out + o;
    if (n == 1)
        cblas_sgemv(CblasRowMajor, CblasNoTrans, (blasint)m, (blasint)l->n_in, 1, w, (blasint)l->n_in, in, 1, 0, out, 1);
    else
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)n, (blasint)m, (blasint)l->n_in, 1, in, (blasint)l->n_in,
                    w, (blasint)l->n_in, 0, out, (blasint)l->n_out);
    for (size_t r = 0; l->bias && r < n; r++)
        for (size_t c = 0; c < m; c++)
            out[r * l->n_out + c] += l->bias[o + c];
}

void lm_product(struct lm_team *team, const struct lm_linear *linear, const float *x, size_t n_tokens, float *y)
{
    const size_t tile_rows = (n_tokens + TILE_TOKENS - 1) / TILE_TOKENS;
    const size_t tile_columns = (linear->n_out + TILE_OUTPUTS - 1) / TILE_OUTPUTS;
    const double work = (double)n_tokens * (double)linear->n_in * (double)linear->n_out;
    struct product p = {.linear = linear, .x = x, .n_tokens = n_tokens, .tile_rows = tile_rows, .y = y};
    lm_team_run(work >= parallel_from ? team : NULL, tile_rows * tile_columns, product_tile, &p);
}

void lm_rms_norm(const float *x, size_t n, size_t width, const float *gain, double eps, float *y)
{
    for (size_t i = 0; i < n; i++, x += width, y += width) {
        double squares = 0;
        for (size_t c = 0; c < width; c++)
            squares += (double)x[c] * x[c];
        const float factor = (float)(1 / sqrt(squares / (double)width + eps));
        for (size_t c = 0; c < width; c++)
            y[c] = x[c] * factor * gain[c];
    }
}

/* Llama 3.1: waves longer than the context it was trained on / low turn `factor` times slower, waves shorter than context / high
 * as before, those between by a mixture that is linear in context / wavelength. */
static double llama3_frequency(const struct lm_config *c, double frequency)
{
    const double turns = c->rope_context * frequency / (2 * M_PI); /* over the original context */
    if (turns < c->rope_low)
        return frequency / c->rope_factor;
    if (turns > c->rope_high)
        return frequency;
    const double share = (turns - c->rope_low) / (c->rope_high - c->rope_low);
    return (1 - share) * frequency / c->rope_factor + share * frequency;
}

double lm_rotary_frequency(const struct lm_config *config, size_t c)
{
    const double frequency = pow(config->rope_theta, -2.0 * (double)c / (double)config->head_dim);
    switch (config->rope) {
    case LM_ROPE_PLAIN: return frequency;
    case LM_ROPE_LINEAR: return frequency / config->rope_factor;
    case LM_ROPE_LLAMA3: return llama3_frequency(config, frequency);
    }
    return frequency;
}

void lm_rotary_table(const struct lm_config *config, size_t first, size_t n_tokens, float *cosine, float *sine)
{
    const size_t half = config->head_dim / 2;
    for (size_t c = 0; c < half; c++) {
        const double frequency = lm_rotary_frequency(config, c);
        for (size_t t = 0; t < n_tokens; t++) { /* in double: positions times frequency lose bits in f32 */
            const double angle = (double)(first + t) * frequency;
            cosine[t * half + c] = (float)cos(angle);
            sine[t * half + c] = (float)sin(angle);
        }
    }
}

void lm_rotary_turn(const float *cosine, const float *sine, size_t n_tokens, size_t heads, size_t d, float *x)
{
    const size_t half = d / 2;
    for (size_t t = 0; t < n_tokens; t++, cosine += half, sine += half)
        for (size_t h = 0; h < heads; h++, x += d)
            for (size_t c = 0; c < half; c++) {
                const float a = x[c], b = x[c + half];
                x[c] = a * cosine[c] - b * sine[c];
                x[c + half] = b * cosine[c] + a * sine[c];
            }
}

void lm_silu_gate(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        gate[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
}

void lm_add(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] += y[i];
}
