/* Attention over random views against float64 sums, on every table. Rows are compared as stored, so the bound is the same for
 * f32, bf16 and f16: 1e-5 of the output, or where its terms cancel 3e-6 of their magnitudes. (Scores here are below 30 or so; a
 * score's absolute error is its weight's relative one.) Quantised rows meet queries and weights of 16 bits, a hundred times
 * coarser than floats: 30 times as much is allowed them. Products in bf16 round each factor to 8 bits: two hundredths of an output are
 * allowed, or six thousandths of its terms' magnitudes (scores of a few rows up to 30; the mean is a third). */
#include "run.h"
#include "tests/lib/kernels/isas.h"
#include "tests/test.h"

#include <math.h>

enum { D_MAX = 150, E_MAX = 150 };

static const struct mode {
    size_t n_views;
    enum compute compute;
} modes[] = {{1, COMPUTE_F32}, {2, COMPUTE_F32}, {2, COMPUTE_BF16}};
enum { N_MODES = sizeof modes / sizeof *modes };

/* |out - reference| in units of what is allowed. */
static double error_of(const float *out, const double *reference, const double *magnitude, size_t e)
{
    double error = 0, norm = 0, terms = 0;
    for (size_t c = 0; c < e; c++) {
        error += (out[c] - reference[c]) * (out[c] - reference[c]);
        norm += reference[c] * reference[c];
        terms += magnitude[c] * magnitude[c];
    }
    return error == 0 ? 0 : sqrt(error) / fmax(1e-5 * sqrt(norm), 3e-6 * sqrt(terms));
}

static double allowance(const struct test_view *view, size_t n_views, enum compute compute)
{
    if (compute == COMPUTE_BF16)
        return 2000;
    for (size_t v = 0; v < n_views; v++)
        for (size_t i = 0; i < view[v].n_seg; i++)
            if (view[v].seg[i].key_storage->id > STORAGE_F16 || view[v].seg[i].value_storage->id > STORAGE_F16)
                return 30;
    return 1;
}

static void compare_with_reference(struct test_run *run, const struct test_view view[2])
{
    const struct attend *a = &run->attend;
    CU_ASSERT(test_run_all(run, false));
    double worst = 0, worst_lse = 0;
    bool empty_right = true;
    for (size_t query = 0; query < a->n_tokens * a->group; query++) {
        size_t token = query / a->group, head = query % a->group;
        const float *out = a->out + token * a->out_stride + head * a->e;
        float lse = a->lse[token * a->lse_stride + head];
        double reference[E_MAX], magnitude[E_MAX], reference_lse;
        reference_query(a, view, query, reference, magnitude, &reference_lse);
        if (isinf(reference_lse)) {
            empty_right &= lse == -INFINITY;
            for (size_t c = 0; c < a->e; c++)
                empty_right &= out[c] == 0;
            continue;
        }
        double error = error_of(out, reference, magnitude, a->e), off = fabs(lse - reference_lse);
        worst = error > worst || error != error ? error : worst;
        worst_lse = off > worst_lse || off != off ? off : worst_lse;
    }
    ASSERT_NEAR(worst, 0, allowance(view, a->n_views, a->compute));
    ASSERT_NEAR(worst_lse, 0, 1e-5 * allowance(view, a->n_views, a->compute));
    CU_ASSERT(empty_right);
    ASSERT_NEAR(attend_flops(a), 2.0 * (double)((a->d + a->e) * a->group) * reference_pairs(a, view), 0);
}

