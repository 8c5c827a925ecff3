/* Load: what is to be fed, as the user says it, and what follows from that: the tokens, the streams, where they are cut into
 * batches, how they are put together in messages.
 *
 * Cuts. With --batch N a batch ends before every multiple of N. With --batch random it ends before every token t whose coin
 * mix(mix(mix(seed) ^ stream) ^ t) is below 2^64 / 16, and before every multiple of 64, so that batches have 1 to 64 tokens, 15 as a
 * rule. --warm-up is a cut, too. A cut depends on nothing else: what is sent again, by whomever, is sent in the same batches.
 * Threads: made once, read only afterwards. */
#ifndef ATTND_TOOLS_FEED_LOAD_H
#define ATTND_TOOLS_FEED_LOAD_H

#include "tools/command.h"
#include "tools/feed/source.h"

/* As given. */
struct load_options {
    const char *trace, *synthetic, *profile, *element, *batch;
    uint64_t streams, connections, parts, in_flight, warm_up, seed;
    double rate;
};
extern const struct load_options load_defaults;
extern const struct command_option load_option_table[];
extern const size_t n_load_options;

struct load {
    struct shape shape;
    struct source source;
    uint64_t n_tokens; /* of each stream */
    uint64_t warm_up;  /* the first of them, appended without outputs before anything is measured; less than n_tokens */
    size_t n_streams, n_connections, n_parts, in_flight;
    uint64_t batch; /* 0: random */
    uint64_t seed;
    double rate; /* tokens per second of all streams together; 0: as fast as they are answered */
    const char *profile;
};

/* COMMAND_GO_ON, COMMAND_USAGE when options contradict each other, COMMAND_FAILED when a trace cannot be read; said on stderr in the
 * name of `who`. load_free takes a load that is half made, too. */
int load_create(struct load *load, const char *who, const struct load_options *options);
void load_free(struct load *load);

/* The most tokens of a batch. */
uint64_t load_longest_batch(const struct load *load);

/* Where the batch ends that begins at, or holds, token `at` < n_tokens of a stream. */
uint64_t load_cut(const struct load *load, uint64_t stream, uint64_t at);

#endif
