/* record: what is kept of a request: its times as the client saw them, and where the server says that
 * they went. */
#ifndef TANDEM_BENCH_RECORD_H
#define TANDEM_BENCH_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "bench/target.h"
#include "model/vocab.h"

/* How a request ended; the text is the key in the report. */
#define OUTCOMES(X)                                                                                \
    X(OUTCOME_OK, "ok")                                                                            \
    X(OUTCOME_CONNECT, "connect")     /* no connection, or it closed before a response */          \
    X(OUTCOME_BROKEN, "broken")       /* the connection broke, or the stream ended early */        \
    X(OUTCOME_TIMEOUT, "timeout")     /* over --timeout */                                       \
    X(OUTCOME_BUSY, "status_429")                                                                  \
    X(OUTCOME_UNAVAILABLE, "status_503")                                                           \
    X(OUTCOME_CLIENT_ERROR, "status_4xx")                                                          \
    X(OUTCOME_SERVER_ERROR, "status_5xx") /* and error events in a stream */                       \
    X(OUTCOME_MALFORMED, "malformed")     /* not the protocol */                                   \
    X(OUTCOME_LEFT, "client_cancelled")   /* as the schedule wanted */                             \
    X(OUTCOME_CANCELLED, "cancelled")     /* the run ended: Ctrl-C, or it had seen enough */

enum outcome {
#define X(name, text) name,
    OUTCOMES(X)
#undef X
    OUTCOME_COUNT
};

/* Where a request's time goes, in order. STAGE_NETWORK .. STAGE_PREFILL make up its TTFT. */
#define STAGES(X)                                                                                  \
    X(STAGE_CLIENT, "client")               /* sent later than due */                              \
    X(STAGE_NETWORK, "network")             /* TTFT, less what the server says it was */           \
    X(STAGE_ROUTER, "router_queue")         /* tokenising, admission, waiting for a pair */        \
    X(STAGE_PREFILL_QUEUE, "prefill_queue")                                                        \
    X(STAGE_PREFILL, "prefill")                                                                    \
    X(STAGE_TRANSFER, "transfer")           /* KV that was not there when prefill ended */         \
    X(STAGE_DECODE_QUEUE, "decode_queue")                                                          \
    X(STAGE_DECODE, "decode")

enum stage {
#define X(name, text) name,
    STAGES(X)
#undef X
    STAGE_COUNT
};

/* What the server said about a request, in ms; negative: it did not say. */
struct server_times {
    double ttft, router_queue, prefill_queue, prefill, transfer, decode_queue;
    char prefill_node[24], decode_node[24];
    uint32_t restarts;
    uint64_t kv_bytes;
};

/* Times are clock_now(); 0: it did not happen. Owns what it points to. */
struct record {
    uint32_t item, turn, segment; /* segment: of the run's, see result.h */
    int64_t start;                /* sent, or due in an open loop */
    int64_t sent, first, second, last, done;
    uint32_t prompt_wanted, output_wanted;  /* tokens; prompt 0: unknown */
    uint32_t prompt_tokens, output_tokens;  /* as the server counted */
    uint32_t cached_tokens;                 /* of the prompt, likewise */
    uint32_t outputs;                       /* messages or events that carried output */
    float *gaps_ms;                         /* outputs - 1 of them, NULL if none */
    enum outcome outcome;
    struct server_times server;
    struct str text;       /* the answer; empty unless it is needed */
    struct token_list ids; /* likewise */
};

const char *outcome_name(enum outcome o);
const char *stage_name(enum stage s);
/* Of an HTTP status that is not 200. */
enum outcome outcome_of_status(int status);

/* A record of nothing yet: the server has said nothing. */
void record_init(struct record *r);
void record_fini(struct record *r);

/* Of qsort, for pointers to records: the earlier start first. */
int record_by_start(const void *a, const void *b);

/* ms of each metric, negative: it has none. ITL is the mean of its gaps. */
void record_metrics(const struct record *r, double ms[METRIC_COUNT]);

/* ms of each stage; negative: unknown. What the server did not say is taken from what the client saw,
 * if it can be: formulas in README.md. */
void record_stages(const struct record *r, double ms[STAGE_COUNT]);

/* The same as spans: at[s] ms after start. Those from STAGE_TRANSFER on begin with the first output. */
void record_spans(const struct record *r, double at[STAGE_COUNT], double ms[STAGE_COUNT]);

#endif
