/* sse: server-sent events, read incrementally (WHATWG HTML, 9.2). Pure: no socket, no clock. */
#ifndef TANDEM_NET_SSE_H
#define TANDEM_NET_SSE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/str.h"

#define SSE_EVENT_MAX ((size_t)1 << 20) /* bytes of one event; a token's event is under 1 KiB */

/* A zeroed struct is ready to read. */
struct sse {
    struct str line, data, event; /* the line so far; the event's data and name so far */
    bool has_data, after_cr, after_first;
};

void sse_fini(struct sse *s);

/* One event: its name ("" if it has none) and its data, NUL-terminated, borrowed. Returning false
 * stops sse_feed. */
typedef bool sse_fn(void *ctx, const char *event, const char *data, size_t n);

/* Takes the next n bytes and calls fn for every event they complete. Comments, ids and retry times
 * are ignored. ERR_LIMIT: an event is over SSE_EVENT_MAX. */
int sse_feed(struct sse *s, const void *bytes, size_t n, sse_fn *fn, void *ctx, struct err *e);

#endif
