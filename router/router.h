/* router: the process around the core: model, sockets, timers, HTTP. Turns what the outside does
 * into the core's events and the core's actions into messages and answers. All on one thread, the
 * loop's. */
#ifndef TANDEM_ROUTER_ROUTER_H
#define TANDEM_ROUTER_ROUTER_H

#include "base/err.h"
#include "base/map.h"
#include "daemon/options.h"
#include "net/http_server.h"
#include "net/loop.h"
#include "router/generation.h"
#include "router/model.h"

struct native;

struct router_pending { /* an event that came up while actions were carried out */
    enum router_event_type type;
    uint64_t handle;
};

struct api_keys;

struct router {
    const struct router_options *options;
    struct model model;
    struct loop *loop;
    struct sock_ctx *ctx;
    struct sock *nodes;
    struct loop_event *tick, *second, *term, *interrupt;
    struct http_server *http;
    struct native *native;
    struct router_core *core;
    struct api_keys *api_keys; /* NULL: everybody is let in */
    struct router_actions actions;
    struct metrics metrics;
    struct map peers;       /* of struct peer, by node handle */
    struct map generations; /* by client handle */
    struct router_pending *pending;
    size_t n_pending, cap_pending;
    bool stepping;
    uint64_t boot, next_client, next_trace, next_page;
    int64_t started_at;
    int64_t stop_at; /* 0: serving; else when the rest is cut off */
};

/* daemon.run: serves until SIGTERM or SIGINT. */
int router_run(const void *options, struct err *e);

struct router_job {
    uint32_t *tokens; /* the prompt; taken */
    uint32_t n_tokens;
    uint32_t max_new;     /* 0: as much as the context has room for, */
    uint32_t default_new; /* and at most this; 0: no bound */
    struct sampling sampling;
    bool has_seed; /* otherwise a seed is made */
    const char *tenant; /* borrowed; NULL: nobody's */
    const struct tenant_limits *limits; /* borrowed; NULL: those of all */
    uint32_t priority;
    uint64_t ids[2]; /* as in router_submit */
};

/* Gives g its span: in the client's trace if traceparent[n] is one, else in a new one. */
void router_trace(struct router *r, struct generation *g, const char *traceparent, size_t n);

/* Submits a generation that was initialised. Sets g->client and g->n_prompt. g->ops->end may be
 * called before it returns. */
void router_submit(struct router *r, struct generation *g, const struct router_job *job);

/* An event that only names a node: ROUTER_DRAIN, ROUTER_BECOME_PREFILL, ROUTER_BECOME_DECODE. */
void router_node_event(struct router *r, enum router_event_type type, uint64_t node);

/* The client has gone: g's nodes are freed now, g itself by its ops->end, called before or soon
 * after the return. */
void router_gone(struct router *r, struct generation *g);

#endif
