/* Options that are lists: names, shares and counts separated by commas. What is wrong is told as wrong usage of `who`. */
#ifndef ATTND_TOOLS_EVAL_WORDS_H
#define ATTND_TOOLS_EVAL_WORDS_H

#include "tools/command.h"

enum { WORDS_MAX = 64 };

struct words {
    char *text;
    const char *item[WORDS_MAX];
    double number[WORDS_MAX]; /* of shares and counts */
    size_t n;
};

/* COMMAND_GO_ON or COMMAND_USAGE. words_free takes words that are zeroed, too. */
int words_split(struct words *words, const char *who, const char *option, const char *text);
/* Shares such as 1/8 or 0.125, more than 0 and at most 16. */
int words_shares(struct words *words, const char *who, const char *option, const char *text);
/* Whole numbers from min to max. */
int words_counts(struct words *words, const char *who, const char *option, const char *text, double min, double max);
/* Names of policies or "all"; names of storages or "all". */
int words_policies(struct words *words, const char *who, const char *option, const char *text);
int words_storages(struct words *words, const char *who, const char *option, const char *text);
void words_free(struct words *words);

bool words_have(const struct words *words, const char *word);
/* Whether the words name it, or all. */
bool words_ask_for(const struct words *words, const char *word);

#endif
