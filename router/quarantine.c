#include "router/quarantine.h"

#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "router/stream.h"

static uint32_t session_weight(const struct session *s)
{
    uint32_t weight = 0;

    for (uint32_t i = 0; i < s->n_strikes; i++)
        weight += s->strikes[i].weight;
    return weight;
}

static bool session_is_heavy(const struct session *s)
{
    return session_weight(s) >= QUARANTINE_GUILTY;
}

/* As it would be if every loss that nobody explained was a crash. */
static bool session_may_be_heavy(const struct session *s)
{
    return s->n_strikes * QUARANTINE_CRASH >= QUARANTINE_GUILTY;
}

/* It has a turn again, wherever it waits. */
static void session_wake(struct router_core *c, struct session *s)
{
    s->word_until = 0;
    queue_unpark(&c->queue, c->now);
    c->room = true;
}

static void session_suspect(struct session *s)
{
    if (s->suspect)
        return;
    s->suspect = true; /* its nodes let go of that with the attempt */
    if (s->decode)
        s->decode->suspects++;
    if (s->prefill)
        s->prefill->suspects++;
}

static void session_trust(struct router_core *c, struct session *s)
{
    if (s->suspect && s->decode)
        s->decode->suspects--;
    if (s->suspect && s->prefill)
        s->prefill->suspects--;
    s->suspect = false;
    session_wake(c, s);
}

static void session_clear(struct router_core *c, struct session *s)
{
    s->n_strikes = 0;
    session_trust(c, s);
}

/* A strike that was none, and the restart that it cost was not the request's fault either. */
static void session_forgive(struct router_core *c, struct session *s, uint32_t strike)
{
    s->strikes[strike] = s->strikes[--s->n_strikes];
    s->fruitless -= s->fruitless > 0;
    if (s->suspect && !session_is_heavy(s))
        session_trust(c, s);
    else if (s->word_until && !session_may_be_heavy(s))
        session_wake(c, s);
}

/* The request has no part in that process's end. */
static void session_explain(struct router_core *c, struct session *s, uint64_t process)
{
    for (uint32_t i = s->n_strikes; i-- > 0;)
        if (s->strikes[i].process == process)
            session_forgive(c, s, i);
}

void quarantine_got_on(struct router_core *c, struct session *s)
{
    if (s->n_delivered >= s->struck_at + QUARANTINE_GOT_ON)
        session_clear(c, s);
}

/* The node was computing for it, or may have been: one that is to compute the prompt too begins before we
 * hear that it has the room, and a node that is chosen again may not be done with the attempt before.
 * Not: it held a reservation while the prompt was computed elsewhere, or shipped. */
static bool session_computed_on(const struct session *s, const struct node *node)
{
    if (s->state == SESSION_PREFILL)
        return s->prefill == node;
    return s->decode == node || (s->state == SESSION_RESERVING && s->prefill == node);
}

uint64_t quarantine_process(const char *name, const char *host, int32_t pid)
{
    return hash64(name, strlen(name), hash64(host, strlen(host), (uint64_t)pid));
}

static void blame_add(struct blame *b, const struct session *s)
{
    uint32_t weight = session_weight(s);

    if (weight < QUARANTINE_GUILTY || weight < b->weight)
        return;
    b->n = weight > b->weight ? 1 : b->n + 1;
    b->weight = weight;
}

struct blame quarantine_strike(struct router_core *c, const struct node *node, enum node_end end)
{
    const struct strike strike = {
        .boot = node->reg.boot,
        .process = quarantine_process(node->reg.name, node->reg.host, node->reg.pid),
        .weight = end == NODE_CRASHED ? QUARANTINE_CRASH : 1};
    struct blame blame = {0};
    struct session *s;
    size_t iter = 0;

    if (end != NODE_CRASHED && end != NODE_UNHEARD)
        return blame;
    while ((s = map_next(&c->by_request, &iter))) {
        s->struck = session_computed_on(s, node);
        if (!s->struck)
            continue;
        if (s->n_strikes && s->n_delivered >= s->struck_at + QUARANTINE_GOT_ON)
            session_clear(c, s);
        s->strikes[s->n_strikes % QUARANTINE_STRIKES] = strike;
        s->n_strikes += s->n_strikes < QUARANTINE_STRIKES;
        s->struck_at = s->n_delivered;
        blame_add(&blame, s);
        if (session_may_be_heavy(s) && !session_is_heavy(s))
            c->word_at = s->word_until = c->now + QUARANTINE_WORD;
    }
    return blame;
}

void quarantine_ends(struct router_core *c, struct session *s)
{
    struct session *other;
    size_t iter = 0;

    if (!session_may_be_heavy(s))
        return;
    while ((other = map_next(&c->by_request, &iter)))
        for (uint32_t i = 0; other != s && i < s->n_strikes; i++)
            session_explain(c, other, s->strikes[i].process);
}

bool quarantine_takes(struct router_core *c, struct session *s, const struct blame *blame,
                      const char *node)
{
    char text[MSG_TEXT_MAX];

    if (!s->struck || !blame->n || !session_is_heavy(s))
        return false;
    if (session_weight(s) < blame->weight || blame->n > 1) {
        session_suspect(s);
        return false;
    }
    c->counters.quarantined++;
    snprintf(text, sizeof(text),
             "the request was on %u nodes when they crashed or were lost, the last of them %s, and is "
             "not tried on another", s->n_strikes, node);
    action_note(c, LOG_ERROR, "request=%llu quarantined: %s", (unsigned long long)s->id.request,
                text);
    stream_fail(c, s, 500, 0, text);
    return true;
}

bool quarantine_holds(struct router_core *c, struct session *s)
{
    return c->now < s->word_until;
}

void quarantine_tick(struct router_core *c)
{
    if (!c->word_at || c->now < c->word_at) /* the latest is due: nobody waits for a word any more */
        return;
    c->word_at = 0;
    queue_unpark(&c->queue, c->now);
    c->room = true;
}

void quarantine_pardon(struct router_core *c, uint64_t boot)
{
    struct session *s;
    size_t iter = 0;

    while ((s = map_next(&c->by_request, &iter)))
        for (uint32_t i = s->n_strikes; i-- > 0;)
            if (s->strikes[i].boot == boot)
                session_forgive(c, s, i);
}

/* Strikes by that process weigh as a crash now. */
static struct blame quarantine_weigh(struct router_core *c, uint64_t process)
{
    struct blame blame = {0};
    struct session *s;
    size_t iter = 0;

    while ((s = map_next(&c->by_request, &iter))) {
        s->struck = false;
        for (uint32_t i = 0; i < s->n_strikes; i++) {
            if (s->strikes[i].process != process)
                continue;
            s->strikes[i].weight = QUARANTINE_CRASH;
            s->struck = true;
        }
        if (s->struck)
            blame_add(&blame, s);
    }
    return blame;
}

void quarantine_told(struct router_core *c, uint64_t process, const char *name, bool crashed)
{
    struct blame blame = {0};
    struct session *s;
    size_t iter = 0;

    if (crashed)
        blame = quarantine_weigh(c, process);
    while ((s = map_next(&c->by_request, &iter))) {
        if (!crashed)
            session_explain(c, s, process);
        else if (!quarantine_takes(c, s, &blame, name) && s->suspect)
            session_wake(c, s);
    }
}
