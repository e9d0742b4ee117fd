#include "router/api.h"

#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "router/api_fields.h"
#include "router/api_json.h"

static int api_model(struct api_request *r, const char *name, const json_t *v, struct api_error *e)
{
    size_t bytes;

    return api_json_text(&r->model, &bytes, name, v, e);
}

static int api_max_tokens(struct api_request *r, const char *name, const json_t *v,
                          struct api_error *e)
{
    int64_t n;
    int rc = api_json_int(&n, name, v, 1, INT32_MAX, e);

    if (rc)
        return rc;
    if (r->has_max_tokens && r->max_tokens != (uint32_t)n)
        return api_refuse(e, name, "max_tokens and max_completion_tokens are both given, %u and %u",
                          r->max_tokens, (unsigned)n);
    r->has_max_tokens = true;
    r->max_tokens = (uint32_t)n;
    return 0;
}

static int api_temperature(struct api_request *r, const char *name, const json_t *v,
                           struct api_error *e)
{
    double x;
    int rc = api_json_number(&x, name, v, 0, 100, e);

    if (!rc)
        r->sampling.temperature = (float)x;
    return rc;
}

static int api_top_p(struct api_request *r, const char *name, const json_t *v, struct api_error *e)
{
    double x = 0;
    int rc = api_json_number(&x, name, v, 0, 1, e);

    if (rc || (float)x <= 0)
        return api_json_refuse(e, name, v, "a number above 0, up to 1");
    r->sampling.top_p = (float)x;
    return 0;
}

/* -1 is vLLM's way to say off. */
static int api_top_k(struct api_request *r, const char *name, const json_t *v, struct api_error *e)
{
    int64_t n;
    int rc = api_json_int(&n, name, v, -1, INT32_MAX, e);

    if (!rc)
        r->sampling.top_k = n < 0 ? 0 : (uint32_t)n;
    return rc;
}

static int api_seed(struct api_request *r, const char *name, const json_t *v, struct api_error *e)
{
    int64_t n;
    int rc = api_json_int(&n, name, v, INT64_MIN, INT64_MAX, e);

    if (!rc) {
        r->sampling.seed = (uint64_t)n;
        r->has_seed = true;
    }
    return rc;
}

static int api_stop_one(struct api_request *r, const char *name, const json_t *v,
                        struct api_error *e)
{
    size_t n = json_string_length(v);

    if (!json_is_string(v))
        return api_json_refuse(e, name, v, "a string or an array of strings");
    if (!n || n >= MSG_STOP_BYTES_MAX)
        return api_refuse(e, name, "a stop string has %zu bytes, but must have 1 to %d", n,
                          MSG_STOP_BYTES_MAX - 1);
    memcpy(r->stops[r->n_stops++], json_string_value(v), n + 1);
    return 0;
}

static int api_stop(struct api_request *r, const char *name, const json_t *v, struct api_error *e)
{
    int rc = 0;

    if (!json_is_array(v))
        return api_stop_one(r, name, v, e);
    if (json_array_size(v) > MSG_STOPS_MAX)
        return api_refuse(e, name, "stop has %zu strings, and at most %d are taken",
                          json_array_size(v), MSG_STOPS_MAX);
    for (size_t i = 0; i < json_array_size(v) && !rc; i++)
        rc = api_stop_one(r, name, json_array_get(v, i), e);
    return rc;
}

static int api_stream(struct api_request *r, const char *name, const json_t *v, struct api_error *e)
{
    return api_json_bool(&r->stream, name, v, e);
}

static int api_stream_options(struct api_request *r, const char *name, const json_t *v,
                              struct api_error *e)
{
    const char *key;
    json_t *value;
    bool ignored;
    int rc = 0;

