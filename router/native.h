/* native: the ZeroMQ socket for clients that speak generate.proto: a request, its tokens, its end,
 * without HTTP in between (tandem-bench takes HTTP out of a measurement with it). A client's
 * requests are told apart by its tags. GENERATE_DONE comes for each, a cancelled
 * one too. The loop's thread. */
#ifndef TANDEM_ROUTER_NATIVE_H
#define TANDEM_ROUTER_NATIVE_H

#include "base/err.h"

struct router;
struct native;

/* Binds the endpoint and serves it from r's loop. On failure *n is NULL. */
int native_open(struct native **n, struct router *r, const char *endpoint, struct err *e);
/* After the generations have ended. */
void native_close(struct native **n);

/* Where it ended up being bound. */
const char *native_endpoint(const struct native *n);

#endif
