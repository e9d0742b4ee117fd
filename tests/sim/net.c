/* ZeroMQ as the shells see it. DESIGN, and where it was learned (sock.h, libzmq 4.3.4):
 *
 * - A DEALER has an identity and at most one connection, which it makes again by itself. Each
 *   direction of a connection keeps its order; different connections keep none.
 * - A connection that breaks loses what is under way: of each direction some first part still
 *   arrives, the rest never does, and nothing arrives twice.
 * - Each side notices a break when it notices. Until then its sends succeed and are lost. Afterwards a
 *   DEALER is busy until it is connected again, and a ROUTER says "no such peer".
 * - A ROUTER that has not noticed keeps the identity for the old connection: the new one is deaf and
 *   dumb until its DEALER is replaced by one with a new identity.
 * - A process that is killed leaves what its kernel had taken; a stopped one keeps its connections. */
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "net/codec.h"
#include "tests/sim/world.h"

#define RECONNECT_NS (100 * CLOCK_MS)
#define LOCAL_NS (200 * CLOCK_US) /* a FIN or RST */

static struct packet *packet_new(struct world *w)
{
    struct packet *p = w->free_packets;

    if (p)
        w->free_packets = p->next;
    else
        p = mem_alloc(sizeof(*p));
    return p;
}

void net_packet_free(struct world *w, struct packet *p)
{
    msg_fini(&p->msg);
    p->next = w->free_packets;
    w->free_packets = p;
}

struct conn *net_open(struct world *w, uint32_t dealer, uint32_t link, const char *endpoint)
{
    struct conn *c = mem_zalloc(sizeof(*c));

    if (w->n_conns == w->cap_conns) {
        w->cap_conns = w->cap_conns ? 2 * w->cap_conns : 32;
        w->conns = mem_realloc(w->conns, w->cap_conns * sizeof(*w->conns));
    }
    w->conns[w->n_conns++] = c;
    c->id = w->n_conns;
    c->dealer = dealer;
    c->dealer_life = w->procs[dealer].life;
    c->link = link;
    c->open = true;
    memcpy(c->endpoint, endpoint, sizeof(c->endpoint));
    world_at(w, w->now + LOCAL_NS + draw(w, LOCAL_NS), EV_CONNECT, dealer, 0, c);
    return c;
}

/* What lives breaks: of what is on its way to a side, only packets numbered below cut arrive. */
static void conn_cut(struct world *w, struct conn *c)
{
    if (!c->live)
        return;
    c->dead = c->live;
    c->live = 0;
    for (int side = 0; side < 2; side++)
        c->cut[side] = c->seen[side] + draw(w, c->sent[side] - c->seen[side] + 1);
}

static void notice_later(struct world *w, struct conn *c, enum side side, int64_t at)
{
    w->n_notices++;
    world_at(w, at, EV_NOTICE, side == DEALER_SIDE ? c->dealer : c->bound, side, c);
}

void net_break(struct world *w, struct conn *c, int64_t dealer_notices, int64_t router_notices)
{
    conn_cut(w, c);
    if (c->up[DEALER_SIDE])
        notice_later(w, c, DEALER_SIDE, w->now + dealer_notices);
    if (c->up[ROUTER_SIDE])
        notice_later(w, c, ROUTER_SIDE, w->now + router_notices);
}

void net_close(struct world *w, struct conn *c, bool flush)
{
    int64_t last = c->last_at[ROUTER_SIDE] > w->now ? c->last_at[ROUTER_SIDE] : w->now;

    conn_cut(w, c);
    if (flush)
        c->cut[ROUTER_SIDE] = c->sent[ROUTER_SIDE];
    c->open = c->up[DEALER_SIDE] = false;
    if (c->up[ROUTER_SIDE])
        notice_later(w, c, ROUTER_SIDE, last + LOCAL_NS);
}

void net_dead(struct world *w, uint32_t proc)
{
    for (uint32_t i = 0; i < w->n_conns; i++) {
        struct conn *c = w->conns[i];

        if (c->bound == proc && c->bound_life == w->procs[proc].life && c->gen) {
            net_break(w, c, LOCAL_NS + draw(w, LOCAL_NS), 0);
            c->up[ROUTER_SIDE] = c->known = false;
        }
        if (c->open && c->dealer == proc)
            net_close(w, c, false);
    }
}