/* n_views views of 1 to 4 segments whose absolute indices follow each other, up to n_rows each, and queries near their end. */
static void random_case(const struct kernels *k, struct mode mode, size_t n_rows, size_t group, size_t n_tokens, size_t d,
                        size_t e, struct numbers *r)
{
    size_t n_views = mode.n_views;
    struct test_view view[2] = {{.d = d, .e = e}, {.d = d, .e = e}};
    uint64_t last = 0;
    for (size_t v = 0; v < n_views; v++) {
        uint64_t index = numbers_below(r, 400);
        size_t n_seg = 1 + numbers_below(r, 4), left = numbers_below(r, n_rows + 1);
        for (size_t i = 0; i < n_seg; i++) {
            size_t n = i + 1 == n_seg ? left : numbers_below(r, left + 1);
            struct segment_plan plan = segment_plan_random(r, index, n);
            test_view_add(&view[v], k, &plan, r);
            index += n + numbers_below(r, 3);
            left -= n;
        }
        last = index > last ? index : last;
    }
    struct test_run run;
    uint64_t step = numbers_below(r, 4) > 0, first = last > n_tokens ? last - n_tokens : 0;
    test_run_create(&run, k, view, n_views, group, n_tokens, first, step, n_views == 2 ? 1.5f : 1, numbers_below(r, 2), r);
    run.attend.compute = mode.compute;
    compare_with_reference(&run, view);
    test_run_free(&run);
    for (size_t v = 0; v < n_views; v++)
        test_view_free(&view[v]);
}

static void softmax_over_any_view_is_the_sum_in_float64(void)
{
    static const size_t tokens[] = {1, 7, 70};
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    for (size_t i = 0; i < n_isas; i++) {
        struct numbers r = {10};
        for (size_t group = 1; group <= 17; group++) {
            size_t g = group == 17 ? 20 : group;
            for (size_t t = 0; t < 3; t++)
                random_case(isa[i], modes[0], t == 2 ? 100 : 600, g, tokens[t], 1 + numbers_below(&r, 60),
                            1 + numbers_below(&r, 60), &r);
        }
    }
}

static void tensor_attention_over_any_two_views_is_the_sum_in_float64(void)
{
    static const size_t tokens[] = {1, 7, 70};
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    for (size_t i = 0; i < 2 * n_isas; i++) {
        struct numbers r = {11};
        struct mode mode = modes[1 + i % 2];
        for (size_t group = 1; group <= 5; group++) {
            size_t g = group == 5 ? 20 : group;
            for (size_t t = 0; t < 3; t++)
                for (size_t round = 0; round < 3; round++)
                    random_case(isa[i / 2], mode, t == 0 ? 200 : 25, t == 2 ? 1 + group / 5 : g, tokens[t],
                                1 + numbers_below(&r, 40), 1 + numbers_below(&r, 40), &r);
        }
        random_case(isa[i / 2], mode, 40, 2, 2, D_MAX, E_MAX, &r);
    }
}

/* Plain rows in one storage, `first` their absolute index. */
static void plain_view(struct test_view *view, const struct kernels *k, enum storage_id id, size_t n, uint64_t first,
                       uint64_t span, struct numbers *r)
{
    struct segment_plan plan = {.row = numbers_below(r, 20), .n = n, .first = first, .span = span, .keys = id, .values = id};
    test_view_add(view, k, &plan, r);
}

static void chunks_end_where_absolute_indices_say_and_nothing_is_lost_at_their_edges(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    struct numbers r = {12};
    for (size_t i = 0; i < n_isas; i++)
        for (size_t mode = 0; mode < N_MODES; mode++)
            for (size_t k = 0; k < 12; k++) {
                size_t chunk = modes[mode].n_views == 2 ? TENSOR_CHUNK : CHUNK, n = chunk * (k / 6) + chunk - 1 + k % 3;
                uint64_t first = k / 3 % 2 ? 1000 : 0;
                struct test_view view[2] = {{.d = 8, .e = 8}, {.d = 8, .e = 8}};
                plain_view(&view[0], isa[i], STORAGE_F32, n, first, SPAN_ALL, &r);
                if (modes[mode].n_views == 2)
                    plain_view(&view[1], isa[i], STORAGE_F32, k % 2 ? n : 40, first, SPAN_ALL, &r);
                struct test_run run;
                test_run_create(&run, isa[i], view, modes[mode].n_views, 2, 1, first + n - 1, 1, 1, false, &r);
                run.attend.compute = modes[mode].compute;
                size_t chunks = (size_t)((first + n - 1) / chunk - first / chunk) + 1;
                CU_ASSERT_EQUAL(attend_units(&run.attend), modes[mode].n_views == 2 ? 2 * chunks : chunks);
                compare_with_reference(&run, view);
                test_run_free(&run);
                test_view_free(&view[0]);
                test_view_free(&view[1]);
            }
}

