/* attn top in a real terminal: tmux runs it, types into it and reads the screen. */
#include "tests/e2e/house.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SCREEN_BYTES = 32768, TRIES = UNDER_TSAN ? 600 : 200 };

/* A terminal of its own, by the name of a tmux socket. */
struct terminal {
    char name[64];
    char text[SCREEN_BYTES];
};

static int tmux(const struct terminal *t, const char *words)
{
    char command[512];
    snprintf(command, sizeof command, "LC_ALL=C.UTF-8 tmux -u -L %s %s", t->name, words);
    return system(command); /* our own words */
}

static void read_screen(struct terminal *t)
{
    char command[160];
    snprintf(command, sizeof command, "LC_ALL=C.UTF-8 tmux -u -L %s capture-pane -p 2>&1", t->name);
    FILE *out = popen(command, "r");
    size_t n = out ? fread(t->text, 1, sizeof t->text - 1, out) : 0;
    t->text[n] = '\0';
    if (out)
        pclose(out);
}

/* Types `keys`, then waits until the screen shows `wanted`. */
static bool shows(struct terminal *t, const char *keys, const char *wanted)
{
    char words[128];
    if (keys) {
        snprintf(words, sizeof words, "send-keys %s", keys);
        tmux(t, words);
    }
    for (int i = 0; i < TRIES; i++) {
        read_screen(t);
        if (strstr(t->text, wanted))
            return true;
        usleep(50000);
    }
    printf("\nafter %s the screen lacks '%s':\n%s", keys ? keys : "start", wanted, t->text);
    return false;
}

static void start(struct terminal *t, const char *endpoint, int columns, int lines)
{
    static int n_terminals;
    const char *attn = getenv("ATTN_BIN") ? getenv("ATTN_BIN") : "build/attn";
    char words[400];
    snprintf(t->name, sizeof t->name, "attnd-test-%d-%d", (int)getpid(), n_terminals++);
    snprintf(words, sizeof words,
             "-f /dev/null new-session -d -x %d -y %d '%s top --endpoint %s --interval 0.2 2>&1; sleep 600'", columns, lines,
             attn, endpoint);
    CU_ASSERT_EQUAL(tmux(t, words), 0);
}

static void it_shows_profiles_streams_and_layers(void)
{
    static struct terminal t;
    struct house house;
    struct attnd_client *client;
    struct attnd_stream stream[2];
    struct shape shape = house_shape(3, 1, 4, 2, 16, 16);
    struct tokens tokens;
    if (!house_open(&house, "pools: [{name: thepool, threads: 1}]\n"))
        return;
    CU_ASSERT_EQUAL_FATAL(attnd_connect(&client, house.ingest, NULL, NULL), 0);
    CU_ASSERT_EQUAL(attnd_open(client, "chat-one", &shape, "full", false, &stream[0], NULL), 0);
    CU_ASSERT_EQUAL(attnd_open(client, "chat-two", &shape, "window,window_tokens=8", false, &stream[1], NULL), 0);
    tokens_create(&tokens, &shape, 1, 0, 0, 77);
    struct attnd_part part = tokens_part(&tokens, &stream[0], 0, 77, WIRE_APPEND, NULL, NULL);
    CU_ASSERT_EQUAL(attnd_step(client, 0, &part, 1, NULL), 0);

    start(&t, house.ingest, 120, 24);
    CU_ASSERT(shows(&t, NULL, "2 profiles"));
    CU_ASSERT(shows(&t, "1", "thepool"));
    CU_ASSERT(shows(&t, "3", "chat-two"));
    CU_ASSERT(strstr(t.text, "chat-one") && strstr(t.text, "window"));
    CU_ASSERT(shows(&t, "/", "filter: _"));
    CU_ASSERT(shows(&t, "one Enter", "filter 'one'  1"));
    CU_ASSERT(!strstr(t.text, "chat-two"));
    CU_ASSERT(shows(&t, "Enter", "of stream chat-one  4"));
    CU_ASSERT(shows(&t, NULL, "77")); /* the rows may come after the title */
    CU_ASSERT(strstr(t.text, "tensor") && strstr(t.text, "77"));
    CU_ASSERT(shows(&t, "Escape", "3 streams"));
    CU_ASSERT(shows(&t, "'?'", "into a profile's streams"));
    CU_ASSERT(shows(&t, "'?' p", "PAUSED"));
    CU_ASSERT(shows(&t, "p '>' '<' '<' r", "name v"));
    tmux(&t, "resize-window -x 80 -y 12");
    CU_ASSERT(shows(&t, NULL, "chat-two"));
    CU_ASSERT_EQUAL(attnd_close(client, &stream[0], NULL, NULL), 0);
    CU_ASSERT(shows(&t, NULL, "streams   1"));
    house_stop(&house); /* the daemon goes, the screen says so and stays */
    CU_ASSERT(shows(&t, NULL, "no answer"));
    CU_ASSERT(shows(&t, "q", "")); /* and it leaves when asked */
    tmux(&t, "kill-server 2>/dev/null");
    attnd_forget(&stream[1]);
    attnd_disconnect(client);
    tokens_destroy(&tokens);
    house_close(&house);
}

static void without_a_daemon_it_says_so(void)
{
    static struct terminal t;
    start(&t, "ipc:///tmp/attnd-nowhere/x", 120, 10);
    CU_ASSERT(shows(&t, NULL, "attn top: "));
    tmux(&t, "kill-server 2>/dev/null");
}

TEST_SUITE("tools/top", TEST(it_shows_profiles_streams_and_layers), TEST(without_a_daemon_it_says_so))
