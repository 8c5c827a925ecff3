/* attn lm generate: continues a prompt, token by token. */
#include "base/clock.h"
#include "tools/lm/score.h"
#include "tools/lm/session.h"
#include "tools/lm/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char who[] = "attn lm generate";

struct options {
    const char *model, *prompt, *prompt_ids;
    uint64_t tokens, seed;
    double temperature;
    bool json;
    struct service_options service;
};

#define PLACE(field) offsetof(struct options, field)

static const struct command_option table[] = {
    {"--model", "DIR", OPTION_TEXT, PLACE(model), 0, 0, true, "folder of config.json and model.safetensors"},
    {"--prompt", "TEXT", OPTION_TEXT, PLACE(prompt), 0, 0, false, "what to continue, for models of bytes (vocabulary 256)"},
    {"--prompt-ids", "FILE", OPTION_TEXT, PLACE(prompt_ids), 0, 0, false, "what to continue, as token ids, one per line"},
    {"--tokens", "N", OPTION_COUNT, PLACE(tokens), 1, 1 << 20, true, "how many tokens to generate"},
    {"--temperature", "T", OPTION_NUMBER, PLACE(temperature), 0, 100, false, "0 (default): the most likely token each time"},
    {"--seed", "S", OPTION_COUNT, PLACE(seed), 0, 0x1p63, false, "of the draws at a temperature above 0 (default 0)"},
    {"--json", NULL, OPTION_SWITCH, PLACE(json), 0, 0, false, "one JSON object instead of text as it comes"},
};

static const char help[] =
    "Continues a prompt with a language model. Attention is computed by the daemon, or here with --local.\n"
    "Models of bytes print text; others print token ids, one per line. JSON: text, tokens_per_second (after the prompt), "
    "bytes,\n"
    "bytes_full_bf16, and ids, prompt_seconds, seconds, attention_seconds, head_seconds. In \"text\", bytes that are no UTF-8 "
    "are\n"
    "U+FFFD; \"ids\" has them exactly.";

struct generation {
    uint32_t *ids; /* (n_prompt + tokens): the prompt and what follows */
    size_t n_prompt, n;
    double prompt_seconds, seconds, attention_seconds;
    struct service_totals totals;
};

static void print_token(const struct lm_session *s, uint32_t id)
{
    if (s->model->config.vocab == LM_BYTE_VOCAB)
        putchar((int)id);
    else
        printf("%u\n", id);
    fflush(stdout);
}

/* g->ids holds the prompt and room for o->tokens more. */
static int generate(struct lm_session *s, const struct options *o, struct generation *g, struct fault *fault)
{
    const size_t V = s->model->config.vocab, D = s->model->config.hidden, last = g->n_prompt + o->tokens;
    const double start = clock_seconds();
    const float *hidden;
    size_t n = g->n_prompt; /* tokens of the next run: the prompt, then one at a time */
    float *logits = malloc(V * sizeof *logits);
    if (!logits)
        return fault_set(fault, ERR_NO_MEMORY, "logits");
    int err = lm_forward_begin(s->forward, o->service.profile, last, fault);
    while (!err && g->n < last) {
        if (command_interrupted()) {
            err = fault_set(fault, ERR_FAILED, "interrupted");
            break;
        }
        err = lm_forward_run(s->forward, g->ids + g->n - n, n, &hidden, fault);
        if (err)
            break;
        lm_forward_logits(s->forward, hidden + (n - 1) * D, 1, logits);
        if (n == g->n)
            g->prompt_seconds = clock_seconds() - start;
        n = 1;
        g->ids[g->n] = lm_sample(logits, V, o->temperature, lm_sample_coin(o->seed, g->n - g->n_prompt));
        if (!o->json)
            print_token(s, g->ids[g->n]);
        g->n++;
    }
    free(logits);
    g->seconds = clock_seconds() - start;
    if (err)
        return err;
    g->attention_seconds = lm_forward_attention_seconds(s->forward);
    return lm_forward_end(s->forward, &g->totals, fault);
}

/* Runs after the prompt; where there is none, the prompt's. */
static double tokens_per_second(const struct generation *g)
{
    const size_t runs = g->n - g->n_prompt - 1;
    return runs ? (double)runs / (g->seconds - g->prompt_seconds) : 1 / g->prompt_seconds;
}