    if (!json_is_object(v))
        return api_json_refuse(e, name, v, "an object");
    json_object_foreach((json_t *)v, key, value) {
        if (rc || json_is_null(value))
            continue;
        if (!strcmp(key, "include_usage"))
            rc = api_json_bool(&r->include_usage, "stream_options.include_usage", value, e);
        else if (!strcmp(key, "include_obfuscation")) /* padding against traffic analysis: a wish */
            rc = api_json_bool(&ignored, "stream_options.include_obfuscation", value, e);
        else
            rc = api_refuse(e, name, "stream_options has an unknown field \"%.64s\"", key);
    }
    return rc;
}

static int api_ignore_eos(struct api_request *r, const char *name, const json_t *v,
                          struct api_error *e)
{
    return api_json_bool(&r->ignore_eos, name, v, e);
}

/* As vLLM has it: the lower, the sooner. */
static int api_priority(struct api_request *r, const char *name, const json_t *v,
                        struct api_error *e)
{
    int64_t n = 0;
    int rc = api_json_int(&n, name, v, 0, MSG_PRIORITY_MAX, e);

    r->priority = (uint32_t)n;
    return rc;
}

static int api_user(struct api_request *r, const char *name, const json_t *v, struct api_error *e)
{
    return api_json_text(&r->user, &r->user_bytes, name, v, e);
}

static int api_return_token_ids(struct api_request *r, const char *name, const json_t *v,
                                struct api_error *e)
{
    return api_json_bool(&r->return_token_ids, name, v, e);
}

/* The rest changes nothing when it has the value that means "off", and is refused otherwise. */
static int api_unsupported(const char *name, struct api_error *e)
{
    return api_refuse(e, name, "%s is not supported", name);
}
static int api_only_null(struct api_request *r, const char *name, const json_t *v,
                         struct api_error *e)
{
    (void)r, (void)v;
    return api_unsupported(name, e);
}
static int api_only_false(struct api_request *r, const char *name, const json_t *v,
                          struct api_error *e)
{
    (void)r;
    return json_is_false(v) ? 0 : api_unsupported(name, e);
}
static int api_only_true(struct api_request *r, const char *name, const json_t *v,
                         struct api_error *e)
{
    (void)r;
    return json_is_true(v) ? 0 : api_unsupported(name, e);
}
static int api_only_zero(struct api_request *r, const char *name, const json_t *v,
                         struct api_error *e)
{
    (void)r;
    return json_is_number(v) && json_number_value(v) == 0.0 ? 0 : api_unsupported(name, e);
}
static int api_only_one(struct api_request *r, const char *name, const json_t *v,
                        struct api_error *e)
{
    (void)r;
    if (json_is_number(v) && json_number_value(v) == 1.0)
        return 0;
    return api_json_refuse(e, name, v, "1");
}
static int api_only_empty(struct api_request *r, const char *name, const json_t *v,
                          struct api_error *e)
{
    (void)r;
    if ((json_is_array(v) && !json_array_size(v)) || (json_is_object(v) && !json_object_size(v)))
        return 0;
    return api_unsupported(name, e);
}
static int api_only_text_format(struct api_request *r, const char *name, const json_t *v,
                                struct api_error *e)
{
    const char *type = json_string_value(json_object_get(v, "type"));

    (void)r;
    return type && !strcmp(type, "text") ? 0 : api_unsupported(name, e);
}
static int api_only_no_tool(struct api_request *r, const char *name, const json_t *v,
                            struct api_error *e)
{
    const char *s = json_string_value(v);

    (void)r;
    return s && (!strcmp(s, "none") || !strcmp(s, "auto")) ? 0 : api_unsupported(name, e);
}
static int api_anything(struct api_request *r, const char *name, const json_t *v,
                        struct api_error *e)
{
    (void)r, (void)name, (void)v, (void)e;
    return 0;
}

#define CHAT (1u << API_CHAT)
#define COMPLETION (1u << API_COMPLETION)
#define BOTH (CHAT | COMPLETION)

