/* Help: every key with what it takes, its default and what it is for, out of the tables that read them. */
#include "config/section.h"

#include <stdio.h>

typedef void print_line(void *context, const char *text);

static void print_section(const struct section *section, const char *prefix, print_line *line, void *context)
{
    for (size_t i = 0; i < section->n; i++) {
        const struct field *f = &section->field[i];
        char path[128], form[200], text[512];
        snprintf(path, sizeof path, "%s%s", prefix, f->key.name);
        if (f->section) {
            snprintf(text, sizeof text, "%s: %s", path, f->key.help);
            line(context, text);
            char inner[140];
            snprintf(inner, sizeof inner, "%s%s.", path, f->form ? "[]" : "");
            print_section(f->section, inner, line, context);
            continue;
        }
        if (f->form)
            snprintf(form, sizeof form, "%s", f->form);
        else
            key_describe(&f->key, form, sizeof form);
        if (f->key.initial && *f->key.initial)
            snprintf(text, sizeof text, "%s: %s; default %s. %s", path, form, f->key.initial, f->key.help);
        else
            snprintf(text, sizeof text, "%s: %s. %s", path, form, f->key.help);
        line(context, text);
    }
}

void config_print_keys(print_line *line, void *context)
{
    print_section(&root_section, "", line, context);
}
