#include "base/coins.h"

uint64_t mix(uint64_t x)
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

double coin(uint64_t seed, uint64_t lane, uint64_t token, uint64_t slot)
{
    uint64_t h = mix(mix(mix(mix(seed) ^ lane) ^ token) ^ slot);
    return (double)(h >> 11) * 0x1p-53;
}

uint64_t head_seed(uint64_t seed, uint64_t layer, uint64_t kv_head)
{
    return mix(mix(mix(seed) ^ layer) ^ kv_head);
}
