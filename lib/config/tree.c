#include "config/tree.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

struct builder {
    yaml_parser_t parser;
    const char *text;
    size_t bytes;
    struct reporter *r;
    size_t n_nodes;
    bool stopped; /* after an error that the parser cannot go on from */
};

void tree_destroy(struct node *node)
{
    while (node) {
        struct node *next = node->next;
        tree_destroy(node->child); /* as deep as TREE_DEPTH_MAX */
        free(node->key);
        free(node->text);
        free(node);
        node = next;
    }
}

static int line_of(const yaml_mark_t *mark)
{
    return (int)mark->line + 1;
}

static void stop(struct builder *b, int line, const struct place *place, const char *key, const char *reason)
{
    if (!b->stopped)
        report_error(b->r, line, place, key, "%s", reason);
    b->stopped = true;
}

static void out_of_memory(struct builder *b)
{
    b->r->no_memory = true;
    b->stopped = true;
}

/* What libyaml says, at the line it says it of. Its reader (bytes that are no UTF-8) gives an offset instead. */
static void stop_at_problem(struct builder *b)
{
    const yaml_parser_t *p = &b->parser;
    if (p->error == YAML_MEMORY_ERROR) {
        out_of_memory(b);
        return;
    }
    int line = line_of(&p->problem_mark);
    if (p->error == YAML_READER_ERROR) {
        line = 1;
        for (size_t i = 0; i < p->problem_offset && i < b->bytes; i++)
            line += b->text[i] == '\n';
    }
    stop(b, line, NULL, "yaml", p->problem ? p->problem : "not understood");
}

static bool next_event(struct builder *b, yaml_event_t *event)
{
    if (b->stopped)
        return false;
    if (yaml_parser_parse(&b->parser, event))
        return true;
    stop_at_problem(b);
    return false;
}

static char *copy_text(const yaml_event_t *event)
{
    size_t n = event->data.scalar.length;
    char *copy = malloc(n + 1);
    if (copy) {
        memcpy(copy, event->data.scalar.value, n);
        copy[n] = '\0';
    }
    return copy;
}

/* Anchors and tags are refused where they stand; the value itself is read as if they were not there. */
static void refuse_properties(struct builder *b, const yaml_event_t *event, const struct place *place)
{
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
        break;
    default: break;
    }
    if (anchor)
        report_error(b->r, line_of(&event->start_mark), place, NULL, "anchors (&%s) are not supported", (const char *)anchor);
    if (tag)
        report_error(b->r, line_of(&event->start_mark), place, NULL, "tags (%s) are not supported", (const char *)tag);
}

static struct node *new_node(struct builder *b, const yaml_event_t *event, enum node_kind kind)
{
    if (++b->n_nodes > TREE_NODES_MAX) {
        stop(b, line_of(&event->start_mark), NULL, NULL, "has more values than any configuration");
        return NULL;
    }
    struct node *node = calloc(1, sizeof *node);
    if (!node) {
        out_of_memory(b);
        return NULL;
    }
    node->kind = kind;
    node->line = line_of(&event->start_mark);
    return node;
}

static struct node *build(struct builder *b, const yaml_event_t *event, const struct place *place, unsigned depth);

static struct node *build_scalar(struct builder *b, const yaml_event_t *event, const struct place *place)
{
    struct node *node = new_node(b, event, NODE_SCALAR);
    if (!node)
        return NULL;
    node->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    node->text = copy_text(event);
    if (!node->text)
        out_of_memory(b);
    else if (strlen(node->text) != event->data.scalar.length)
        report_error(b->r, node->line, place, NULL, "holds a zero byte");
    return node;
}

/* The key of a map's next entry, or NULL at its end or after an error. */
static char *read_key(struct builder *b, const struct node *map, const struct place *place, int *line)
{
    yaml_event_t event;
    char *key = NULL;
    if (!next_event(b, &event))
        return NULL;
    *line = line_of(&event.start_mark);
    if (event.type == YAML_SCALAR_EVENT) {
        refuse_properties(b, &event, place);
        key = copy_text(&event);
        const struct node *earlier = key ? node_find(map, key) : NULL;
        if (!key)
            out_of_memory(b);
        else if (earlier)
            report_error(b->r, *line, place, key, "is given twice, first in line %d", earlier->line);
    } else if (event.type != YAML_MAPPING_END_EVENT) {
        stop(b, *line, place, NULL, "a key must be a plain word");
    }
    yaml_event_delete(&event);
    return key;
}

