#include "router/session.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"

struct session *session_new(const struct router_submit *submit, uint64_t request, int64_t now)
{
    struct session *s = mem_zalloc(sizeof(*s));
    size_t cap = (size_t)submit->n_tokens + submit->max_new;

    s->client = submit->client;
    s->id.request = request;
    s->tokens = mem_realloc(submit->tokens, cap * sizeof(*s->tokens));
    s->n_prompt = submit->n_tokens;
    s->max_new = submit->max_new;
    s->sampling = submit->sampling;
    s->n_stop_tokens = submit->n_stop_tokens;
    memcpy(s->stop_tokens, submit->stop_tokens, sizeof(s->stop_tokens));
    s->submitted_at = s->queued_at = now;
    s->stats.request = request;
    s->stats.prompt_tokens = submit->n_tokens;
    return s;
}

void session_free(struct session *s)
{
    mem_free(s->tokens);
    mem_free(s);
}

enum session_verdict session_tokens(struct session *s, uint32_t *first, uint32_t index,
                                    const uint32_t *tokens, uint32_t n, bool first_missing)
{
    /* next index that is not known: behind the hole, if there is one */
    uint32_t next = s->n_delivered + (first_missing ? 1 + s->n_ahead : 0);
    uint32_t known;

    if (index > next || index > s->max_new || n > s->max_new - index)
        return SESSION_FAULT;
    if (first_missing && index <= s->n_delivered)
        return SESSION_FAULT; /* only the prefill node samples that one */
    known = next - index;
    if (known >= n)
        return SESSION_REPEAT;
    memcpy(s->tokens + s->n_prompt + next, tokens + known, (n - known) * sizeof(*tokens));
    if (first_missing) {
        s->n_ahead += n - known;
        return SESSION_AHEAD;
    }
    *first = s->n_delivered;
    s->n_delivered += n - known;
    return SESSION_NEW;
}

void session_first(struct session *s, uint32_t token)
{
    ASSERT(s->n_delivered + s->n_ahead < s->max_new);
    s->tokens[s->n_prompt + s->n_delivered] = token;
    s->n_delivered += 1 + s->n_ahead;
    s->n_ahead = 0;
}

void session_queue_add(struct session_queue *q, struct session *s)
{
    struct session *before = q->tail;

    while (before && before->id.request > s->id.request)
        before = before->prev;
    s->prev = before;
    s->next = before ? before->next : q->head;
    *(s->next ? &s->next->prev : &q->tail) = s;
    *(before ? &before->next : &q->head) = s;
    q->n++;
}

void session_queue_remove(struct session_queue *q, struct session *s)
{
    *(s->prev ? &s->prev->next : &q->head) = s->next;
    *(s->next ? &s->next->prev : &q->tail) = s->prev;
    s->prev = s->next = NULL;
    q->n--;
}
