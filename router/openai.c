#include "router/openai.h"

#include <inttypes.h>
#include <string.h>

void openai_string(struct str *out, const char *s, size_t n)
{
    size_t from = 0;

    str_addc(out, '"');
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];

        if (c >= ' ' && c != '"' && c != '\\' && c != 0x7f)
            continue;
        str_add(out, s + from, i - from);
        from = i + 1;
        if (c == '"' || c == '\\')
            str_addf(out, "\\%c", c);
        else if (c == '\n')
            str_adds(out, "\\n");
        else
            str_addf(out, "\\u%04x", c);
    }
    str_add(out, s + from, n - from);
    str_addc(out, '"');
}

static void openai_text(struct str *out, const char *s)
{
    if (s)
        openai_string(out, s, strlen(s));
    else
        str_adds(out, "null");
}

/* {"id": ... "model": "m" */
static void openai_begin(struct str *out, const struct openai_head *h, const char *object)
{
    str_adds(out, "{\"id\":");
    openai_text(out, h->id);
    str_addf(out, ",\"object\":\"%s\",\"created\":%" PRId64 ",\"model\":", object, h->created);
    openai_text(out, h->model);
}

static void openai_chunk_begin(struct str *out, const struct openai_head *h)
{
    str_adds(out, "data: ");
    openai_begin(out, h, h->kind == API_CHAT ? "chat.completion.chunk" : "text_completion");
}

static void openai_ids(struct str *out, const uint32_t *ids, uint32_t n)
{
    if (!n)
        return;
    str_adds(out, ",\"token_ids\":");
    for (uint32_t i = 0; i < n; i++)
        str_addf(out, "%c%u", i ? ',' : '[', ids[i]);
    str_addc(out, ']');
}

static void openai_timings(struct str *out, const struct openai_timings *t)
{
    if (!t)
        return;
    str_addf(out,
             ",\"tandem\":{\"ttft_ms\":%.3f,\"tpot_ms\":%.3f,\"router_queue_ms\":%.3f,"
             "\"prefill_queue_ms\":%.3f,\"prefill_ms\":%.3f,\"handoff_ms\":%.3f,"
             "\"decode_queue_ms\":%.3f,\"decode_ms\":%.3f,\"kv_bytes\":%" PRIu64
             ",\"restarts\":%u,\"cached_tokens\":%u,\"local\":%s,\"prefill_node\":",
             t->ttft_ms, t->tpot_ms, t->router_queue_ms, t->prefill_queue_ms, t->prefill_ms,
             t->handoff_ms, t->decode_queue_ms, t->decode_ms, t->kv_bytes, t->restarts,
             t->cached_tokens, t->local ? "true" : "false");
    openai_text(out, t->prefill_node);
    str_adds(out, ",\"decode_node\":");
    openai_text(out, t->decode_node);
    str_addc(out, '}');
}

static void openai_usage(struct str *out, const struct openai_usage *u)
{
    str_addf(out,
             ",\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":%u,\"total_tokens\":%u,"
             "\"prompt_tokens_details\":{\"cached_tokens\":%u}}",
             u->prompt_tokens, u->completion_tokens, u->prompt_tokens + u->completion_tokens,
             u->cached_tokens);
}

void openai_chunk_role(struct str *out, const struct openai_head *h)
{
    openai_chunk_begin(out, h);
    str_adds(out, ",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
                  "\"logprobs\":null,\"finish_reason\":null}]}\n\n");
}

void openai_chunk_text(struct str *out, const struct openai_head *h, const char *text, size_t n,
                       const uint32_t *ids, uint32_t n_ids)
{
    openai_chunk_begin(out, h);
    str_adds(out, h->kind == API_CHAT ? ",\"choices\":[{\"index\":0,\"delta\":{\"content\":"
                                      : ",\"choices\":[{\"index\":0,\"text\":");
    openai_string(out, text, n);
    str_adds(out, h->kind == API_CHAT ? "}" : "");
    openai_ids(out, ids, n_ids);
    str_adds(out, ",\"logprobs\":null,\"finish_reason\":null}]}\n\n");
}

void openai_chunk_finish(struct str *out, const struct openai_head *h, const char *reason,
                         const struct openai_timings *timings)
{
    openai_chunk_begin(out, h);
    str_addf(out, ",\"choices\":[{\"index\":0,%s,\"logprobs\":null,\"finish_reason\":\"%s\"}]",
             h->kind == API_CHAT ? "\"delta\":{}" : "\"text\":\"\"", reason);
    openai_timings(out, timings);
    str_adds(out, "}\n\n");
}

void openai_chunk_usage(struct str *out, const struct openai_head *h, const struct openai_usage *u)
{
    openai_chunk_begin(out, h);
    str_adds(out, ",\"choices\":[]");
    openai_usage(out, u);
    str_adds(out, "}\n\n");
}

void openai_chunk_done(struct str *out) { str_adds(out, "data: [DONE]\n\n"); }

void openai_chunk_error(struct str *out, const struct api_error *e)
{
    str_adds(out, "data: ");
    openai_error(out, e);
    str_adds(out, "\n\n");
}

void openai_body(struct str *out, const struct openai_head *h, const char *text, size_t n,
                 const uint32_t *ids, uint32_t n_ids, const char *reason,
                 const struct openai_usage *u, const struct openai_timings *timings)
{
    bool chat = h->kind == API_CHAT;

    openai_begin(out, h, chat ? "chat.completion" : "text_completion");
    str_adds(out, chat ? ",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
                         "\"refusal\":null,\"content\":"
                       : ",\"choices\":[{\"index\":0,\"text\":");
    openai_string(out, text, n);
    str_adds(out, chat ? "}" : "");
    openai_ids(out, ids, n_ids);
    str_addf(out, ",\"logprobs\":null,\"finish_reason\":\"%s\"}]", reason);
    openai_usage(out, u);
    openai_timings(out, timings);
    str_adds(out, "}\n");
}

void openai_error(struct str *out, const struct api_error *e)
{
    str_adds(out, "{\"error\":{\"message\":");
    openai_text(out, e->text);
    str_adds(out, ",\"type\":");
    openai_text(out, e->type ? e->type : openai_error_type(e->status));
    str_adds(out, ",\"param\":");
    openai_text(out, *e->param ? e->param : NULL);
    str_adds(out, ",\"code\":");
    openai_text(out, e->code);
    str_adds(out, "}}");
}

const char *openai_error_type(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 404:
        return "not_found_error";
    case 429:
        return "rate_limit_error";
    case 501:
        return "not_supported_error";
    case 503:
        return "unavailable_error";
    default:
        return status >= 500 ? "server_error" : "invalid_request_error";
    }
}
