/* traceparent: which trace a piece of work belongs to, as W3C Trace Context has it: the header
 * `traceparent: 00-TRACE-SPAN-FLAGS`, 32, 16 and 2 hexadecimal digits. Each process that has a part in
 * a request has a span of its own, and its parent's is in what it was sent. Pure; any thread. */
#ifndef TANDEM_BASE_TRACEPARENT_H
#define TANDEM_BASE_TRACEPARENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACEPARENT_MAX 56 /* of a traceparent, NUL included */

struct traceparent {
    uint64_t id[2]; /* both 0: there is none */
    uint64_t span;  /* of whoever holds this; not 0 if there is one */
    uint32_t flags; /* of eight bits; bit 0: somebody records it */
};

/* Reads a traceparent of version 00, or the same part of a later one. False, and *t cleared: it is
 * none: capitals, zeroes, a wrong length, version ff. */
bool traceparent_parse(struct traceparent *t, const char *s, size_t n);
/* Writes the traceparent, version 00. */
void traceparent_text(char out[TRACEPARENT_MAX], const struct traceparent *t);

/* The span of a process under its parent's: the same for the same two, different for another salt.
 * Without a trace: none. */
struct traceparent traceparent_child(const struct traceparent *parent, uint64_t salt);

static inline bool traceparent_is(const struct traceparent *t) { return t->id[0] || t->id[1]; }

/* For a log line: TRACE_FMT in the format, TRACE_ARGS(own, parent) among the arguments. */
#define TRACE_FMT "trace=%016" PRIx64 "%016" PRIx64 " span=%016" PRIx64 " parent=%016" PRIx64
#define TRACE_ARGS(own, parent) (own)->id[0], (own)->id[1], (own)->span, (parent)->span

#endif
