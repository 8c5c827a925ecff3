#include "tests/e2e/producer.h"

#include "tests/e2e/house.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static const char role[] = "ATTND_TEST_PRODUCER";

enum { LAYERS = 2, PARTS_MAX = 8, DEPTH = 6, BATCH_MAX = 40, BOTH = WIRE_APPEND | WIRE_ATTEND };

const char producer_profiles[] =
    "profiles:\n"
    "  - name: p0\n"
    "    rules: [{attention: softmax, policy: full}, {attention: tensor, policy: window, window_tokens: [48, 12]}]\n"
    "  - name: p1\n"
    "    rules: [{attention: softmax, policy: full, storage: bf16}, {policy: window, window_tokens: [9, 30], storage: bf16}]\n"
    "  - name: p2\n"
    "    rules: [{policy: window, window_tokens: [64, 8]}]\n"
    "  - name: p3\n"
    "    rules: [{policy: window, window_tokens: [32, 16], unmasked: true}]\n";

static const char *const profiles[] = {"p0", "p1", "p2", "p3"};

/* One layer of one stream: what was sent and answered. */
struct lane {
    struct tokens tokens;
    float *out;            /* (tokens, H, e) */
    float *again;          /* of a batch that is sent once more */
    unsigned char *answer; /* (tokens,): how often each was acknowledged */
    uint32_t *batch;       /* sizes, in the order in which they were applied */
    size_t n_batches, in_flight;
    bool unconfirmed;        /* the last batch: nothing was sent since it was answered */
    uint64_t sent, answered; /* tokens */
};

struct flight {
    bool used, repeat;
    uint64_t ticket;
    uint32_t layer;
    size_t n, stream[PARTS_MAX];
    uint64_t first[PARTS_MAX];
    struct attnd_part part[PARTS_MAX];
};

struct producer {
    struct attnd_client *client;
    struct shape shape;
    size_t n_streams, n_tokens;
    struct attnd_stream *stream;
    struct lane *lane[LAYERS]; /* (n_streams) */
    struct flight flight[DEPTH];
    uint64_t seed, n_picks;
    size_t failures;
};

static size_t choose(struct producer *p, size_t n)
{
    return (size_t)pick(p->seed, p->n_picks++, n);
}

static void complain(struct producer *p, const char *what, const struct fault *fault)
{
    if (p->failures++ < 5)
        fprintf(stderr, "\nproducer %llu: %s: %s", (unsigned long long)p->seed, what, fault ? fault->text : "");
}

/* Up to PARTS_MAX streams, each with tokens left to send at this layer. */
static bool fill(struct producer *p, struct flight *f)
{
    size_t wanted = 1 + choose(p, PARTS_MAX), start = choose(p, p->n_streams);
    f->layer = (uint32_t)choose(p, LAYERS);
    f->n = 0;
    f->repeat = false;
    for (size_t i = 0; i < p->n_streams && f->n < wanted; i++) {
        size_t s = (start + i) % p->n_streams;
        uint64_t next = p->stream[s].next[f->layer];
        size_t left = p->n_tokens - (size_t)next, n = 1 + choose(p, BATCH_MAX);
        struct lane *lane = &p->lane[f->layer][s];
        if (left == 0 || (next != lane->sent && lane->in_flight)) /* set back: what is behind the refusal is refused too */
            continue;
        f->stream[f->n] = s;
        f->first[f->n] = next;
        f->part[f->n++] = tokens_part(&lane->tokens, &p->stream[s], next, n < left ? n : left, BOTH,
                                      lane->out + floats_out(&p->shape, (size_t)next), NULL);
    }
    return f->n > 0;
}

/* The last batch of an idle lane once more, as after a lost answer. */
static bool fill_again(struct producer *p, struct flight *f)
{
    size_t s = choose(p, p->n_streams);
    f->layer = (uint32_t)choose(p, LAYERS);
    struct lane *lane = &p->lane[f->layer][s];
    if (lane->in_flight || !lane->unconfirmed)
        return false;
    uint32_t n = lane->batch[lane->n_batches - 1];
    p->stream[s].next[f->layer] = lane->answered - n;
    f->n = 1;
    f->repeat = true;
    f->stream[0] = s;
    f->first[0] = lane->answered - n;
    f->part[0] = tokens_part(&lane->tokens, &p->stream[s], f->first[0], n, BOTH, lane->again, NULL);
    return true;
}

