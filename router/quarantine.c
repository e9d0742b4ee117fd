#include "router/quarantine.h"

#include <stdio.h>

#include "router/stream.h"

static void session_clear(struct router_core *c, struct session *s)
{
    if (s->suspect && s->decode)
        s->decode->suspects--;
    s->suspect = false;
    s->strikes = 0;
    s->strike_boots[0] = s->strike_boots[1] = 0;
    queue_unpark(&c->queue, c->now);
    c->room = true;
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

uint32_t quarantine_strike(struct router_core *c, const struct node *node)
{
    struct session *s;
    size_t iter = 0;
    uint32_t n = 0;

    while ((s = map_next(&c->by_request, &iter))) {
        s->struck = session_computed_on(s, node);
        if (!s->struck)
            continue;
        if (s->strikes && s->n_delivered >= s->struck_at + QUARANTINE_GOT_ON)
            session_clear(c, s);
        s->strike_boots[s->strikes % 2] = node->reg.boot;
        s->strikes++;
        s->struck_at = s->n_delivered;
        n += s->strikes >= 2;
    }
    return n;
}

bool quarantine_takes(struct router_core *c, struct session *s, uint32_t n_suspects,
                      const struct node *node)
{
    char text[MSG_TEXT_MAX];

    if (!n_suspects || !s->struck || s->strikes < 2)
        return false;
    if (n_suspects > 1 && s->strikes == 2) {
        if (!s->suspect && s->decode)
            s->decode->suspects++; /* let go of in a moment */
        s->suspect = true;
        return false;
    }
    c->counters.quarantined++;
    snprintf(text, sizeof(text),
             "the request was on %u nodes when they crashed, the last of them %s, and is not tried "
             "on another", s->strikes, node->reg.name);
    action_note(c, LOG_ERROR, "request=%llu quarantined: %s", (unsigned long long)s->id.request,
                text);
    stream_fail(c, s, 500, 0, text);
    return true;
}

void quarantine_pardon(struct router_core *c, uint64_t boot)
{
    struct session *s;
    size_t iter = 0;

    while ((s = map_next(&c->by_request, &iter))) {
        for (int i = 0; i < 2; i++) {
            if (s->strikes && s->strike_boots[i] == boot) {
                s->strike_boots[i] = 0;
                s->strikes--;
            }
        }
        if (s->suspect && s->strikes < 2)
            session_clear(c, s);
    }
}