/* The bits of out and lse of one query token. */
static bool same_token(const struct attend *a, size_t i, const struct attend *b, size_t j)
{
    return memcmp(a->out + i * a->out_stride, b->out + j * b->out_stride, a->group * a->e * 4) == 0 &&
           memcmp(a->lse + i * a->lse_stride, b->lse + j * b->lse_stride, a->group * 4) == 0;
}

static void the_order_of_units_does_not_change_a_bit(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    struct numbers r = {13};
    for (size_t i = 0; i < n_isas; i++)
        for (size_t mode = 0; mode < N_MODES; mode++)
            for (size_t n_tokens = 1; n_tokens <= 31; n_tokens += 10) {
                size_t n = modes[mode].n_views == 2 ? 300 : 1500;
                struct test_view view[2] = {{.d = 20, .e = 12}, {.d = 20, .e = 12}};
                plain_view(&view[0], isa[i], STORAGE_BF16, n, 0, SPAN_ALL, &r);
                plain_view(&view[1], isa[i], STORAGE_BF16, 50, 0, SPAN_ALL, &r);
                struct test_run run, backwards;
                test_run_create(&run, isa[i], view, modes[mode].n_views, 3, n_tokens, n - n_tokens, 1, 1, true, &r);
                run.attend.compute = modes[mode].compute;
                backwards = run;
                backwards.attend.out = numbers_block(n_tokens * run.attend.out_stride * 4);
                backwards.attend.lse = numbers_block(n_tokens * run.attend.lse_stride * 4);
                CU_ASSERT(test_run_all(&run, false) && test_run_all(&backwards, true));
                for (size_t t = 0; t < n_tokens; t++)
                    CU_ASSERT(same_token(&run.attend, t, &backwards.attend, t));
                free(backwards.attend.out);
                free(backwards.attend.lse);
                test_run_free(&run);
                test_view_free(&view[0]);
                test_view_free(&view[1]);
            }
}

/* A token's output doesn't depend on the tokens around it: neither on those of the same batch, nor on rows after it. */
static void a_token_has_the_same_bits_alone_as_in_any_batch(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    struct numbers r = {14};
    for (size_t i = 0; i < n_isas; i++)
        for (size_t mode = 0; mode < N_MODES; mode++)
            for (size_t windowed = 0; windowed < 2; windowed++) {
                size_t n = modes[mode].n_views == 2 ? 140 : 600, n_tokens = modes[mode].n_views == 2 ? 20 : 70;
                struct test_view view[2] = {{.d = 20, .e = 12}, {.d = 20, .e = 12}};
                plain_view(&view[0], isa[i], STORAGE_F32, n, 0, windowed ? 45 : SPAN_ALL, &r);
                plain_view(&view[1], isa[i], STORAGE_F32, n, 0, windowed ? 9 : SPAN_ALL, &r);
                struct test_run batch, one;
                test_run_create(&batch, isa[i], view, modes[mode].n_views, 2, n_tokens, n - n_tokens, 1, 1, false, &r);
                batch.attend.compute = modes[mode].compute;
                test_run_create(&one, isa[i], view, modes[mode].n_views, 2, 1, 0, 1, 1, false, &r);
                one.attend.compute = modes[mode].compute;
                CU_ASSERT(test_run_all(&batch, false));
                for (size_t t = 0; t < n_tokens; t++) {
                    one.attend.first_token = n - n_tokens + t;
                    one.attend.q = batch.attend.q + t * 2 * 20;
                    struct segment shown[2] = {view[0].seg[0], view[1].seg[0]};
                    for (size_t v = 0; v < modes[mode].n_views; v++) {
                        shown[v].n = n - n_tokens + t + 1;
                        one.attend.view[v] = (struct view){&shown[v], 1};
                    }
                    CU_ASSERT(test_run_all(&one, false));
                    CU_ASSERT(same_token(&batch.attend, t, &one.attend, 0));
                }
                test_run_free(&batch);
                test_run_free(&one);
                test_view_free(&view[0]);
                test_view_free(&view[1]);
            }
}

