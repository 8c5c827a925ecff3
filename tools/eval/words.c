#include "tools/eval/words.h"

#include "cache/cache.h"
#include "kernels/storage.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int words_split(struct words *words, const char *who, const char *option, const char *text)
{
    words->n = 0;
    words->text = strdup(text);
    for (char *rest = words->text, *word; rest && (word = strsep(&rest, ","));) {
        if (!*word || words->n == WORDS_MAX)
            return command_usage(who, "%s takes 1 to %d words separated by commas, not '%s'", option, WORDS_MAX, text);
        words->item[words->n++] = word;
    }
    return COMMAND_GO_ON;
}

int words_shares(struct words *words, const char *who, const char *option, const char *text)
{
    int code = words_split(words, who, option, text);
    for (size_t i = 0; code == COMMAND_GO_ON && i < words->n; i++) {
        char *end, *below = NULL;
        double x = strtod(words->item[i], &end), by = 1;
        if (end != words->item[i] && *end == '/') {
            below = end + 1;
            by = strtod(below, &end);
        }
        words->number[i] = x / by;
        if (end == words->item[i] || end == below || *end || !(words->number[i] > 0 && words->number[i] <= 16))
            code = command_usage(who, "%s takes shares such as 1/8 or 0.125, more than 0 and at most 16, not '%s'", option,
                                 words->item[i]);
    }
    return code;
}

int words_counts(struct words *words, const char *who, const char *option, const char *text, double min, double max)
{
    int code = words_split(words, who, option, text);
    for (size_t i = 0; code == COMMAND_GO_ON && i < words->n; i++) {
        char *end;
        double x = words->number[i] = strtod(words->item[i], &end);
        if (end == words->item[i] || *end || !(x >= min && x <= max) || x != floor(x))
            code = command_usage(who, "%s takes whole numbers from %.0f to %.0f, not '%s'", option, min, max, words->item[i]);
    }
    return code;
}

int words_policies(struct words *words, const char *who, const char *option, const char *text)
{
    int code = words_split(words, who, option, text);
    for (size_t i = 0; code == COMMAND_GO_ON && i < words->n; i++)
        if (strcmp(words->item[i], "all") != 0 && !cache_find(words->item[i]))
            code = command_usage(who, "%s: there is no policy '%s'", option, words->item[i]);
    return code;
}

int words_storages(struct words *words, const char *who, const char *option, const char *text)
{
    int code = words_split(words, who, option, text);
    for (size_t i = 0; code == COMMAND_GO_ON && i < words->n; i++)
        if (strcmp(words->item[i], "all") != 0 && !storage_find(words->item[i]))
            code = command_usage(who, "%s: there is no storage '%s'", option, words->item[i]);
    return code;
}

void words_free(struct words *words)
{
    free(words->text);
    *words = (struct words){0};
}

bool words_have(const struct words *words, const char *word)
{
    for (size_t i = 0; i < words->n; i++)
        if (strcmp(words->item[i], word) == 0)
            return true;
    return false;
}

bool words_ask_for(const struct words *words, const char *word)
{
    return words_have(words, word) || words_have(words, "all");
}
