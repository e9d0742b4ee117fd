/* links: the decode nodes that this prefill node sends KV to. One link an endpoint, opened when the
 * first job names it. Pure; network thread.
 *
 *   FREE --job--> HELLO --KV_WELCOME--> UP --REFUSED--> FREE    HELLO --silence--> FREE
 *                   ^                    |
 *                   +-- first job, cut --+
 * A link that had no job says KV_HELLO again before the next one: the decode node may have been
 * restarted at the same endpoint meanwhile, and both sides' credit accounts start anew. A link whose
 * connection was cut says it on a new connection, and its streams resume. */
#ifndef TANDEM_PREFILL_LINKS_H
#define TANDEM_PREFILL_LINKS_H

#include <stdbool.h>
#include <stdint.h>

#include "net/credit.h"
#include "net/msg.h"

#define PREFILL_LINKS_MAX 256

enum link_phase { LINK_FREE, LINK_HELLO, LINK_UP };

struct decode_link {
    enum link_phase phase;
    char name[MSG_NAME_MAX]; /* of the decode node, for sentences */
    char endpoint[MSG_ENDPOINT_MAX];
    uint32_t n_jobs;
    struct credit_out credit;
    bool places;      /* the decode node has mapped our pool, as KV_WELCOME said, and nothing was amiss since */
    int64_t deadline; /* HELLO: until when we wait for KV_WELCOME */
    int64_t used;     /* last time a job came; the link idle for longest makes room */
};

struct links {
    struct decode_link items[PREFILL_LINKS_MAX];
};

/* The link to the endpoint; UINT32_MAX: none yet. */
uint32_t links_find(const struct links *l, const char *endpoint);

/* A place for a new link: a free one, or that of the link which had no job for longest; UINT32_MAX:
 * all have jobs. */
uint32_t links_place(const struct links *l);

#endif