static void no_rows_or_no_weight_gives_0_and_minus_infinity_and_a_sink_its_own_lse(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    struct numbers r = {15};
    for (size_t i = 0; i < n_isas; i++)
        for (size_t mode = 0; mode < N_MODES; mode++)
            for (size_t how = 0; how < 8; how++) {
                struct test_view view[2] = {{.d = 5, .e = 7}, {.d = 5, .e = 7}};
                struct segment_plan left_out = {.n = 40, .first = 0, .span = 0, .weights = WEIGHTS_EQUAL, .left_out = 1};
                struct segment_plan future = {.n = 40, .first = 1000, .span = SPAN_ALL};
                struct segment_plan past = {.n = 40, .first = 0, .span = 2};
                if (how & 1)
                    test_view_add(&view[0], isa[i], &left_out, &r);
                if (how & 2)
                    test_view_add(&view[0], isa[i], &future, &r);
                if (how & 4)
                    test_view_add(&view[0], isa[i], &past, &r);
                for (size_t tokens = 1; tokens <= 71; tokens += 70) {
                    struct test_run run;
                    plain_view(&view[1], isa[i], STORAGE_F32, 10, 0, 0, &r);
                    test_run_create(&run, isa[i], view, modes[mode].n_views, 3, tokens, 500, 1, 1, false, &r);
                    run.attend.compute = modes[mode].compute;
                    for (size_t sink = 0; sink < 2; sink++) {
                        run.attend.sink_logit = sink ? run.sink : NULL;
                        CU_ASSERT(test_run_all(&run, false));
                        for (size_t t = 0; t < tokens; t++)
                            for (size_t h = 0; h < 3; h++) {
                                CU_ASSERT_EQUAL(run.lse[t * run.attend.lse_stride + h], sink ? run.sink[h] : -INFINITY);
                                for (size_t c = 0; c < 7; c++)
                                    CU_ASSERT_EQUAL(run.out[t * run.attend.out_stride + h * 7 + c], 0);
                            }
                    }
                    test_run_free(&run);
                    test_view_free(&view[1]);
                }
                test_view_free(&view[0]);
            }
}

/* Whole tiles and whole chunks without weight, before and after rows that have some. */
static void rows_without_weight_cost_the_others_nothing(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    struct numbers r = {16};
    for (size_t i = 0; i < n_isas; i++)
        for (size_t mode = 0; mode < N_MODES; mode++)
            for (size_t which = 0; which < 3; which++) {
                struct test_view view[2] = {{.d = 5, .e = 7}, {.d = 5, .e = 7}};
                for (size_t v = 0; v < modes[mode].n_views; v++)
                    for (size_t s = 0; s < 3; s++) {
                        struct segment_plan plan = {.n = 600, .first = 600 * s, .span = 0, .weights = WEIGHTS_EQUAL};
                        plan.left_out = s == which ? 0 : 1;
                        plan.n = modes[mode].n_views == 2 ? 150 : 600;
                        test_view_add(&view[v], isa[i], &plan, &r);
                    }
                struct test_run run;
                test_run_create(&run, isa[i], view, modes[mode].n_views, 2, 1, 0, 0, 1, false, &r);
                run.attend.compute = modes[mode].compute;
                compare_with_reference(&run, view);
                test_run_free(&run);
                test_view_free(&view[0]);
                test_view_free(&view[1]);
            }
}

/* Scores of +-1e4: one row takes all, or a few that tie; nothing overflows. */
static void extreme_scores_select_the_best_row(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    struct numbers r = {17};
    for (size_t i = 0; i < n_isas; i++)
        for (size_t mode = 0; mode < N_MODES; mode++) {
            struct test_view view[2] = {{.d = 1, .e = 3}, {.d = 1, .e = 3}};
            plain_view(&view[0], isa[i], STORAGE_F32, 300, 0, 0, &r);
            plain_view(&view[1], isa[i], STORAGE_F32, 300, 0, 0, &r);
            struct test_run run;
            test_run_create(&run, isa[i], view, modes[mode].n_views, 4, 1, 0, 0, 1e4f, false, &r);
            run.attend.compute = modes[mode].compute;
            CU_ASSERT(test_run_all(&run, false));
            for (size_t h = 0; h < 4; h++) {
                double reference[3], magnitude[3], lse;
                reference_query(&run.attend, view, h, reference, magnitude, &lse);
                if (modes[mode].compute == COMPUTE_BF16) { /* scores round by 2^-9, twice: which row is best is not certain */
                    ASSERT_NEAR(run.lse[h], lse, 5e-3 * fabs(lse) + 10);
                    for (size_t c = 0; c < 3; c++)
                        ASSERT_NEAR(run.out[h * 3 + c], 0, 1.01);
                    continue;
                }
                /* a score of 1e4 rounds by up to 5e-4 */
                ASSERT_NEAR(test_relative_error(run.out + h * 3, reference, 3), 0, 2e-3);
                ASSERT_NEAR(run.lse[h], lse, 2e-3);
            }
            test_run_free(&run);
            test_view_free(&view[0]);
            test_view_free(&view[1]);
        }
}

