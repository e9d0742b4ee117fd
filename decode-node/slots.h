/* slots: the sequences of a decode node, from reservation to the last token.
 *
 * A slot is taken with pages for its prompt and a little more; it grows as it runs (room.h says what
 * happens when there are no more pages). A sequence that the whole pool could not hold is never
 * admitted. All tables are sized at start. Network thread only; the compute thread reads `pages` of
 * slots that stand in a submitted step, and those do not change before its end. */
#ifndef TANDEM_DECODE_SLOTS_H
#define TANDEM_DECODE_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/map.h"
#include "decode-node/peers.h"
#include "kv/kv_pool.h"
#include "kv/kv_unit.h"
#include "kv/prefix.h"
#include "net/msg.h"

/*   FREE --take--> FILLING --start--> RUNNING --last token--> FREE
 *     |               |                ^ | ^ |
 *     +--take, local--|----------------+ | | +--set_aside--> ASIDE
 *                     |                  | +---bring_back------+
 *                     +------------------+--cancel, abort, lease, failure (any)--> FREE, or ENDING
 *                                                              until the step in flight is over
 * RUNNING: each step computes the known tokens from pos on: one, once the answer has begun; of a
 * local prompt as many as the step has room for. */
enum slot_state { SLOT_FREE, SLOT_FILLING, SLOT_RUNNING, SLOT_ASIDE, SLOT_ENDING };

#define SLOT_NO_PEER UINT32_MAX
#define SLOT_AHEAD_TOKENS KV_PAGE_TOKENS /* of the answer, for which RESERVE takes pages */

struct slot {
    enum slot_state state;
    bool in_step;  /* the step in flight has rows of it */
    bool local;    /* the prompt is computed here */
    bool told;     /* TOKENS were sent */
    bool doubtful; /* its KV may be of other tokens: it is not remembered */
    struct stream_id id;
    uint32_t priority; /* band, 0 first; within it by arrival */
    uint64_t salt;     /* of the prefix cache */
    struct traceparent trace; /* the router's span */
    uint32_t peer; /* whose KV fills it; SLOT_NO_PEER before the first page, or while cut off */
    bool fed;      /* a peer has been here: only `source` may go on */
    struct peer_source source;
    uint32_t n_tokens, first_index, max_new; /* n_tokens: of the prompt */
    struct sampling sampling;
    uint32_t n_stop_tokens;
    uint32_t stop_tokens[MSG_STOP_TOKENS_MAX];

    uint32_t *tokens;  /* [n_known], room for ctx_max: the prompt, then the answer */
    uint32_t n_known;
    uint32_t pos;      /* leading tokens whose KV is final: the next row */
    uint32_t index;    /* of the token that the row of the last known one will give */
    uint32_t held;     /* leading tokens whose KV the prefix cache had, whole pages */

    uint32_t n_pages;
    uint32_t *page_ids; /* [n_pages]; ASIDE: of the swap */
    uint8_t **pages;    /* [n_pages], their bytes */

    /* FILLING */
    uint64_t *got;        /* a bit a unit of the cut */
    size_t n_units, n_got;
    size_t n_got_asked;   /* n_got when pages were last asked for again */
    uint32_t barren_asks; /* asks in a row that brought nothing */
    uint64_t kv_bytes;
    int64_t deadline;     /* the lease; each page renews it */

    int64_t ready_at;   /* RESERVE if local, else the last page */
    int64_t started_at; /* the first step with a row of it; 0: none yet */
};

/* Whose pages they are; all borrowed. */
struct slots_memory {
    struct kv_pool *pool;
    struct prefix *prefix; /* of the pool */
    struct kv_pool *swap;  /* for what is set aside, pages of the same size; NULL: none */
};

struct slots {
    struct slot *items;
    uint32_t *order; /* [n - n_free] taken slots by rank: priority, then arrival */
    uint32_t n, n_free, ctx_max;
    struct slots_memory memory;
    size_t page_bytes;
    uint32_t *ids; /* scratch, pages of the longest sequence */
    struct kv_cut cut;
    struct map by_request; /* slots that are neither FREE nor ENDING */
};

/* Room for n sequences of ctx_max tokens, whose pages have page_bytes. */
void slots_init(struct slots *s, uint32_t n, uint32_t ctx_max, const struct kv_cut *cut,
                const struct slots_memory *memory, size_t page_bytes);
void slots_fini(struct slots *s);

/* Takes a slot and pages for the prompt and SLOT_AHEAD_TOKENS, both or none; the tokens are copied.
 * Leading pages that the prefix cache has are shared, and what of them would have to arrive counts as
 * here. max_new is cut to what the context leaves. ERR_LIMIT: it can never fit; ERR_BUSY: not now,
 * which is also said if others would soon be short of pages, or are. The sentence has the numbers.
 * FILLING, or RUNNING if r is local. */
int slots_take(struct slots *s, struct slot **out, const struct msg_reserve *r, struct err *e);

/* All KV of the prompt is here and this is the first token of the answer: FILLING -> RUNNING. */
void slots_start(struct slots *s, struct slot *slot, uint32_t token);

/* The prefix cache learns what is final of the sequence's KV. */
void slots_remember(struct slots *s, const struct slot *slot);
/* And the sequence goes on with the cache's pages where it had its own with the same KV, so that what
 * the cache cannot evict are pages of running sequences. No step has rows of it. */
void slots_share(struct slots *s, struct slot *slot);

/* Pages that could be taken now. */
uint32_t slots_available(const struct slots *s);
/* Pages that the sequence must have for its next row. */
uint32_t slot_needs(const struct slot *slot);

/* Moving between steps. RUNNING: one page more; false: there is none. */
bool slots_grow(struct slots *s, struct slot *slot);
/* RUNNING -> ASIDE: its KV is copied to the swap, its pages are given back; false: the swap is full. */
bool slots_set_aside(struct slots *s, struct slot *slot);
/* ASIDE -> RUNNING: bit for bit as it was, on other pages; false: there are too few. */
bool slots_bring_back(struct slots *s, struct slot *slot);

/* The live slot of exactly this request and epoch; NULL if there is none. */
struct slot *slots_find(const struct slots *s, struct stream_id id);
/* The live slot of the request, whatever its epoch. */
struct slot *slots_find_request(const struct slots *s, uint64_t request);

/* Ends the sequence: frees slot and pages now, or after slots_step_over if a step has rows of it. What
 * was final of it, the prefix cache remembers. */
void slots_drop(struct slots *s, struct slot *slot);
/* The step in flight is over: frees what was dropped meanwhile. */
void slots_step_over(struct slots *s);

/* Marks a unit as arrived; false if it had arrived before. */
bool slot_got(struct slot *slot, size_t unit);
bool slot_has(const struct slot *slot, size_t unit);
/* Runs of units that have not arrived, as pairs of first and count, at most max (even) numbers; what lies
 * behind the last run may be missing too if there are so many. Returns how many numbers. */
uint32_t slot_missing(const struct slot *slot, uint32_t *runs, uint32_t max);

#endif
