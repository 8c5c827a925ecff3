/* Policy: one head's resolved settings, from a profile's rules and a stream's overrides. */
#ifndef ATTND_CACHE_POLICY_H
#define ATTND_CACHE_POLICY_H

#include "attention/attend.h"
#include "base/profile.h"
#include "cache/cache.h"

enum { POLICY_PARAMS_BYTES = 256, POLICY_OVERRIDES_MAX = 16 };

struct policy {
    const struct cache_ops *ops;
    const struct storage *key_storage, *value_storage;
    enum compute compute; /* of tensor attention */
    uint64_t seed;
    uint64_t budget_bytes;  /* per kv head; 0: none */
    double budget_fraction; /* of the full cache in bf16 at expected_tokens; 0: none */
    uint64_t sink_tokens;   /* first tokens kept exact (policies that take a budget) */
    double audit;           /* the share of heads whose full bf16 cache is kept beside, to measure the error live */
    uint64_t recent_tokens; /* last tokens kept exact; UINT64_MAX: the policy's own default share */
    _Alignas(16) unsigned char params[POLICY_PARAMS_BYTES]; /* the policy's own struct, by ops->keys */
};

/* `--profile NAME,key=value,...` taken apart. */
struct profile_choice {
    char name[PROFILE_NAME_BYTES];
    struct setting override[POLICY_OVERRIDES_MAX];
    size_t n_overrides;
};

int profile_choice_parse(struct profile_choice *out, const char *text, struct fault *fault);

/* The keys that every rule takes (storage, key_storage, value_storage, seed, audit), compute, which tensor attention of rows against
 * rows takes (not of product rows, which are attended as softmax layers are), those of policies with a budget (budget_bytes,
 * budget_fraction, sink_tokens) and of policies with a recent window (recent_tokens), in one table for config, help and
 * printing. Offsets are into struct policy_settings. `storage` sets keys and values; the two others go before it. */
struct policy_settings {
    int storage, key_storage, value_storage; /* index into storage_table */
    int compute;                             /* enum compute */
    uint64_t seed, budget_bytes, sink_tokens, recent_tokens;
    double budget_fraction, audit;
};
extern const struct key policy_common_keys[];
extern const size_t n_policy_common_keys;

/* The profile of this name: from `profiles` (n of them), or, when a policy has the name, the profile that applies it to the
 * layers it serves and its companion to the others. ERR_UNKNOWN_PROFILE. */
int profile_find(struct profile *out, const struct profile *profiles, size_t n, const char *name, struct fault *fault);

/* The settings of one head. Overrides (choice; NULL: none) apply to every rule that has the key; one that no rule of the profile
 * has is an error. Of dims, kind, d, e and expected_tokens are read. ERR_INVALID, ERR_UNSUPPORTED with the reason; no rule matching the head is an error too. */
int policy_resolve(struct policy *out, const struct profile *profile, const struct profile_choice *choice,
                   const struct cache_dims *dims, uint64_t layer, uint64_t kv_head, struct fault *fault);

/* Checks one rule by itself, as far as that goes without a stream: known policy, known keys, values, kinds. For config. */
int policy_check_rule(const struct rule *rule, struct setting const **culprit, struct fault *fault);

/* The budget in bytes that holds for a head of these dims: the smaller of the two when both are given; 0: none. */
uint64_t policy_budget(const struct policy *policy, const struct cache_dims *dims);

/* Whether two heads get the same settings. */
bool policy_same(const struct policy *a, const struct policy *b);

/* "window(window_tokens=1024x1024, unmasked=false, sink_tokens=4), keys bf16, values bf16": what open answers and tools print.
 * A budget or recent_tokens is in it where one is set. */
void policy_describe(const struct policy *policy, char *text, size_t size);

#endif
