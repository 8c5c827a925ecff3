/* attn bench: how fast the kernels and the pipeline are, each beside what the machine can do at best in the same run. */
#include "tools/bench/bench.h"
#include "tools/command.h"

static const struct command commands[] = {
    {"kernels", "attention and appending beside a plain read loop, a multiply-add loop and a copy", bench_kernels},
    {"pipeline", "round trips of messages through the daemon beside a raw ZeroMQ echo", bench_pipeline},
    {"crowd", "many streams in one message, and a producer beside peers that behave badly", bench_crowd},
    {"soak", "many connections and streams at their budget, for a long time: memory, descriptors, latency", bench_soak},
    {"policies", "time per token, bytes and error of every policy over a long stream", bench_policies},
    {"plot", "draw the results of the two", bench_plot},
    {"echo", "answer messages as pipeline's raw echo does; it starts this by itself", bench_echo},
};

int command_bench(int argc, char **argv)
{
    return command_dispatch("attn bench", commands, sizeof commands / sizeof *commands, argc, argv);
}
