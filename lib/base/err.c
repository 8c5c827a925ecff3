#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    int err;
    const char *name, *sentence, *advice;
} table[] = {
    /* clang-format off */
    {0, "ok", "done", "nothing to do"},
#define ERR_ROW(name, wire, sentence, advice) {ERR_##name, wire, sentence, advice},
    ERR_LIST(ERR_ROW)
#undef ERR_ROW
    /* clang-format on */
};

enum { N_ERR = sizeof table / sizeof *table };

static size_t row_of(int err)
{
    for (size_t i = 0; i < N_ERR; i++)
        if (table[i].err == err)
            return i;
    return 1;
}

const char *err_name(int err)
{
    return table[row_of(err)].name;
}

const char *err_sentence(int err)
{
    return table[row_of(err)].sentence;
}

const char *err_advice(int err)
{
    return table[row_of(err)].advice;
}

int err_from_name(const char *name)
{
    for (size_t i = 0; i < N_ERR; i++)
        if (strcmp(table[i].name, name) == 0)
            return table[i].err;
    return ERR_INVALID;
}

int(fault_set)(struct fault *f, int err, const char *format, ...)
{
    if (f) {
        va_list args;
        f->err = err;
        f->expected = 0;
        va_start(args, format);
        vsnprintf(f->text, sizeof f->text, format, args);
        va_end(args);
    }
    return err;
}
