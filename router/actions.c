#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"
#include "router/stream.h"

void router_actions_clear(struct router_actions *a)
{
    for (size_t i = 0; i < a->n; i++) {
        if (a->items[i].type == ROUTER_SEND)
            msg_fini(&a->items[i].msg);
    }
    a->n = 0;
}

void router_actions_fini(struct router_actions *a)
{
    router_actions_clear(a);
    mem_free(a->items);
    *a = (struct router_actions){0};
}

struct router_action *action_add(struct router_core *c, enum router_action_type type)
{
    struct router_actions *a = c->out;

    if (a->n == a->cap) {
        a->cap = a->cap ? a->cap * 2 : 16;
        a->items = mem_realloc(a->items, a->cap * sizeof(*a->items));
    }
    a->items[a->n] = (struct router_action){.type = type};
    return &a->items[a->n++];
}

void action_send(struct router_core *c, const struct node *node, struct msg *m)
{
    struct router_action *a = action_add(c, ROUTER_SEND);

    a->node = node->handle;
    a->msg = *m;
    *m = (struct msg){0};
}

void action_note(struct router_core *c, enum log_level level, const char *fmt, ...)
{
    struct router_action *a = action_add(c, ROUTER_NOTE);
    va_list ap;

    a->level = level;
    va_start(ap, fmt);
    vsnprintf(a->text, sizeof(a->text), fmt, ap);
    va_end(ap);
}
