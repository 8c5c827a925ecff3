/* The daemon over HTTP: numbers for monitoring systems, in their format, and health. */
#include "tests/e2e/house.h"
#include "tests/test.h"

#include <arpa/inet.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ANSWER_BYTES = 1 << 20 };
static char answer[ANSWER_BYTES];

/* The status of an answer, whose text is in `answer`, and the beginning of its body. */
static int ask(unsigned port, const char *request, const char **body)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), status = 0;
    size_t n = 0;
    ssize_t got;
    answer[0] = '\0';
    if (fd < 0 || connect(fd, (const void *)&to, sizeof to) || write(fd, request, strlen(request)) < 0) {
        close(fd);
        return -1;
    }
    while (n < ANSWER_BYTES - 1 && (got = read(fd, answer + n, ANSWER_BYTES - 1 - n)) > 0)
        n += (size_t)got;
    answer[n] = '\0';
    close(fd);
    const char *end = strstr(answer, "\r\n\r\n");
    *body = end ? end + 4 : answer + n;
    return sscanf(answer, "HTTP/1.%*d %d", &status) == 1 ? status : -1;
}

static int get(unsigned port, const char *path, const char **body)
{
    char request[128];
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path);
    return ask(port, request, body);
}

static const char yaml[] = "http: {address: \"127.0.0.1:*\"}\npools: [{name: left, threads: 1}, {name: right, threads: 2}]\n";

/* A daemon with two streams of some tokens under two profiles. */
static bool up(struct house *house, struct attnd_client **client, struct attnd_stream stream[2])
{
    static const char *const profiles[] = {"full", "window,window_tokens=8,audit=1"};
    struct shape shape = house_shape(1, 0, 4, 2, 8, 8);
    struct tokens tokens;
    float out[20 * 4 * 8];
    if (!house_open(house, yaml))
        return false;
    CU_ASSERT_EQUAL_FATAL(attnd_connect(client, house->ingest, NULL, NULL), 0);
    tokens_create(&tokens, &shape, 1, 0, 0, 20);
    for (size_t s = 0; s < 2; s++) {
        CU_ASSERT_EQUAL_FATAL(attnd_open(*client, s ? "b" : "a", &shape, profiles[s], false, &stream[s], NULL), 0);
        struct attnd_part part = tokens_part(&tokens, &stream[s], 0, 20, WIRE_APPEND | WIRE_ATTEND, out, NULL);
        CU_ASSERT_EQUAL(attnd_step(*client, 0, &part, 1, NULL), 0);
    }
    tokens_destroy(&tokens);
    return true;
}

static void down(struct house *house, struct attnd_client *client, struct attnd_stream stream[2])
{
    for (size_t s = 0; s < 2; s++)
        attnd_close(client, &stream[s], NULL, NULL);
    attnd_disconnect(client);
    house_close(house);
}

/* The value of the sample that a line begins with. */
static double value(const char *text, const char *sample)
{
    size_t n = strlen(sample);
    for (const char *at = text; (at = strstr(at, sample)); at += n)
        if ((at == text || at[-1] == '\n') && at[n] == ' ')
            return strtod(at + n, NULL);
    return -1;
}

static void metrics_are_what_the_status_says(void)
{
    struct house house;
    struct attnd_client *client;
    struct attnd_stream stream[2];
    const char *text;
    if (up(&house, &client, stream)) {
        CU_ASSERT_EQUAL(get(daemon_http_port(house.daemon), "/metrics", &text), 200);
        CU_ASSERT(strstr(answer, "Content-Type: text/plain; version=0.0.4") != NULL);
        CU_ASSERT_EQUAL(value(text, "attnd_streams_open"), 2);
        CU_ASSERT_EQUAL(value(text, "attnd_tokens_total"), 40);
        CU_ASSERT_EQUAL(value(text, "attnd_pool_threads{pool=\"right\"}"), 2);
        CU_ASSERT_EQUAL(value(text, "attnd_profile_tokens_total{profile=\"window\"}"), 20 * 2);
        CU_ASSERT_EQUAL(value(text, "attnd_memory_allocated_bytes"), house_number(client, "daemon.memory_allocated_bytes"));
        CU_ASSERT_EQUAL(value(text, "attnd_profile_audited_relative_error_count{profile=\"window\"}"), 20 * 4);
        CU_ASSERT_EQUAL(value(text, "attnd_profile_audited_relative_error_bucket{profile=\"window\",le=\"+Inf\"}"), 20 * 4);
        CU_ASSERT_EQUAL(value(text, "attnd_refused_total{reason=\"busy\"}"), 0);
        CU_ASSERT(strstr(text, "\nattnd_build_info{version=\"" ATTND_VERSION "\",") ||
                  strstr(text, "attnd_build_info{") == text);
        down(&house, client, stream);
    }
}

