/* attn lm: a language model whose attention is computed by attnd. */
#include "tools/command.h"
#include "tools/lm/session.h"

static const struct command commands[] = {
    {"generate", "continue a prompt", command_lm_generate},
    {"perplexity", "how well a text is predicted", command_lm_perplexity},
};

int command_lm(int argc, char **argv)
{
    return command_dispatch("attn lm", commands, sizeof commands / sizeof *commands, argc, argv);
}
