#include "base/log.h"

#include "base/clock.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const level_names[N_LOG_LEVEL] = {
    [LOG_ERROR] = "error", [LOG_WARNING] = "warning", [LOG_INFO] = "info", [LOG_DEBUG] = "debug"};

const char *log_level_name(enum log_level level)
{
    return level_names[level];
}

int log_level_from_name(const char *name)
{
    for (int i = 0; i < N_LOG_LEVEL; i++)
        if (strcmp(level_names[i], name) == 0)
            return i;
    return ERR_INVALID;
}

void log_init(struct log *log, int fd, enum log_level level, unsigned per_second)
{
    memset(log, 0, sizeof *log);
    log->fd = fd;
    atomic_init(&log->level, (int)level);
    log->per_second = per_second;
    pthread_mutex_init(&log->lock, NULL);
}

/* A line under construction; room for the newline is always left. */
struct line {
    char text[LOG_LINE_BYTES];
    size_t n;
};

static void put(struct line *line, char c)
{
    if (line->n < sizeof line->text - 1)
        line->text[line->n++] = c;
}

static void put_text(struct line *line, const char *text)
{
    while (*text)
        put(line, *text++);
}

static bool is_plain(const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/@%+,-";
    return *text && strspn(text, plain) == strlen(text);
}

static void put_quoted(struct line *line, const char *text)
{
    static const char hex[] = "0123456789abcdef";
    put(line, '"');
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            put(line, '\\');
            put(line, (char)c);
        } else if (c < 0x20 || c == 0x7f) {
            put_text(line, "\\x");
            put(line, hex[c >> 4]);
            put(line, hex[c & 15]);
        } else {
            put(line, (char)c);
        }
    }
    put(line, '"');
}

static void put_field(struct line *line, const struct log_field *field)
{
    char number[40];
    put(line, ' ');
    put_text(line, field->key);
    put(line, '=');
    switch (field->type) {
    case LOG_IS_TEXT:
        if (field->text && is_plain(field->text))
            put_text(line, field->text);
        else
            put_quoted(line, field->text ? field->text : "");
        return;
    case LOG_IS_COUNT: snprintf(number, sizeof number, "%llu", (unsigned long long)field->count); break;
    case LOG_IS_NUMBER: snprintf(number, sizeof number, "%.6g", field->number); break;
    }
    put_text(line, number);
}

static void write_line(int fd, enum log_level level, const char *event, const struct log_field *fields)
{
    struct line line = {.n = 0};
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    line.n = strftime(line.text, sizeof line.text, "%Y-%m-%dT%H:%M:%S", &utc);
    char fraction[16];
    snprintf(fraction, sizeof fraction, ".%03uZ ", (unsigned)(now.tv_nsec / 1000000) % 1000);
    put_text(&line, fraction);
    put_text(&line, level_names[level]);
    put(&line, ' ');
    put_text(&line, event);
    for (; fields->key; fields++)
        put_field(&line, fields);
    line.text[line.n++] = '\n';
    /* There is nobody to tell when the log itself cannot be written. */
    ssize_t written = write(fd, line.text, line.n);
    (void)written;
}

static void tell_suppressed(struct log *log, struct log_rate *rate)
{
    if (!rate->suppressed)
        return;
    const struct log_field fields[] = {LOG_TEXT("event", rate->event), LOG_COUNT("count", rate->suppressed), LOG_NONE};
    rate->suppressed = 0;
    write_line(log->fd, LOG_WARNING, "suppressed", fields);
}

/* Whether this event may be written now; also tells of every event whose second has passed. */
static bool allow(struct log *log, const char *event)
{
    uint64_t second = clock_ns() / 1000000000u;
    struct log_rate *mine = NULL;
    for (size_t i = 0; i < LOG_EVENTS_MAX && log->rate[i].event; i++) {
        struct log_rate *rate = &log->rate[i];
        if (rate->second != second) {
            tell_suppressed(log, rate);
            rate->second = second;
            rate->n = 0;
        }
        if (strcmp(rate->event, event) == 0)
            mine = rate;
    }
    for (size_t i = 0; !mine && i < LOG_EVENTS_MAX; i++)
        if (!log->rate[i].event) {
            mine = &log->rate[i];
            *mine = (struct log_rate){.event = event, .second = second};
        }
    if (!mine || mine->n < log->per_second) {
        if (mine)
            mine->n++;
        return true;
    }
    mine->suppressed++;
    return false;
}

void log_set_level(struct log *log, enum log_level level)
{
    if (log)
        atomic_store(&log->level, (int)level);
}

void log_write(struct log *log, enum log_level level, const char *event, const struct log_field *fields)
{
    if (!log || (int)level > atomic_load(&log->level))
        return;
    pthread_mutex_lock(&log->lock);
    if (log->per_second == 0 || allow(log, event))
        write_line(log->fd, level, event, fields);
    pthread_mutex_unlock(&log->lock);
}

void log_finish(struct log *log)
{
    for (size_t i = 0; i < LOG_EVENTS_MAX; i++)
        tell_suppressed(log, &log->rate[i]);
    pthread_mutex_destroy(&log->lock);
}
