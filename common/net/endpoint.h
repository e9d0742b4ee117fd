/* endpoint: the names that ZeroMQ sockets are bound to: tcp://host:port, ipc://path. Any thread. */
#ifndef TANDEM_NET_ENDPOINT_H
#define TANDEM_NET_ENDPOINT_H

#include <stdbool.h>

bool endpoint_is_tcp(const char *endpoint);

/* Of tcp://host:port: only this machine reaches it, or it names no host at all. A name other than
 * localhost may be anywhere, so may `*`. */
bool endpoint_is_loopback(const char *endpoint);

/* Of ipc://path: somebody listens there. zmq_bind would take the path away from a living process. */
bool endpoint_taken(const char *endpoint);

#endif