/* The rules of the format: families whole, HELP and TYPE first, `_total` for counters alone, buckets that only grow. */
static void metrics_follow_the_format(void)
{
    struct house house;
    struct attnd_client *client;
    struct attnd_stream stream[2];
    const char *text;
    if (up(&house, &client, stream)) {
        char family[128] = "", type[16] = "", name[256], seen[16384] = " ";
        double before = -1;
        size_t n_samples = 0;
        CU_ASSERT_EQUAL(get(daemon_http_port(house.daemon), "/metrics", &text), 200);
        for (const char *line = text, *end; *line; line = end + 1) {
            end = strchr(line, '\n');
            CU_ASSERT_FATAL(end != NULL);
            if (strncmp(line, "# HELP ", 7) == 0) {
                char mark[140];
                CU_ASSERT_EQUAL(sscanf(line, "# HELP %127s", family), 1);
                snprintf(mark, sizeof mark, " %s ", family);
                CU_ASSERT(strstr(seen, mark) == NULL); /* every family once */
                strncat(seen, mark + 1, sizeof seen - strlen(seen) - 1);
                CU_ASSERT(end[-1] == '.');
                CU_ASSERT_EQUAL(sscanf(end + 1, "# TYPE %255s %15s", name, type), 2);
                CU_ASSERT_STRING_EQUAL(name, family);
                CU_ASSERT_EQUAL(strcmp(type, "counter") == 0, strcmp(family + strlen(family) - 6, "_total") == 0);
                before = -1;
            } else if (line[0] != '#') {
                n_samples++;
                CU_ASSERT(strncmp(line, family, strlen(family)) == 0);
                if (strstr(line, "_bucket{") && strstr(line, "_bucket{") < end) {
                    double x = strtod(strstr(line, "} ") + 2, NULL);
                    CU_ASSERT(x >= before);
                    const char *last = strstr(line, "le=\"+Inf\"");
                    before = last && last < end ? -1 : x;
                }
            }
        }
        CU_ASSERT(n_samples > 300);
        down(&house, client, stream);
    }
}

static void streams_are_json(void)
{
    struct house house;
    struct attnd_client *client;
    struct attnd_stream stream[2];
    const char *text;
    if (up(&house, &client, stream)) {
        CU_ASSERT_EQUAL(get(daemon_http_port(house.daemon), "/streams", &text), 200);
        json_t *object = json_loads(text, 0, NULL);
        const json_t *list = json_object_get(object, "streams");
        CU_ASSERT_EQUAL(json_array_size(list), 2);
        CU_ASSERT_EQUAL(json_integer_value(json_object_get(object, "streams_open")), 2);
        CU_ASSERT_EQUAL(json_integer_value(json_object_get(json_array_get(list, 1), "tokens_total")), 20);
        json_decref(object);
        down(&house, client, stream);
    }
}

static void health_is_told_and_what_is_wrong_is_refused(void)
{
    struct house house;
    struct attnd_client *client;
    struct attnd_stream stream[2];
    const char *text;
    if (up(&house, &client, stream)) {
        unsigned port = daemon_http_port(house.daemon);
        CU_ASSERT_EQUAL(get(port, "/healthz", &text), 200);
        CU_ASSERT_STRING_EQUAL(text, "ok\n");
        CU_ASSERT_EQUAL(get(port, "/readyz", &text), 200);
        CU_ASSERT_EQUAL(get(port, "/", &text), 404);
        CU_ASSERT_EQUAL(get(port, "/metricsx", &text), 404);
        CU_ASSERT_EQUAL(
            ask(port, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", &text), 405);
        CU_ASSERT_EQUAL(ask(port, "nonsense\r\n\r\n", &text) == 200, false);
        CU_ASSERT_EQUAL(get(port, "/healthz", &text), 200);
        down(&house, client, stream);
    }
}

static void an_address_that_is_taken_stops_the_start_and_no_address_is_no_server(void)
{
    struct house house, other;
    char taken[128];
    if (house_open(&house, "http: {address: \"127.0.0.1:0\"}\n")) {
        struct fault fault = {0};
        struct daemon *second;
        snprintf(taken, sizeof taken, "http: {address: \"127.0.0.1:%u\"}\n", daemon_http_port(house.daemon));
        memset(&other, 0, sizeof other);
        struct config *config = house_config("/tmp/attnd-nowhere", 3600, taken);
        CU_ASSERT_FATAL(config != NULL);
        snprintf(config->ingest.endpoint[0], sizeof config->ingest.endpoint[0], "inproc://i");
        snprintf(config->outputs.endpoint[0], sizeof config->outputs.endpoint[0], "inproc://o");
        snprintf(config->telemetry.endpoint[0], sizeof config->telemetry.endpoint[0], "inproc://t");
        CU_ASSERT_EQUAL(daemon_start(&second, config, NULL, NULL, &fault), ERR_IO);
        CU_ASSERT(strstr(fault.text, "http.address 127.0.0.1:") != NULL);
        config_destroy(config);
    }
    house_close(&house);
    if (house_open(&house, ""))
        CU_ASSERT_EQUAL(daemon_http_port(house.daemon), 0);
    house_close(&house);
}

TEST_SUITE("e2e/http", TEST(metrics_are_what_the_status_says), TEST(metrics_follow_the_format), TEST(streams_are_json),
           TEST(health_is_told_and_what_is_wrong_is_refused),
           TEST(an_address_that_is_taken_stops_the_start_and_no_address_is_no_server))
