/* Errors: one list of codes, each with its name on the wire, a sentence and what to do about it.
 *
 * Functions that can fail return 0 or one of these (all negative). Where the caller can do more with words than with a
 * number, a function also takes a `struct fault` and says there what failed, where and why. A fault may be NULL.
 * Threads: everything here is pure or writes only what it is given. */
#ifndef ATTND_BASE_ERR_H
#define ATTND_BASE_ERR_H

#include <stddef.h>

/* clang-format off */
/*    name            on the wire          sentence                                       what to do */
#define ERR_LIST(X)                                                                                                                \
    X(NO_MEMORY,      "no_memory",         "memory could not be allocated",               "close streams or lower budgets, then send again")           \
    X(INVALID,        "invalid",           "a value is outside what is allowed",          "correct the value that the message names")                  \
    X(UNSUPPORTED,    "unsupported",       "this combination is not supported",           "choose another policy, storage or flag")                    \
    X(MALFORMED,      "malformed",         "the bytes do not follow the format",          "compare them with lib/wire/README.md")                      \
    X(VERSION,        "version",           "the protocol version is not spoken here",     "use a client of the version that hello reports")            \
    X(TOO_LARGE,      "too_large",         "a size is above its limit",                   "split it; hello tells the limits")                          \
    X(WRONG_SHAPE,    "wrong_shape",       "a tensor's bytes do not match the stream",    "send as many bytes as the stream's shape says")             \
    X(WRONG_INDEX,    "wrong_index",       "first_token is not the next index",           "continue at the index that `expected` gives")               \
    X(UNKNOWN_STREAM, "unknown_stream",    "no such stream is open here",                 "open it, or resume it after a restart")                     \
    X(UNKNOWN_PROFILE,"unknown_profile",   "no profile has this name",                    "use a profile that hello lists")                            \
    X(EXISTS,         "exists",            "a stream of this name is open already",       "open with resume, or take another name")                    \
    X(NOT_OWNER,      "not_owner",         "another connection writes this stream",       "open it with resume to take it over")                       \
    X(NOT_FINITE,     "not_finite",        "a tensor holds NaN or infinity",              "repair the input; nothing was applied")                     \
    X(OVERFLOW,       "overflow",          "a number does not fit the row storage",       "use a wider storage; nothing was applied")                  \
    X(BUSY,           "busy",              "the credit for queued bytes is used up",      "wait for replies, then send again from `expected`")         \
    X(NOT_KEPT,       "not_kept",          "the reply was confirmed and is gone",         "do not resend what was confirmed")                          \
    X(NEEDS_QUERIES,  "needs_queries",     "the policy learns from queries",              "send q with append, or use the observe flag")               \
    X(FAILED,         "failed",            "the stream failed and takes nothing more",    "close it and open it anew")                                 \
    X(CLOSING,        "closing",           "the daemon is draining and takes no more",    "connect again after its restart")                           \
    X(IO,             "io",                "reading or writing failed",                   "see the system's reason in the message")                    \
    X(NOT_FOUND,      "not_found",         "it does not exist",                           "check the name")                                            \
    X(TIMEOUT,        "timeout",           "no answer came in time",                      "check that the daemon runs at this endpoint")               \
    X(GAP,            "gap",               "publications were lost on the way",           "read faster, or raise the subscriber's limits")
/* clang-format on */

enum err {
    ERR_OK_ = 0,
    ERR_BEFORE_FIRST_ = -1000,
#define ERR_ENUM(name, wire, sentence, advice) ERR_##name,
    ERR_LIST(ERR_ENUM)
#undef ERR_ENUM
};

/* What failed, where and why, for people. `expected` is set with WRONG_INDEX and BUSY: the next index to send. */
struct fault {
    int err;
    unsigned long long expected;
    char text[256];
};

const char *err_name(int err); /* "wrong_index"; "ok" for 0 */
const char *err_sentence(int err);
const char *err_advice(int err);
int err_from_name(const char *name); /* the code with this wire name; 0 for "ok", ERR_INVALID when unknown */

/* Fills *f (when not NULL) and returns err, so that a check reads: return fault_set(f, ERR_X, "what, where, why", ...). */
int fault_set(struct fault *f, int err, const char *format, ...) __attribute__((format(printf, 3, 4)));

#ifdef __clang_analyzer__ /* sees one file at a time, and must be told what a fault holds afterwards */
static inline int fault_known(struct fault *f, int err)
{
    if (f)
        f->err = err;
    return err;
}
#define fault_set(f, err, ...) (fault_set(f, err, __VA_ARGS__), fault_known(f, err))
#endif

#endif
