/* actions: what the prefill machine wants done, in order. Plain data; network thread only. */
#ifndef TANDEM_PREFILL_ACTIONS_H
#define TANDEM_PREFILL_ACTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/msg.h"
#include "prefill-node/chunk.h"

enum prefill_action_type {
    PREFILL_SEND_ROUTER, /* msg */
    PREFILL_SEND_LINK,   /* link, msg */
    PREFILL_OPEN_LINK,   /* link: connect to endpoint */
    PREFILL_CLOSE_LINK,  /* link: close at once, drop what was not sent */
    PREFILL_RUN,         /* submit spans[n_spans]; the core leaves them alone until CHUNK_DONE */
};

struct prefill_action {
    enum prefill_action_type type;
    uint32_t link;
    struct msg msg; /* owns nothing on the heap */
    const char *endpoint;
    const struct span *spans;
    uint32_t n_spans;
};

/* In order. A zeroed struct is empty; the shell carries them out and sets n = 0. */
struct prefill_actions {
    struct prefill_action *items;
    size_t n, cap;
};
void prefill_actions_fini(struct prefill_actions *a);

/* Adds one of this type, all else zero. It lives until the next is added. */
struct prefill_action *output_add(struct prefill_actions *a, enum prefill_action_type type,
                                   uint32_t link);
/* Adds one that sends; returns the message to fill in, which lives as long. */
struct msg *output_router(struct prefill_actions *a, enum msg_type type);
struct msg *output_link(struct prefill_actions *a, uint32_t link, enum msg_type type);

/* Fills in u.failed. */
void output_fail(struct msg *m, struct stream_id id, bool retry, const char *text);

#endif
