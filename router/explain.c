#include "router/explain.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "router/openai.h"

void explain_fini(struct explain *x)
{
    for (size_t i = 0; i < EXPLAIN_KEPT; i++)
        mem_free(x->ring[i]);
    mem_free(x->names);
    *x = (struct explain){0};
}

/* The number of a name, from 1; 0 if there are too many. */
static uint16_t explain_number(struct explain *x, const char *name)
{
    uint32_t i = 0;

    while (i < x->n_names && strcmp(x->names[i], name) != 0)
        i++;
    if (i == EXPLAIN_NAMES_MAX)
        return 0;
    if (i == x->n_names) {
        if (x->n_names == x->cap_names) {
            x->cap_names = x->cap_names ? x->cap_names * 2 : 16;
            x->names = mem_realloc(x->names, x->cap_names * sizeof(*x->names));
        }
        snprintf(x->names[x->n_names++], MSG_NAME_MAX, "%s", name);
    }
    return (uint16_t)(i + 1);
}

static const char *explain_name(const struct explain *x, uint16_t number)
{
    return number ? x->names[number - 1] : "?";
}

void explain_choice(struct explain *x, struct explain_entry *entry,
                    const struct schedule_choice *choice, const struct schedule_node *nodes,
                    const char *(*name)(void *ctx, uint64_t handle), void *ctx)
{
    entry->rung = choice->rung;
    entry->n = choice->n;
    entry->considered = choice->considered;
    for (uint32_t i = 0; i < choice->n; i++) {
        const struct schedule_score *s = &choice->best[i];
        struct explain_candidate *c = &entry->best[i];

        c->score = *s;
        c->local = s->prefill == SCHEDULE_LOCAL;
        c->decode = explain_number(x, name(ctx, nodes[s->decode].node));
        c->prefill = c->local ? c->decode : explain_number(x, name(ctx, nodes[s->prefill].node));
    }
}

void explain_keep(struct explain *x, struct explain_entry *entry)
{
    struct explain_entry **slot = &x->ring[x->next++ % EXPLAIN_KEPT];

    mem_free(*slot);
    *slot = entry;
    entry->ended = true;
}

bool explain_is(const struct explain_entry *entry, uint64_t id)
{
    return id && (entry->ids[0] == id || entry->ids[1] == id || entry->stats.request == id);
}

const struct explain_entry *explain_find(const struct explain *x, uint64_t id)
{
    for (size_t i = 0; i < EXPLAIN_KEPT && i < x->next; i++) {
        const struct explain_entry *entry = x->ring[(x->next - 1 - i) % EXPLAIN_KEPT];

        if (explain_is(entry, id))
            return entry;
    }
    return NULL;
}

static void explain_candidate_json(const struct explain *x, const struct explain_candidate *c,
                                   struct str *out)
{
    const struct schedule_score *s = &c->score;

    str_addf(out,
             "{\"prefill\":\"%s\",\"decode\":\"%s\",\"local\":%s,\"cached_prefill\":%u,"
             "\"cached_decode\":%u,\"queue_ms\":%.3f,\"prefill_ms\":%.3f,\"ship_ms\":%.3f,"
             "\"ttft_ms\":%.3f,\"tpot_ms\":%.3f,\"others_ms\":%.3f,\"score_ms\":%.3f,"
             "\"meets_slo\":%s,\"failed_before\":%s}",
             explain_name(x, c->prefill), explain_name(x, c->decode), c->local ? "true" : "false",
             s->hit_prefill, s->hit_decode, s->queue_s * 1e3, s->prefill_s * 1e3, s->ship_s * 1e3,
             s->ttft_s * 1e3, s->tpot_s * 1e3, s->others_s * 1e3, s->score_s * 1e3,
             s->misses ? "false" : "true", s->avoided ? "true" : "false");
}

static const char *explain_reason(const struct explain_entry *e)
{
    static const char *const reasons[SCHEDULE_RUNGS] = {
        [RUNG_PAIR] = "the pair that delays everybody least",
        [RUNG_OTHER_PAIR] = "a pair other than the one that it failed on",
        [RUNG_LOCAL] = "mode aggregated: the decode node computes the prompt",
        [RUNG_CHEAPER] = "the decode node computes the prompt: shipping it would cost more",
        [RUNG_NO_PREFILL] = "the decode node computes the prompt: no prefill node can take it",
    };

    if (e->n && !e->epoch)
        return "it was refused: the best candidate misses a target";
    return e->n ? reasons[e->rung] : "it was never placed";
}

void explain_json(const struct explain *x, const struct explain_entry *e, struct str *out)
{
    const struct router_stats *s = &e->stats;

    str_addf(out,
             "{\"request\":\"%" PRIu64 "\",\"state\":\"%s\",\"prompt_tokens\":%u,\"max_tokens\":%u,"
             "\"priority\":%u,\"tenant\":",
             s->request, e->ended ? "ended" : "live", s->prompt_tokens, e->max_new, e->priority);
    openai_string(out, e->tenant, strlen(e->tenant));
    str_addf(out,
             ",\"attempt\":%u,\"restarts\":%u,\"placed_after_ms\":%.3f,\"delivered_before\":%u,"
             "\"reason\":\"%s\",\"rung\":\"%s\",\"considered\":%u,\"candidates\":[",
             e->epoch, s->restarts, clock_ms(e->placed_after_ns), e->delivered, explain_reason(e),
             e->n ? schedule_rung_names[e->rung] : "", e->considered);
    for (uint32_t i = 0; i < e->n; i++) {
        str_adds(out, i ? "," : "");
        explain_candidate_json(x, &e->best[i], out);
    }
    str_addf(out,
             "],\"observed\":{\"output_tokens\":%u,\"cached_tokens\":%u,\"router_queue_ms\":%.3f,"
             "\"prefill_queue_ms\":%.3f,\"prefill_ms\":%.3f,\"handoff_ms\":%.3f,"
             "\"decode_queue_ms\":%.3f,\"decode_ms\":%.3f,\"kv_bytes\":%" PRIu64 "}",
             s->output_tokens, s->cached_tokens, clock_ms(s->wait_ns), clock_ms(s->queue_ns),
             clock_ms(s->prefill_ns), clock_ms(s->handoff_ns), clock_ms(s->decode_queue_ns),
             clock_ms(s->decode_ns), s->kv_bytes);
    if (e->ended) {
        str_addf(out, ",\"status\":%d,\"error\":", e->status);
        openai_string(out, e->text, strlen(e->text));
    }
    str_adds(out, "}\n");
}
