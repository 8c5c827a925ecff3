/* attn: everything that is done to or with attnd from a terminal. One subcommand per row, one file each. */
#include "tools/command.h"

#include <stdio.h>
#include <string.h>

static const struct command commands[] = {
    {"lm", "generate and score text with a language model whose attention runs in the daemon", command_lm},
    {"feed", "feed streams of tokens to a daemon: rate, latency, and whether the answers are right", command_feed},
    {"status", "what the daemon holds and does now", command_status},
    {"top", "watches the daemon live in the terminal", command_top},
    {"tune", "finds the pools and threads that serve a load best, and writes them as YAML", command_tune},
    {"reload", "makes the daemon take over a configuration while it runs", command_reload},
    {"eval", "memory, time and error of every policy and budget on recorded attention", command_eval},
    {"limits", "the papers' theorems as experiments on the caches", command_limits},
    {"bench", "speed of kernels and of the pipeline beside the machine's limits", command_bench},
};

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("attn " ATTND_VERSION);
        return COMMAND_DONE;
    }
    return command_dispatch("attn", commands, sizeof commands / sizeof *commands, argc, argv);
}