static const struct api_field {
    const char *name;
    unsigned kinds;
    int (*read)(struct api_request *r, const char *name, const json_t *v, struct api_error *e);
} api_fields[] = {
    {"model", BOTH, api_model},
    {"messages", CHAT, api_messages},
    {"prompt", COMPLETION, api_prompt},
    {"max_tokens", BOTH, api_max_tokens},
    {"max_completion_tokens", BOTH, api_max_tokens},
    {"temperature", BOTH, api_temperature},
    {"top_p", BOTH, api_top_p},
    {"top_k", BOTH, api_top_k},
    {"seed", BOTH, api_seed},
    {"stop", BOTH, api_stop},
    {"stream", BOTH, api_stream},
    {"stream_options", BOTH, api_stream_options},
    {"ignore_eos", BOTH, api_ignore_eos},
    {"priority", BOTH, api_priority},
    {"return_token_ids", BOTH, api_return_token_ids},
    /* who asks, and how it may be stored or cached: nothing that changes the answer */
    {"user", BOTH, api_user},
    {"metadata", BOTH, api_anything},
    {"store", BOTH, api_only_false},
    {"safety_identifier", BOTH, api_anything},
    {"prompt_cache_key", BOTH, api_anything},
    {"cache_prompt", BOTH, api_anything},
    {"service_tier", BOTH, api_anything},
    {"parallel_tool_calls", CHAT, api_anything},
    /* accepted when off */
    {"n", BOTH, api_only_one},
    {"best_of", COMPLETION, api_only_one},
    {"echo", COMPLETION, api_only_false},
    {"suffix", COMPLETION, api_only_null},
    {"logprobs", BOTH, api_only_false},
    {"top_logprobs", CHAT, api_only_zero},
    {"prompt_logprobs", BOTH, api_only_null},
    {"logit_bias", BOTH, api_only_empty},
    {"frequency_penalty", BOTH, api_only_zero},
    {"presence_penalty", BOTH, api_only_zero},
    {"repetition_penalty", BOTH, api_only_one},
    {"repeat_penalty", BOTH, api_only_one},
    {"min_p", BOTH, api_only_zero},
    {"min_tokens", BOTH, api_only_zero},
    {"typical_p", BOTH, api_only_one},
    {"stop_token_ids", BOTH, api_only_empty},
    {"skip_special_tokens", BOTH, api_only_true},
    {"response_format", BOTH, api_only_text_format},
    {"tools", CHAT, api_only_empty},
    {"tool_choice", CHAT, api_only_no_tool},
    {"functions", CHAT, api_only_empty},
    {"function_call", CHAT, api_only_no_tool},
    {"add_generation_prompt", CHAT, api_only_true},
    {"continue_final_message", CHAT, api_only_false},
    {"chat_template_kwargs", CHAT, api_only_empty},
    {"return_progress", BOTH, api_only_false},
    {"timings_per_token", BOTH, api_only_false},
    /* never */
    {"audio", CHAT, api_only_null},
    {"modalities", CHAT, api_only_null},
    {"prediction", CHAT, api_only_null},
    {"reasoning_effort", CHAT, api_only_null},
    {"verbosity", CHAT, api_only_null},
    {"web_search_options", CHAT, api_only_null},
    {"grammar", BOTH, api_only_null},
    {"json_schema", BOTH, api_only_null},
    {"guided_json", BOTH, api_only_null},
    {"kv_transfer_params", BOTH, api_only_null},
};

static int api_read_field(struct api_request *r, const char *key, const json_t *v,
                          struct api_error *e)
{
    for (size_t i = 0; i < ARRAY_LEN(api_fields); i++) {
        const struct api_field *f = &api_fields[i];

        if (strcmp(f->name, key) != 0)
            continue;
        if (!(f->kinds & 1u << r->kind))
            return api_refuse(e, key, "%s is not a field of this endpoint", key);
        return json_is_null(v) ? 0 : f->read(r, f->name, v, e);
    }
    return api_refuse(e, key, "unknown field \"%.64s\"", key);
}

