/* Tree: YAML text as plain nodes with line numbers. The only user of libyaml.
 *
 * What configuration needs and no more: one document; maps, lists and scalars; no anchors, aliases, merge keys or tags (they
 * only invite files that mean something else than they seem to). Bounded in bytes, depth, entries per node, nodes in all.
 * Ownership: tree_destroy frees a whole tree. */
#ifndef ATTND_CONFIG_TREE_H
#define ATTND_CONFIG_TREE_H

#include "config/report.h"

enum { TREE_BYTES_MAX = 1 << 20, TREE_DEPTH_MAX = 16, TREE_ENTRIES_MAX = 1024, TREE_NODES_MAX = 100000 };

enum node_kind { NODE_SCALAR, NODE_LIST, NODE_MAP };

struct node {
    enum node_kind kind;
    int line;           /* of the key in a map, else of the value; counts from 1 */
    char *key;          /* entries of a map; else NULL */
    char *text;         /* scalar: never NULL, no NUL inside */
    bool quoted;        /* scalar in quotes */
    struct node *child; /* list, map: first entry */
    struct node *next;  /* the entry after this one */
};

/* Errors are reported and counted. Where reading could go on after them a tree comes even so, so that the rest can be checked
 * in the same run; else, and for an empty document, *out is NULL. ERR_NO_MEMORY. */
int tree_parse(struct node **out, const char *text, size_t bytes, struct reporter *r);
void tree_destroy(struct node *node); /* NULL is allowed */

size_t node_count(const struct node *node);                             /* entries of a list or map */
const struct node *node_find(const struct node *node, const char *key); /* in a map (or NULL), or NULL */
bool node_is_empty(const struct node *node);         /* a key with nothing after it: a plain empty scalar, ~ or null */
const char *node_kind_name(const struct node *node); /* "a single value", "a list", "a map of keys" */

#endif
