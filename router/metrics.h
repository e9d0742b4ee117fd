/* metrics: what the router counts about requests, and the page that Prometheus reads. The core's
 * own counters and the nodes' heartbeats are read from the core when the page is made. */
#ifndef TANDEM_ROUTER_METRICS_H
#define TANDEM_ROUTER_METRICS_H

#include <stdint.h>

#include "base/hist.h"
#include "base/str.h"
#include "router/core.h"

enum metrics_endpoint { METRICS_CHAT, METRICS_COMPLETIONS, METRICS_NATIVE, METRICS_ENDPOINT_COUNT };

/* A status not listed in metrics.c counts as the last. 499 is nginx's for a client that left. */
#define METRICS_STATUSES 9

struct metrics { /* zeroed: nothing yet */
    uint64_t requests[METRICS_ENDPOINT_COUNT][METRICS_STATUSES];
    uint64_t prompt_tokens, output_tokens;
    struct hist ttft, itl, total, wait; /* ns */
};

/* A request has ended with this status (of HTTP, or as if). */
void metrics_request(struct metrics *m, enum metrics_endpoint endpoint, int status);
/* The first token, `ttft` after the request came. */
void metrics_first(struct metrics *m, uint32_t prompt_tokens, int64_t ttft);
/* n more tokens at once, `gap` after the ones before. */
void metrics_tokens(struct metrics *m, uint32_t n, int64_t gap);

/* Appends the page, text format 0.0.4. uptime: ns. */
void metrics_render(const struct metrics *m, const struct router_core *core, uint32_t http_conns,
                    int64_t uptime, struct str *out);

#endif
