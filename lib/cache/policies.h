/* The list of policies: a new one is a file that defines `const struct cache_ops policy_NAME` and a row here. */
#ifndef ATTND_CACHE_POLICIES_H
#define ATTND_CACHE_POLICIES_H

#include "cache/cache.h"

#define POLICY_LIST(X)                                                                                                         \
    X(full)                                                                                                                    \
    X(window)                                                                                                                  \
    X(two_cache)                                                                                                               \
    X(uniform)                                                                                                                 \
    X(h2o)                                                                                                                     \
    X(tova)                                                                                                                    \
    X(snapkv)                                                                                                                  \
    X(keydiff)                                                                                                                 \
    X(expected)                                                                                                                \
    X(balance)                                                                                                                 \
    X(merge)                                                                                                                   \
    X(subgen)                                                                                                                  \
    X(subgen4)                                                                                                                 \
    X(subgen2)

#define POLICY_DECLARE(name) extern const struct cache_ops policy_##name;
POLICY_LIST(POLICY_DECLARE)
#undef POLICY_DECLARE

#endif
