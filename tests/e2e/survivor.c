#include "tests/e2e/survivor.h"

#include "tests/e2e/house.h"
#include "tests/e2e/producer.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char role[] = "ATTND_TEST_SURVIVOR";

enum { PARTS_MAX = 6, DEPTH = 5, BATCH_MAX = 40, MESSAGES_PER_LIFE = 150, BOTH = WIRE_APPEND | WIRE_ATTEND };

static const char *const profiles[] = {"p0", "p1", "p2", "p3"};

struct lane {
    struct tokens tokens;
    uint64_t *answered; /* in the file */
    float *out;         /* (tokens, H, e), in the file */
    size_t in_flight;
    bool back; /* something was refused: from `answered` on again, once nothing is in flight */
};

struct flight {
    bool used;
    uint64_t ticket;
    uint32_t layer;
    size_t n, stream[PARTS_MAX];
    uint64_t first[PARTS_MAX];
    struct attnd_part part[PARTS_MAX];
};

struct survivor {
    struct attnd_client *client;
    struct shape shape;
    size_t n_streams, n_tokens;
    struct attnd_stream *stream;
    struct lane *lane; /* (layers, n_streams) */
    struct flight flight[DEPTH];
    uint64_t seed, n_picks;
    size_t failures;
    char *file;
    size_t file_bytes;
};

static struct shape survivor_shape(void)
{
    return house_shape(1, 1, 2, 1, 16, 16);
}

static size_t lane_bytes(size_t n_tokens)
{
    struct shape shape = survivor_shape();
    return 64 + floats_out(&shape, n_tokens) * sizeof(float);
}

static struct lane *lane_of(struct survivor *s, uint32_t layer, size_t stream)
{
    return &s->lane[layer * s->n_streams + stream];
}

static void complain(struct survivor *s, const char *what, const struct fault *fault)
{
    if (s->failures++ < 5)
        fprintf(stderr, "\nsurvivor %llu: %s: %s", (unsigned long long)s->seed, what, fault ? fault->text : "");
}

/* A function of where it begins. */
static uint32_t batch_at(const struct survivor *s, uint32_t layer, size_t stream, uint64_t first)
{
    uint64_t n = 1 + pick(s->seed * 1000 + stream * 2 + layer, first, BATCH_MAX), left = s->n_tokens - first;
    return (uint32_t)(n < left ? n : left);
}

static bool fill(struct survivor *s, struct flight *f)
{
    size_t start = pick(s->seed, s->n_picks++, s->n_streams);
    f->layer = (uint32_t)pick(s->seed, s->n_picks++, SURVIVOR_LAYERS);
    f->n = 0;
    for (size_t i = 0; i < s->n_streams && f->n < PARTS_MAX; i++) {
        size_t at = (start + i) % s->n_streams;
        struct lane *lane = lane_of(s, f->layer, at);
        uint64_t *next = &s->stream[at].next[f->layer];
        if (lane->back && lane->in_flight)
            continue;
        if (lane->back)
            *next = *lane->answered;
        lane->back = false;
        if (*next == s->n_tokens)
            continue;
        f->stream[f->n] = at;
        f->first[f->n] = *next;
        f->part[f->n++] = tokens_part(&lane->tokens, &s->stream[at], *next, batch_at(s, f->layer, at, *next), BOTH,
                                      lane->out + floats_out(&s->shape, (size_t)*next), NULL);
    }
    return f->n > 0;
}

static void launch(struct survivor *s, struct flight *f)
{
    struct fault fault = {0};
    if (attnd_send(s->client, f->layer, f->part, f->n, &f->ticket, &fault)) {
        complain(s, "send", &fault);
        return;
    }
    f->used = true;
    for (size_t i = 0; i < f->n; i++)
        lane_of(s, f->layer, f->stream[i])->in_flight++;
}

/* What is not kept was received and confirmed in a former life, though it was not noted down any more; were it not there, the
 * comparison in the end would show it. */
