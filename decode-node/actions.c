#include "decode-node/actions.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

void decode_actions_fini(struct decode_actions *a)
{
    mem_free(a->items);
    *a = (struct decode_actions){0};
}

struct decode_action *actions_add(struct decode_actions *out, enum decode_action_type type)
{
    struct decode_action *a;

    if (out->n == out->cap) {
        out->cap = out->cap ? 2 * out->cap : 16;
        out->items = mem_realloc(out->items, out->cap * sizeof(*out->items));
    }
    a = &out->items[out->n++];
    memset(a, 0, sizeof(*a));
    a->type = type;
    return a;
}

struct msg *actions_send_router(struct decode_actions *out, enum msg_type type)
{
    struct decode_action *a = actions_add(out, DECODE_SEND_ROUTER);

    a->msg.type = type;
    return &a->msg;
}

struct msg *actions_send_peer(struct decode_actions *out, uint32_t peer, enum msg_type type)
{
    struct decode_action *a = actions_add(out, DECODE_SEND_PEER);

    a->peer = peer;
    a->msg.type = type;
    return &a->msg;
}

void actions_fail(struct msg *m, struct stream_id id, bool retry, const char *text)
{
    m->u.failed.id = id;
    m->u.failed.retry = retry;
    snprintf(m->u.failed.text, sizeof(m->u.failed.text), "%s", text);
}
