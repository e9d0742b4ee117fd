/* actions: what the decode machine wants done, in order. Plain data; network thread only. */
#ifndef TANDEM_DECODE_ACTIONS_H
#define TANDEM_DECODE_ACTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "decode-node/rows.h"
#include "net/msg.h"

enum decode_action_type {
    DECODE_SEND_ROUTER, /* msg */
    DECODE_SEND_PEER,   /* peer, msg */
    DECODE_DROP_PEER,   /* peer: forget it, the handle is free */
    DECODE_RUN,         /* submit rows[n_rows]; the core leaves them alone until STEP_DONE */
};

struct decode_action {
    enum decode_action_type type;
    uint32_t peer;
    struct msg msg; /* the shell's, who sends it or calls msg_fini */
    const struct decode_row *rows;
    uint32_t n_rows;
};

/* In order. A zeroed struct is empty; the shell carries them out and sets n = 0. */
struct decode_actions {
    struct decode_action *items;
    size_t n, cap;
};
void decode_actions_fini(struct decode_actions *a);

/* Adds one of this type, all else zero. It lives until the next is added. */
struct decode_action *actions_add(struct decode_actions *a, enum decode_action_type type);
/* Adds one that sends; returns the message to fill in, which lives as long. */
struct msg *actions_send_router(struct decode_actions *a, enum msg_type type);
struct msg *actions_send_peer(struct decode_actions *a, uint32_t peer, enum msg_type type);

/* Fills in u.failed. */
void actions_fail(struct msg *m, struct stream_id id, bool retry, const char *text);

#endif