static void build_entries(struct builder *b, struct node *node, const struct place *place, unsigned depth)
{
    struct node **at = &node->child;
    for (size_t n = 0; !b->stopped; n++) {
        yaml_event_t event;
        char *key = NULL;
        int line = 0;
        if (node->kind == NODE_MAP && !(key = read_key(b, node, place, &line)))
            return;
        if (!next_event(b, &event)) {
            free(key);
            return;
        }
        if (event.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&event);
            free(key);
            return;
        }
        if (n == TREE_ENTRIES_MAX)
            stop(b, line_of(&event.start_mark), place, NULL, "has too many entries");
        struct place here = key ? place_key(place, key) : place_index(place, n);
        *at = b->stopped ? NULL : build(b, &event, &here, depth + 1);
        yaml_event_delete(&event);
        if (!*at) {
            free(key);
            return;
        }
        (*at)->key = key;
        if (key)
            (*at)->line = line;
        at = &(*at)->next;
    }
}

static struct node *build(struct builder *b, const yaml_event_t *event, const struct place *place, unsigned depth)
{
    refuse_properties(b, event, place);
    if (event->type == YAML_SCALAR_EVENT)
        return build_scalar(b, event, place);
    if (event->type == YAML_ALIAS_EVENT) {
        report_error(b->r, line_of(&event->start_mark), place, NULL, "aliases (*%s) are not supported",
                     (const char *)event->data.alias.anchor);
        struct node *node = new_node(b, event, NODE_SCALAR);
        if (node && !(node->text = strdup("")))
            out_of_memory(b);
        return node;
    }
    if (depth >= TREE_DEPTH_MAX) {
        stop(b, line_of(&event->start_mark), place, NULL, "is nested too deeply");
        return NULL;
    }
    struct node *node = new_node(b, event, event->type == YAML_MAPPING_START_EVENT ? NODE_MAP : NODE_LIST);
    if (node)
        build_entries(b, node, place, depth);
    return node;
}

int tree_parse(struct node **out, const char *text, size_t bytes, struct reporter *r)
{
    struct builder b = {.text = text, .bytes = bytes, .r = r};
    *out = NULL;
    if (bytes > TREE_BYTES_MAX) {
        report_error(r, 1, NULL, NULL, "is larger than %d bytes", TREE_BYTES_MAX);
        return 0;
    }
    if (!yaml_parser_initialize(&b.parser)) {
        r->no_memory = true;
        return ERR_NO_MEMORY;
    }
    yaml_parser_set_input_string(&b.parser, (const unsigned char *)text, bytes);
    size_t n_documents = 0;
    for (bool end = false; !end;) {
        yaml_event_t event;
        if (!next_event(&b, &event))
            break;
        end = event.type == YAML_STREAM_END_EVENT;
        if (event.type == YAML_DOCUMENT_START_EVENT && ++n_documents > 1)
            stop(&b, line_of(&event.start_mark), NULL, NULL, "holds a second document; only one is read");
        if (event.type == YAML_SCALAR_EVENT || event.type == YAML_ALIAS_EVENT || event.type == YAML_SEQUENCE_START_EVENT ||
            event.type == YAML_MAPPING_START_EVENT)
            *out = build(&b, &event, NULL, 0);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&b.parser);
    if (b.stopped) {
        tree_destroy(*out);
        *out = NULL;
    }
    return r->no_memory ? ERR_NO_MEMORY : 0;
}

size_t node_count(const struct node *node)
{
    size_t n = 0;
    for (const struct node *c = node->child; c; c = c->next)
        n++;
    return n;
}

const struct node *node_find(const struct node *node, const char *key)
{
    for (const struct node *c = node ? node->child : NULL; c; c = c->next)
        if (c->key && strcmp(c->key, key) == 0)
            return c;
    return NULL;
}

bool node_is_empty(const struct node *node)
{
    return node->kind == NODE_SCALAR && !node->quoted && node->text &&
           (!*node->text || strcmp(node->text, "~") == 0 || strcmp(node->text, "null") == 0);
}

const char *node_kind_name(const struct node *node)
{
    static const char *const names[] = {[NODE_SCALAR] = "a single value", [NODE_LIST] = "a list", [NODE_MAP] = "a map of keys"};
    return names[node->kind];
}
