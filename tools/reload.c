/* attn reload: a running daemon takes over a configuration: pools, threads, pinning, profiles. No token is lost and no output
 * changes by a bit; what cannot change live is refused by name, and then nothing changes. */
#include "client/attnd_client.h"
#include "tools/command.h"
#include "tools/file.h"

#include <stdio.h>
#include <stdlib.h>

static const char who[] = "attn reload";

struct options {
    const char *endpoint, *config;
    bool json;
};

#define PLACE(field) offsetof(struct options, field)

static const struct command_option table[] = {
    {"--endpoint", "EP", OPTION_TEXT, PLACE(endpoint), 0, 0, false, "the daemon's ingest endpoint (default: your own daemon)"},
    {"--config", "FILE", OPTION_TEXT, PLACE(config), 0, 0, false,
     "this YAML file (default: the one that the daemon was started with)"},
    {"--json", NULL, OPTION_SWITCH, PLACE(json), 0, 0, false, "the answer as one JSON object"},
};

static int print(const struct options *o, const struct control_reload *answer)
{
    if (o->json)
        return command_print_json(who, json_pack("{s:I, s:I, s:I, s:I, s:f}", "pools", (json_int_t)answer->pools, "threads",
                                                 (json_int_t)answer->threads, "profiles", (json_int_t)answer->profiles,
                                                 "heads_moved", (json_int_t)answer->heads_moved, "seconds", answer->seconds));
    printf("%llu pools of %llu threads, %llu profiles; %llu heads moved in %.1f ms\n", (unsigned long long)answer->pools,
           (unsigned long long)answer->threads, (unsigned long long)answer->profiles, (unsigned long long)answer->heads_moved,
           answer->seconds * 1e3);
    return fflush(stdout) == 0 ? COMMAND_DONE : COMMAND_FAILED;
}

int command_reload(int argc, char **argv)
{
    struct options o = {0};
    const struct option_group group = {table, sizeof table / sizeof *table, &o};
    int code =
        command_parse(who, "Makes a running daemon take over a configuration, without losing a token or changing an output.",
                      &group, 1, argc, argv);
    if (code != COMMAND_GO_ON)
        return code;
    struct attnd_client *client;
    struct control_reload answer;
    struct fault fault = {0};
    char *text = NULL;
    int err = o.config ? file_read_config(o.config, &text, &fault) : 0;
    if (!err)
        err = attnd_connect(&client, o.endpoint, NULL, &fault);
    if (!err) {
        err = attnd_reload(client, text, o.config, &answer, &fault);
        attnd_disconnect(client);
    }
    free(text);
    return err ? command_failed(who, &fault) : print(&o, &answer);
}
