/* intake: the KV that prefill nodes send: who may send, how much, where it goes, what is missing.
 *
 * A stream whose connection breaks keeps what it has and waits, for its lease, until the same process
 * is back: KV_HELLO of the same node and life takes it over, KV_RESUME asks what is missing. KV_HELLO
 * of another life of that node says that nobody will go on.
 *
 * Pace: to take in, check and copy KV takes time from the running streams where they share a core or
 * the memory. So while a step is in flight, credit goes back to the senders only for as many bytes as
 * take a twentieth of a smoothed step (ingest_bytes_s, see pace.h), in turns; a peer that begins finds
 * its window open besides. What is held back goes at the steps that follow, or at once when no step is in flight: nobody
 * waits for ever. Part of core.c, see core_state.h. Pure; network thread only. */
#ifndef TANDEM_DECODE_INTAKE_H
#define TANDEM_DECODE_INTAKE_H

#include "decode-node/core_state.h"

/* DECODE_PEER: a message other than KV_PAGE. */
void intake_message(struct decode_core *d, const struct decode_event *ev, int64_t now,
                    struct decode_actions *out);
/* PAGE_IN, PAGE_BAD, PAGE_REFUSED. */
void intake_page(struct decode_core *d, const struct decode_event *ev, int64_t now,
                 struct decode_actions *out);
/* The connection is gone: what it was filling waits for the next one. */
void intake_peer_lost(struct decode_core *d, uint32_t peer, int64_t now);
/* A step is over: as much credit goes back to the senders as may come in during the next. */
void intake_step_over(struct decode_core *d, struct decode_actions *out);
/* Leases that have run out. */
void intake_tick(struct decode_core *d, int64_t now, struct decode_actions *out);

#endif