/* What involves several fields, or none that is there. */
static int api_check(const struct api_request *r, struct api_error *e)
{
    if (r->kind == API_CHAT && !r->messages)
        return api_refuse(e, "messages", "messages is missing");
    if (r->kind == API_COMPLETION && !r->prompt && !r->tokens)
        return api_refuse(e, "prompt", "prompt is missing");
    if (r->include_usage && !r->stream)
        return api_refuse(e, "stream_options", "stream_options is for requests with stream: true");
    return 0;
}

int api_parse(struct api_request *out, enum api_kind kind, const char *body, size_t n,
              struct api_error *e)
{
    json_t *root;
    const char *key;
    json_t *v;
    int rc = 0;

    *out = (struct api_request){.kind = kind, .sampling = {.temperature = 1, .top_p = 1}};
    root = api_json_load(body, n, e);
    if (!root)
        return ERR_ARG;
    json_object_foreach(root, key, v) {
        rc = api_read_field(out, key, v, e);
        if (rc)
            break;
    }
    if (!rc)
        rc = api_check(out, e);
    json_decref(root);
    return rc;
}

void api_request_fini(struct api_request *r)
{
    for (size_t i = 0; i < r->n_messages; i++) {
        mem_free(r->messages[i].role);
        mem_free(r->messages[i].content);
    }
    mem_free(r->messages);
    mem_free(r->model);
    mem_free(r->prompt);
    mem_free(r->user);
    mem_free(r->tokens);
    *r = (struct api_request){0};
}

static int api_tokenize_field(struct api_tokenize *t, const char *key, const json_t *v,
                              struct api_error *e)
{
    if (!strcmp(key, "content") || !strcmp(key, "prompt")) {
        if (t->text)
            return api_refuse(e, key, "content and prompt are the same thing: give one");
        return api_json_text(&t->text, &t->text_bytes, key, v, e);
    }
    if (!strcmp(key, "add_special") || !strcmp(key, "add_special_tokens"))
        return api_json_bool(&t->add_special, key, v, e);
    if (!strcmp(key, "parse_special"))
        return api_json_bool(&t->parse_special, key, v, e);
    if (!strcmp(key, "model"))
        return 0;
    return api_refuse(e, key, "unknown field \"%.64s\"", key);
}

int api_parse_tokenize(struct api_tokenize *out, const char *body, size_t n, struct api_error *e)
{
    json_t *root = api_json_load(body, n, e);
    const char *key;
    json_t *v;
    int rc = 0;

    *out = (struct api_tokenize){0};
    if (!root)
        return ERR_ARG;
    out->add_special = json_is_string(json_object_get(root, "prompt"));
    json_object_foreach(root, key, v) {
        rc = json_is_null(v) ? 0 : api_tokenize_field(out, key, v, e);
        if (rc)
            break;
    }
    json_decref(root);
    if (!rc && !out->text)
        rc = api_refuse(e, "content", "content is missing");
    return rc;
}

void api_tokenize_fini(struct api_tokenize *t)
{
    mem_free(t->text);
    *t = (struct api_tokenize){0};
}

int api_parse_detokenize(uint32_t **tokens, uint32_t *n_tokens, const char *body, size_t n,
                         struct api_error *e)
{
    json_t *root = api_json_load(body, n, e);
    const char *key;
    json_t *v;
    int rc = 0;

    *tokens = NULL;
    *n_tokens = 0;
    if (!root)
        return ERR_ARG;
    json_object_foreach(root, key, v) {
        if (!strcmp(key, "tokens"))
            rc = api_json_ids(tokens, n_tokens, key, v, true, e);
        else if (strcmp(key, "model") != 0)
            rc = api_refuse(e, key, "unknown field \"%.64s\"", key);
        if (rc)
            break;
    }
    json_decref(root);
    if (!rc && !*tokens)
        rc = api_refuse(e, "tokens", "tokens is missing");
    return rc;
}
