#include "prefill-node/actions.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

void prefill_actions_fini(struct prefill_actions *a)
{
    mem_free(a->items);
    *a = (struct prefill_actions){0};
}

struct prefill_action *output_add(struct prefill_actions *out, enum prefill_action_type type,
                                   uint32_t link)
{
    struct prefill_action *a;

    if (out->n == out->cap) {
        out->cap = out->cap ? 2 * out->cap : 16;
        out->items = mem_realloc(out->items, out->cap * sizeof(*out->items));
    }
    a = &out->items[out->n++];
    memset(a, 0, sizeof(*a));
    a->type = type;
    a->link = link;
    return a;
}

struct msg *output_router(struct prefill_actions *out, enum msg_type type)
{
    struct prefill_action *a = output_add(out, PREFILL_SEND_ROUTER, 0);

    a->msg.type = type;
    return &a->msg;
}

struct msg *output_link(struct prefill_actions *out, uint32_t link, enum msg_type type)
{
    struct prefill_action *a = output_add(out, PREFILL_SEND_LINK, link);

    a->msg.type = type;
    return &a->msg;
}

void output_fail(struct msg *m, struct stream_id id, bool retry, const char *text)
{
    m->u.failed.id = id;
    m->u.failed.retry = retry;
    snprintf(m->u.failed.text, sizeof(m->u.failed.text), "%s", text);
}