static void take_part(struct survivor *s, const struct flight *f, size_t i)
{
    struct lane *lane = lane_of(s, f->layer, f->stream[i]);
    const struct fault *fault = &f->part[i].fault;
    lane->in_flight--;
    if ((!fault->err || fault->err == ERR_NOT_KEPT) && f->first[i] == *lane->answered)
        *lane->answered += f->part[i].n_tokens;
    else if (!fault->err || fault->err == ERR_NOT_KEPT || fault->err == ERR_BUSY || fault->err == ERR_WRONG_INDEX)
        lane->back = true;
    else
        complain(s, "refused", fault);
}

static void land(struct survivor *s, struct flight *f)
{
    struct fault fault = {0};
    if (attnd_wait(s->client, f->ticket, &fault))
        complain(s, "wait", &fault);
    else
        for (size_t i = 0; i < f->n; i++)
            take_part(s, f, i);
    f->used = false;
}

static bool is_done(struct survivor *s)
{
    for (size_t i = 0; i < SURVIVOR_LAYERS * s->n_streams; i++)
        if (*s->lane[i].answered < s->n_tokens)
            return false;
    return true;
}

/* Until all is answered; or, so far as there is something under way then, until the connection is cut. */
static void live(struct survivor *s)
{
    size_t last = MESSAGES_PER_LIFE / 2 + pick(s->seed, s->n_picks++, MESSAGES_PER_LIFE);
    for (size_t turn = 0; turn < last && !s->failures && !is_done(s); turn++) {
        struct flight *f = &s->flight[turn % DEPTH];
        if (f->used)
            land(s, f);
        if (fill(s, f))
            launch(s, f);
    }
}

static void begin_life(struct survivor *s, const char *endpoint)
{
    struct fault fault = {0};
    memset(s->flight, 0, sizeof s->flight);
    if (attnd_connect(&s->client, endpoint, NULL, &fault))
        complain(s, "connect", &fault);
    else
        attnd_set_timeout(s->client, 120); /* the machine may be busy with others */
    for (size_t i = 0; i < s->n_streams && s->client; i++) {
        char name[64];
        snprintf(name, sizeof name, "survivor%llu.%zu", (unsigned long long)s->seed, i);
        if (attnd_open(s->client, name, &s->shape, profiles[i % 4], true, &s->stream[i], &fault))
            complain(s, "open", &fault);
        for (uint32_t l = 0; l < SURVIVOR_LAYERS && !s->failures; l++) {
            struct lane *lane = lane_of(s, l, i);
            if (s->stream[i].next[l] < *lane->answered)
                complain(s, "the daemon has forgotten tokens that it had answered", NULL);
            s->stream[i].next[l] = *lane->answered;
            lane->in_flight = 0;
            lane->back = false;
        }
    }
}

static void end_life(struct survivor *s)
{
    for (size_t i = 0; i < s->n_streams; i++)
        attnd_forget(&s->stream[i]);
    attnd_disconnect(s->client); /* whatever is under way */
    s->client = NULL;
}

static void compare(struct survivor *s, size_t stream, const struct config *config)
{
    struct local local;
    float again[BATCH_MAX * 2 * 16];
    if (!local_open(&local, config, &s->shape, profiles[stream % 4])) {
        complain(s, "no engine", NULL);
        return;
    }
    for (uint32_t l = 0; l < SURVIVOR_LAYERS; l++) {
        struct lane *lane = lane_of(s, l, stream);
        for (uint64_t at = 0, n; at < s->n_tokens; at += n) {
            n = batch_at(s, l, stream, at);
            if (local_step(&local, &lane->tokens, l, at, n, PART_APPEND | PART_ATTEND, again, NULL) ||
                memcmp(again, lane->out + floats_out(&s->shape, (size_t)at), floats_out(&s->shape, n) * sizeof *again) != 0)
                complain(s, "an output differs from the one in process", NULL);
        }
    }
    local_close(&local);
}

