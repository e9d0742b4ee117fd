/* decode: the decode node as a process: sockets, loop, compute thread and membership around the pure
 * machine of core.h.
 *
 *   network thread: loop ── router socket, KV socket, timer, signals, compute's eventfd
 *   compute thread: engine (daemon/compute.h)
 *
 * Killed by SIGTERM or SIGINT it takes nothing new, lets what runs go on for a moment, and leaves. */
#ifndef TANDEM_DECODE_DECODE_H
#define TANDEM_DECODE_DECODE_H

#include "daemon/role.h"

#endif
