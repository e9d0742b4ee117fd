/* stops: finds stop strings in streamed text and holds back what may become one. The result depends
 * on the text alone, not on the pieces it came in: the stop string that is complete first ends the
 * text (the longest of those that end at the same byte). Owned by one stream. */
#ifndef TANDEM_ROUTER_STOPS_H
#define TANDEM_ROUTER_STOPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "net/msg.h"

struct stops {
    uint32_t n;
    char strings[MSG_STOPS_MAX][MSG_STOP_BYTES_MAX];
    struct str held; /* a beginning of a stop string, at most */
    bool hit;
};

/* strings[n], each NUL-terminated and not empty; copied. */
void stops_init(struct stops *s, const char strings[][MSG_STOP_BYTES_MAX], uint32_t n);
void stops_fini(struct stops *s);

/* Appends to out what of the text so far is sure to be shown. True: a stop string is complete; out
 * ends exactly before it, and further text gives nothing. */
bool stops_feed(struct stops *s, const char *text, size_t n, struct str *out);

/* The text has ended otherwise: what was held back is shown. */
void stops_finish(struct stops *s, struct str *out);

#endif