static void finish(struct survivor *s, const char *endpoint)
{
    struct fault fault = {0};
    char yaml[2048];
    snprintf(yaml, sizeof yaml, "pools: [{threads: 1}]\n%s", producer_profiles);
    struct config *config = house_config(NULL, 1, yaml);
    begin_life(s, endpoint);
    for (size_t i = 0; i < s->n_streams && config && s->client && !s->failures; i++) {
        struct control_close last;
        compare(s, i, config);
        if (attnd_close(s->client, &s->stream[i], &last, &fault))
            complain(s, "close", &fault);
        else if (last.tokens != s->n_tokens)
            complain(s, "the daemon holds other tokens than were sent", NULL);
    }
    config_destroy(config);
    end_life(s);
}

static bool remember(struct survivor *s, const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    s->file_bytes = SURVIVOR_LAYERS * s->n_streams * lane_bytes(s->n_tokens);
    if (fd < 0 || ftruncate(fd, (off_t)s->file_bytes))
        return false;
    s->file = mmap(NULL, s->file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    for (size_t i = 0; i < SURVIVOR_LAYERS * s->n_streams && s->file != MAP_FAILED; i++) {
        char *at = s->file + i * lane_bytes(s->n_tokens);
        s->lane[i].answered = (uint64_t *)(void *)at;
        s->lane[i].out = (float *)(void *)(at + 64);
        tokens_create(&s->lane[i].tokens, &s->shape, s->seed * 1000 + i % s->n_streams, (uint32_t)(i / s->n_streams), 0,
                      s->n_tokens);
    }
    return s->file != MAP_FAILED;
}

static int survive(const char *endpoint, int index, size_t n_streams, size_t n_tokens, const char *path)
{
    struct survivor *s = calloc(1, sizeof *s);
    s->n_streams = n_streams;
    s->n_tokens = n_tokens;
    s->seed = (uint64_t)index + 1;
    s->shape = survivor_shape();
    s->stream = calloc(n_streams, sizeof *s->stream);
    s->lane = calloc(SURVIVOR_LAYERS * n_streams, sizeof *s->lane);
    if (!remember(s, path))
        complain(s, "no memory in a file", NULL);
    while (!s->failures && !is_done(s)) {
        begin_life(s, endpoint);
        if (!s->failures)
            live(s);
        end_life(s);
    }
    if (!s->failures)
        finish(s, endpoint);
    for (size_t i = 0; i < SURVIVOR_LAYERS * n_streams; i++)
        tokens_destroy(&s->lane[i].tokens);
    munmap(s->file, s->file_bytes);
    size_t failures = s->failures;
    free(s->lane);
    free(s->stream);
    free(s);
    return failures ? 1 : 0;
}

/* Before main: with the role in the environment this process is a survivor and nothing else. */
__attribute__((constructor)) static void play_role(void)
{
    char endpoint[128], path[128];
    int index;
    size_t streams, tokens;
    const char *text = getenv(role);
    if (text && sscanf(text, "%d %zu %zu %127s %127s", &index, &streams, &tokens, endpoint, path) == 5)
        exit(survive(endpoint, index, streams, tokens, path));
}

pid_t survivor_start(const char *endpoint, int index, size_t streams, size_t tokens, const char *file)
{
    char text[512];
    pid_t pid = -1;
    char *arguments[] = {(char *)(uintptr_t) "survivor", NULL};
    snprintf(text, sizeof text, "%d %zu %zu %s %s", index, streams, tokens, endpoint, file);
    setenv(role, text, 1);
    int err = posix_spawn(&pid, "/proc/self/exe", NULL, NULL, arguments, environ);
    unsetenv(role);
    return err ? -1 : pid;
}

uint64_t survivor_answered(const char *file, size_t streams, size_t tokens)
{
    uint64_t sum = 0, one;
    int fd = open(file, O_RDONLY);
    for (size_t i = 0; i < SURVIVOR_LAYERS * streams && fd >= 0; i++)
        if (pread(fd, &one, sizeof one, (off_t)(i * lane_bytes(tokens))) == (ssize_t)sizeof one)
            sum += one;
    if (fd >= 0)
        close(fd);
    return sum;
}
