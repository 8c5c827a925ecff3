/* House: a daemon inside the test process, on ipc sockets in a folder of its own, and what else end-to-end tests share:
 * tokens that depend on their index alone, the same attention computed in process, and connections that speak raw frames. */
#ifndef ATTND_TESTS_E2E_HOUSE_H
#define ATTND_TESTS_E2E_HOUSE_H

#include "client/attnd_client.h"
#include "config/config.h"
#include "daemon/daemon.h"
#include "workers/engine.h"

/* The thread sanitizer does not see inside libzmq, so what two threads of one process hand each other over inproc looks
 * unordered to it; and everything takes ten times as long. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN 0
#endif
#if defined(__SANITIZE_ADDRESS__) || UNDER_TSAN
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* ---- the daemon */

struct house {
    char folder[64]; /* under /tmp, removed by house_close */
    char ingest[128], outputs[128], telemetry[128];
    void *context;
    struct config *config;
    struct daemon *daemon;
};

/* Configuration from this YAML text, on top of endpoints in `folder` (NULL: no endpoints; then `yaml` may give its own). */
struct config *house_config(const char *folder, double telemetry_seconds, const char *yaml);

/* Starts a daemon. yaml: further keys, such as "limits: {parts: 4}\n". False when a check has failed. */
bool house_open(struct house *house, const char *yaml); /* telemetry once, at the start */
bool house_open_telling(struct house *house, double telemetry_seconds, const char *yaml);
void house_stop(struct house *house);  /* stops the daemon, keeps the rest */
void house_close(struct house *house); /* stops it if it runs */

/* A number of the daemon's status, by a path such as "daemon.memory_allocated_bytes" or "streams.0.tokens_total"; NAN when it
 * is not there. text: what attnd_status answers. */
double status_number(const char *text, const char *path);
double house_number(struct attnd_client *client, const char *path);

/* ---- tokens */

struct shape house_shape(size_t n_softmax, size_t n_tensor, size_t heads, size_t kv_heads, size_t key_dim, size_t value_dim);

/* Tokens [first, first + n) of one layer, in the stream's element type. The numbers of a token depend on seed, layer and index
 * alone: uniform in [-1, 1), queries in [-3, 3). */
struct tokens {
    const struct shape *shape;
    uint64_t first;
    size_t n;
    enum attention_kind kind;
    void *q, *key[2], *value[2];
};
void tokens_create(struct tokens *tokens, const struct shape *shape, uint64_t seed, uint32_t layer, uint64_t first, size_t n);
void tokens_destroy(struct tokens *tokens);

/* Where token `at`'s numbers are. */
const void *tokens_q(const struct tokens *tokens, uint64_t at);
const void *tokens_key(const struct tokens *tokens, int stream, uint64_t at);
const void *tokens_value(const struct tokens *tokens, int stream, uint64_t at);

/* A client's part of n tokens from `at` on. */
struct attnd_part tokens_part(const struct tokens *tokens, struct attnd_stream *stream, uint64_t at, size_t n, unsigned flags,
                              float *out, float *lse);

size_t floats_out(const struct shape *shape, size_t n); /* n H e */
size_t floats_lse(const struct shape *shape, size_t n); /* n H */

/* |a - b|_2 / |b|_2. */
double floats_differ(const float *a, const float *b, size_t n);

/* A whole number in [0, n) that depends on its arguments alone. */
uint64_t pick(uint64_t seed, uint64_t index, uint64_t n);

/* ---- the same in process */

struct local {
    struct engine *engine;
    struct engine_stream *stream;
    struct part *part;
};
bool local_open(struct local *local, const struct config *config, const struct shape *shape, const char *profile);
void local_close(struct local *local);

/* One part of n tokens from `at` on, waited for. Returns what the check or the part says. out, lse: NULL where not asked for. */
int local_step(struct local *local, const struct tokens *tokens, uint32_t layer, uint64_t at, size_t n, unsigned flags,
               float *out, float *lse);

#endif
