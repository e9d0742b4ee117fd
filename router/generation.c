#include "router/generation.h"

#include <inttypes.h>

#include "base/clock.h"

static const char *const endpoint_names[] = {"chat", "completions", "native"};

const char *finish_text(enum finish finish)
{
    static const char *const names[] = {"none", "stop", "length", "cancelled", "error"};

    return names[finish];
}

void generation_init(struct generation *g, const struct generation_ops *ops,
                     enum metrics_endpoint endpoint, const struct vocab *vocab, bool ignore_eos,
                     const char stops[][MSG_STOP_BYTES_MAX], uint32_t n_stops, int64_t now)
{
    *g = (struct generation){
        .ops = ops, .endpoint = endpoint, .ignore_eos = ignore_eos, .started_at = now};
    detok_init(&g->detok, vocab, 0);
    stops_init(&g->stops, stops, n_stops);
}

void generation_fini(struct generation *g) { stops_fini(&g->stops); }

/* The tokens up to the one that completes a stop string, as text; returns how many. */
static uint32_t generation_text(struct generation *g, const uint32_t *tokens, uint32_t n,
                                struct str *out)
{
    struct str piece = {0};
    uint32_t i = 0;

    while (i < n && !g->stopped) {
        str_clear(&piece);
        /* the token that ends a text is not text, whatever its name */
        if (g->ignore_eos || !vocab_is_eog(g->detok.vocab, tokens[i]))
            detok_add(&g->detok, tokens[i], &piece);
        g->stopped = stops_feed(&g->stops, str_text(&piece), piece.len, out);
        i++;
    }
    str_fini(&piece);
    return i;
}

bool generation_tokens(struct generation *g, struct metrics *m, const uint32_t *tokens, uint32_t n,
                       int64_t now)
{
    struct str text = {0};
    uint32_t index = g->n_tokens;

    if (g->gone || g->stopped)
        return false;
    n = generation_text(g, tokens, n, &text);
    if (!g->first_at) {
        g->first_at = g->last_at = now;
        metrics_first(m, g->n_prompt, now - g->started_at);
        metrics_tokens(m, n - 1, 0);
    } else {
        metrics_tokens(m, n, now - g->last_at);
        g->last_at = now;
    }
    g->n_tokens += n;
    g->ops->text(g, &text, index, tokens, n);
    str_fini(&text);
    return g->stopped;
}

double generation_ttft_ms(const struct generation *g)
{
    return g->first_at ? clock_ms(g->first_at - g->started_at) : 0;
}

static int64_t generation_tpot(const struct generation *g)
{
    return g->n_tokens > 1 ? (g->last_at - g->first_at) / (g->n_tokens - 1) : 0;
}

double generation_tpot_ms(const struct generation *g) { return clock_ms(generation_tpot(g)); }

/* What was held back in case it became a character or a stop string. */
static void generation_flush(struct generation *g)
{
    struct str piece = {0}, text = {0};

    detok_finish(&g->detok, &piece);
    if (!stops_feed(&g->stops, str_text(&piece), piece.len, &text))
        stops_finish(&g->stops, &text);
    else
        g->stopped = true;
    if (text.len)
        g->ops->text(g, &text, g->n_tokens, NULL, 0);
    str_fini(&piece);
    str_fini(&text);
}

void generation_end(struct generation *g, struct metrics *m, struct generation_end *end,
                    int64_t now)
{
    const struct router_stats *s = end->stats;

    if (end->status == 200 && !g->gone && !g->stopped)
        generation_flush(g);
    if (g->stopped)
        end->finish = FINISH_STOP;
    if (g->gone)
        end->status = 499;
    metrics_request(m, g->endpoint, end->status);
    if (end->status == 200) {
        if (!g->first_at) /* the first token was a stop token: served, with an empty answer */
            m->prompt_tokens += g->n_prompt;
        metrics_served(m, &(struct metrics_served){
                              .finish = end->finish,
                              .prompt_tokens = g->n_prompt,
                              .output_tokens = g->n_tokens,
                              .total = now - g->started_at,
                              .tpot = generation_tpot(g),
                              .stats = s});
    }
    log_info("request",
             "request=%" PRIu64 " endpoint=%s status=%d finish=%s prompt=%u output=%u ttft_ms=%.1f "
             "tpot_ms=%.2f total_ms=%.1f wait_ms=%.1f queue_ms=%.1f prefill_ms=%.1f handoff_ms=%.1f "
             "decode_queue_ms=%.1f decode_ms=%.1f restarts=%u prefill=%s decode=%s " TRACE_FMT,
             s->request, endpoint_names[g->endpoint], end->status,
             finish_text(end->finish), g->n_prompt, g->n_tokens, generation_ttft_ms(g),
             generation_tpot_ms(g), clock_ms(now - g->started_at), clock_ms(s->wait_ns),
             clock_ms(s->queue_ns), clock_ms(s->prefill_ns), clock_ms(s->handoff_ns),
             clock_ms(s->decode_queue_ns), clock_ms(s->decode_ns), s->restarts,
             *s->prefill ? s->prefill : "-", *s->decode ? s->decode : "-",
             TRACE_ARGS(&g->trace, &g->parent));
    g->ops->end(g, end);
}
