/* Trade-off: what a stream's caches take now, in bytes and in seconds per token, beside what the other forms would take at this
 * length: two caches or four, every row or compressed ([T] arXiv 2503.11108 is about exactly this choice).
 *
 * Bytes are what each policy's own worst_bytes says for this many tokens, with the storage and the budget that the stream's policy
 * has. Seconds of the form in use are measured; those of the others are projected from it by the ratio of
 *     cost = max(operations, BALANCE bytes read),  operations = 2 g rows (d + e), for two views rows_1 rows_2 in place of rows.
 * A projection, not a measurement: `attn limits tradeoff` runs the forms side by side. */
#ifndef ATTND_WORKERS_TRADEOFF_H
#define ATTND_WORKERS_TRADEOFF_H

#include "workers/engine.h"

enum { TRADEOFF_FORMS_MAX = 24 };

struct tradeoff_form {
    const char *policy; /* its name in the table of policies */
    bool in_use;
    double bytes;             /* per kv head */
    double seconds_per_token; /* of one layer, all heads; 0 when nothing was measured yet */
};

struct tradeoff {
    enum attention_kind kind;
    uint64_t tokens; /* held by the layer */
    size_t n_forms;
    struct tradeoff_form form[TRADEOFF_FORMS_MAX];
};

/* Of the first layer of this kind; false when the stream has none, or no token yet. */
bool tradeoff_of(const struct engine_stream *stream, enum attention_kind kind, struct tradeoff *out);

#endif
