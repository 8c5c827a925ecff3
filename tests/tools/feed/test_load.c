/* Loads: cuts, and the tokens behind them. */
#include "tests/test.h"

#include "base/coins.h"
#include "kernels/element.h"
#include "tools/feed/load.h"

#include <stdlib.h>
#include <string.h>

static void make(struct load *load, const char *synthetic, const char *batch, uint64_t warm_up)
{
    struct load_options options = load_defaults;
    options.synthetic = synthetic;
    options.batch = batch;
    options.warm_up = warm_up;
    CU_ASSERT_EQUAL_FATAL(load_create(load, "test", &options), COMMAND_GO_ON);
}

static void fixed_batches_end_at_multiples_and_at_the_warm_up(void)
{
    static const uint64_t ends[] = {8, 16, 20, 24, 32, 40, 45};
    struct load load;
    uint64_t at = 0;
    make(&load, "isotropic,tokens=45,key_dim=2,heads=1,kv_heads=1", "8", 20);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        at = load_cut(&load, i, at);
        CU_ASSERT_EQUAL(at, ends[i]);
    }
    CU_ASSERT_EQUAL(load_cut(&load, 0, 13), 16); /* from the middle of a batch */
    load_free(&load);
}

static void random_batches_depend_on_nothing_but_seed_stream_and_token(void)
{
    struct load load;
    size_t n_batches = 0, longest = 0, differ = 0;
    make(&load, "isotropic,tokens=20000,key_dim=1,heads=1,kv_heads=1", "random", 0);
    for (uint64_t at = 0, end; at < 20000; at = end, n_batches++) {
        end = load_cut(&load, 3, at);
        longest = end - at > longest ? end - at : longest;
        CU_ASSERT_FATAL(end > at && end - at <= load_longest_batch(&load));
        for (uint64_t inside = at; inside < end; inside++)
            CU_ASSERT_EQUAL_FATAL(load_cut(&load, 3, inside), end);
        for (uint64_t t = at + 1; t <= end && t < 20000; t++) /* the header's rule */
            CU_ASSERT_EQUAL((t % 64 == 0 || mix(mix(mix(1) ^ 3) ^ t) < UINT64_MAX / 16), t == end);
        differ += load_cut(&load, 4, at) != end;
    }
    CU_ASSERT(longest > 40 && differ > n_batches / 2);
    /* 1 in 16 of 63 tokens, and each 64th: (63 / 16 + 1) batches in 64 tokens, 13 on average; standard deviation 3 % */
    CU_ASSERT(n_batches > 20000 / 13.0 * 0.85 && n_batches < 20000 / 13.0 * 1.15);
    load_free(&load);
}

/* A message borrows a run of tokens in one piece, wherever the stream is in what was made. */
static void runs_of_tokens_lie_in_one_piece(void)
{
    struct load load;
    make(&load, "clustered,tokens=50,key_dim=4,heads=2,kv_heads=1,value_dim=3,attention=tensor,layers=2", "7", 0);
    for (uint64_t stream = 0; stream < 9; stream++)
        for (uint64_t at = 0, end; at < 50; at = end) {
            end = load_cut(&load, stream, at);
            for (size_t tensor = 0; tensor < 5; tensor++) {
                const float *run = source_at(&load.source, stream, 1, tensor, at);
                size_t numbers = source_numbers(&load.shape, tensor);
                for (uint64_t t = at; t < end; t++)
                    CU_ASSERT_EQUAL(memcmp(run + (t - at) * numbers, source_at(&load.source, stream, 1, tensor, t),
                                           numbers * sizeof(float)),
                                    0);
            }
        }
    load_free(&load);
}

static void streams_hold_the_formula_in_the_element_that_is_sent(void)
{
    struct load load;
    struct load_options options = load_defaults;
    struct synthetic same = {SYNTHETIC_CLUSTERED, 9, 50, 16, 0.25, 1.0 / 64};
    float numbers[8];
    options.synthetic = "clustered,tokens=50,key_dim=4,heads=2,kv_heads=1";
    options.element = "bf16";
    options.seed = 9;
    CU_ASSERT_EQUAL_FATAL(load_create(&load, "test", &options), COMMAND_GO_ON);
    float *wide = source_widened(&load.source, 2, 0, 0, 50);
    for (uint64_t t = 0; t < 50; t++) {
        synthetic_fill(&same, &load.shape, 0, (mix(mix(9) ^ 2) + t) % 50, 0, numbers);
        for (size_t i = 0; i < 8; i++)
            CU_ASSERT_EQUAL(wide[t * 8 + i], bf16_to_f32(bf16_of_f32(numbers[i])));
    }
    free(wide);
    load_free(&load);
}

TEST_SUITE("tools/feed/load", TEST(fixed_batches_end_at_multiples_and_at_the_warm_up),
           TEST(random_batches_depend_on_nothing_but_seed_stream_and_token), TEST(runs_of_tokens_lie_in_one_piece),
           TEST(streams_hold_the_formula_in_the_element_that_is_sent))