void net_notice(struct world *w, struct conn *c, enum side side)
{
    w->n_notices--;
    if (!c->up[side] || c->gen_of[side] == c->live)
        return;
    c->up[side] = false;
    if (side == DEALER_SIDE && c->open) {
        c->broke = true;
        world_at(w, w->now + RECONNECT_NS + draw(w, RECONNECT_NS), EV_CONNECT, c->dealer, 0, c);
    }
}

static struct proc *bound_at(struct world *w, const char *endpoint)
{
    for (uint32_t i = 0; i < w->n_procs; i++) {
        struct proc *p = &w->procs[i];

        if (p->alive && !strcmp(p->endpoint, endpoint))
            return p;
    }
    return NULL;
}

void net_connect(struct world *w, struct conn *c)
{
    struct proc *to = bound_at(w, c->endpoint);

    if (!c->open || c->up[DEALER_SIDE])
        return;
    if (!to || to->stopped_until > w->now || w->now < c->cut_until) { /* nobody shakes hands */
        world_at(w, w->now + RECONNECT_NS, EV_CONNECT, c->dealer, 0, c);
        return;
    }
    c->live = c->gen_of[DEALER_SIDE] = ++c->gen;
    c->up[DEALER_SIDE] = true;
    c->bound = (uint32_t)(to - w->procs);
    c->deaf = c->up[ROUTER_SIDE];
    c->bound_life = to->life;
    if (c->deaf)
        return;
    c->gen_of[ROUTER_SIDE] = c->gen;
    c->up[ROUTER_SIDE] = true;
}

/* As the wire would bring it: through the codec, except the bytes of KV. */
static void through_codec(struct world *w, struct msg *m)
{
    struct msg_bulk bulk = {0};
    struct str s = {0};
    struct msg got;
    struct err e = {0};

    if (m->type == MSG_KV_PAGE)
        bulk = m->u.page.bulk;
    if (codec_encode(&s, m, &e) || codec_decode(&got, m->type, s.data, s.len, &e)) {
        world_broken(w, "%s does not pass the codec: %s", msg_type_name(m->type), e.text);
        str_fini(&s);
        return;
    }
    str_fini(&s);
    if (m->type == MSG_KV_PAGE)
        m->u.page.bulk = (struct msg_bulk){0};
    msg_fini(m);
    *m = got;
    if (m->type == MSG_KV_PAGE)
        m->u.page.bulk = bulk;
}

bool net_send(struct world *w, struct conn *c, enum side to, struct msg *m)
{
    enum side from = to == DEALER_SIDE ? ROUTER_SIDE : DEALER_SIDE;
    int64_t at = w->now + w->setup.delay_ns / 2 + draw(w, (uint32_t)w->setup.delay_ns);
    struct packet *p;

    if (!c->up[from])
        return false;
    if (w->setup.codec)
        through_codec(w, m);
    if (draw(w, w->setup.tail_in) == 1)
        at += draw(w, (uint32_t)w->setup.tail_ns);
    if (at < c->last_at[to])
        at = c->last_at[to];
    c->last_at[to] = at;
    p = packet_new(w);
    *p = (struct packet){.msg = *m, .conn = c, .to = to, .gen = c->gen_of[from],
                         .number = c->sent[to]++};
    memset(m, 0, sizeof(*m));
    w->tally.packets++;
    heap_push(&w->heap, (struct event){
        .at = at, .kind = EV_MSG, .data = p,
        .proc = to == DEALER_SIDE ? c->dealer : c->bound,
        .life = to == DEALER_SIDE ? c->dealer_life : c->bound_life});
    return true;
}

bool net_arrives(struct world *w, struct packet *p)
{
    struct conn *c = p->conn;
    bool lives = p->gen == c->live && !c->deaf;

    if ((p->to == DEALER_SIDE && !c->open) ||
        (!lives && (p->gen != c->dead || p->number >= c->cut[p->to]))) {
        TRACE(w, "lost: %s on connection %u", msg_type_name(p->msg.type), c->id);
        w->tally.lost++;
        return false;
    }
    if (p->number >= c->seen[p->to])
        c->seen[p->to] = p->number + 1;
    return true;
}
