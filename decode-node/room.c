#include "decode-node/room.h"

#include <inttypes.h>

#include "base/log.h"
#include "decode-node/stream.h"

/* The taken slot of the lowest rank in this state; NULL: none. */
static struct slot *room_lowest(const struct decode_core *d, enum slot_state state)
{
    for (uint32_t i = d->slots.n - d->slots.n_free; i-- > 0;) {
        struct slot *slot = &d->slots.items[d->slots.order[i]];

        if (slot->state == state)
            return slot;
    }
    return NULL;
}

static uint32_t room_running(const struct decode_core *d)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < d->slots.n - d->slots.n_free; i++)
        n += d->slots.items[d->slots.order[i]].state == SLOT_RUNNING;
    return n;
}

static void room_yield(struct decode_core *d, struct slot *slot, struct decode_actions *out)
{
    d->stats.preempted++;
    if (slots_set_aside(&d->slots, slot))
        log_info("decode", "request=%" PRIu64 " epoch=%u set aside at %u tokens: no KV pages are left",
                 slot->id.request, slot->id.epoch, slot->pos);
    else
        stream_evict(d, slot, "no KV pages are left, nor room to set it aside", out);
}

/* Pages for all known tokens of a running slot. May take them from lower ranks, or end with the slot
 * itself not running any more. */
static void room_for(struct decode_core *d, struct slot *slot, struct decode_actions *out)
{
    while (slot->state == SLOT_RUNNING && slot->n_pages < slot_needs(slot)) {
        struct slot *victim = room_lowest(d, SLOT_RUNNING), *waiting;

        if (slots_grow(&d->slots, slot))
            continue;
        waiting = room_lowest(d, SLOT_FILLING);
        if (victim == slot && waiting && room_running(d) == 1)
            stream_evict(d, waiting, "its KV pages went to a sequence that runs", out);
        else
            room_yield(d, victim, out);
    }
}

/* In the order of rank; one that does not fit yet lets none pass. */
static void room_bring_back(struct decode_core *d)
{
    for (uint32_t i = 0; i < d->slots.n - d->slots.n_free; i++) {
        struct slot *slot = &d->slots.items[d->slots.order[i]];

        if (slot->state != SLOT_ASIDE)
            continue;
        if (slot_needs(slot) + room_running(d) > slots_available(&d->slots) ||
            !slots_bring_back(&d->slots, slot))
            return;
        d->stats.returned++;
        log_info("decode", "request=%" PRIu64 " epoch=%u is back at %u tokens", slot->id.request,
                 slot->id.epoch, slot->pos);
    }
}

void room_make(struct decode_core *d, struct decode_actions *out)
{
    uint32_t i = 0;

    room_bring_back(d);
    while (i < d->slots.n - d->slots.n_free) {
        uint32_t place = d->slots.order[i];

        room_for(d, &d->slots.items[place], out);
        /* lower ranks may be gone from the order, and so may this one */
        if (i < d->slots.n - d->slots.n_free && d->slots.order[i] == place)
            i++;
    }
}
