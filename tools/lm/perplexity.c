/* attn lm perplexity: how well a text is predicted, in windows, and how far that is from what the full cache predicts. */
#include "tools/file.h"
#include "tools/lm/record.h"
#include "tools/lm/score.h"
#include "tools/lm/session.h"
#include "tools/lm/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char who[] = "attn lm perplexity";

struct options {
    const char *model, *text, *tokens_file;
    const char *record, *record_kind, *record_element;
    uint64_t context, windows;
    bool no_compare, json;
    struct service_options service;
};

#define PLACE(field) offsetof(struct options, field)

static const struct command_option table[] = {
    {"--model", "DIR", OPTION_TEXT, PLACE(model), 0, 0, true, "folder of config.json and model.safetensors"},
    {"--text", "FILE", OPTION_TEXT, PLACE(text), 0, 0, false, "what to score, for models of bytes (vocabulary 256)"},
    {"--tokens-file", "FILE", OPTION_TEXT, PLACE(tokens_file), 0, 0, false, "what to score, as token ids, one per line"},
    {"--context", "C", OPTION_COUNT, PLACE(context), 1, 1 << 24, true, "tokens that a window reads"},
    {"--windows", "W", OPTION_COUNT, PLACE(windows), 1, 1 << 20, true, "windows, spread evenly over the text"},
    {"--no-compare", NULL, OPTION_SWITCH, PLACE(no_compare), 0, 0, false, "do not read each window again under profile full"},
    {"--record", "TRACE", OPTION_TEXT, PLACE(record), 0, 0, false,
     "safetensors file for what attention was asked, first window"},
    {"--record-kind", "KIND", OPTION_TEXT, PLACE(record_kind), 0, 0, false,
     "softmax or tensor: layers to record (softmax if there are any)"},
    {"--record-element", "TYPE", OPTION_TEXT, PLACE(record_element), 0, 0, false, "f32 (default) or bf16: the trace's numbers"},
    {"--json", NULL, OPTION_SWITCH, PLACE(json), 0, 0, false, "one JSON object instead of a table"},
};

static const char help[] =
    "Scores a text with a language model: each window reads C tokens as one batch, and the tokens after the last half of them\n"
    "count. Under any profile but plain full each window is read once more under profile full, to tell how far the "
    "predictions\n"
    "are from those of the full cache.\n"
    "JSON: bits_per_byte (null where tokens are not bytes), nll_per_token (nats); kl_mean, kl_p50, kl_p999: KL divergence in\n"
    "nats of the next-token distribution from the full cache's, KL(full || profile), mean and quantiles over the tokens that\n"
    "count; same_top: share of them whose most likely next token is the same (profile full: 0, 0, 0, 1; --no-compare: null);\n"
    "bytes and bytes_full_bf16 (caches at the end of the last window), seconds, attention_seconds (of these, waiting for\n"
    "attention), head_seconds (append and attend, over heads): all of the profile alone, without the comparison.\n"
    "TRACE holds q and k, v or k1, v1, k2, v2 of each layer, [token][head][dim], as `attn eval` reads it. Under a profile "
    "that\n"
    "keeps less, layers are asked what they make of its answers: record under full what caches are to be judged on.";

static json_t *maybe(bool known, double x)
{
    return known ? json_real(x) : json_null();
}

