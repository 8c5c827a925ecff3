/* attn lm perplexity: how well a text is predicted, in windows. */
#include "tools/lm/score.h"
#include "tools/lm/session.h"
#include "tools/lm/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char who[] = "attn lm perplexity";

struct options {
    const char *model, *text, *tokens_file;
    uint64_t context, windows;
    bool json;
    struct service_options service;
};

#define PLACE(field) offsetof(struct options, field)

static const struct command_option table[] = {
    {"--model", "DIR", OPTION_TEXT, PLACE(model), 0, 0, true, "folder of config.json and model.safetensors"},
    {"--text", "FILE", OPTION_TEXT, PLACE(text), 0, 0, false, "what to score, for models of bytes (vocabulary 256)"},
    {"--tokens-file", "FILE", OPTION_TEXT, PLACE(tokens_file), 0, 0, false, "what to score, as token ids, one per line"},
    {"--context", "C", OPTION_COUNT, PLACE(context), 1, 1 << 24, true, "tokens that a window reads"},
    {"--windows", "W", OPTION_COUNT, PLACE(windows), 1, 1 << 20, true, "windows, spread evenly over the text"},
    {"--json", NULL, OPTION_SWITCH, PLACE(json), 0, 0, false, "one JSON object instead of a table"},
};

static const char help[] = "Scores a text with a language model: each window reads C tokens as one batch, and the tokens after "
                           "the last half of them count.\n"
                           "JSON: bits_per_byte (null where tokens are not bytes), nll_per_token (nats), bytes and "
                           "bytes_full_bf16 (caches at the end of\n"
                           "the last window), seconds, attention_seconds (of these, waiting for attention), head_seconds "
                           "(append and attend, over heads).";

static int answer(const struct options *o, const struct lm_config *config, const struct lm_score *score)
{
    const bool bytes = config->vocab == LM_BYTE_VOCAB;
    const double bits = score->nll / log(2);
    if (o->json)
        return command_print_json(
            who, json_pack("{s:o, s:f, s:I, s:I, s:f, s:f, s:f}", "bits_per_byte", bytes ? json_real(bits) : json_null(),
                           "nll_per_token", score->nll, "bytes", (json_int_t)score->totals.bytes, "bytes_full_bf16",
                           (json_int_t)score->totals.bytes_full_bf16, "seconds", score->seconds, "attention_seconds",
                           score->attention_seconds, "head_seconds", score->head_seconds));
    if (bytes)
        printf("bits per byte      %.6f\n", bits);
    printf("nll per token      %.6f nats\n", score->nll);
    printf("cache bytes        %llu\n", (unsigned long long)score->totals.bytes);
    printf("full cache in bf16 %llu\n", (unsigned long long)score->totals.bytes_full_bf16);
    printf("seconds            %.3f\n", score->seconds);
    printf("attention seconds  %.3f\n", score->attention_seconds);
    return fflush(stdout) == 0 ? COMMAND_DONE : COMMAND_FAILED;
}

static int run(const struct options *o, const struct lm_session *s, struct lm_score *score, struct fault *fault)
{
    char *text = NULL;
    uint32_t *ids = NULL;
    size_t bytes = 0, n = 0;
    int err = o->text ? lm_file_read(o->text, &text, &bytes, fault) : 0;
    if (!err)
        err = lm_session_tokens(s, o->tokens_file, text, bytes, &ids, &n, fault);
    if (!err)
        err =
            lm_perplexity(s->forward, &s->model->config, ids, n, o->context, o->windows, o->service.profile, who, score, fault);
    free(ids);
    free(text);
    return err;
}

int command_lm_perplexity(int argc, char **argv)
{
    struct options o = {0};
    const struct option_group groups[] = {{table, sizeof table / sizeof *table, &o},
                                          {service_option_table, n_service_options, &o.service}};
    int code = command_parse(who, help, groups, 2, argc, argv);
    if (code == COMMAND_GO_ON)
        code = service_check_options(who, &o.service);
    if (code != COMMAND_GO_ON)
        return code;
    if (!o.text == !o.tokens_file)
        return command_usage(who, "one of --text and --tokens-file is required");

    struct lm_session s;
    struct lm_score score;
    struct fault fault = {0};
    int err = lm_session_open(&s, o.model, &o.service, &fault);
    if (!err)
        err = run(&o, &s, &score, &fault);
    code = err ? command_failed(who, &fault) : answer(&o, &s.model->config, &score);
    lm_session_close(&s);
    return code;
}
