#include "daemon/measure.h"

#include "base/clock.h"

#include <stdio.h>
#include <unistd.h>

static uint64_t process_resident(void)
{
    unsigned long long size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file)
        return 0;
    int n = fscanf(file, "%llu %llu", &size, &resident);
    fclose(file);
    return n == 2 ? resident * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static struct metric_memory memory_of(const struct engine_totals *totals)
{
    uint64_t full = atomic_load(&totals->full_bf16);
    return (struct metric_memory){
        .allocated = atomic_load(&totals->allocated),
        .resident = atomic_load(&totals->resident),
        .control = atomic_load(&totals->control),
        .audited = atomic_load(&totals->audited),
        .full_bf16 = full,
        .coordinates = full / 2, /* bf16: two bytes each */
    };
}

static void set_totals(struct metric_values *v, const struct engine_totals *totals)
{
    struct metric_memory memory = memory_of(totals);
    metrics_set_memory(v, &memory);
    metrics_set(v, METRIC_TOKENS, (double)atomic_load(&totals->tokens));
    metrics_set_histogram(v, METRIC_WAIT_SECONDS, &totals->wait);
    metrics_set_histogram(v, METRIC_APPEND_SECONDS, &totals->append);
    metrics_set_histogram(v, METRIC_ATTEND_SECONDS, &totals->attend);
}

static void set_counters(struct metric_values *v, const struct counters *c)
{
    const struct {
        enum metric_id id;
        const atomic_uint_fast64_t *count;
    } plain[] = {
        {METRIC_STREAMS, &c->streams_open},
        {METRIC_STREAMS_OPENED, &c->streams_opened},
        {METRIC_STREAMS_FAILED, &c->streams_failed},
        {METRIC_STREAMS_EXPIRED, &c->streams_expired},
        {METRIC_MESSAGES, &c->messages},
        {METRIC_RECEIVED_BYTES, &c->received_bytes},
        {METRIC_SENT_BYTES, &c->sent_bytes},
        {METRIC_PARTS, &c->parts},
        {METRIC_RESENT, &c->resent},
        {METRIC_TOKENS, &c->tokens},
        {METRIC_QUEUED_BYTES, &c->queued_bytes},
        {METRIC_KEPT_REPLY_BYTES, &c->kept_reply_bytes},
        {METRIC_REPLIES_DROPPED, &c->replies_dropped},
        {METRIC_OUTPUTS, &c->outputs},
        {METRIC_OUTPUTS_DROPPED, &c->outputs_dropped},
        {METRIC_TELEMETRY, &c->telemetry},
        {METRIC_TELEMETRY_DROPPED, &c->telemetry_dropped},
    };
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        metrics_set(v, plain[i].id, (double)atomic_load(plain[i].count));
    metrics_set_reasons(v, METRIC_REFUSED, &c->refused);
    metrics_set_histogram(v, METRIC_PUBLISH_SECONDS, &c->publish);
}

void measure_daemon(struct gateway *gateway, measure_visit *visit, void *context)
{
    struct metric_values v;
    struct metric_memory memory = {0};
    struct histogram wait = {0}, append = {0}, attend = {0};
    uint64_t queued = 0;
    const char *const info[] = {"version",  ATTND_VERSION, "isa",      engine_kernels(gateway->engine)->isa,
                                "compiler", __VERSION__,   "instance", gateway->identity->instance,
                                NULL};
    metrics_begin(&v, METRIC_OF_DAEMON);
    metrics_set_info(&v, METRIC_BUILD_INFO, info);
    metrics_set(&v, METRIC_UPTIME, (double)(clock_ns() - gateway->counters.start_ns) * 1e-9);
    metrics_set(&v, METRIC_PROCESS_RESIDENT, (double)process_resident());
    pthread_mutex_lock(&gateway->streams.lock); /* a reload changes pools under it */
    for (size_t i = 0; i < engine_n_pools(gateway->engine); i++) {
        const struct engine_totals *totals = engine_pool_totals(gateway->engine, i);
        struct metric_memory pool = memory_of(totals);
        memory.allocated += pool.allocated;
        memory.resident += pool.resident;
        memory.control += pool.control;
        memory.audited += pool.audited;
        memory.full_bf16 += pool.full_bf16;
        memory.coordinates += pool.coordinates;
        histogram_merge(&wait, &totals->wait);
        histogram_merge(&append, &totals->append);
        histogram_merge(&attend, &totals->attend);
        queued += atomic_load(&totals->queued);
    }
    pthread_mutex_unlock(&gateway->streams.lock);
    metrics_set_memory(&v, &memory);
    metrics_set(&v, METRIC_QUEUED_TASKS, (double)queued);
    metrics_set_histogram(&v, METRIC_WAIT_SECONDS, &wait);
    metrics_set_histogram(&v, METRIC_APPEND_SECONDS, &append);
    metrics_set_histogram(&v, METRIC_ATTEND_SECONDS, &attend);
    set_counters(&v, &gateway->counters);
    visit(context, NULL, &v);
}

void measure_pools(struct gateway *gateway, measure_visit *visit, void *context)
{
    pthread_mutex_lock(&gateway->streams.lock);
    for (size_t i = 0; i < engine_n_pools(gateway->engine); i++) {
        const struct engine_totals *totals = engine_pool_totals(gateway->engine, i);
        struct metric_values v;
        metrics_begin(&v, METRIC_OF_POOL);
        set_totals(&v, totals);
        metrics_set(&v, METRIC_THREADS, (double)engine_pool_threads(gateway->engine, i));
        metrics_set(&v, METRIC_BUSY, (double)atomic_load(&totals->busy_ns) * 1e-9);
        metrics_set(&v, METRIC_QUEUED_TASKS, (double)atomic_load(&totals->queued));
        visit(context, engine_pool_name(gateway->engine, i), &v);
    }
    pthread_mutex_unlock(&gateway->streams.lock);
}

void measure_profiles(struct gateway *gateway, measure_visit *visit, void *context)
{
    for (size_t i = 0; i < engine_n_profiles(gateway->engine); i++) {
        const struct engine_totals *totals = engine_profile_totals(gateway->engine, i);
        struct metric_values v;
        metrics_begin(&v, METRIC_OF_PROFILE);
        set_totals(&v, totals);
        metrics_set(&v, METRIC_STREAMS, (double)atomic_load(&totals->streams));
        if (histogram_count(&totals->error))
            metrics_set_histogram(&v, METRIC_ERROR, &totals->error);
        visit(context, engine_profile_name(gateway->engine, i), &v);
    }
}
