#include "tools/limits/draw.h"

#include "base/coins.h"

#include <math.h>

/* Two lanes, far from those of the policies, for the two coins of a normal number. */
enum { LANE_DRAW = 1000, LANE_DRAW_2, LANE_RADIUS };

static const double PI = 3.14159265358979323846;

double draw_uniform(uint64_t seed, uint64_t row, uint64_t column)
{
    return coin(seed, LANE_DRAW, row, column);
}

double draw_sign(uint64_t seed, uint64_t row, uint64_t column)
{
    return draw_uniform(seed, row, column) < 0.5 ? -1 : 1;
}

/* Box and Muller: the radius from one uniform number, the angle from the other. */
double draw_normal(uint64_t seed, uint64_t row, uint64_t column)
{
    double u = 1 - coin(seed, LANE_DRAW, row, column), angle = 2 * PI * coin(seed, LANE_DRAW_2, row, column);
    return sqrt(-2 * log(u)) * cos(angle);
}

void draw_on_sphere(uint64_t seed, uint64_t row, size_t d, float *out)
{
    double norm = 0;
    for (size_t c = 0; c < d; c++) {
        double x = draw_normal(seed, row, c);
        out[c] = (float)x;
        norm += x * x;
    }
    for (size_t c = 0; c < d; c++)
        out[c] = (float)((double)out[c] / sqrt(norm));
}

void draw_in_ball(uint64_t seed, uint64_t row, size_t d, float *out)
{
    double radius = pow(coin(seed, LANE_RADIUS, row, 0), 1.0 / (double)d);
    draw_on_sphere(seed, row, d, out);
    for (size_t c = 0; c < d; c++)
        out[c] = (float)((double)out[c] * radius);
}
