#include "stats/exposition.h"

#include "base/err.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_SCOPES = 3, BUCKET_STEP = 4, LABEL_BYTES = 256 };

/* A text that grows. */
struct text {
    char *at;
    size_t n, room;
    bool failed;
};

struct exposition {
    struct text family[N_METRIC][N_SCOPES];
};

static const struct {
    const char *prefix, *label;
} scopes[N_SCOPES] = {{"attnd_", NULL}, {"attnd_pool_", "pool"}, {"attnd_profile_", "profile"}};

static size_t scope_index(unsigned scope)
{
    return scope == METRIC_OF_DAEMON ? 0 : scope == METRIC_OF_POOL ? 1 : 2;
}

static bool reserve(struct text *t, size_t more)
{
    size_t room = t->room ? t->room : 256;
    while (room < t->n + more)
        room *= 2;
    char *grown = room > t->room ? realloc(t->at, room) : t->at;
    if (!grown) {
        t->failed = true;
        return false;
    }
    t->at = grown;
    t->room = room;
    return true;
}

static void print(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void print(struct text *t, const char *format, ...)
{
    enum { LINE = 1024 }; /* a line: names and labels are short, help is a sentence */
    va_list arguments;
    if (!reserve(t, LINE))
        return;
    va_start(arguments, format);
    int n = vsnprintf(t->at + t->n, LINE, format, arguments);
    va_end(arguments);
    t->n += n < 0 ? 0 : (size_t)n < LINE ? (size_t)n : LINE - 1;
}

/* key="value" with what would end the value escaped. */
static void add_label(char labels[LABEL_BYTES], const char *key, const char *value)
{
    size_t n = strlen(labels);
    n += (size_t)snprintf(labels + n, LABEL_BYTES - n, "%s%s=\"", n ? "," : "", key);
    for (; *value && n + 4 < LABEL_BYTES; value++) {
        if (strchr("\\\"\n", *value))
            labels[n++] = '\\';
        if (*value == '\n')
            labels[n++] = 'n';
        else
            labels[n++] = *value;
    }
    if (n + 2 <= LABEL_BYTES) {
        labels[n] = '"';
        labels[n + 1] = '\0';
    }
}

/* One sample; labels may be empty. */
static void sample(struct text *t, const char *prefix, const char *name, const char *suffix, const char *labels, double x)
{
    bool any = labels[0] != '\0';
    print(t, "%s%s%s%s%s%s ", prefix, name, suffix, any ? "{" : "", labels, any ? "}" : "");
    if (isinf(x))
        print(t, "%s\n", x > 0 ? "+Inf" : "-Inf");
    else if (x == floor(x) && fabs(x) < 0x1p53)
        print(t, "%.0f\n", x);
    else
        print(t, "%.9g\n", x);
}

static void add_histogram(struct text *t, const char *prefix, const char *name, const char *labels, const struct histogram *h)
{
    uint64_t below = 0;
    for (size_t b = 0; b < HISTOGRAM_BUCKETS; b++) {
        char with_bound[LABEL_BYTES], bound[32] = "+Inf";
        below += atomic_load(&h->count[b]);
        if (b % BUCKET_STEP && b + 1 < HISTOGRAM_BUCKETS)
            continue;
        if (b + 1 < HISTOGRAM_BUCKETS)
            snprintf(bound, sizeof bound, "%.9g", histogram_upper(b));
        memcpy(with_bound, labels, strlen(labels) + 1);
        add_label(with_bound, "le", bound);
        sample(t, prefix, name, "_bucket", with_bound, (double)below);
    }
    sample(t, prefix, name, "_sum", labels, histogram_sum(h));
    sample(t, prefix, name, "_count", labels, (double)below);
}

static void add_reasons(struct text *t, const char *prefix, const struct metric *metric, const struct metric_reasons *counts)
{
    for (size_t i = 0; i < metric_n_reasons(); i++) {
        char labels[LABEL_BYTES] = "";
        add_label(labels, metric->label, metric_reason_name(i));
        sample(t, prefix, metric->name, "", labels, (double)metric_reason_count(counts, i));
    }
}

/* Prometheus wants base units, and bits are none. */
static struct metric in_base_units(size_t id, struct metric_value *value)
{
    struct metric metric = metric_table[id];
    if (id == METRIC_BITS) {
        metric.name = "memory_bytes_per_coordinate";
        metric.unit = "bytes";
        metric.help = "Allocated bytes over the numbers (coordinates of keys and values) that were appended.";
        value->number /= 8;
    }
    return metric;
}

static void add_value(struct text *t, size_t scope, const char *name, const struct metric *metric,
                      const struct metric_value *value)
{
    const char *prefix = scopes[scope].prefix;
    char labels[LABEL_BYTES] = "";
    if (t->n == 0)
        print(t, "# HELP %s%s %s\n# TYPE %s%s %s\n", prefix, metric->name, metric->help, prefix, metric->name,
              metric->type == METRIC_INFO ? "gauge" : metric_type_name(metric->type));
    if (scopes[scope].label)
        add_label(labels, scopes[scope].label, name);
    if (value->histogram) {
        add_histogram(t, prefix, metric->name, labels, value->histogram);
    } else if (value->count) {
        add_reasons(t, prefix, metric, value->count);
    } else if (value->info) {
        for (const char *const *pair = value->info; pair[0]; pair += 2)
            add_label(labels, pair[0], pair[1]);
        sample(t, prefix, metric->name, "", labels, 1);
    } else {
        sample(t, prefix, metric->name, "", labels, value->number);
    }
}

int exposition_create(struct exposition **out)
{
    *out = calloc(1, sizeof **out);
    return *out ? 0 : ERR_NO_MEMORY;
}

void exposition_add(struct exposition *e, const char *name, const struct metric_values *values)
{
    size_t scope = scope_index(values->scope);
    for (size_t i = 0; i < N_METRIC; i++)
        if (values->value[i].present) {
            struct metric_value value = values->value[i];
            const struct metric metric = in_base_units(i, &value);
            add_value(&e->family[i][scope], scope, name, &metric, &value);
        }
}

char *exposition_finish(struct exposition *e)
{
    struct text all = {0};
    for (size_t i = 0; i < N_METRIC; i++)
        for (size_t s = 0; s < N_SCOPES; s++) {
            struct text *t = &e->family[i][s];
            all.failed |= t->failed;
            if (t->n && reserve(&all, t->n + 1)) {
                memcpy(all.at + all.n, t->at, t->n);
                all.n += t->n;
            }
            free(t->at);
        }
    free(e);
    if (all.failed || !reserve(&all, 1)) {
        free(all.at);
        return NULL;
    }
    all.at[all.n] = '\0';
    return all.at;
}
