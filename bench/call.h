/* call: one request under way, what its transport tells of it, and how it ended. One thread. */
#ifndef TANDEM_BENCH_CALL_H
#define TANDEM_BENCH_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "bench/options.h"
#include "bench/workload.h"

/* Kinds of failure; the text is the key in the report. */
#define OUTCOMES(X)                                                                                \
    X(OUTCOME_OK, "ok")                                                                            \
    X(OUTCOME_CONNECT, "connect")     /* no connection, or it closed before a response */          \
    X(OUTCOME_BROKEN, "broken")       /* the connection broke, or the stream ended early */        \
    X(OUTCOME_TIMEOUT, "timeout")     /* over --timeout */                                       \
    X(OUTCOME_BUSY, "status_429")                                                                  \
    X(OUTCOME_UNAVAILABLE, "status_503")                                                           \
    X(OUTCOME_CLIENT_ERROR, "status_4xx")                                                          \
    X(OUTCOME_SERVER_ERROR, "status_5xx") /* and error events in a stream */                       \
    X(OUTCOME_MALFORMED, "malformed")  /* not the protocol */                                      \
    X(OUTCOME_CANCELLED, "cancelled")  /* by Ctrl-C */

enum outcome {
#define X(name, text) name,
    OUTCOMES(X)
#undef X
    OUTCOME_COUNT
};

const char *outcome_name(enum outcome o);
/* Of an HTTP status that is not 200. */
enum outcome outcome_of_status(int status);

/* Times are clock_now(); 0: it did not happen. */
struct record {
    int64_t start; /* sent, or due in an open loop */
    int64_t sent, first, last, done;
    uint32_t prompt_tokens, output_tokens; /* as the server counted */
    uint32_t outputs;                      /* messages or events that carried output */
    enum outcome outcome;
};

struct call {
    const struct prompt *prompt;
    uint64_t index; /* of the request in the run: seeds its sampling */
    struct record record;
    uint32_t live; /* the run's */
    void *transport; /* the transport's */
};

/* What a transport tells the run. ctx as given to the transport's open. */
struct call_events {
    /* Output has arrived now. */
    void (*output)(void *ctx, struct call *call);
    /* Last and once, never from within start or cancel. why: a sentence if the outcome is not OK. */
    void (*done)(void *ctx, struct call *call, enum outcome outcome, const char *why);
    void *ctx;
};

/* How requests reach a server. */
struct transport {
    /* Sends the call's request. On failure the call is as before, and no event comes. */
    int (*start)(struct transport *t, struct call *call, struct err *e);
    /* Ends it; no event comes any more. */
    void (*cancel)(struct transport *t, struct call *call);
    /* No call is under way. */
    void (*close)(struct transport *t);
    char model[128]; /* what is served, as far as known; for the report */
};

struct loop;

/* o and loop are borrowed until close. ERR_NET, ERR_TIMEOUT: nobody is there; native: no such
 * endpoint, and if nobody is there every request fails, OUTCOME_CONNECT. */
int transport_openai_open(struct transport **t, struct loop *loop, const struct bench_options *o,
                          const struct call_events *events, struct err *e);
int transport_native_open(struct transport **t, struct loop *loop, const struct bench_options *o,
                          const struct call_events *events, struct err *e);

/* Sampling seed of a call: all calls differ, two runs of one --seed do not. */
uint64_t call_seed(const struct bench_options *o, const struct call *call);

#endif
