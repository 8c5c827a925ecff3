/* What is remembered of outputs. */
#include "tests/test.h"

#include "tests/tools/support.h"
#include "tools/feed/witness.h"

#include <stdlib.h>
#include <string.h>

enum { N_FLOATS = 19 };

static void fingerprints_see_every_bit_and_the_order(void)
{
    float x[N_FLOATS], y[N_FLOATS];
    support_fill(x, N_FLOATS, 1, 1);
    for (size_t n = 1; n <= N_FLOATS; n++)
        for (size_t bit = 0; bit < 32 * n; bit++) {
            memcpy(y, x, sizeof y);
            ((unsigned char *)y)[bit / 8] ^= (unsigned char)(1U << bit % 8);
            CU_ASSERT_NOT_EQUAL(fingerprint(x, n), fingerprint(y, n));
        }
    memcpy(y, x, sizeof y);
    y[2] = x[3];
    y[3] = x[2];
    CU_ASSERT_NOT_EQUAL(fingerprint(x, N_FLOATS), fingerprint(y, N_FLOATS));
    CU_ASSERT_NOT_EQUAL(fingerprint(x, 18), fingerprint(x, 19));
    CU_ASSERT_EQUAL(fingerprint(x, N_FLOATS), fingerprint(x, N_FLOATS));
}

static uint64_t code_of(size_t stream, uint32_t layer, uint64_t token)
{
    return (stream * 10 + layer) * 10000 + token;
}

/* Outputs that tell where they belong. */
static void note(struct witness *w, size_t stream, uint32_t layer, uint64_t first, uint32_t n)
{
    size_t width = w->load->shape.heads * w->load->shape.value_dim;
    float *out = support_array(n * width, sizeof *out);
    for (size_t i = 0; i < n * width; i++)
        out[i] = (float)code_of(stream, layer, first + i / width);
    witness_note(w, stream, layer, first, n, out);
    free(out);
}

static void the_sample_is_of_second_halves_and_kept(void)
{
    struct load load;
    struct load_options options = load_defaults;
    struct witness w;
    size_t sampled = 0;
    options.synthetic = "isotropic,tokens=101,key_dim=4,heads=2,kv_heads=1,layers=2";
    options.streams = 3;
    CU_ASSERT_EQUAL_FATAL(load_create(&load, "test", &options), COMMAND_GO_ON);
    CU_ASSERT_EQUAL_FATAL(witness_create(&w, &load, NULL), 0);
    for (size_t s = 0; s < 3; s++)
        for (uint32_t l = 0; l < 2; l++)
            for (uint64_t t = 0; t < 101; t += 9)
                if (t < 63 || t >= 72) /* one batch never comes */
                    note(&w, s, l, t, (uint32_t)(101 - t < 9 ? 101 - t : 9));
    for (size_t i = 0; i < w.n_runs; i++)
        for (uint32_t at = 0; at < w.run[i].n; at++, sampled++) {
            uint64_t t = w.run[i].first + at;
            CU_ASSERT(t >= 50 && t < 101);
            for (uint32_t l = 0; l < 2; l++) {
                const float *kept = witness_kept(&w, i, l, at);
                if (t >= 63 && t < 72)
                    CU_ASSERT_PTR_NULL(kept);
                if (kept)
                    CU_ASSERT(kept[0] == (float)code_of(w.run[i].stream, l, t) && kept[7] == kept[0]);
            }
        }
    CU_ASSERT_EQUAL(sampled, 3 * 51); /* so few tokens are all compared */
    CU_ASSERT(witness_print(&w, 1, 1, 62) != 0 && witness_print(&w, 1, 1, 63) == 0);
    witness_free(&w);
    load_free(&load);
}

static void long_streams_are_sampled_within_bounds(void)
{
    struct load load;
    struct load_options options = load_defaults;
    struct witness w;
    size_t sampled = 0;
    options.synthetic = "isotropic,tokens=20000,key_dim=2,heads=8,kv_heads=1,attention=tensor";
    options.streams = 4;
    CU_ASSERT_EQUAL_FATAL(load_create(&load, "test", &options), COMMAND_GO_ON);
    CU_ASSERT_EQUAL_FATAL(witness_create(&w, &load, NULL), 0);
    for (size_t i = 0; i < w.n_runs; i++)
        sampled += w.run[i].n;
    /* 8 heads, 4e8 pairs, 4 numbers and an exponential each: more for one token than is allowed */
    CU_ASSERT_EQUAL(sampled, 1);
    witness_free(&w);
    load_free(&load);
}

TEST_SUITE("tools/feed/witness", TEST(fingerprints_see_every_bit_and_the_order), TEST(the_sample_is_of_second_halves_and_kept),
           TEST(long_streams_are_sampled_within_bounds))
