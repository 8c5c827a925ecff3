/* What sketches tell of their state: the gauges of the policies that are made of them. */
#ifndef ATTND_CACHE_SUBGEN_GAUGES_H
#define ATTND_CACHE_SUBGEN_GAUGES_H

#include "cache/cache.h"
#include "cache/subgen/subgen_sketch.h"

enum { SUBGEN_GAUGES = 7 };
_Static_assert((int)SUBGEN_GAUGES <= (int)CACHE_GAUGES_MAX, "telemetry has room for them");

extern const struct cache_gauge subgen_gauges[SUBGEN_GAUGES];

/* values (SUBGEN_GAUGES,): of n sketches together, sums or averages as the gauges say. */
void subgen_measure(const struct sketch *sketch, size_t n, double *values);

#endif
