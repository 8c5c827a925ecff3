#include "tools/bench/limits.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

enum {
    /* Places of a share that are read side by side, at most: no powers of two but 1, which put all places in the same sets of the
     * caches when the share is one as well. */
    PLACES = 6,
    N_READS = 3, /* loops that are tried: with 1, 3 and 6 places */
    LINE = 64,
    HUGE_PAGE = 2 << 20,
    LANES_MAX = 16,
    N_PEAKS = 4, /* measurements of which the fastest counts: threads that slept may wake on one CPU and share it for a while */
    CHAINS = 12, /* enough for two multiply-adds a cycle of 4 to 6 cycles' latency; they fit 16 registers */
};

static const double LOOP_SECONDS = 0.01; /* of one measurement of multiply-adds */

/* A statement for each chain or place, since compilers keep an array in registers only when constants index it. */
#define EACH_PLACE(X) X(0) X(1) X(2) X(3) X(4) X(5)
#define EACH_CHAIN(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)

/* What an instruction set has. All loops return something that depends on all of their work. */
struct loops {
    const char *isa;
    /* p on a line's start; up to PLACES - 1 lines at the end are left out. */
    uint64_t (*read[N_READS])(const char *p, size_t bytes);
    /* By type: lanes * CHAINS multiply-adds a round. start (CHAINS, LANES_MAX): where the chains begin, each at another number, as
     * compilers see through equal ones. */
    float (*multiply_add[N_LIMITS_TYPE])(const float *start, size_t rounds);
    size_t lanes[N_LIMITS_TYPE];
};

#define INLINE static inline __attribute__((always_inline))

static size_t place_bytes(size_t bytes, size_t places)
{
    return bytes / places / LINE * LINE;
}

INLINE uint64_t read_scalar(const char *p, size_t bytes, size_t places)
{
    size_t m = place_bytes(bytes, places);
    uint64_t sum[PLACES] = {0}, x[LINE / sizeof(uint64_t)], all = 0;
    for (size_t at = 0; at < m; at += LINE) {
#define READ_LINE(i)                                                                                                           \
    if (i < places) {                                                                                                          \
        memcpy(x, p + (i)*m + at, LINE);                                                                                       \
        sum[i] += (x[0] ^ x[1]) + (x[2] ^ x[3]) + (x[4] ^ x[5]) + (x[6] ^ x[7]);                                               \
    }
        EACH_PLACE(READ_LINE)
#undef READ_LINE
    }
    for (size_t i = 0; i < PLACES; i++)
        all ^= sum[i];
    return all;
}

/* What the scalar kernels compile to: a product and a sum. The empty statement keeps the chains apart, as the compiler would
 * otherwise join them into vectors. */
static float multiply_add_scalar(const float *start, size_t rounds)
{
    float b = 0.5f, c = 0.5f, a[CHAINS], sum = 0;
    for (size_t i = 0; i < CHAINS; i++)
        a[i] = start[i * LANES_MAX];
    for (size_t r = 0; r < rounds; r++) {
#ifdef __x86_64__
#define STEP(i)                                                                                                                \
    a[i] = a[i] * b + c;                                                                                                       \
    __asm__("" : "+x"(a[i]));
#else
#define STEP(i) a[i] = a[i] * b + c;
#endif
        EACH_CHAIN(STEP)
#undef STEP
    }
    for (size_t i = 0; i < CHAINS; i++)
        sum += a[i];
    return sum;
}

#ifdef __x86_64__

#define AVX2 __attribute__((target("avx2,fma")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define AVX512_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define AVX512_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))

AVX2 INLINE uint64_t read_avx2(const char *p, size_t bytes, size_t places)
{
    size_t m = place_bytes(bytes, places);
    __m256i a[PLACES], b[PLACES];
    uint64_t out[4];
#define CLEAR(i) a[i] = b[i] = _mm256_setzero_si256();
    EACH_PLACE(CLEAR)
#undef CLEAR
    for (size_t at = 0; at < m; at += LINE) {
#define READ_LINE(i)                                                                                                           \
    if (i < places) {                                                                                                          \
        a[i] = _mm256_xor_si256(a[i], _mm256_load_si256((const __m256i *)(const void *)(p + (i)*m + at)));                     \
        b[i] = _mm256_xor_si256(b[i], _mm256_load_si256((const __m256i *)(const void *)(p + (i)*m + at + 32)));                \
    }
        EACH_PLACE(READ_LINE)
#undef READ_LINE
    }
#define JOIN(i) a[0] = _mm256_xor_si256(a[0], i ? _mm256_xor_si256(a[i], b[i]) : b[0]);
    EACH_PLACE(JOIN)
#undef JOIN
    _mm256_storeu_si256((__m256i *)(void *)out, a[0]);
    return out[0] ^ out[1] ^ out[2] ^ out[3];
}

