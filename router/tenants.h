/* tenants: what each tenant has running and has used, and whether it may have more. Part of the core;
 * pure: the owner says what time it is.
 *
 * A tenant has limits of its own or those of all; requests that are nobody's have none. Of tokens a tenant
 * has a bucket that holds what a minute allows and fills evenly. A request is admitted while the
 * bucket is not empty; its prompt is taken out at once, its output when it ends, so the bucket may
 * go below empty by what was under way. A tenant is remembered while it has requests or a bucket
 * that is not full. */
#ifndef TANDEM_ROUTER_TENANTS_H
#define TANDEM_ROUTER_TENANTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/map.h"

struct tenant_limits {
    uint32_t concurrent_max; /* requests of a tenant, waiting and running; 0: no limit */
    uint32_t tokens_minute;  /* prompt and output; 0: no limit */
};

struct tenants { /* zeroed, but for the limits: empty */
    struct tenant_limits limits; /* of who has none of its own */
    struct map all;              /* of struct tenant, by id */
};

enum tenant_verdict { TENANT_OK, TENANT_BUSY, TENANT_SPENT };

void tenants_fini(struct tenants *t);

/* May this tenant have one more request now? If not for its tokens, *wait_ns is when it may. own: its
 * limits; NULL: those of all. */
enum tenant_verdict tenants_may(struct tenants *t, uint64_t id, const struct tenant_limits *own,
                                int64_t now, int64_t *wait_ns);

/* A request was admitted: it counts, and its prompt is paid. */
void tenants_begin(struct tenants *t, uint64_t id, const struct tenant_limits *own,
                   uint32_t prompt_tokens, int64_t now);
/* It has ended: its output is paid. */
void tenants_end(struct tenants *t, uint64_t id, uint32_t output_tokens, int64_t now);

#endif