/* What one query of a real model's size loses by products in bf16: rows as stored, scores of standard deviation 2. */
static void bf16_products_cost_less_than_a_hundredth(void)
{
    enum { N = 500, D = 64 };
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    for (enum storage_id id = STORAGE_F32; id <= STORAGE_Q8_0; id++)
        for (size_t i = 0; i < n_isas; i++) {
            struct numbers r = {19};
            struct test_view view[2] = {{.d = D, .e = D}, {.d = D, .e = D}};
            struct test_run run;
            double reference[D], magnitude[D], lse;
            plain_view(&view[0], isa[i], id, N, 0, SPAN_ALL, &r);
            plain_view(&view[1], isa[i], id, N, 0, SPAN_ALL, &r);
            test_run_create(&run, isa[i], view, 2, 1, 1, N - 1, 1, 1.3f, false, &r); /* 2 = 1.3 (1 / 3)^1.5 64^0.5 */
            run.attend.compute = COMPUTE_BF16;
            CU_ASSERT(test_run_all(&run, false));
            reference_query(&run.attend, view, 0, reference, magnitude, &lse);
            double error = test_relative_error(run.out, reference, D);
            CU_ASSERT(error > 1e-5); /* or it was not in bf16 */
            ASSERT_NEAR(error, 0, 1e-2);
            ASSERT_NEAR(run.lse[0], lse, 1e-3);
            test_run_free(&run);
            test_view_free(&view[0]);
            test_view_free(&view[1]);
        }
}

static void row_bytes_count_what_is_read_once(void)
{
    struct numbers r = {18};
    struct test_view view[2] = {{.d = 5, .e = 7}, {.d = 5, .e = 7}};
    plain_view(&view[0], kernels_best(), STORAGE_BF16, 300, 0, SPAN_ALL, &r);
    plain_view(&view[0], kernels_best(), STORAGE_BF16, 10, 0, 0, &r);
    struct test_run run;
    test_run_create(&run, kernels_best(), view, 1, 4, 10, 90, 1, 1, false, &r);
    CU_ASSERT_EQUAL(attend_row_bytes(&run.attend), 110 * (12 + 14)); /* tokens 90..99 see rows 0..99, and the ten */
    run.attend.n_tokens = 0;
    CU_ASSERT_EQUAL(attend_row_bytes(&run.attend), 0);
    CU_ASSERT_EQUAL(attend_flops(&run.attend), 0);
    CU_ASSERT_EQUAL(attend_units(&run.attend), 0);
    CU_ASSERT(test_run_all(&run, false));
    test_run_free(&run);
    test_view_free(&view[0]);
}

TEST_SUITE("lib/attention/attend", TEST(softmax_over_any_view_is_the_sum_in_float64),
           TEST(tensor_attention_over_any_two_views_is_the_sum_in_float64),
           TEST(chunks_end_where_absolute_indices_say_and_nothing_is_lost_at_their_edges),
           TEST(the_order_of_units_does_not_change_a_bit), TEST(a_token_has_the_same_bits_alone_as_in_any_batch),
           TEST(no_rows_or_no_weight_gives_0_and_minus_infinity_and_a_sink_its_own_lse),
           TEST(rows_without_weight_cost_the_others_nothing), TEST(extreme_scores_select_the_best_row),
           TEST(bf16_products_cost_less_than_a_hundredth), TEST(row_bytes_count_what_is_read_once))
