/* event: what goes into the router's step machine (core.h) and what comes out of it. Plain data. */
#ifndef TANDEM_ROUTER_EVENT_H
#define TANDEM_ROUTER_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"
#include "net/msg.h"
#include "router/tenants.h"

struct router_submit {
    uint64_t client;  /* the shell's handle; not 0, not in use */
    uint32_t *tokens; /* mem_alloc'ed; the core takes it */
    uint32_t n_tokens;
    uint32_t max_new;
    struct sampling sampling;
    uint32_t n_stop_tokens;
    uint32_t stop_tokens[MSG_STOP_TOKENS_MAX];
    char tenant[MSG_NAME_MAX]; /* "": nobody's */
    bool has_limits;           /* it has limits of its own; else those of the config */
    struct tenant_limits limits;
    uint32_t priority;         /* 0 first, at most MSG_PRIORITY_MAX */
    struct traceparent trace;  /* our span of it; none: all 0 */
    uint64_t ids[2];           /* by which the client may ask about it; 0: none */
};

enum router_event_type {
    ROUTER_SUBMIT, /* a client's request */
    ROUTER_CANCEL, /* the client has gone, or has enough; unknown handles are no error */
    ROUTER_MSG,    /* from a node, or from something that claims to be one */
    ROUTER_LOST,   /* the connection to a node is gone */
    ROUTER_DRAIN,  /* the node is to finish what it has and leave; unknown handles are no error */
    ROUTER_BECOME_PREFILL, /* the node is to change its role; one that cannot is left alone */
    ROUTER_BECOME_DECODE,
    ROUTER_TICK,   /* time passes; several times a heartbeat */
};
struct router_event {
    enum router_event_type type;
    struct router_submit submit;
    uint64_t client; /* CANCEL */
    uint64_t node;   /* MSG, LOST, DRAIN, BECOME: the shell's handle of the peer, not 0 */
    struct msg *msg; /* MSG: borrowed */
};

/* What is known about a request when it ends. Times are of the last attempt, but for wait_ns. */
struct router_stats {
    uint64_t request; /* its number, as the nodes know it; 0: it never got one */
    uint32_t prompt_tokens, output_tokens, restarts;
    uint32_t cached_tokens;  /* of the prompt, that a prefix cache saved in the first attempt */
    int64_t wait_ns;         /* submit to the first reservation */
    int64_t queue_ns;        /* in the queue of the node that computed the prompt */
    int64_t prefill_ns;      /* computing it */
    int64_t handoff_ns;      /* first token to the decode node's first, less the next and its step */
    int64_t decode_queue_ns; /* from the last page to the stream's first row */
    int64_t decode_ns;       /* from the decode node's first tokens to the end */
    uint64_t kv_bytes;       /* shipped; 0 if the stream was cut before the decode node said */
    bool local;              /* the decode node computed the prompt: prefill is its name too */
    char prefill[MSG_NAME_MAX], decode[MSG_NAME_MAX];
};

enum router_action_type {
    ROUTER_SEND,       /* msg to node; the shell takes msg */
    ROUTER_DELIVER,    /* tokens to client */
    ROUTER_FINISH,     /* the stream of client ended: finish, stats. The handle is free again */
    ROUTER_FAIL,       /* it failed: status, retry_after_ms, text, stats. Handle free again */
    ROUTER_DISCONNECT, /* forget the node's handle */
    ROUTER_NOTE,       /* for the log: level, text */
};
struct router_action {
    enum router_action_type type;
    uint64_t node, client;
    struct msg msg;
    uint32_t index; /* of tokens[0] */
    uint32_t n_tokens;
    const uint32_t *tokens; /* borrowed until the next step */
    enum finish finish;
    struct router_stats stats;
    int status; /* as in HTTP */
    uint32_t retry_after_ms; /* 0: retrying is of no use */
    enum log_level level;
    char text[MSG_TEXT_MAX];
};
struct router_actions { /* zeroed: empty */
    struct router_action *items;
    size_t n, cap;
};

/* Frees what the actions still own and empties the list; _fini frees the list too. */
void router_actions_clear(struct router_actions *a);
void router_actions_fini(struct router_actions *a);

#endif
