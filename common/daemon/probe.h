/* probe: a node's small HTTP server, for Prometheus and for whoever asks whether it lives.
 *
 *   GET /metrics   the page that the owner writes
 *   GET /health    200 while the network thread runs
 *   GET /ready     200 while the router gives the node work, else 503
 *
 * Each also behind /v1. On the thread of the event base. */
#ifndef TANDEM_DAEMON_PROBE_H
#define TANDEM_DAEMON_PROBE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/str.h"

struct event_base;
struct probe;

struct probe_events {
    void *ctx;
    void (*metrics)(void *ctx, struct str *out); /* appends the page */
    bool (*ready)(void *ctx);
};

/* Listens on address, host:port; "": *p is NULL, and nothing listens. The base and ctx are borrowed
 * until probe_close. ERR_NET with one sentence. */
int probe_open(struct probe **p, struct event_base *base, const char *address,
               const struct probe_events *events, struct err *e);
void probe_close(struct probe **p); /* also of NULL */

/* Writes host:port for others to ask: the port that port 0 became, and the machine's name where the
 * address is that of every interface. "" without a server. */
void probe_address(const struct probe *p, char *out, size_t n);

#endif