static void launch(struct producer *p, struct flight *f)
{
    struct fault fault = {0};
    if (attnd_send(p->client, f->layer, f->part, f->n, &f->ticket, &fault)) {
        complain(p, "send", &fault);
        return;
    }
    f->used = true;
    for (size_t i = 0; i < f->n; i++) {
        struct lane *lane = &p->lane[f->layer][f->stream[i]];
        lane->in_flight++;
        lane->sent = f->first[i] + f->part[i].n_tokens;
        lane->unconfirmed = f->repeat;
    }
}

static void take_part(struct producer *p, const struct flight *f, size_t i)
{
    struct lane *lane = &p->lane[f->layer][f->stream[i]];
    const struct attnd_part *part = &f->part[i];
    lane->in_flight--;
    if (f->repeat && part->fault.err == ERR_NOT_KEPT)
        return;                                              /* short of credit, the client has confirmed it */
    if (f->repeat && part->fault.err == ERR_BUSY) {          /* so be it: the answer is here since the first time */
        p->stream[f->stream[i]].next[f->layer] = lane->sent; /* what was sent behind it stands */
        attnd_confirm(p->client, &p->stream[f->stream[i]], NULL);
        return;
    }
    if (part->fault.err == ERR_BUSY || part->fault.err == ERR_WRONG_INDEX)
        return; /* the client has set the stream back */
    if (part->fault.err) {
        complain(p, "refused", &part->fault);
        return;
    }
    if (f->repeat) {
        size_t at = floats_out(&p->shape, (size_t)f->first[i]), n = floats_out(&p->shape, part->n_tokens);
        if (memcmp(lane->again, lane->out + at, n * sizeof *lane->out) != 0)
            complain(p, "a resend was answered with other bytes", NULL);
        return;
    }
    if (f->first[i] != lane->answered)
        complain(p, "an answer out of order", NULL);
    for (uint32_t t = 0; t < part->n_tokens; t++)
        lane->answer[f->first[i] + t]++;
    lane->batch[lane->n_batches++] = part->n_tokens;
    lane->answered += part->n_tokens;
    lane->unconfirmed = lane->in_flight == 0;
}

static void land(struct producer *p, struct flight *f)
{
    struct fault fault = {0};
    if (attnd_wait(p->client, f->ticket, &fault))
        complain(p, "wait", &fault);
    else
        for (size_t i = 0; i < f->n; i++)
            take_part(p, f, i);
    f->used = false;
}

/* Messages leave and are answered in turn. */
static void produce(struct producer *p)
{
    bool more = true;
    for (size_t turn = 0; more && !p->failures; turn++) {
        struct flight *f = &p->flight[turn % DEPTH];
        if (f->used)
            land(p, f);
        if (choose(p, 20) == 0 ? fill_again(p, f) : fill(p, f))
            launch(p, f);
        more = false;
        for (size_t i = 0; i < DEPTH; i++)
            more |= p->flight[i].used;
        for (size_t l = 0; l < LAYERS; l++)
            for (size_t s = 0; s < p->n_streams; s++)
                more |= p->lane[l][s].answered < p->n_tokens;
    }
}

/* The same batches in process, bit by bit. */
static void compare(struct producer *p, size_t s, const struct config *config)
{
    struct local local;
    if (!local_open(&local, config, &p->shape, profiles[s % 4])) {
        complain(p, "no engine", NULL);
        return;
    }
    for (uint32_t l = 0; l < LAYERS; l++) {
        struct lane *lane = &p->lane[l][s];
        uint64_t at = 0;
        for (size_t b = 0; b < lane->n_batches; at += lane->batch[b++]) {
            size_t n = floats_out(&p->shape, lane->batch[b]);
            if (local_step(&local, &lane->tokens, l, at, lane->batch[b], PART_APPEND | PART_ATTEND, lane->again, NULL) ||
                memcmp(lane->again, lane->out + floats_out(&p->shape, (size_t)at), n * sizeof *lane->out) != 0)
                complain(p, "an output differs from the one in process", NULL);
        }
        for (size_t t = 0; t < p->n_tokens; t++)
            if (lane->answer[t] != 1)
                complain(p, "a token was not acknowledged once", NULL);
    }
    local_close(&local);
}