AVX2 static float multiply_add_avx2(const float *start, size_t rounds)
{
    __m256 b = _mm256_set1_ps(0.5f), c = b, a[CHAINS];
    float out[8];
#define START(i) a[i] = _mm256_loadu_ps(start + (size_t)(i)*LANES_MAX);
    EACH_CHAIN(START)
#undef START
    for (size_t r = 0; r < rounds; r++) {
#define STEP(i) a[i] = _mm256_fmadd_ps(a[i], b, c);
        EACH_CHAIN(STEP)
#undef STEP
    }
    for (size_t i = 1; i < CHAINS; i++)
        a[0] = _mm256_add_ps(a[0], a[i]);
    _mm256_storeu_ps(out, a[0]);
    return out[0] + out[7];
}

/* The empty statement hides that the products are always the same. */
AVX2 static float multiply_pairs_avx2(const float *start, size_t rounds)
{
    __m256i b = _mm256_set1_epi16(3), c = b, a[CHAINS];
    float out[8];
#define START(i) a[i] = _mm256_loadu_si256((const void *)(start + (size_t)(i)*LANES_MAX));
    EACH_CHAIN(START)
#undef START
    for (size_t r = 0; r < rounds; r++) {
#define STEP(i)                                                                                                                \
    a[i] = _mm256_add_epi32(a[i], _mm256_madd_epi16(c, b));                                                                    \
    __asm__("" : "+x"(c));
        EACH_CHAIN(STEP)
#undef STEP
    }
#define JOIN(i) a[0] = i ? _mm256_xor_si256(a[0], a[i]) : a[0];
    EACH_CHAIN(JOIN)
#undef JOIN
    _mm256_storeu_ps(out, _mm256_cvtepi32_ps(a[0]));
    return out[0] + out[7];
}

AVX512 INLINE uint64_t read_avx512(const char *p, size_t bytes, size_t places)
{
    size_t m = place_bytes(bytes, places);
    __m512i a[PLACES];
    uint64_t out[8];
#define CLEAR(i) a[i] = _mm512_setzero_si512();
    EACH_PLACE(CLEAR)
#undef CLEAR
    for (size_t at = 0; at < m; at += LINE) {
#define READ_LINE(i)                                                                                                           \
    if (i < places)                                                                                                            \
        a[i] = _mm512_xor_si512(a[i], _mm512_load_si512(p + (i)*m + at));
        EACH_PLACE(READ_LINE)
#undef READ_LINE
    }
    for (size_t i = 1; i < PLACES; i++)
        a[0] = _mm512_xor_si512(a[0], a[i]);
    _mm512_storeu_si512(out, a[0]);
    return out[0] ^ out[1] ^ out[2] ^ out[3] ^ out[4] ^ out[5] ^ out[6] ^ out[7];
}

#define START_FLOATS_512(i) a[i] = _mm512_loadu_ps(start + (size_t)(i)*LANES_MAX);
#define STEP_FLOATS_512(i) a[i] = _mm512_fmadd_ps(a[i], b, c);
#define STEP_BF16_512(i)                                                                                                       \
    a[i] = _mm512_dpbf16_ps(a[i], (__m512bh)c, (__m512bh)b);                                                                   \
    __asm__("" : "+v"(c));
/* Sums in f32. factor: what b and c are. */
#define MULTIPLY_FLOATS_512(name, target, factor, STEP)                                                                        \
    target static float name(const float *start, size_t rounds)                                                                \
    {                                                                                                                          \
        __typeof__(factor) b = (factor), c = b;                                                                                \
        __m512 a[CHAINS];                                                                                                      \
        float out[16];                                                                                                         \
        EACH_CHAIN(START_FLOATS_512)                                                                                           \
        for (size_t r = 0; r < rounds; r++) {                                                                                  \
            EACH_CHAIN(STEP)                                                                                                   \
        }                                                                                                                      \
        for (size_t i = 1; i < CHAINS; i++)                                                                                    \
            a[0] = _mm512_add_ps(a[0], a[i]);                                                                                  \
        _mm512_storeu_ps(out, a[0]);                                                                                           \
        return out[0] + out[15];                                                                                               \
    }