/* What was generated, as text: bytes made valid UTF-8, or ids with blanks between. */
static json_t *generated_text(const struct lm_session *s, const uint32_t *ids, size_t n)
{
    const bool bytes = s->model->config.vocab == LM_BYTE_VOCAB;
    const size_t room = n * (bytes ? 3 : 11) + 1;
    char *text = malloc(room);
    unsigned char *raw = malloc(n + 1);
    json_t *json = NULL;
    size_t length = 0;
    if (text && raw) {
        for (size_t i = 0; i < n; i++) {
            raw[i] = (unsigned char)ids[i];
            if (!bytes)
                length += (size_t)snprintf(text + length, room - length, i ? " %u" : "%u", ids[i]);
        }
        if (bytes)
            length = lm_utf8(raw, n, text);
        json = json_stringn(text, length);
    }
    free(text);
    free(raw);
    return json;
}

static int answer(const struct lm_session *s, const struct options *o, const struct generation *g)
{
    const uint32_t *ids = g->ids + g->n_prompt;
    const size_t n = g->n - g->n_prompt;
    if (!o->json) {
        if (s->model->config.vocab == LM_BYTE_VOCAB)
            putchar('\n');
        fflush(stdout);
        fprintf(stderr, "%.1f tokens/s, cache %llu bytes (full in bf16 %llu), %.0f %% of the time in attention\n",
                tokens_per_second(g), (unsigned long long)g->totals.bytes, (unsigned long long)g->totals.bytes_full_bf16,
                100 * g->attention_seconds / g->seconds);
        return ferror(stdout) ? COMMAND_FAILED : COMMAND_DONE;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer((json_int_t)ids[i]));
    return command_print_json(who, json_pack("{s:o, s:f, s:I, s:I, s:o, s:f, s:f, s:f, s:f}", "text", generated_text(s, ids, n),
                                             "tokens_per_second", tokens_per_second(g), "bytes", (json_int_t)g->totals.bytes,
                                             "bytes_full_bf16", (json_int_t)g->totals.bytes_full_bf16, "ids", list,
                                             "prompt_seconds", g->prompt_seconds, "seconds", g->seconds, "attention_seconds",
                                             g->attention_seconds, "head_seconds", g->totals.head_seconds));
}

/* The prompt's tokens, with room for what follows. */
static int read_prompt(const struct lm_session *s, const struct options *o, struct generation *g, struct fault *fault)
{
    int err = lm_session_tokens(s, o->prompt_ids, o->prompt, o->prompt ? strlen(o->prompt) : 0, &g->ids, &g->n_prompt, fault);
    if (err)
        return err;
    g->n = g->n_prompt;
    if (g->n_prompt == 0)
        return fault_set(fault, ERR_INVALID, "--prompt must hold at least one byte");
    uint32_t *larger = realloc(g->ids, (g->n_prompt + o->tokens) * sizeof *larger);
    if (!larger)
        return fault_set(fault, ERR_NO_MEMORY, "%zu tokens", g->n_prompt + (size_t)o->tokens);
    g->ids = larger;
    return 0;
}

int command_lm_generate(int argc, char **argv)
{
    struct options o = {0};
    const struct option_group groups[] = {{table, sizeof table / sizeof *table, &o},
                                          {service_option_table, n_service_options, &o.service}};
    int code = command_parse(who, help, groups, 2, argc, argv);
    if (code == COMMAND_GO_ON)
        code = service_check_options(who, &o.service);
    if (code != COMMAND_GO_ON)
        return code;
    if (!o.prompt == !o.prompt_ids)
        return command_usage(who, "one of --prompt and --prompt-ids is required");

    struct lm_session s;
    struct generation g = {0};
    struct fault fault = {0};
    int err = lm_session_open(&s, o.model, &o.service, &fault);
    if (!err)
        err = read_prompt(&s, &o, &g, &fault);
    if (!err)
        err = generate(&s, &o, &g, &fault);
    code = err ? command_failed(who, &fault) : answer(&s, &o, &g);
    free(g.ids);
    lm_session_close(&s);
    return code;
}
