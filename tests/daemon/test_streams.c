/* The table of streams and connections by itself. */
#include "daemon/stream.h"
#include "tests/e2e/house.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct registry {
    struct config *config;
    struct engine *engine;
    struct streams streams;
    struct counters *counters;
    struct shape shape;
};

static void ignore(void *context, struct part *part)
{
    (void)context, (void)part;
}

static void registry_open(struct registry *r, size_t n_slots)
{
    memset(r, 0, sizeof *r);
    r->config = house_config(NULL, 1, "pools: [{threads: 1}]\n");
    r->counters = calloc(1, sizeof *r->counters);
    r->shape = house_shape(2, 0, 2, 2, 8, 8);
    CU_ASSERT_FATAL(r->config && r->counters);
    CU_ASSERT_EQUAL_FATAL(engine_create(&r->engine, r->config, kernels_best(), ignore, NULL, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(streams_init(&r->streams, n_slots), 0);
}

static void registry_close(struct registry *r)
{
    streams_finish(&r->streams, r->engine, r->counters);
    engine_destroy(r->engine);
    config_destroy(r->config);
    free(r->counters);
}

static struct connection *connect_as(struct registry *r, const char *identity)
{
    struct connection *connection = connections_hold(&r->streams.connections, identity, strlen(identity));
    connection->n_holds--;
    return connection;
}

/* Adds a stream; NULL and *err when that is refused. */
static struct stream *add(struct registry *r, const char *name, struct connection *writer, int *err)
{
    struct engine_stream *engine_stream = NULL;
    struct stream *stream = NULL;
    struct fault fault;
    CU_ASSERT_EQUAL_FATAL(engine_open(r->engine, &r->shape, "full", &engine_stream, NULL), 0);
    *err = streams_add(&r->streams, name, &engine_stream, writer, &stream, &fault);
    CU_ASSERT((*err == 0) == (engine_stream == NULL)); /* taken, or not */
    engine_close(r->engine, &engine_stream);
    return *err ? NULL : stream;
}

static void streams_are_found_by_number_and_name_until_they_are_removed(void)
{
    struct registry r;
    struct stream *stream[4];
    int err;
    registry_open(&r, 4);
    struct connection *writer = connect_as(&r, "a");
    for (int i = 0; i < 4; i++) {
        char name[16];
        snprintf(name, sizeof name, "s%d", i);
        stream[i] = add(&r, name, writer, &err);
        CU_ASSERT_EQUAL_FATAL(err, 0);
        CU_ASSERT_PTR_EQUAL(streams_find(&r.streams, stream[i]->id), stream[i]);
        CU_ASSERT_PTR_EQUAL(streams_find_name(&r.streams, name), stream[i]);
    }
    CU_ASSERT_EQUAL(r.streams.n_open, 4);
    CU_ASSERT_EQUAL(r.streams.n_heads, 4 * 2 * 2);
    CU_ASSERT_EQUAL(writer->n_holds, 4);
    add(&r, "s4", writer, &err);
    CU_ASSERT_EQUAL(err, ERR_TOO_LARGE);
    uint64_t old = stream[2]->id;
    streams_remove(&r.streams, r.engine, r.counters, stream[2]);
    CU_ASSERT_PTR_NULL(streams_find(&r.streams, old));
    CU_ASSERT_PTR_NULL(streams_find_name(&r.streams, "s2"));
    add(&r, "s1", writer, &err);
    CU_ASSERT_EQUAL(err, ERR_EXISTS);
    stream[2] = add(&r, "s2", writer, &err);
    CU_ASSERT(stream[2] && stream[2]->id != old);
    CU_ASSERT_PTR_NULL(streams_find(&r.streams, old)); /* the place is used again, the number isn't */
    CU_ASSERT_PTR_NULL(streams_find(&r.streams, 0));
    CU_ASSERT_PTR_NULL(streams_find(&r.streams, UINT64_MAX));
    registry_close(&r);
}

static void numbers_stay_within_what_json_holds(void)
{
    struct registry r;
    int err;
    registry_open(&r, 1 << 20);
    struct connection *writer = connect_as(&r, "a");
    r.streams.generation[0] = UINT32_MAX - 1; /* after four billion streams in this place */
    struct stream *stream = add(&r, "x", writer, &err);
    CU_ASSERT_EQUAL_FATAL(err, 0);
    CU_ASSERT(stream->id <= (uint64_t)1 << 53);
    CU_ASSERT_PTR_EQUAL(streams_find(&r.streams, stream->id), stream);
    registry_close(&r);
}

static void a_connection_lives_as_long_as_it_is_held_or_has_something_unread(void)
{
    struct registry r;
    int err;
    registry_open(&r, 4);
    struct connections *all = &r.streams.connections;
    struct connection *a = connections_hold(all, "a", 1), *b = connections_hold(all, "\0b", 2);
    CU_ASSERT_PTR_NOT_EQUAL(a, b);
    CU_ASSERT_PTR_EQUAL(connect_as(&r, "a"), a);
    CU_ASSERT_PTR_EQUAL(connections_hold(all, "\0b", 2), b);
    CU_ASSERT_PTR_NULL(connections_hold(all, "", 300)); /* longer than ZeroMQ has them */
    struct stream *stream = add(&r, "x", a, &err);
    CU_ASSERT_EQUAL_FATAL(err, 0);
    connections_release(all, a); /* has a stream */
    CU_ASSERT_PTR_EQUAL(connect_as(&r, "a"), a);
    connections_message_begins(all, a);
    CU_ASSERT_EQUAL(all->n_at_work, 1);
    streams_remove(&r.streams, r.engine, r.counters, stream);
    CU_ASSERT_EQUAL(connect_as(&r, "a")->n_messages, 1); /* has a message */
    zmq_msg_t frame;
    CU_ASSERT_EQUAL_FATAL(connection_frame(a, 10, 1000, &frame), 0);
    CU_ASSERT_EQUAL(zmq_msg_size(&frame), 10);
    connections_message_ends(all, a);
    CU_ASSERT_EQUAL(all->n_at_work, 0);
    connections_sweep(all); /* has not read what it was sent */
    CU_ASSERT_PTR_EQUAL(connect_as(&r, "a"), a);
    CU_ASSERT_EQUAL(connection_unread(a), 1000);
    zmq_msg_close(&frame);
    CU_ASSERT_EQUAL(connection_unread(a), 0);
    connections_sweep(all);
    CU_ASSERT_PTR_EQUAL(all->first, b);
    CU_ASSERT_PTR_NULL(b->after);
    registry_close(&r);
}

static void parts_leave_the_line_from_any_place(void)
{
    struct stream stream = {0};
    struct message_part part[5] = {0};
    static const int order[] = {2, 0, 4, 3, 1};
    for (int i = 0; i < 5; i++)
        stream_line_up(&stream, &part[i]);
    for (int i = 0; i < 5; i++) {
        bool gone[5] = {false};
        stream_leave(&stream, &part[order[i]]);
        for (int j = 0; j <= i; j++)
            gone[order[j]] = true;
        const struct message_part *at = stream.first, *last = NULL;
        for (int j = 0; j < 5; j++)
            if (!gone[j]) {
                CU_ASSERT_PTR_EQUAL(at, &part[j]);
                CU_ASSERT_PTR_EQUAL(at ? at->before : NULL, last);
                last = at;
                at = at ? at->after : NULL;
            }
        CU_ASSERT_PTR_NULL(at);
        CU_ASSERT_PTR_EQUAL(stream.last, last);
    }
}

TEST_SUITE("daemon/streams", TEST(streams_are_found_by_number_and_name_until_they_are_removed),
           TEST(numbers_stay_within_what_json_holds), TEST(a_connection_lives_as_long_as_it_is_held_or_has_something_unread),
           TEST(parts_leave_the_line_from_any_place))
