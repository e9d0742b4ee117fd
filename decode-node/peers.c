#include "decode-node/peers.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
int peers_check(const struct peers *p, const struct msg_kv_hello *h, struct err *e)
{
    const struct kv_geometry *own = &p->geometry, *g = &h->geometry;

    if (h->protocol != MSG_PROTOCOL)
        return err_set(e, ERR_PEER, "prefill node %s speaks protocol %u, this decode node %u",
                       h->name, h->protocol, MSG_PROTOCOL);
    if (strcmp(h->cluster, p->cluster) != 0)
        return err_set(e, ERR_PEER, "prefill node %s is of cluster \"%s\", this decode node of \"%s\"",
                       h->name, h->cluster, p->cluster);
    if (h->model_hash != p->model_hash)
        return err_set(e, ERR_PEER, "prefill node %s has model %016" PRIx64
                       ", this decode node %016" PRIx64, h->name, h->model_hash, p->model_hash);
    if (g->n_layer != own->n_layer || g->n_kv_head != own->n_kv_head ||
        g->head_dim != own->head_dim || g->page_tokens != own->page_tokens ||
        g->wire_type != own->wire_type)
        return err_set(e, ERR_PEER, "prefill node %s has KV of %u layers, %u heads of %u, pages of %u, "
                       "type %u; this decode node %u, %u, %u, %u, %u", h->name, g->n_layer,
                       g->n_kv_head, g->head_dim, g->page_tokens, g->wire_type, own->n_layer,
                       own->n_kv_head, own->head_dim, own->page_tokens, own->wire_type);
    return 0;
}

void peers_welcome(struct peers *p, uint32_t peer, const struct msg_kv_hello *h,
                   const struct peer_source *source, uint64_t mapped)
{
    struct peer_state *s = &p->items[peer];

    s->known = true;
    s->owed = 0;
    s->mapped = mapped;
    s->source = *source;
    credit_in_init(&s->credit, p->credit_bytes);
    snprintf(s->name, sizeof(s->name), "%s", h->name);
}

bool peers_namesake(const struct peers *p, uint32_t peer, const char *name, uint32_t *other)
{
    for (uint32_t i = 0; i < DECODE_PEERS_MAX; i++) {
        if (i == peer || !p->items[i].known || strcmp(p->items[i].name, name) != 0)
            continue;
        *other = i;
        return true;
    }
    return false;
}
