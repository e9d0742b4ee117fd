/* role: what a node does with its engine, KV pages and prefix cache: prefill or decode. A node opens
 * those once, serves in one role, and may then go on in the other, keeping all of them.
 *
 *   node_open -> serve as the first role --MSG_ROLE, drained--> serve as the other -> ... -> node_close
 *
 * Each daemon's folder defines its role; a program links both. */
#ifndef TANDEM_DAEMON_ROLE_H
#define TANDEM_DAEMON_ROLE_H

#include <stdint.h>

#include "base/err.h"
#include "daemon/node.h"
#include "daemon/options.h"
#include "net/msg.h"

#define ROLE_NONE ((enum node_role)0)

struct role {
    enum node_role role;
    /* The rows of its largest pass, and the full sequences its pool should have room for. */
    uint32_t (*rows_max)(const struct node_options *o);
    uint32_t (*sequences)(const struct node_options *o);
    /* Registers and serves until told to stop, *next ROLE_NONE, or to become something else, *next.
     * Everything of its own is gone when it returns, and no pass runs. An error is a sentence. */
    int (*serve)(struct node *n, const struct node_options *o, enum node_role *next, struct err *e);
};

extern const struct role role_prefill; /* prefill-node/prefill.c */
extern const struct role role_decode;  /* decode-node/decode.c */

/* The whole life of a node that begins as `first`. With change_role it is sized for both roles; with
 * tell_end it is none, and only tells. */
int role_run(const struct node_options *o, const struct role *first, const struct role *other,
             struct err *e);

#endif
