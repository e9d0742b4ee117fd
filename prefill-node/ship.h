/* ship: the order in which a job's KV leaves. Pure.
 *
 * Window by window: the pages of a chunk, layer by layer as they become final, so that layer n is on
 * its way while layer n + 1 is computed. If sending lags behind, the next window is all that has
 * become final meanwhile. Only whole pages leave, and the prompt's last one. After a connection broke
 * the walk begins anew and leaves out what the decode node has. */
#ifndef TANDEM_PREFILL_SHIP_H
#define TANDEM_PREFILL_SHIP_H

#include <stdbool.h>
#include <stddef.h>

#include "kv/kv_unit.h"
#include "prefill-node/jobs.h"

/* Of a new job, before its first chunk. */
void ship_init(struct job *job, const struct kv_cut *cut);

/* The next unit that is final and was not sent; false: none for now. */
bool ship_next(const struct job *job, const struct kv_cut *cut, struct kv_unit *out);

/* The unit that ship_next named has been sent. */
void ship_sent(struct job *job, const struct kv_cut *cut);

/* More of the job became final: opens the next window if the last one was sent. */
void ship_advance(struct job *job, const struct kv_cut *cut);

/* Everything, and what was asked for again, has been sent. */
bool ship_finished(const struct job *job, const struct kv_cut *cut);

/* The decode node lacks a unit. False: it is not one that we have sent. */
bool ship_again(struct job *job, const struct kv_cut *cut, const struct kv_unit *u);

/* The connection broke: nothing leaves until the decode node has said what is missing. */
void ship_resume(struct job *job);

/* It has; only that is sent from now on. Takes m->units. False: they are not runs of units of this
 * job, ascending; nothing is changed. */
bool ship_missing(struct job *job, const struct kv_cut *cut, struct msg_kv_missing *m);

#endif
