/* wire: what `tandem agent` and the commands that call it say to each other: a JSON object a line, and
 * where an object has announced them, that many raw bytes. A byte stream is fed in, items come out.
 * Pure; knows no descriptor. One thread. */
#ifndef TANDEM_DEPLOY_WIRE_H
#define TANDEM_DEPLOY_WIRE_H

#include <jansson.h>
#include <stdint.h>

#include "base/str.h"

#define WIRE_PROTOCOL 1            /* said in the first exchange; both ends have the same */
#define WIRE_LINE_MAX (16u << 20)  /* bytes of an object: a topology of 1024 cores takes 3 MiB */

struct wire {
    struct str in;
    size_t at;     /* bytes of it that were taken */
    size_t looked; /* bytes of it without a newline */
    uint64_t raw;  /* that come before the next object */
};

enum wire_kind {
    WIRE_NOTHING, /* more bytes are needed */
    WIRE_OBJECT,
    WIRE_BYTES,
    WIRE_BROKEN, /* a line that is no JSON object: it was skipped */
    WIRE_FLOOD,  /* a line without end: there is no going on */
};

struct wire_item {
    enum wire_kind kind;
    json_t *object;   /* OBJECT: owned by the caller */
    const char *data; /* BYTES, BROKEN: borrowed until the next call */
    size_t n;
};

void wire_feed(struct wire *w, const void *bytes, size_t n);
struct wire_item wire_next(struct wire *w);

/* The next n bytes are no lines. */
void wire_raw(struct wire *w, uint64_t n);

/* What was fed and not taken, as it is: the rest of the stream belongs to somebody else. */
const char *wire_rest(const struct wire *w, size_t *n);

/* Appends the object, which it takes, as a line. NULL appends nothing: a text was not UTF-8. */
void wire_put(struct str *out, json_t *object);

void wire_fini(struct wire *w); /* leaves it empty */

#endif
