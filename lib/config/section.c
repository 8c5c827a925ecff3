#include "config/section.h"

#include "base/word.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIELDS_MAX = 24, FORM_BYTES = 200 };

const char name_form[] = "a name of at most 39 letters, digits, '.', '_' or '-'";
const char range_form[] = "all, a number from 0 to 1023, or a range like 0-3 or 4- (to the end)";

void section_set_defaults(const struct section *section, void *target)
{
    for (size_t i = 0; i < section->n; i++) {
        const struct field *f = &section->field[i];
        if (!f->read && !f->section)
            key_set_defaults(&f->key, 1, target);
        else if (!f->read)
            section_set_defaults(f->section, (char *)target + f->key.offset);
    }
}

static void refuse_kind(struct reader *r, const struct node *node, const struct place *place, const char *form)
{
    report_error(&r->reporter, node->line, place, NULL, "must be %s, not %s", form, node_kind_name(node));
}

bool expect_list(struct reader *r, const struct node *node, const struct place *place, const char *form)
{
    if (node->kind == NODE_LIST)
        return true;
    refuse_kind(r, node, place, form);
    return false;
}

const char *expect_text(struct reader *r, const struct node *node, const struct place *place, const char *form)
{
    if (node->kind == NODE_SCALAR)
        return node->text;
    refuse_kind(r, node, place, form);
    return NULL;
}

bool read_setting_text(struct reader *r, const struct node *node, const struct place *place, const char *form,
                       char text[KEY_TEXT_BYTES])
{
    int n;
    const struct node *pair = node->kind == NODE_LIST && node_count(node) == 2 ? node->child : NULL;
    if (pair && pair->kind == NODE_SCALAR && pair->next->kind == NODE_SCALAR)
        n = snprintf(text, KEY_TEXT_BYTES, "%sx%s", pair->text, pair->next->text);
    else if (node->kind == NODE_SCALAR)
        n = snprintf(text, KEY_TEXT_BYTES, "%s", node->text);
    else {
        refuse_kind(r, node, place, form);
        return false;
    }
    if (n < KEY_TEXT_BYTES)
        return true;
    report_error(&r->reporter, node->line, place, NULL, "must be %s, not a text of %d bytes", form, n);
    return false;
}

static void read_key(struct reader *r, const struct node *node, const struct place *place, const struct key *key, void *target)
{
    char text[KEY_TEXT_BYTES], form[FORM_BYTES];
    struct fault fault;
    key_describe(key, form, sizeof form);
    if (key->type != KEY_PAIR && !expect_text(r, node, place, form))
        return;
    if (read_setting_text(r, node, place, form, text) && key_set(key, target, text, &fault))
        report_error(&r->reporter, node->line, place, NULL, "%s", fault.text);
}

static const struct field *find_field(const struct section *section, const char *name)
{
    for (size_t i = 0; i < section->n; i++)
        if (strcmp(section->field[i].key.name, name) == 0)
            return &section->field[i];
    return NULL;
}

static void refuse_key(struct reader *r, const struct node *node, const struct place *place, const struct section *section)
{
    const char *names[FIELDS_MAX];
    for (size_t i = 0; i < section->n; i++)
        names[i] = section->field[i].key.name;
    const char *meant = word_closest(node->key, names, section->n);
    if (meant)
        report_error(&r->reporter, node->line, place, NULL, "unknown key; did you mean %s?", meant);
    else
        report_error(&r->reporter, node->line, place, NULL, "unknown key");
}

void section_read(struct reader *r, const struct node *node, const struct place *place, const struct section *section,
                  void *target, read_value *other)
{
    if (node->kind != NODE_MAP) {
        refuse_kind(r, node, place, "a map of keys");
        return;
    }
    for (const struct node *child = node->child; child; child = child->next) {
        if (node_find(node, child->key) != child) /* reported when the tree was read */
            continue;
        struct place here = place_key(place, child->key);
        const struct field *f = find_field(section, child->key);
        void *at = f ? (char *)target + f->key.offset : target;
        if (!f && other)
            other(r, child, &here, target);
        else if (!f)
            refuse_key(r, child, &here, section);
        else if (f->section && node_is_empty(child))
            continue; /* all its lines are comments */
        else if (f->read)
            f->read(r, child, &here, at);
        else if (f->section)
            section_read(r, child, &here, f->section, at, NULL);
        else
            read_key(r, child, &here, &f->key, target);
    }
}

void read_name(struct reader *r, const struct node *node, const struct place *place, void *target)
{
    const char *text = expect_text(r, node, place, name_form);
    if (!text)
        return;
    size_t n = strlen(text);
    if (n == 0 || n >= PROFILE_NAME_BYTES ||
        strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != n)
        report_error(&r->reporter, node->line, place, NULL, "must be %s, not '%.63s'", name_form, text);
    else
        memcpy(target, text, n + 1);
}

static bool parse_digits(const char **text, uint64_t max, uint64_t *value)
{
    const char *at = *text;
    *value = 0;
    while (*at >= '0' && *at <= '9' && *value <= max)
        *value = *value * 10 + (uint64_t)(*at++ - '0');
    bool good = at != *text && *value <= max;
    *text = at;
    return good;
}

bool parse_range(const char *text, uint64_t max, uint64_t *first, uint64_t *last)
{
    uint64_t a = 0, b = UINT64_MAX;
    if (strcmp(text, "all") != 0) {
        if (!parse_digits(&text, max, &a))
            return false;
        if (*text == '\0')
            b = a;
        else if (*text++ != '-' || (*text && (!parse_digits(&text, max, &b) || *text || b < a)))
            return false;
    }
    *first = a;
    *last = b;
    return true;
}