MULTIPLY_FLOATS_512(multiply_add_avx512, AVX512, _mm512_set1_ps(0.5f), STEP_FLOATS_512)
MULTIPLY_FLOATS_512(multiply_bf16_avx512_bf16, AVX512_BF16, _mm512_set1_epi32(0x3f803f80), STEP_BF16_512) /* pairs of 1 */

#define START_512(i) a[i] = _mm512_loadu_si512(start + (size_t)(i)*LANES_MAX);
#define JOIN_512(i) a[0] = i ? _mm512_xor_si512(a[0], a[i]) : a[0];
#define STEP_512(i)                                                                                                            \
    a[i] = _mm512_add_epi32(a[i], _mm512_madd_epi16(c, b));                                                                    \
    __asm__("" : "+v"(c));
#define STEP_512_VNNI(i) a[i] = _mm512_dpwssd_epi32(a[i], c, b); /* product and sum are one instruction */
#define MULTIPLY_PAIRS_512(name, target, STEP)                                                                                 \
    target static float multiply_pairs_##name(const float *start, size_t rounds)                                               \
    {                                                                                                                          \
        __m512i b = _mm512_set1_epi16(3), c = b, a[CHAINS];                                                                    \
        float out[16];                                                                                                         \
        EACH_CHAIN(START_512)                                                                                                  \
        for (size_t r = 0; r < rounds; r++) {                                                                                  \
            EACH_CHAIN(STEP)                                                                                                   \
        }                                                                                                                      \
        EACH_CHAIN(JOIN_512)                                                                                                   \
        _mm512_storeu_ps(out, _mm512_cvtepi32_ps(a[0]));                                                                       \
        return out[0] + out[15];                                                                                               \
    }
MULTIPLY_PAIRS_512(avx512, AVX512, STEP_512)
MULTIPLY_PAIRS_512(avx512_vnni, AVX512_VNNI, STEP_512_VNNI)

#endif

/* The loops of one instruction set for 1, 3 and 6 places, and their row of the table. */
#define READS(isa, target)                                                                                                     \
    target static uint64_t read_##isa##_1(const char *p, size_t bytes)                                                         \
    {                                                                                                                          \
        return read_##isa(p, bytes, 1);                                                                                        \
    }                                                                                                                          \
    target static uint64_t read_##isa##_3(const char *p, size_t bytes)                                                         \
    {                                                                                                                          \
        return read_##isa(p, bytes, 3);                                                                                        \
    }                                                                                                                          \
    target static uint64_t read_##isa##_6(const char *p, size_t bytes)                                                         \
    {                                                                                                                          \
        return read_##isa(p, bytes, 6);                                                                                        \
    }
