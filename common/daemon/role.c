#include "daemon/role.h"

#include "base/check.h"
#include "base/log.h"
#include "daemon/end.h"

int role_run(const struct node_options *o, const struct role *first, const struct role *other,
             struct err *e)
{
    uint32_t rows = first->rows_max(o), sequences = first->sequences(o);
    const struct role *role = first;
    struct node n;
    int rc;

    if (*o->tell_end)
        return end_tell(o, e);
    if (o->change_role) {
        rows = u32_max(rows, other->rows_max(o));
        sequences = u32_max(sequences, other->sequences(o));
    }
    rc = node_open(&n, o, rows, sequences, first->role == ROLE_PREFILL || o->change_role, e);
    while (!rc && role) {
        enum node_role next = ROLE_NONE;

        rc = role->serve(&n, o, &next, e);
        role = next == first->role ? first : next == other->role ? other : NULL;
        if (!rc && role)
            log_info("node", "goes on as a %s node", node_role_name(next));
    }
    node_close(&n); /* also one that did not open */
    return rc;
}
