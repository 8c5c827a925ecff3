/* Configuration: YAML to struct config, every key in one table; all errors of a file in one run, as `file:line: key: reason`.
 *
 * Rules of profiles are checked through a function that the caller hands in, since config knows no policy. A list of two numbers
 * in a rule comes to it as "AxB".
 * Threads: load in one; a loaded config is read only. Ownership: config_destroy frees; strings live as long as the config. */
#ifndef ATTND_CONFIG_CONFIG_H
#define ATTND_CONFIG_CONFIG_H

#include "base/profile.h"

enum {
    CONFIG_ENDPOINTS_MAX = 8,
    CONFIG_ENDPOINT_BYTES = 256,
    CONFIG_POOLS_MAX = 64,
    CONFIG_CPUS_MAX = 256,
    CONFIG_PROFILES_MAX = 64,
    CONFIG_PATH_BYTES = 4096,
};

struct config_socket {
    char endpoint[CONFIG_ENDPOINTS_MAX][CONFIG_ENDPOINT_BYTES];
    size_t n_endpoints;
};

struct config_pool {
    char name[PROFILE_NAME_BYTES];
    uint64_t threads;         /* 0: one per CPU that this process may use */
    int cpu[CONFIG_CPUS_MAX]; /* pinning: thread i of the team runs on cpu[i % n_cpus]; n_cpus 0: not pinned */
    size_t n_cpus;
    bool heads_auto;                /* takes the heads that no other pool names, balanced by load */
    uint64_t first_head, last_head; /* else: kv heads, inclusive, of every layer */
};

struct config_limits {                                                 /* every one in a table of keys */
    uint64_t message_bytes, parts, tokens_per_message, streams, heads; /* heads: of all streams together, layers x kv heads */
    uint64_t credit_bytes;                                             /* of one connection: messages, unconfirmed replies */
    uint64_t queued_bytes;                                             /* of all connections */
    uint64_t lease_seconds;                                            /* of a stream whose producer is gone; 0: for ever */
    uint64_t subscriber_messages;                                      /* high-water mark per subscriber */
    uint64_t memory_bytes;                                             /* of caches, messages, kept replies; 0: no limit */
};

struct config {
    char path[CONFIG_PATH_BYTES]; /* the file that it was read from; "": the built-in default, or a text */
    struct config_socket ingest, outputs, telemetry;
    double telemetry_interval_seconds;
    char http_address[CONFIG_ENDPOINT_BYTES]; /* host:port; "": no HTTP */
    char isa[KEY_TEXT_BYTES];                 /* "auto", "scalar", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "neon" */
    char log_level[KEY_TEXT_BYTES];
    double spin_seconds; /* how long an idle thread spins before it sleeps */
    struct config_limits limits;
    struct config_pool pool[CONFIG_POOLS_MAX];
    size_t n_pools;
    struct profile *profile; /* n_profiles */
    size_t n_profiles;
};

/* Checks one rule; *culprit is the setting at fault, or NULL for the rule as a whole. */
typedef int config_check_rule(const struct rule *rule, struct setting const **culprit, struct fault *fault);

/* Where errors go, one call per error, already in the form `file:line: key: reason`. */
typedef void config_report(void *context, const char *message);

/* Loads path; NULL: the built-in default, which is config/attnd.yaml of the source tree. Keys that are absent keep the built-in
 * default; `pools` and `profiles`, where given, replace the built-in ones (profiles add to the built-in ones by name).
 * `${runtime}` in an endpoint is the user's runtime folder (base/runtime.h).
 * ERR_INVALID after all errors were reported; ERR_IO; ERR_NO_MEMORY. */
int config_load(struct config **out, const char *path, config_check_rule *check, config_report *report, void *context);
/* The same from text; name is what errors call it. text NULL: the built-in default alone. */
int config_parse(struct config **out, const char *name, const char *text, size_t bytes, config_check_rule *check,
                 config_report *report, void *context);
/* The same once more, while `running` is in force: from text (name: what errors call it), or, text NULL, from the file that `running`
 * was read from. What cannot change live (config/live.h) and is absent stays as it runs; the path stays. */
int config_reread(struct config **out, const struct config *running, const char *name, const char *text,
                  config_check_rule *check, config_report *report, void *context);
void config_destroy(struct config *config);

/* The text of the built-in default. */
const char *config_builtin_yaml(size_t *bytes);

/* Writes every key with default, bounds, unit and help: what --help-config prints and config/attnd.yaml is tested against. */
void config_print_keys(void (*line)(void *context, const char *text), void *context);

#endif
