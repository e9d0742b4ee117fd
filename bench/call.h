/* call: one request under way, what its transport tells of it, and how it ended. One thread. */
#ifndef TANDEM_BENCH_CALL_H
#define TANDEM_BENCH_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "bench/options.h"
#include "bench/prompt.h"
#include "bench/record.h"

struct call {
    const struct prompt *prompt; /* borrowed */
    uint32_t output;             /* tokens to generate */
    uint64_t seed;               /* of its sampling, 31 bits: servers differ in how they read larger */
    struct record record;
    struct str text;       /* the answer so far */
    struct token_list ids; /* of it, where the server sends them */
    void *chat;            /* the run's */
    void *transport;       /* the transport's */
};

/* What a transport tells the run. ctx as given to the transport's open. */
struct call_events {
    /* Output has arrived now: text and ids that are added to the call's before. */
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

/* How a run's requests are sent. */
struct transport_setup {
    const struct bench_options *options; /* borrowed until close */
    const char *url;                     /* an OpenAI server's, or a ZeroMQ endpoint */
    bool want_ids;                       /* ask for token ids too, which OpenAI servers may ignore */
};

/* loop is borrowed until close. ERR_NET, ERR_TIMEOUT: nobody is there; native: no such endpoint, and
 * if nobody is there every request fails, OUTCOME_CONNECT. */
int transport_openai_open(struct transport **t, struct loop *loop, const struct transport_setup *s,
                          const struct call_events *events, struct err *e);
int transport_native_open(struct transport **t, struct loop *loop, const struct transport_setup *s,
                          const struct call_events *events, struct err *e);

#endif
