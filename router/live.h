/* live: what happens now, for people who look: rates of the last seconds, percentiles of the last minute,
 * and a history of some minutes. Ticked once a second; owned by the shell, network thread. */
#ifndef TANDEM_ROUTER_LIVE_H
#define TANDEM_ROUTER_LIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hist.h"
#include "base/map.h"
#include "router/core.h"

#define LIVE_RATE_S 5     /* what a rate is over, if there is as much */
#define LIVE_SLOTS 6      /* of a window, the oldest given up when a new one begins */
#define LIVE_SLOT_S 10
#define LIVE_HISTORY 180  /* seconds */

enum live_time { LIVE_TTFT, LIVE_TPOT, LIVE_E2E, LIVE_TIMES };

/* Of everything since start. */
struct live_totals {
    uint64_t requests, prompt_tokens, output_tokens, kv_bytes;
};
/* A second of the history. */
struct live_point {
    float requests_s, prompt_tokens_s, output_tokens_s, kv_bytes_s;
    float ttft_p50, ttft_p99, tpot_p50, tpot_p99; /* ms, of the last minute; below 0: no request */
    uint32_t queued, running;
};

struct live { /* zeroed: nothing yet */
    struct hist times[LIVE_TIMES][LIVE_SLOTS]; /* ns */
    uint32_t slot, slot_s;
    int64_t at[LIVE_RATE_S + 1]; /* of totals; a ring, newest at n_totals - 1 */
    struct live_totals totals[LIVE_RATE_S + 1];
    uint64_t n_totals;
    struct live_point history[LIVE_HISTORY]; /* likewise */
    uint64_t n_history;
    uint64_t kv_bytes; /* that came in while we looked: nodes leave and come back with their counters */
    struct map nodes; /* of struct live_node, by handle */
};
void live_fini(struct live *l);

/* A time of a request, ns. */
void live_time(struct live *l, enum live_time what, int64_t ns);
/* All slots of the window into one. */
void live_window(const struct live *l, enum live_time what, struct hist *out);

/* A second has passed; requests, prompt_tokens and output_tokens of totals are the caller's. */
void live_tick(struct live *l, const struct router_core *core, const struct live_totals *totals,
               int64_t now);

/* What happens a second; zero before two ticks. */
struct live_rates {
    double requests, prompt_tokens, output_tokens, kv_bytes;
};
struct live_rates live_rates(const struct live *l);

/* Of a node. Shares of what it measured at start as its peaks; 0 if it told none. */
struct live_node_rates {
    double tokens, steps, kv_bytes; /* a second */
    double busy, mfu, mbu;          /* 0 .. 1 */
};
struct live_node_rates live_node_rates(const struct live *l, const struct node *n);

#endif
