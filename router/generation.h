/* generation: one request on its way through the router, between a client's protocol (HTTP or
 * native) and the core: its tokens become text, stop strings end it, its times are taken. The
 * protocol's own struct embeds it as the first member. One thread. */
#ifndef TANDEM_ROUTER_GENERATION_H
#define TANDEM_ROUTER_GENERATION_H

#include "model/detok.h"
#include "router/core.h"
#include "router/metrics.h"
#include "router/stops.h"

struct generation;

/* How a request ended. */
struct generation_end {
    int status; /* 200: served, and finish says why it ended; else text says what went wrong */
    enum finish finish;
    uint32_t retry_after_ms; /* 0: no use */
    const char *text;
    const struct router_stats *stats;
};

struct generation_ops {
    /* Text that is complete and is to be shown, maybe empty, and the tokens that came since the
     * last call, ids[0] having this index. All borrowed. */
    void (*text)(struct generation *g, const struct str *text, uint32_t index, const uint32_t *ids,
                 uint32_t n_ids);
    /* Last; frees what embeds g. */
    void (*end)(struct generation *g, const struct generation_end *end);
};

struct generation {
    const struct generation_ops *ops;
    uint64_t client; /* handle in the core */
    enum metrics_endpoint endpoint;
    bool ignore_eos;
    bool gone;    /* its client: nothing more is shown */
    bool stopped; /* a stop string was found: the rest is being cancelled */
    struct traceparent trace, parent; /* our span, and that of the client: none if it said nothing */
    struct detok detok;
    struct stops stops;
    uint32_t n_prompt, n_tokens; /* n_tokens: those delivered, up to the stop string */
    int64_t started_at, first_at, last_at; /* 0: not yet */
};

/* ops, endpoint and client are set by whoever submits; strings as in stops_init. */
void generation_init(struct generation *g, const struct generation_ops *ops,
                     enum metrics_endpoint endpoint, const struct vocab *vocab, bool ignore_eos,
                     const char stops[][MSG_STOP_BYTES_MAX], uint32_t n_stops, int64_t now);
void generation_fini(struct generation *g);

/* Tokens from the core: shows their text. True: a stop string ended it; cancel the rest. */
bool generation_tokens(struct generation *g, struct metrics *m, const uint32_t *tokens, uint32_t n,
                       int64_t now);

/* The core's last word: shows what was held back, counts, logs a line, and calls ops->end. */
void generation_end(struct generation *g, struct metrics *m, struct generation_end *end,
                    int64_t now);

double generation_ttft_ms(const struct generation *g);
double generation_tpot_ms(const struct generation *g); /* 0 with fewer than two tokens */

const char *finish_text(enum finish finish); /* "stop", "length", "cancelled", "error", "none" */

#endif
