#include "net/link.h"

#include "base/check.h"
#include "base/clock.h"

void link_init(struct link *l, int64_t now, uint32_t heartbeat_ms, uint32_t dead_ms)
{
    ASSERT(heartbeat_ms > 0 && heartbeat_ms < dead_ms);
    *l = (struct link){
        .beat_ns = heartbeat_ms * CLOCK_MS,
        .dead_ns = dead_ms * CLOCK_MS,
        .heard = now,
        .asked = now,
        .next = now,
    };
}

void link_heard(struct link *l, int64_t now)
{
    l->heard = now;
}

bool link_due(struct link *l, int64_t now)
{
    if (now < l->next)
        return false;
    /* From now, not from `next`: after a pause one beat says all that ten would. */
    l->next = now + l->beat_ns;
    return true;
}

bool link_dead(struct link *l, int64_t now)
{
    int64_t gap = now - l->asked;

    l->asked = now;
    if (gap > l->beat_ns) {
        int64_t unheard = now - l->heard;

        /* Not more than the silence itself: what was heard within the gap is not pushed ahead. */
        gap -= l->beat_ns;
        l->heard += gap < unheard ? gap : unheard;
    }
    return now - l->heard >= l->dead_ns;
}
