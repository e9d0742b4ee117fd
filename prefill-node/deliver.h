/* deliver: the way of KV to the decode nodes: links, credit, what is asked for again, and what happens
 * when a connection breaks. Part of core.c, see core_state.h. Pure; network thread only. */
#ifndef TANDEM_PREFILL_DELIVER_H
#define TANDEM_PREFILL_DELIVER_H

#include "prefill-node/core_state.h"

/* The link for a new job to this decode node, opened if need be; UINT32_MAX: too many. */
uint32_t deliver_link(struct prefill_core *p, const char *name, const char *endpoint, int64_t now,
                      struct prefill_actions *out);

/* A message of a decode node; what it owns may be taken. */
void deliver_message(struct prefill_core *p, uint32_t link, struct msg *m, int64_t now,
                     struct prefill_actions *out);

/* The connection broke: UP -> HELLO on a new one, and each stream resumes; a link without jobs ends. */
void deliver_cut(struct prefill_core *p, uint32_t link, int64_t now, struct prefill_actions *out);

/* HELLO -> FREE of links whose decode node has not answered in time. */
void deliver_tick(struct prefill_core *p, int64_t now, struct prefill_actions *out);

/* A unit that prefill_core_next_unit named has left. */
void deliver_sent(struct prefill_core *p, const struct prefill_unit *u, int64_t now,
                  struct prefill_actions *out);

/* SHIPPING -> HELD when everything was sent. */
void deliver_end(struct prefill_core *p, struct job *job, int64_t now,
                 struct prefill_actions *out);

#endif
