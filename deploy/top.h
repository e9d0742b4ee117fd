/* top: what a cluster does, from replies of GET /v1/cluster that follow each other: rates are
 * differences of counters over the time between two. Pure: no clock, socket or screen. One thread. */
#ifndef TANDEM_DEPLOY_TOP_H
#define TANDEM_DEPLOY_TOP_H

#include <jansson.h>
#include <stdint.h>

#define TOP_NODES_MAX 512 /* what is shown; a reply's further nodes are counted only */
#define TOP_UNKNOWN (-1.0)

struct top_node {
    char name[64], role[16], host[64], state[16];
    json_int_t pid, domain, queued, running, slots; /* slots 0: it has none to count */
    json_int_t pages, pages_total;                  /* in use */
    json_int_t tokens;                              /* a counter */
    double tokens_s; /* TOP_UNKNOWN after one reply */
    /* MFU of a prefill node, MBU of a decode node, 0..1, of the last seconds, as the router has it;
     * TOP_UNKNOWN: it does not say. */
    double use;
};

/* Milliseconds, of the last minute; TOP_UNKNOWN: no request, or the router does not say. */
struct top_times {
    double p50, p90, p99;
};

enum top_sort { TOP_BY_NAME, TOP_BY_TOKENS, TOP_BY_QUEUE, TOP_BY_KV, TOP_SORTS };

struct top {
    char cluster[64], model[128];
    json_int_t queued, running, requests, input, output, restarts; /* of the router */
    double uptime_s;
    double requests_s, input_s, output_s; /* TOP_UNKNOWN after one reply */
    struct top_times ttft, tpot;
    struct top_node nodes[TOP_NODES_MAX];
    uint32_t n, hidden; /* nodes beyond TOP_NODES_MAX */
    int64_t at;         /* of the last reply; 0: none */
};

/* Takes a reply that came at `now`, ns. A node that is new or has another pid has no rate yet. Members
 * that are missing or malformed are 0 and "". */
void top_take(struct top *t, const json_t *reply, int64_t now);

/* By name: prefill nodes first, then by number; else what is most first, and by name among equals. */
void top_order(struct top *t, enum top_sort by);

extern const char *const top_sorts[TOP_SORTS]; /* "name", ... */

#endif
