#include "config/config.h"

#include "config/live.h"
#include "config/section.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const isas[] = {"auto", "scalar", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "neon", NULL};
static const char *const levels[] = {"error", "warning", "info", "debug", NULL};

static const struct field root_fields[] = {
    {.key = {.name = "ingest", .offset = offsetof(struct config, ingest), .help = "Where producers connect."},
     .section = &socket_section},
    {.key = {.name = "outputs", .offset = offsetof(struct config, outputs), .help = "Where subscribers get attention outputs."},
     .section = &socket_section},
    {.key = {.name = "telemetry", .offset = 0, .help = "Where subscribers get memory, time and flow."},
     .section = &telemetry_section},
    {.key = {.name = "http", .offset = 0, .help = "The same numbers for monitoring systems, and whether the daemon is well."},
     .section = &http_section},
    {.key = {.name = "pools", .offset = 0, .help = "Teams of threads; a list given replaces the default."},
     .section = &pool_section,
     .read = read_pools,
     .form = "a list of pools"},
    {.key = {.name = "profiles",
             .offset = 0,
             .help = "Ways to keep caches; added to the built-in ones, or replacing one by name."},
     .section = &profile_section,
     .read = read_profiles,
     .form = "a list of profiles"},
    {.key = {.name = "limits", .offset = offsetof(struct config, limits), .help = "What bounds the daemon's work and memory."},
     .section = &limits_section,
     .read = read_limits},
    {.key = {"isa", KEY_TEXT, offsetof(struct config, isa), 0, 0, "", "auto",
             "Instruction set of the kernels; auto: the best that runs here.", isas}},
    {.key = {"log_level", KEY_TEXT, offsetof(struct config, log_level), 0, 0, "", "info",
             "What the log on standard error tells.", levels}},
    {.key = {"spin_seconds", KEY_NUMBER, offsetof(struct config, spin_seconds), 0, 1, "seconds", "2e-05",
             "How long an idle thread looks for work before it sleeps.", NULL}},
};
const struct section root_section = {root_fields, sizeof root_fields / sizeof *root_fields};

void config_destroy(struct config *config)
{
    if (config)
        free(config->profile);
    free(config);
}

/* Lays one file over what the config holds already. */
static int overlay(struct reader *r, const char *name, const char *text, size_t bytes)
{
    struct node *tree;
    r->reporter.file = name;
    int err = tree_parse(&tree, text, bytes, &r->reporter);
    if (!err && tree) {
        memset(r->endpoint_line, 0, sizeof r->endpoint_line);
        section_read(r, tree, NULL, &root_section, r->config, NULL);
        check_endpoints(r);
    }
    tree_destroy(tree);
    if (r->reporter.no_memory)
        return ERR_NO_MEMORY;
    return r->reporter.n_errors ? ERR_INVALID : 0;
}

/* A text, and how to read it. */
struct source {
    const char *name, *text; /* text NULL: the built-in default alone */
    size_t bytes;
    const struct config *running; /* or NULL */
    config_check_rule *check;
    config_report *report;
    void *context;
};

static int parse(struct config **out, const struct source *s)
{
    struct reader r = {.reporter = {.report = s->report, .context = s->context}, .check = s->check};
    size_t builtin_bytes;
    const char *builtin = config_builtin_yaml(&builtin_bytes);
    *out = NULL;
    r.config = calloc(1, sizeof *r.config);
    if (!r.config)
        return ERR_NO_MEMORY;
    section_set_defaults(&root_section, r.config);
    section_set_defaults(&limits_section, &r.config->limits);
    int err = overlay(&r, "built-in attnd.yaml", builtin, builtin_bytes);
    if (!err && s->running)
        config_keep_fixed(r.config, s->running);
    if (!err && s->text)
        err = overlay(&r, s->name, s->text, s->bytes);
    if (err)
        config_destroy(r.config);
    else
        *out = r.config;
    return err;
}

int config_parse(struct config **out, const char *name, const char *text, size_t bytes, config_check_rule *check,
                 config_report *report, void *context)
{
    const struct source source = {name, text, bytes, NULL, check, report, context};
    return parse(out, &source);
}

/* The file's text; free() it. At most one byte more than a configuration may have, so that the parser refuses the rest. */
static int read_file(const char *path, char **text, size_t *bytes)
{
    FILE *file = fopen(path, "r");
    if (!file)
        return ERR_IO;
    int err = 0;
    *text = malloc(TREE_BYTES_MAX + 1);
    *bytes = *text ? fread(*text, 1, TREE_BYTES_MAX + 1, file) : 0;
    if (!*text)
        err = ERR_NO_MEMORY;
    else if (ferror(file))
        err = ERR_IO;
    int reason = errno;
    fclose(file);
    errno = reason;
    if (err)
        free(*text);
    return err;
}

/* source: all but the text. */
static int load(struct config **out, const char *path, struct source source)
{
    char *text;
    int err = read_file(path, &text, &source.bytes);
    *out = NULL;
    if (err == ERR_IO) {
        struct reporter r = {.file = path, .report = source.report, .context = source.context};
        report_error(&r, 0, NULL, NULL, "cannot be read: %s", strerror(errno));
    }
    if (err)
        return err;
    source.name = path;
    source.text = text;
    err = parse(out, &source);
    free(text);
    if (!err)
        snprintf((*out)->path, sizeof(*out)->path, "%s", path);
    return err;
}

int config_load(struct config **out, const char *path, config_check_rule *check, config_report *report, void *context)
{
    const struct source source = {.check = check, .report = report, .context = context};
    return path ? load(out, path, source) : parse(out, &source);
}

int config_reread(struct config **out, const struct config *running, const char *name, const char *text,
                  config_check_rule *check, config_report *report, void *context)
{
    const struct source source = {name, text, text ? strlen(text) : 0, running, check, report, context};
    int err = !text && running->path[0] ? load(out, running->path, source) : parse(out, &source);
    assert(running); /* parse takes NULL, so the analyzer doubts it */
    if (!err)
        memcpy((*out)->path, running->path, sizeof(*out)->path);
    return err;
}
