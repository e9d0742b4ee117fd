/* jobs: the prompts of a prefill node, from the queue to the decode node's receipt.
 *
 * The table is bounded; its order is by priority band and then by arrival, and everything is served in
 * it: pages, compute and sending. KV pages are taken when a job's first chunk is planned, those of a
 * known beginning shared with the prefix cache, and returned when the decode node has all. Network thread only; the compute thread reads `pages` of jobs that stand in
 * the chunk in flight, and those do not change before its end. */
#ifndef TANDEM_PREFILL_JOBS_H
#define TANDEM_PREFILL_JOBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kv/kv_pool.h"
#include "kv/prefix.h"
#include "net/msg.h"

/*   FREE --job--> QUEUED --pages--> COMPUTING --last chunk--> SHIPPING --KV_END--> HELD --KV_DONE--> FREE
 *                                                               ^                |
 *                                                               +----KV_AGAIN----+
 * Any may end early (cancel, abort, lease, first token was the last): FREE, or ENDING until the
 * chunk in flight is over. */
enum job_state { JOB_FREE, JOB_QUEUED, JOB_COMPUTING, JOB_SHIPPING, JOB_HELD, JOB_ENDING };

/* Where a job's KV is to go next, see ship.h. */
struct ship {
    uint32_t page_first, page_end; /* the window: pages of one chunk, or of several that lagged */
    uint32_t layer, page, part;    /* next unit; layer == n_layer: the window was sent */
    bool started;                  /* a unit has left */
    bool again;                    /* the decode node lacks unit again_unit */
    size_t again_unit;
    bool resuming;                 /* KV_RESUME was said: nothing leaves before the answer */
    uint32_t *missing, n_missing;  /* the answer, owned: runs of units; NULL: nobody resumed */
};

struct job {
    enum job_state state;
    bool in_chunk;  /* the chunk in flight has rows of it */
    struct stream_id id;
    uint32_t link;  /* to its decode node */
    uint32_t *tokens, n_tokens; /* owned */
    uint32_t first_index, max_new, skip_tokens, priority;
    uint64_t salt;  /* of the prefix cache */
    struct traceparent trace; /* the router's span */
    struct sampling sampling;
    uint32_t n_stop_tokens;
    uint32_t stop_tokens[MSG_STOP_TOKENS_MAX];

    uint32_t n_pages;   /* 0 while QUEUED */
    uint32_t *page_ids; /* [n_pages] */
    uint8_t **pages;    /* [n_pages], their bytes */

    uint32_t hit_tokens;   /* of those done: found in the prefix cache */
    uint32_t done;         /* leading tokens whose KV is final in all layers */
    uint32_t chunk_end;    /* the chunk in flight computes done .. chunk_end; == done: none does */
    uint32_t chunk_layers; /* layers of that chunk that are final */
    struct ship ship;
    uint32_t first_token;  /* sampled; from SHIPPING on */

    int64_t queued_at, started_at, sampled_at;
    int64_t deadline;      /* SHIPPING, HELD: the lease; progress renews it */
};

struct jobs {
    struct job *items; /* [n] */
    uint32_t *order;   /* [n_order] live jobs as they are served; ENDING ones have left it */
    uint32_t n, n_order, ctx_max;
    struct kv_pool *pool;  /* borrowed, and so the cache over it */
    struct prefix *prefix;
};

/* Room for n jobs of at most ctx_max tokens. */
void jobs_init(struct jobs *j, uint32_t n, uint32_t ctx_max, struct kv_pool *pool,
               struct prefix *prefix);
void jobs_fini(struct jobs *j);

/* A QUEUED job behind all of its band; takes m->tokens (and clears them in m). NULL: all n places
 * are taken; m is as before. */
struct job *jobs_add(struct jobs *j, struct msg_prefill_job *m, int64_t now);

/* The live job of the request, whatever its epoch, or of exactly this stream; NULL: none. */
struct job *jobs_find_request(const struct jobs *j, uint64_t request);
struct job *jobs_find(const struct jobs *j, struct stream_id id);

/* QUEUED -> COMPUTING with pages for the whole prompt, of which those that the prefix cache knows are
 * done; false: not enough could be had. A last page that the prompt does not fill is cleared, for it
 * travels whole: what another's tokens left there is nobody's business. */
bool jobs_start(struct jobs *j, struct job *job, int64_t now);

/* Ends the job: frees it now, or after jobs_chunk_over if the chunk in flight has rows of it. */
void jobs_drop(struct jobs *j, struct job *job);
void jobs_chunk_over(struct jobs *j);

#endif
