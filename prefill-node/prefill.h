/* prefill: the prefill node as a process: sockets, loop, compute thread and membership around the
 * pure machine of core.h.
 *
 *   network thread: loop ── router socket, a socket a decode node, timer, signals, eventfds
 *   compute thread: engine (daemon/compute.h)
 *
 * The network thread also checksums KV and gives it to ZeroMQ, full pages from where they lie (sendbuf.h),
 * while the compute thread is at the next layer. Killed by SIGTERM or SIGINT it takes nothing new, lets what is here go
 * on for a moment, and leaves. */
#ifndef TANDEM_PREFILL_PREFILL_H
#define TANDEM_PREFILL_PREFILL_H

#include "daemon/role.h"

#endif
