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

static void session_suspect(struct session *s)
{
    if (!s->suspect && s->decode)
        s->decode->suspects++; /* let go of with the attempt */
    s->suspect = true;
}

static void session_trust(struct router_core *c, struct session *s)
{
    if (s->suspect && s->decode)
        s->decode->suspects--;
    s->suspect = false;
    queue_unpark(&c->queue, c->now);
    c->room = true;
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
}

void quarantine_got_on(struct router_core *c, struct session *s)
{
    if (s->n_delivered >= s->struck_at + QUARANTINE_GOT_ON)
        session_clear(c, s);
}

/* The node was computing for it, or was about to; not: it held a reservation or shipped. */
static bool session_computed_on(const struct session *s, const struct node *node)
{
    return (s->state == SESSION_PREFILL && s->prefill == node) ||
           (s->state == SESSION_DECODE && s->decode == node);
}

uint64_t quarantine_process(const char *name, const char *host, int32_t pid)
{
    return hash64(name, strlen(name), hash64(host, strlen(host), (uint64_t)pid));
}

uint32_t quarantine_strike(struct router_core *c, const struct node *node, enum node_end end)
{
    const struct strike strike = {
        .boot = node->reg.boot,
        .process = quarantine_process(node->reg.name, node->reg.host, node->reg.pid),
        .weight = end == NODE_CRASHED ? QUARANTINE_CRASH : 1};
    struct session *s;
    size_t iter = 0;
    uint32_t n = 0;

    if (end != NODE_CRASHED && end != NODE_UNHEARD)
        return 0;
    while ((s = map_next(&c->by_request, &iter))) {
        s->struck = session_computed_on(s, node);
        if (!s->struck)
            continue;
        if (s->n_strikes && s->n_delivered >= s->struck_at + QUARANTINE_GOT_ON)
            session_clear(c, s);
        s->strikes[s->n_strikes % QUARANTINE_STRIKES] = strike;
        s->n_strikes += s->n_strikes < QUARANTINE_STRIKES;
        s->struck_at = s->n_delivered;
        n += session_is_heavy(s);
    }
    return n;
}

bool quarantine_takes(struct router_core *c, struct session *s, uint32_t n_suspects,
                      const struct node *node)
{
    char text[MSG_TEXT_MAX];

    if (!n_suspects || !s->struck || !session_is_heavy(s))
        return false;
    if (n_suspects > 1 && !s->suspect) {
        session_suspect(s);
        return false;
    }
    c->counters.quarantined++;
    snprintf(text, sizeof(text),
             "the request was on %u nodes when they crashed or were lost, the last of them %s, and is "
             "not tried on another", s->n_strikes, node->reg.name);
    action_note(c, LOG_ERROR, "request=%llu quarantined: %s", (unsigned long long)s->id.request,
                text);
    stream_fail(c, s, 500, 0, text);
    return true;
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

void quarantine_told(struct router_core *c, uint64_t process, bool crashed)
{
    struct session *s;
    size_t iter = 0;

    while ((s = map_next(&c->by_request, &iter)))
        for (uint32_t i = s->n_strikes; i-- > 0;) {
            if (s->strikes[i].process != process)
                continue;
            if (!crashed) {
                session_forgive(c, s, i);
                continue;
            }
            s->strikes[i].weight = QUARANTINE_CRASH;
            if (session_is_heavy(s))
                session_suspect(s);
        }
}
