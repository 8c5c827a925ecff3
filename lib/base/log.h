/* Log: structured lines for people and programs, one per event, to a file descriptor.
 *
 *     log_event(log, LOG_WARNING, "part_refused", LOG_ERR("reason", err), LOG_TEXT("stream", name), LOG_COUNT("bytes", n));
 *     2026-11-24T09:30:01.125Z warning part_refused reason=wrong_index stream=chat-1 bytes=4096
 *
 * Event and key names are string literals in snake_case. Texts that hold anything but plain characters come out in quotes
 * with escapes, so that a value can neither break a line nor pretend to be another key; a line has at most LOG_LINE_BYTES.
 * Each event name may come `per_second` times a second; what was held back is told by one line when the second is over:
 *     ... warning suppressed event=part_refused count=1200
 * Threads: any; a line is written by one write(). Nothing is allocated. A NULL log takes everything and writes nothing. */
#ifndef ATTND_BASE_LOG_H
#define ATTND_BASE_LOG_H

#include "base/err.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG, N_LOG_LEVEL };

enum { LOG_LINE_BYTES = 1024, LOG_EVENTS_MAX = 64, LOG_PER_SECOND = 20 };

struct log_field {
    const char *key; /* NULL ends a list */
    enum { LOG_IS_TEXT, LOG_IS_COUNT, LOG_IS_NUMBER } type;
    const char *text;
    uint64_t count;
    double number;
};

#define LOG_TEXT(k, v) ((struct log_field){.key = (k), .type = LOG_IS_TEXT, .text = (v)})
#define LOG_COUNT(k, v) ((struct log_field){.key = (k), .type = LOG_IS_COUNT, .count = (v)})
#define LOG_NUMBER(k, v) ((struct log_field){.key = (k), .type = LOG_IS_NUMBER, .number = (v)})
#define LOG_ERR(k, err) LOG_TEXT(k, err_name(err))
#define LOG_NONE ((struct log_field){0}) /* for an event without fields */

struct log {
    int fd;
    atomic_int level;    /* enum log_level */
    unsigned per_second; /* per event name; 0: no limit */
    pthread_mutex_t lock;
    struct log_rate {
        const char *event;
        uint64_t second; /* monotonic, of the counts */
        unsigned n;
        uint64_t suppressed;
    } rate[LOG_EVENTS_MAX]; /* names beyond that many are not limited */
};

void log_init(struct log *log, int fd, enum log_level level, unsigned per_second);
void log_finish(struct log *log); /* tells what is still suppressed; closes nothing */

void log_set_level(struct log *log, enum log_level level); /* from now on; NULL is allowed */

const char *log_level_name(enum log_level level); /* "error", "warning", "info", "debug" */
int log_level_from_name(const char *name);        /* or ERR_INVALID */

void log_write(struct log *log, enum log_level level, const char *event, const struct log_field *fields);
#define log_event(log, level, event, ...) log_write(log, level, event, (const struct log_field[]){__VA_ARGS__, LOG_NONE})

#endif
