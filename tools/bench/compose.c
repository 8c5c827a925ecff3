/* Row blocks of stream 1 ask tiles of stream 2: sgemm, exp below the running maximum, sgemm. Blocks and tiles have the sizes that are
 * fastest here, found when the subject is created. All heads share one set of rows, which favours it. */
#include "tools/bench/compose.h"

#include "attention/partial.h"
#include "tools/bench/team.h"

#include <cblas.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROWS_MAX = 512, COLUMNS_MAX = 4096, ALIGNMENT = 64, ARGUMENTS_MAX = 64, COMMAND_BYTES = 4096 };

static const struct size {
    size_t rows, columns;
} sizes[] = {{64, 256}, {128, 256}, {128, 512}, {256, 512}, {256, 1024}, {ROWS_MAX, COLUMNS_MAX}};

/* One thread's. */
struct work {
    float *q, *n, *s; /* (rows, d), (rows, e), (rows, columns) */
    float max[ROWS_MAX], sum[ROWS_MAX], x[ROWS_MAX], w[ROWS_MAX];
};

struct compose {
    struct subject base;
    struct bench_case c;
    const struct kernels *kernels;
    size_t n_threads;
    struct subject *attnd;
    float *q, *key, *value; /* (d), (n, d), (n, e): both streams' */
    struct work *work;      /* (n_threads) */
    struct size size;
    size_t n_blocks;
    float *partial; /* (heads, n_blocks, PARTIAL_HEAD + e) */
    atomic_size_t next;
    size_t n_times;
};

static float *floats(size_t n)
{
    return aligned_alloc(ALIGNMENT, (n * sizeof(float) + ALIGNMENT) / ALIGNMENT * ALIGNMENT);
}

static void compose_destroy(struct subject *subject)
{
    struct compose *s = (struct compose *)subject;
    if (!s)
        return;
    if (s->attnd)
        s->attnd->ops->destroy(s->attnd);
    for (size_t t = 0; s->work && t < s->n_threads; t++) {
        free(s->work[t].q);
        free(s->work[t].n);
        free(s->work[t].s);
    }
    free(s->work);
    free(s->q);
    free(s->key);
    free(s->value);
    free(s->partial);
    free(s);
}

/* Columns [at, at + n) for all rows. */
static void tile(const struct compose *s, struct work *w, size_t rows, size_t at, size_t n)
{
    blasint m = (blasint)rows, k = (blasint)n, d = (blasint)s->c.d, e = (blasint)s->c.e, lds = (blasint)s->size.columns;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, k, d, 1, w->q, d, s->key + at * s->c.d, d, 0, w->s, lds);
    for (size_t i = 0; i < rows; i++) {
        float f = s->kernels->weigh(w->s + i * s->size.columns, 0, n, n, NULL, &w->max[i], &w->sum[i]);
        for (size_t c = 0; at > 0 && f < 1 && c < s->c.e; c++)
            w->n[i * s->c.e + c] *= f;
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, e, k, 1, w->s, lds, s->value + at * s->c.e, e, at > 0 ? 1 : 0,
                w->n, e);
}

/* sum_i e^(max_i - largest) v_i * N_i, and the same of the sums. */
static void join(const struct compose *s, struct work *w, size_t first, size_t rows, float *partial)
{
    float largest = -INFINITY;
    partial_clear(partial, s->c.e);
    for (size_t i = 0; i < rows; i++)
        largest = w->max[i] > largest ? w->max[i] : largest;
    for (size_t i = 0; i < rows; i++)
        w->x[i] = w->max[i] - largest;
    s->kernels->exponential(w->x, rows, w->w);
    partial[PARTIAL_MAX_NUM] = partial[PARTIAL_MAX_DEN] = largest;
    for (size_t i = 0; i < rows; i++) {
        partial[PARTIAL_SUM] += w->w[i] * w->sum[i];
        s->kernels->multiply_add(w->w[i], s->value + (first + i) * s->c.e, w->n + i * s->c.e, s->c.e, partial + PARTIAL_HEAD);
    }
}

static void block(const struct compose *s, struct work *w, size_t index, float *partial)
{
    size_t n = s->c.tokens, first = index * s->size.rows, rows = n - first < s->size.rows ? n - first : s->size.rows;
    for (size_t i = 0; i < rows; i++) {
        s->kernels->multiply(s->key + (first + i) * s->c.d, s->q, s->c.d, w->q + i * s->c.d);
        w->max[i] = -INFINITY;
        w->sum[i] = 0;
    }
    for (size_t at = 0; at < n; at += s->size.columns)
        tile(s, w, rows, at, n - at < s->size.columns ? n - at : s->size.columns);
    join(s, w, first, rows, partial);
}

