/* sock_curve: CURVE for the sockets of one context: what they are, and whom they let in. A part of
 * net/sock, which alone uses it, but for the functions that make keys.
 *
 *   network thread:  sets the keys of sockets from what the file held at start (never changes)
 *   guard thread:    answers ZeroMQ's question (ZAP, RFC 27) whether a connecting key may come in:
 *                    its role must be one of the socket's. It has the file's list for itself and
 *                    reads the file again when it has changed; a file that is then malformed is
 *                    logged and the list of before stays.
 *
 * CURVE without such a guard lets in every key. */
#ifndef TANDEM_NET_SOCK_CURVE_H
#define TANDEM_NET_SOCK_CURVE_H

#include "net/keys.h"

struct sock_curve;

/* Reads the file and starts the guard, which is there when this returns. zmq: the context, borrowed.
 * ERR_CONFIG: the file has no secret of that role, or no router. Else as keys_read. */
int sock_curve_open(struct sock_curve **c, void *zmq, const char *file, enum keys_role role,
                    struct err *e);

/* After zmq_ctx_term, which ends the guard. */
void sock_curve_close(struct sock_curve **c);

/* Before zmq_bind and zmq_connect. roles: KEYS_BIT of those it lets in. server_key: 40 characters of
 * whom it connects to, NULL: the router. ERR_FORMAT: that is no key. */
void sock_curve_server(const struct sock_curve *c, void *socket, unsigned roles);
int sock_curve_client(const struct sock_curve *c, void *socket, const char *server_key, struct err *e);

/* Our own public key. Borrowed. */
const char *sock_curve_own(const struct sock_curve *c);

/* A new pair. ERR_UNSUPPORTED: libzmq has no CURVE. */
int sock_curve_pair(struct keys_pair *out, struct err *e);

/* The public key of a secret one, both Z85. */
void sock_curve_public(char public_key[KEYS_TEXT], const char *secret);

#endif
