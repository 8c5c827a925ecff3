/* What the tests of configuration share: parsing text while collecting the messages, and a check of rules that stands in for
 * the policies' own. */
#ifndef ATTND_TESTS_LIB_CONFIG_FIXTURE_H
#define ATTND_TESTS_LIB_CONFIG_FIXTURE_H

#include "config/config.h"

enum { MESSAGES_MAX = 64, MESSAGE_MAX = 400 };

struct messages {
    size_t n;
    char text[MESSAGES_MAX][MESSAGE_MAX];
};

void collect_message(void *context, const char *text); /* context: struct messages */

/* Knows the policies full, window and two_cache and the settings window_tokens (0 to 4096, or a pair), storage (f32, bf16) and
 * a few more; refuses two_cache for softmax. */
config_check_rule fake_check_rule;

/* Parses text as file "f". NULL and messages when refused. */
struct config *parse(const char *text, struct messages *messages);

#endif