static void open_lane(struct producer *p, uint32_t layer, size_t s)
{
    struct lane *lane = &p->lane[layer][s];
    tokens_create(&lane->tokens, &p->shape, p->seed * 1000 + s, layer, 0, p->n_tokens);
    lane->out = calloc(floats_out(&p->shape, p->n_tokens), sizeof *lane->out);
    lane->again = calloc(floats_out(&p->shape, BATCH_MAX), sizeof *lane->again);
    lane->answer = calloc(p->n_tokens, 1);
    lane->batch = calloc(p->n_tokens, sizeof *lane->batch);
}

static void close_lane(struct lane *lane)
{
    tokens_destroy(&lane->tokens);
    free(lane->out);
    free(lane->again);
    free(lane->answer);
    free(lane->batch);
}

int producer_run(const char *endpoint, void *context, int index, size_t n_streams, size_t n_tokens)
{
    struct fault fault = {0};
    struct producer *p = calloc(1, sizeof *p);
    p->n_streams = n_streams;
    p->n_tokens = n_tokens;
    p->seed = (uint64_t)index + 1;
    p->shape = house_shape(1, 1, 2, 1, 16, 16);
    p->stream = calloc(n_streams, sizeof *p->stream);
    if (attnd_connect(&p->client, endpoint, context, &fault))
        complain(p, "connect", &fault);
    for (uint32_t l = 0; l < LAYERS; l++)
        p->lane[l] = calloc(n_streams, sizeof *p->lane[l]);
    for (size_t s = 0; s < n_streams && p->client; s++) {
        char name[32];
        snprintf(name, sizeof name, "p%d.s%zu", index, s);
        if (attnd_open(p->client, name, &p->shape, profiles[s % 4], false, &p->stream[s], &fault))
            complain(p, "open", &fault);
        for (uint32_t l = 0; l < LAYERS; l++)
            open_lane(p, l, s);
    }
    if (!p->failures)
        produce(p);
    char yaml[2048];
    snprintf(yaml, sizeof yaml, "pools: [{threads: 1}]\n%s", producer_profiles);
    struct config *config = house_config(NULL, 1, yaml);
    for (size_t s = 0; s < n_streams && config && p->client; s++) {
        struct control_close last;
        if (!p->failures)
            compare(p, s, config);
        if (attnd_close(p->client, &p->stream[s], &last, &fault))
            complain(p, "close", &fault);
        else if (last.tokens != n_tokens)
            complain(p, "the daemon holds other tokens than were sent", NULL);
        for (uint32_t l = 0; l < LAYERS; l++)
            close_lane(&p->lane[l][s]);
    }
    config_destroy(config);
    attnd_disconnect(p->client);
    for (uint32_t l = 0; l < LAYERS; l++)
        free(p->lane[l]);
    free(p->stream);
    size_t failures = p->failures;
    free(p);
    return failures ? 1 : 0;
}

/* Before main: with the role in the environment this process is a producer and nothing else. */
__attribute__((constructor)) static void play_role(void)
{
    char endpoint[128];
    int index;
    size_t streams, tokens;
    const char *text = getenv(role);
    if (text && sscanf(text, "%d %zu %zu %127s", &index, &streams, &tokens, endpoint) == 4)
        exit(producer_run(endpoint, NULL, index, streams, tokens));
}

pid_t producer_start(const char *endpoint, int index, size_t streams, size_t tokens)
{
    char text[256];
    pid_t pid = -1;
    char *arguments[] = {(char *)(uintptr_t) "producer", NULL};
    snprintf(text, sizeof text, "%d %zu %zu %s", index, streams, tokens, endpoint);
    setenv(role, text, 1);
    int err = posix_spawn(&pid, "/proc/self/exe", NULL, NULL, arguments, environ);
    unsetenv(role);
    return err ? -1 : pid;
}

int producer_wait(pid_t producer)
{
    int status;
    while (waitpid(producer, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
