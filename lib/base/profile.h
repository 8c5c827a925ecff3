/* Profiles as plain data: which policy, with which settings, which head of which layer gets. First matching rule wins.
 * lib/config fills them from YAML; lib/cache/policy resolves them into one struct policy per head. */
#ifndef ATTND_BASE_PROFILE_H
#define ATTND_BASE_PROFILE_H

#include "base/key.h"
#include "base/shape.h"

enum { PROFILE_RULES_MAX = 32, RULE_SETTINGS_MAX = 24, PROFILE_NAME_BYTES = 40 };

struct rule {
    unsigned kinds;                   /* bit (1 << attention_kind) for each kind it matches */
    uint64_t first_layer, last_layer; /* inclusive; the whole range is 0..UINT64_MAX */
    uint64_t first_head, last_head;   /* kv heads, inclusive */
    char policy[PROFILE_NAME_BYTES];
    struct setting setting[RULE_SETTINGS_MAX];
    size_t n_settings;
    int line; /* of the rule in its file */
};

struct profile {
    char name[PROFILE_NAME_BYTES];
    struct rule rule[PROFILE_RULES_MAX];
    size_t n_rules;
    int line;
};

#endif
