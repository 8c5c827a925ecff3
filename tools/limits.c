/* attn limits: the papers' theorems as experiments on the daemon's own caches. */
#include "tools/limits/experiment.h"

static const struct command commands[] = {
    {"index", "bits that each cache takes beside what it must carry to answer (the INDEX game)", limits_index},
    {"sparsity", "sparse attention whose rows nobody knows beforehand", limits_sparsity},
    {"covering", "clusters of uniform keys, in few dimensions and in many", limits_covering},
    {"clusterability", "clusters of factors, and of their products", limits_clusterability},
    {"tradeoff", "tensor attention with four caches and with two: bytes and seconds against length", limits_tradeoff},
    {"nonadaptive", "reading rows that were chosen before the query", limits_nonadaptive},
    {"window", "windows whose outside has score 0: exact, in space that does not grow", limits_window},
};

int command_limits(int argc, char **argv)
{
    return command_dispatch("attn limits", commands, sizeof commands / sizeof *commands, argc, argv);
}