#define ROW(name, isa, pairs, bf16, lanes, pair_lanes)                                                                         \
    {                                                                                                                          \
        name, {read_##isa##_1, read_##isa##_3, read_##isa##_6}, {multiply_add_##isa, pairs, bf16},                             \
        {                                                                                                                      \
            lanes, pair_lanes, pair_lanes                                                                                      \
        }                                                                                                                      \
    }

READS(scalar, )
#ifdef __x86_64__
READS(avx2, AVX2)
READS(avx512, AVX512)
#endif

static const struct loops loops_table[] = {
    ROW("scalar", scalar, NULL, NULL, 1, 0),
#ifdef __x86_64__
    ROW("avx2", avx2, multiply_pairs_avx2, NULL, 8, 16),
    ROW("avx512", avx512, multiply_pairs_avx512, NULL, 16, 32),
    ROW("avx512_vnni", avx512, multiply_pairs_avx512_vnni, NULL, 16, 32),
    ROW("avx512_bf16", avx512, multiply_pairs_avx512_vnni, multiply_bf16_avx512_bf16, 16, 32),
#endif
};

/* ------------------------------------------------------------------ measuring */

struct limits {
    size_t n_threads, bytes, mapped;
    char *buffer;
    uint64_t (*read)(const char *p, size_t bytes);
    const struct loops *multiply_add;
    enum limits_type type; /* of the measurement under way */
    size_t n_times, rounds[N_LIMITS_TYPE];
    uint64_t *sink; /* (n_threads * LINE / 8): what the loops returned, a line apart */
};

static const struct loops *loops_find(const char *isa)
{
    for (size_t i = 0; i < sizeof loops_table / sizeof *loops_table; i++)
        if (strcmp(loops_table[i].isa, isa) == 0)
            return &loops_table[i];
    return NULL;
}

/* The thread's share of the buffer, whole lines. */
static char *share(const struct limits *l, size_t thread, size_t *bytes)
{
    size_t lines = l->bytes / LINE, from = lines * thread / l->n_threads, to = lines * (thread + 1) / l->n_threads;
    *bytes = (to - from) * LINE;
    return l->buffer + from * LINE;
}

static void touch(void *context, size_t thread, size_t n_threads)
{
    size_t bytes;
    char *p = share(context, thread, &bytes);
    memset(p, 1, bytes);
}

static void read_share(void *context, size_t thread, size_t n_threads)
{
    struct limits *l = context;
    size_t bytes;
    const char *p = share(l, thread, &bytes);
    for (size_t i = 0; i < l->n_times; i++)
        l->sink[thread * LINE / sizeof *l->sink] += l->read(p, bytes);
}

static void multiply_add(void *context, size_t thread, size_t n_threads)
{
    struct limits *l = context;
    float start[CHAINS * LANES_MAX];
    for (size_t i = 0; i < sizeof start / sizeof *start; i++)
        start[i] = (float)i;
    l->sink[thread * LINE / sizeof *l->sink] += (uint64_t)l->multiply_add->multiply_add[l->type](start, l->rounds[l->type]);
}

/* The fastest of the loops, by the better of two passes each. */
static void choose_read(struct limits *l, const struct loops *loops)
{
    double best = INFINITY;
    uint64_t (*fastest)(const char *, size_t) = loops->read[0];
    for (size_t i = 0; i < 2 * (size_t)N_READS; i++) {
        l->read = loops->read[i % N_READS];
        double seconds = limits_read_seconds(l, 1);
        if (seconds < best) {
            best = seconds;
            fastest = l->read;
        }
    }
    l->read = fastest;
}

/* As many rounds as take LOOP_SECONDS. */
static void choose_rounds(struct limits *l, enum limits_type type)
{
    size_t *rounds = &l->rounds[type];
    l->type = type;
    *rounds = 1 << 16;
    double seconds = team_seconds(l->n_threads, multiply_add, l);
    while (seconds < LOOP_SECONDS / 4) {
        *rounds *= 2;
        seconds = team_seconds(l->n_threads, multiply_add, l);
    }
    *rounds = (size_t)((double)*rounds * LOOP_SECONDS / seconds) + 1;
}

int limits_create(struct limits **out, const struct kernels *kernels, size_t n_threads, size_t bytes, struct fault *fault)
{
    const struct loops *read = loops_find(kernels_best()->isa); /* whatever the kernels are: by the widest that runs */
    struct limits *l = calloc(1, sizeof *l);
    *out = NULL;
    if (!l)
        return fault_set(fault, ERR_NO_MEMORY, "the machine's limits");
    l->n_threads = n_threads;
    l->bytes = (bytes + LINE - 1) / LINE * LINE;
    l->mapped = l->bytes + HUGE_PAGE;
    l->buffer = mmap(NULL, l->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    l->sink = calloc(n_threads, LINE);
    l->multiply_add = loops_find(kernels->isa);
    if (l->buffer == MAP_FAILED || !l->sink || !read || !l->multiply_add) {
        int err = read && l->multiply_add ? ERR_NO_MEMORY : ERR_UNSUPPORTED;
        limits_destroy(l);
        return fault_set(fault, err, "%zu bytes to read, or a loop for %s", bytes, kernels->isa);
    }
    madvise(l->buffer, l->mapped, MADV_HUGEPAGE); /* a wish; without it reading is slower */
    team_seconds(n_threads, touch, l);
    choose_read(l, read);
    for (enum limits_type type = 0; type < N_LIMITS_TYPE; type++)
        if (l->multiply_add->multiply_add[type])
            choose_rounds(l, type);
    *out = l;
    return 0;
}

void limits_destroy(struct limits *l)
{
    if (!l)
        return;
    if (l->buffer != MAP_FAILED)
        munmap(l->buffer, l->mapped);
    free(l->sink);
    free(l);
}

double limits_read_seconds(struct limits *l, size_t n_times)
{
    l->n_times = n_times;
    return team_seconds(l->n_threads, read_share, l) / (double)n_times;
}

double limits_flops_per_second(struct limits *l, enum limits_type type)
{
    l->type = l->multiply_add->multiply_add[type] ? type : LIMITS_F32;
    double lanes = (double)l->multiply_add->lanes[l->type] * CHAINS * (double)l->n_threads, best = INFINITY;
    for (size_t i = 0; i < N_PEAKS; i++)
        best = fmin(best, team_seconds(l->n_threads, multiply_add, l));
    return 2 * lanes * (double)l->rounds[l->type] / best;
}