static int answer(const struct options *o, const struct lm_config *config, const struct lm_score *score)
{
    const bool bytes = config->vocab == LM_BYTE_VOCAB;
    const double bits = score->nll / log(2);
    const struct lm_divergence_summary *d = &score->divergence;
    if (o->json)
        return command_print_json(
            who, json_pack("{s:o, s:f, s:o, s:o, s:o, s:o, s:I, s:I, s:f, s:f, s:f}", "bits_per_byte", maybe(bytes, bits),
                           "nll_per_token", score->nll, "kl_mean", maybe(score->compared, d->kl_mean), "kl_p50",
                           maybe(score->compared, d->kl_p50), "kl_p999", maybe(score->compared, d->kl_p999), "same_top",
                           maybe(score->compared, d->same_top), "bytes", (json_int_t)score->totals.bytes, "bytes_full_bf16",
                           (json_int_t)score->totals.bytes_full_bf16, "seconds", score->seconds, "attention_seconds",
                           score->attention_seconds, "head_seconds", score->head_seconds));
    if (bytes)
        printf("bits per byte      %.6f\n", bits);
    printf("nll per token      %.6f nats\n", score->nll);
    if (score->compared) {
        printf("KL from full       %.6g nats, p50 %.6g, p99.9 %.6g\n", d->kl_mean, d->kl_p50, d->kl_p999);
        printf("same top token     %.4f of the tokens\n", d->same_top);
    }
    printf("cache bytes        %llu\n", (unsigned long long)score->totals.bytes);
    printf("full cache in bf16 %llu\n", (unsigned long long)score->totals.bytes_full_bf16);
    printf("seconds            %.3f\n", score->seconds);
    printf("attention seconds  %.3f\n", score->attention_seconds);
    return fflush(stdout) == 0 ? COMMAND_DONE : COMMAND_FAILED;
}

static int score_text(const struct options *o, const struct lm_session *s, struct lm_score *score, struct fault *fault)
{
    char *text = NULL;
    uint32_t *ids = NULL;
    size_t bytes = 0, n = 0;
    int err = o->text ? file_read(o->text, &text, &bytes, fault) : 0;
    if (!err)
        err = lm_session_tokens(s, o->tokens_file, text, bytes, &ids, &n, fault);
    if (!err) {
        const struct lm_windows windows = {.ids = ids,
                                           .n_tokens = n,
                                           .context = o->context,
                                           .windows = o->windows,
                                           .profile = o->service.profile,
                                           .compare = !o->no_compare,
                                           .who = who};
        err = lm_perplexity(s->forward, &s->model->config, &windows, score, fault);
    }
    free(ids);
    free(text);
    return err;
}

static int run(const struct options *o, struct lm_session *s, struct lm_score *score, struct fault *fault)
{
    int err = o->record ? lm_session_record(s, o->record_kind, fault) : 0;
    if (!err)
        err = score_text(o, s, score, fault);
    if (!err && o->record)
        err = lm_record_write(s->record, o->record, (enum element)element_from_name(o->record_element), fault);
    return err;
}

/* COMMAND_GO_ON or COMMAND_USAGE. */
static int check(struct options *o)
{
    if (!o->text == !o->tokens_file)
        return command_usage(who, "one of --text and --tokens-file is required");
    if (!o->record && (o->record_kind || o->record_element))
        return command_usage(who, "--record-kind and --record-element say how to --record");
    if (o->record_kind && attention_from_name(o->record_kind) < 0)
        return command_usage(who, "--record-kind must be softmax or tensor, not %s", o->record_kind);
    o->record_element = o->record_element ? o->record_element : element_name(ELEMENT_F32);
    const int element = element_from_name(o->record_element);
    if (element != ELEMENT_F32 && element != ELEMENT_BF16)
        return command_usage(who, "--record-element must be f32 or bf16, not %s", o->record_element);
    return service_check_options(who, &o->service);
}

int command_lm_perplexity(int argc, char **argv)
{
    struct options o = {0};
    const struct option_group groups[] = {{table, sizeof table / sizeof *table, &o},
                                          {service_option_table, n_service_options, &o.service}};
    int code = command_parse(who, help, groups, 2, argc, argv);
    if (code == COMMAND_GO_ON)
        code = check(&o);
    if (code != COMMAND_GO_ON)
        return code;

    struct lm_session s = {0};
    struct lm_score score;
    struct fault fault = {0};
    int err = o.record ? lm_record_check_path(o.record, &fault) : 0;
    if (!err)
        err = lm_session_open(&s, o.model, &o.service, &fault);
    if (!err)
        err = run(&o, &s, &score, &fault);
    code = err ? command_failed(who, &fault) : answer(&o, &s.model->config, &score);
    lm_session_close(&s);
    return code;
}
