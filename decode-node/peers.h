/* peers: the prefill processes that may send KV here, and the bytes each may have under way.
 *
 * A receiver grants credit in bytes; a sender never has more than credit_bytes on the way, so no
 * queue of the transport fills up and no peer decides how much memory we use. Pure; network thread. */
#ifndef TANDEM_DECODE_PEERS_H
#define TANDEM_DECODE_PEERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "net/credit.h"
#include "net/msg.h"

#define DECODE_PEERS_MAX 256 /* connected at once */

/* Who a connection belongs to, to know it again on the next one. */
struct peer_source {
    uint64_t node; /* hash of the name in KV_HELLO */
    uint64_t life; /* what the connections of one process have in common and no other has */
};

struct peer_state {
    bool known; /* it said KV_HELLO and was welcomed */
    char name[MSG_NAME_MAX];
    struct peer_source source;
    struct credit_in credit;
    uint64_t owed; /* bytes consumed, and not yet given back to its credit */
    uint64_t mapped; /* bytes of its memory that KV_PLACE may name; 0: none */
};

struct peers {
    char cluster[MSG_NAME_MAX];
    uint64_t model_hash;
    struct kv_geometry geometry;
    uint64_t credit_bytes;
    struct peer_state items[DECODE_PEERS_MAX];
};

/* Compares a KV_HELLO with what we are. ERR_PEER with one sentence that names the difference. */
int peers_check(const struct peers *p, const struct msg_kv_hello *h, struct err *e);

/* The peer is known from now on. One that is known already starts its accounts anew: it says hello
 * when its link was idle, and what it sent before has arrived before, so nothing is under way. */
void peers_welcome(struct peers *p, uint32_t peer, const struct msg_kv_hello *h,
                   const struct peer_source *source, uint64_t mapped);

/* The known peer other than `peer` that has this name: an earlier connection of the same node, or an
 * earlier life of it. False: none. */
bool peers_namesake(const struct peers *p, uint32_t peer, const char *name, uint32_t *other);

#endif
