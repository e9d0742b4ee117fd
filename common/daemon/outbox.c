#include "daemon/outbox.h"

#include "base/mem.h"

void outbox_fini(struct outbox *b)
{
    for (uint32_t i = 0; i < b->n; i++)
        msg_fini(&b->items[b->first + i]);
    mem_free(b->items);
    *b = (struct outbox){0};
}

/* Room for one more at items[first + n]; the front's gap is closed only when the end is reached. */
static void outbox_room(struct outbox *b)
{
    if (b->first + b->n < b->cap)
        return;
    if (b->first) {
        for (uint32_t i = 0; i < b->n; i++)
            b->items[i] = b->items[b->first + i];
        b->first = 0;
        return;
    }
    b->cap = b->cap ? 2 * b->cap : 8;
    b->items = mem_realloc(b->items, b->cap * sizeof(*b->items));
}

bool outbox_send(struct outbox *b, struct sock *s, struct msg *m, struct err *e)
{
    if (!b->n) {
        int rc = sock_send(s, NULL, m, e);

        if (!rc)
            return true;
        if (rc != ERR_BUSY) {
            msg_fini(m);
            return false;
        }
    }
    if (b->n == OUTBOX_MAX) {
        err_set(e, ERR_LIMIT, "%u messages wait for a peer", OUTBOX_MAX);
        msg_fini(m);
        return false;
    }
    outbox_room(b);
    b->items[b->first + b->n++] = *m;
    *m = (struct msg){0};
    return true;
}

bool outbox_flush(struct outbox *b, struct sock *s)
{
    while (b->n) {
        struct msg *m = &b->items[b->first];

        if (sock_send(s, NULL, m, NULL) == ERR_BUSY)
            return false;
        msg_fini(m); /* empty if it was sent; one that no socket takes is lost */
        b->first++;
        b->n--;
    }
    b->first = 0;
    return true;
}
