/* monitor: what a server's nodes did during a run, read each second from tandem's GET /metrics, and
 * what they could have done, from GET /v1/cluster. Other servers have no such lines:
 * then there are no nodes, and nothing is asked any more. */
#ifndef TANDEM_BENCH_MONITOR_H
#define TANDEM_BENCH_MONITOR_H

#include <stddef.h>
#include <stdint.h>

/* Counters and gauges of a node; the text is the metric's name. */
#define MONITOR_VALUES(X)                                                                          \
    X(MONITOR_TOKENS, "tandem_node_tokens_total")                                                  \
    X(MONITOR_STEPS, "tandem_node_steps_total")                                                    \
    X(MONITOR_KV_BYTES, "tandem_node_kv_bytes_total")                                              \
    X(MONITOR_FLOPS, "tandem_node_flops_total")                                                    \
    X(MONITOR_READ, "tandem_node_read_bytes_total")                                                \
    X(MONITOR_QUEUED, "tandem_node_queued") /* the first gauge */                                  \
    X(MONITOR_RUNNING, "tandem_node_running")                                                      \
    X(MONITOR_PAGES_USED, "tandem_kv_pages_used")                                                  \
    X(MONITOR_PAGES_TOTAL, "tandem_kv_pages_total")

enum monitor_value {
#define X(name, text) name,
    MONITOR_VALUES(X)
#undef X
    MONITOR_COUNT
};

struct monitor_sample {
    int64_t at; /* clock_now() */
    float values[MONITOR_COUNT];
};

/* What a node measured its cores to give a second, as it registered, and the sequences that it takes
 * at once; 0: unknown. */
struct monitor_peaks {
    double flops, bytes, slots;
};

struct monitor_node {
    char name[24], role[12];
    struct monitor_peaks peaks;
    double last[MONITOR_COUNT];
    double total[MONITOR_COUNT]; /* counters: what was added during the run */
    struct monitor_sample *samples;
    size_t n, cap;
};

#define MONITOR_NODES_MAX 64

/* A zeroed struct has no nodes. */
struct monitor_nodes {
    struct monitor_node list[MONITOR_NODES_MAX];
    uint32_t n;
    double seconds; /* that the totals are of */
    int64_t last_at;
};

/* Takes a page of metrics, NUL-terminated. resume: what counters did since the last page is not the
 * run's. Returns how many lines it knew. A counter that fell was a node that started again. */
size_t monitor_page(struct monitor_nodes *m, const char *page, int64_t now, int resume);

/* Takes what GET /v1/cluster answered. Returns the nodes, of those known, whose peaks it holds. */
uint32_t monitor_peaks(struct monitor_nodes *m, const char *json, size_t n);

/* What its passes needed at least, over what its cores give in the run's time: 0..1; 0: unknown. */
double monitor_mfu(const struct monitor_nodes *m, const struct monitor_node *n);
double monitor_mbu(const struct monitor_nodes *m, const struct monitor_node *n);

/* Mean of a gauge over the samples; 0 without any. */
double monitor_mean(const struct monitor_node *n, enum monitor_value what);

void monitor_nodes_fini(struct monitor_nodes *m);

struct loop;
struct monitor;

/* Asks once, waiting for the answer, and then each second on the loop until close, which asks once
 * more. NULL if the server tells nothing. nodes, loop and url are borrowed until then. */
struct monitor *monitor_open(struct monitor_nodes *nodes, struct loop *loop, const char *url);
void monitor_close(struct monitor **m);

#endif