static void take_blocks(void *context, size_t thread, size_t n_threads)
{
    struct compose *s = context;
    size_t n = s->c.heads * s->n_blocks;
    for (size_t i; (i = atomic_fetch_add(&s->next, 1)) < n * s->n_times;)
        block(s, &s->work[thread], i % s->n_blocks, s->partial + i % n * (PARTIAL_HEAD + s->c.e));
}

static int compose_run(struct subject *subject, size_t n_times, double *seconds, struct fault *fault)
{
    struct compose *s = (struct compose *)subject;
    s->n_blocks = (s->c.tokens + s->size.rows - 1) / s->size.rows;
    s->n_times = n_times;
    atomic_store(&s->next, 0);
    openblas_set_num_threads(1); /* the team splits the work */
    *seconds = team_seconds(s->n_threads, take_blocks, s) / (double)n_times;
    return 0;
}

static int run_attnd(struct subject *subject, size_t n_times, double *seconds, struct fault *fault)
{
    struct compose *s = (struct compose *)subject;
    return s->attnd->ops->run(s->attnd, n_times, seconds, fault);
}

static const struct subject_ops compose_ops = {compose_run, run_attnd, "attnd", compose_destroy};

static void choose_size(struct compose *s)
{
    double best = INFINITY, seconds;
    struct size fastest = sizes[0];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        s->size = sizes[i];
        compose_run(&s->base, 1, &seconds, NULL);
        if (seconds < best) {
            best = seconds;
            fastest = sizes[i];
        }
    }
    s->size = fastest;
}

static bool allocate(struct compose *s)
{
    const struct bench_case *c = &s->c;
    bool all = true;
    s->q = floats(c->d);
    s->key = floats(c->tokens * c->d);
    s->value = floats(c->tokens * c->e);
    s->partial = floats(c->heads * ((c->tokens + sizes[0].rows - 1) / sizes[0].rows) * (PARTIAL_HEAD + c->e));
    s->work = calloc(s->n_threads, sizeof *s->work);
    for (size_t t = 0; s->work && t < s->n_threads; t++) {
        s->work[t].q = floats(ROWS_MAX * c->d);
        s->work[t].n = floats(ROWS_MAX * c->e);
        s->work[t].s = floats((size_t)ROWS_MAX * COLUMNS_MAX);
        all = all && s->work[t].q && s->work[t].n && s->work[t].s;
    }
    return all && s->work && s->q && s->key && s->value && s->partial;
}

int compose_create(struct subject **out, const struct bench_case *c, const struct kernels *kernels, size_t n_threads,
                   struct fault *fault)
{
    struct compose *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return fault_set(fault, ERR_NO_MEMORY, "%s", c->kernel);
    s->base.ops = &compose_ops;
    s->c = *c;
    s->kernels = kernels;
    s->n_threads = n_threads;
    int err = allocate(s) ? 0 : fault_set(fault, ERR_NO_MEMORY, "%s on OpenBLAS", c->kernel);
    if (!err)
        err = decode_create(&s->attnd, c, kernels, n_threads, fault);
    if (err) {
        compose_destroy(&s->base);
        return err;
    }
    s->base.bytes = s->attnd->bytes;
    s->base.flops = s->attnd->flops;
    s->base.n_times_max = s->attnd->n_times_max;
    subject_fill(s->q, c->d);
    subject_fill(s->key, c->tokens * c->d);
    subject_fill(s->value, c->tokens * c->e);
    for (size_t i = 0; i < c->d; i++)
        s->q[i] /= sqrtf((float)c->d);
    choose_size(s);
    *out = &s->base;
    return 0;
}

/* ------------------------------------------------------------------ OpenBLAS's kernels */

const char *compose_core(void)
{
    return openblas_get_corename();
}

static bool is_this_attn(void)
{
    char path[COMMAND_BYTES];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
    const char *name = strrchr(path, '/');
    return name && strcmp(name, "/attn") == 0;
}

static void start_again(void)
{
    static char command[COMMAND_BYTES];
    char *argument[ARGUMENTS_MAX + 1] = {NULL};
    FILE *file = fopen("/proc/self/cmdline", "r");
    size_t n = file ? fread(command, 1, sizeof command, file) : 0, count = 0;
    if (file)
        fclose(file);
    if (n == 0 || n == sizeof command)
        return;
    for (size_t at = 0; at < n && count < ARGUMENTS_MAX; at += strlen(command + at) + 1)
        argument[count++] = command + at;
    if (count < ARGUMENTS_MAX)
        execv("/proc/self/exe", argument);
}

void compose_right_core(void)
{
    static const char *const wide[] = {"SkylakeX", "Cooperlake", "SapphireRapids"};
    const char *core = compose_core();
    bool right = strncmp(kernels_best()->isa, "avx512", strlen("avx512")) != 0 || getenv("OPENBLAS_CORETYPE");
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        right |= strcmp(core, wide[i]) == 0;
    if (right || !is_this_attn() || setenv("OPENBLAS_CORETYPE", wide[0], 1))
        return;
    start_again();
}
