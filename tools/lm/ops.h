/* What a transformer computes beside attention, on arrays of f32 with one token after the other.
 * Threads: pure functions. Nothing may alias but where it says so. Results do not
 * depend on the number of threads: products are cut at constant places. */
#ifndef ATTND_TOOLS_LM_OPS_H
#define ATTND_TOOLS_LM_OPS_H

#include "tools/lm/model.h"
#include "tools/lm/team.h"

/* OpenBLAS itself stays at one thread; to be called before the first product. */
void lm_ops_start(void);

/* y (T, n_out) = x (T, n_in) w^T + bias. Large products are shared out over team (NULL: this thread). */
void lm_product(struct lm_team *team, const struct lm_linear *linear, const float *x, size_t n_tokens, float *y);

/* y_t = x_t / sqrt(mean(x_t^2) + eps) * gain, over n rows of width numbers. y may be x. */
void lm_rms_norm(const float *x, size_t n, size_t width, const float *gain, double eps, float *y);

/* Angular frequency of coordinate pair c of d/2, in radians per position: rope_theta^(-2c/d), scaled as the model says. */
double lm_rotary_frequency(const struct lm_config *config, size_t c);

/* cosine, sine (T, d/2) of the angles of positions first, first + 1, ... */
void lm_rotary_table(const struct lm_config *config, size_t first, size_t n_tokens, float *cosine, float *sine);

/* Turns coordinate c < d/2 with coordinate c + d/2, in place; x (T, heads, d). */
void lm_rotary_turn(const float *cosine, const float *sine, size_t n_tokens, size_t heads, size_t d, float *x);

/* gate = silu(gate) * up, n numbers; silu(g) = g / (1 + e^-g). */
void lm_silu_gate(float *gate, const float *up, size_t n);

/* x += y, n numbers. */
void lm_add(float *x, const float *y, size_t n);

#endif
