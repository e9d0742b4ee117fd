/* session: one client request inside the router: the attempt that runs now, the journal of what was
 * delivered, and the queue of those that wait. Owned by the core. No clock, no socket. */
#ifndef TANDEM_ROUTER_SESSION_H
#define TANDEM_ROUTER_SESSION_H

#include "router/core.h"
#include "router/quarantine.h"

enum session_state { SESSION_QUEUED, SESSION_RESERVING, SESSION_PREFILL, SESSION_DECODE };

struct session {
    uint64_t client;     /* the shell's handle */
    struct stream_id id; /* id.epoch: of the current attempt */
    enum session_state state;

    /* The prompt, then the journal: room for n_prompt + max_new. After the delivered tokens there
     * may be n_ahead more that the decode node sent before the first token came; the one between
     * is the hole at index n_delivered. */
    uint32_t *tokens;
    uint32_t n_prompt, max_new, n_delivered, n_ahead;
    enum finish ahead_finish; /* came with those ahead */

    struct sampling sampling;
    uint32_t n_stop_tokens;
    uint32_t stop_tokens[MSG_STOP_TOKENS_MAX];

    /* The pair of this attempt and its charge; prefill is NULL again once its part is done. local:
     * decode computes the prompt, and there is no prefill. */
    struct node *prefill, *decode;
    bool local;
    uint32_t kv_tokens; /* charged to decode: grows with the stream */
    uint32_t uncached;  /* of this attempt's prompt, as predicted */
    uint32_t pages, queued_tokens;
    uint32_t fruitless;  /* restarts in a row of attempts without ROUTER_PROGRESS */
    uint32_t n_before;   /* delivered when this attempt began */
    uint64_t avoid; /* handle of the node that failed it last */

    char tenant[MSG_NAME_MAX];
    uint32_t priority;
    struct traceparent trace;  /* its span of ours */
    uint64_t salt;     /* of the prefix cache */
    uint32_t *names;   /* of the full blocks of prompt and journal, as prefix_index.h has them */
    uint32_t n_names;
    uint64_t last_name;

    int64_t submitted_at, queued_at, placed_at;
    int64_t job_at; /* PREFILL: when the job was sent */
    int64_t first_at, tokens_at; /* of this attempt: prefill's token, decode's first; 0: not yet */
    struct explain_entry *explain; /* owned until it ends */
    struct router_stats stats;
    struct session *prev, *next; /* in a list of the queue, or next in the list of the ended */

    /* queue.h's */
    struct session *older, *newer;
    struct queue_flow *flow;
    bool parked;
    uint64_t tenant_id;

    /* quarantine.h's */
    struct strike strikes[QUARANTINE_STRIKES];
    uint32_t n_strikes, struck_at; /* struck_at: delivered then */
    bool suspect, struck; /* struck: by the last crash */
    int64_t word_until;   /* not placed before, or before it is explained; 0: no matter */
};

/* Takes submit->tokens (grown to hold the journal). salt: of the cluster. */
struct session *session_new(const struct router_submit *submit, uint64_t request, uint64_t salt,
                            int64_t now);
void session_free(struct session *s);

/* Brings names up to the delivered tokens. */
void session_name_blocks(struct session *s);

/* What session_tokens makes of tokens that a decode node sent. */
enum session_verdict {
    SESSION_REPEAT, /* all known already: drop */
    SESSION_NEW,    /* s->n_delivered has grown: deliver from *first */
    SESSION_AHEAD,  /* kept until the first token comes */
    SESSION_FAULT,  /* a gap, or more than was asked for */
};
/* Enters tokens[n], whose first has `index`, into the journal. first_missing: the token at
 * n_delivered comes from the prefill node and has not come yet. */
enum session_verdict session_tokens(struct session *s, uint32_t *first, uint32_t index,
                                    const uint32_t *tokens, uint32_t n, bool first_missing);
/* Enters the token that the prefill node sampled, at n_delivered, and whatever was ahead of it. */
void session_first(struct session *s, uint32_t token);

#endif
