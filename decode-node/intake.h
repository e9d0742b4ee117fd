/* intake: the KV that prefill nodes send: who may send, how much, where it goes, what is missing.
 * Part of core.c, see core_state.h. Pure; network thread only. */
#ifndef TANDEM_DECODE_INTAKE_H
#define TANDEM_DECODE_INTAKE_H

#include "decode-node/core_state.h"

/* A message of a peer other than KV_PAGE. */
void intake_message(struct decode_core *d, uint32_t peer, const struct msg *m, int64_t now,
                    struct decode_actions *out);
/* PAGE_IN, PAGE_BAD, PAGE_REFUSED. */
void intake_page(struct decode_core *d, const struct decode_event *ev, int64_t now,
                 struct decode_actions *out);
/* The peer is gone: what it was filling cannot be completed. */
void intake_peer_lost(struct decode_core *d, uint32_t peer, const char *why,
                      struct decode_actions *out);
/* Leases that have run out. */
void intake_tick(struct decode_core *d, int64_t now, struct decode_actions *out);

#endif
