/* Sections: the tables of keys that the file may hold, and one reader for all of them.
 *
 * A key of a section is a single value (struct key says its type, bounds, unit, default), a section of its own, or a list,
 * which a function reads. Reading never stops at an error: it is reported at its line and the rest is read.
 * Each file beside this one holds one section's table, how its lists are read, and what must hold between its keys. */
#ifndef ATTND_CONFIG_SECTION_H
#define ATTND_CONFIG_SECTION_H

#include "base/key.h"
#include "config/config.h"
#include "config/report.h"
#include "config/tree.h"

/* What is being filled, from which file. */
struct reader {
    struct reporter reporter;
    struct config *config;
    config_check_rule *check;
    size_t profile_capacity;
    int endpoint_line[3][CONFIG_ENDPOINTS_MAX]; /* of ingest, outputs, telemetry in this file; 0: from the defaults */
};

/* target: the struct that the section's offsets count from, plus the key's offset. */
typedef void read_value(struct reader *r, const struct node *node, const struct place *place, void *target);

struct field {
    struct key key;                /* where the value is no single one, only name, offset, initial and help count */
    const struct section *section; /* a map of these keys, at the offset; with `read`: a list of such maps */
    read_value *read;              /* what is neither a single value nor a plain section */
    const char *form;              /* with `read`: what it takes, for people */
};

struct section {
    const struct field *field;
    size_t n;
};

extern const struct section root_section, socket_section, telemetry_section, http_section, limits_section, pool_section,
    profile_section, rule_section;

/* Writes the defaults of all single values of a section and of the sections inside. */
void section_set_defaults(const struct section *section, void *target);

/* Reads a map. Keys that the section does not have go to `other`, where there is one, or are errors. */
void section_read(struct reader *r, const struct node *node, const struct place *place, const struct section *section,
                  void *target, read_value *other);

/* The node as a list; reports when it is none. */
bool expect_list(struct reader *r, const struct node *node, const struct place *place, const char *form);

/* The node's text; NULL after reporting that it is no single value. form: what was expected. */
const char *expect_text(struct reader *r, const struct node *node, const struct place *place, const char *form);

/* A single value, or a list of two numbers as "AxB", as text. False after reporting. */
bool read_setting_text(struct reader *r, const struct node *node, const struct place *place, const char *form,
                       char text[KEY_TEXT_BYTES]);

read_value read_name; /* into char[PROFILE_NAME_BYTES]: letters, digits, '.', '_', '-' */
extern const char name_form[];

/* "all", "3", "0-3" or "4-" (to the end), inclusive; false when it is none of them or above max. */
bool parse_range(const char *text, uint64_t max, uint64_t *first, uint64_t *last);
extern const char range_form[];

read_value read_endpoints, read_pools, read_profiles, read_limits;

/* What must hold between the sockets, whoever set them: an endpoint serves one of them. */
void check_endpoints(struct reader *r);

#endif
