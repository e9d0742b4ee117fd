/* metrics: what the router counts about requests, and the page that Prometheus reads. The core's
 * own counters and the nodes' heartbeats are read from the core when the page is made. */
#ifndef TANDEM_ROUTER_METRICS_H
#define TANDEM_ROUTER_METRICS_H

#include <stdint.h>

#include "base/hist.h"
#include "base/str.h"
#include "router/core.h"
#include "router/live.h"

enum metrics_endpoint { METRICS_CHAT, METRICS_COMPLETIONS, METRICS_NATIVE, METRICS_ENDPOINT_COUNT };

/* A status not listed in metrics.c counts as the last. 499 is nginx's for a client that left. */
#define METRICS_STATUSES 9

struct metrics { /* zeroed: nothing yet */
    uint64_t requests[METRICS_ENDPOINT_COUNT][METRICS_STATUSES];
    uint64_t finished[FINISH_ERROR + 1]; /* of the served */
    uint64_t prompt_tokens, output_tokens, cached_tokens;
    struct hist ttft, itl, tpot, total, wait, prefill, decode, handoff, inference; /* ns */
    struct hist prompts, answers; /* tokens */
    struct live live;
};

/* A request has ended with this status (of HTTP, or as if). */
void metrics_request(struct metrics *m, enum metrics_endpoint endpoint, int status);
/* The first token, `ttft` after the request came. */
void metrics_first(struct metrics *m, uint32_t prompt_tokens, int64_t ttft);
/* n more tokens at once, `gap` after the ones before. */
void metrics_tokens(struct metrics *m, uint32_t n, int64_t gap);

/* A request was served to its end. */
struct metrics_served {
    enum finish finish;
    uint32_t prompt_tokens, output_tokens;
    int64_t total, tpot; /* ns; tpot with two tokens or more */
    const struct router_stats *stats;
};
void metrics_served(struct metrics *m, const struct metrics_served *s);

/* Appends the page, text format 0.0.4, the whole cluster under vLLM's names too. model: what clients call
 * it. uptime: ns. */
void metrics_render(const struct metrics *m, const struct router_core *core, const char *model,
                    uint32_t http_conns, int64_t uptime, struct str *out);

#endif
