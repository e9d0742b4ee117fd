/* sock: a ZeroMQ socket that speaks struct msg. The only file that calls zmq_*.
 *
 * Two kinds: a ROUTER is bound and knows its peers by their identity; a DEALER connects to one ROUTER
 * under an identity of its own. A message is two frames, header and protobuf, or three with the
 * KV bytes (proto/GRAMMAR.md); anything else is refused and its parts are thrown away.
 *
 * ZeroMQ loses what is under way when a connection dies and never repeats a message. Nothing here
 * waits: what cannot be sent now is ERR_BUSY and stays with the caller, who tries again on a timer.
 * - A DEALER without a connection is busy (ZMQ_IMMEDIATE), so nothing piles up for a peer that is not
 *   there; a send right after sock_connect therefore usually fails the first time.
 * - A ROUTER keeps the first owner of an identity (no handover). A DEALER that reconnects after its
 *   link was cut may find its own identity still taken, and is then not heard. So who finds the other
 *   end silent (link_dead) closes its DEALER and opens one with a new identity.
 *
 * One socket, one thread. The context may be shared by threads. */
#ifndef TANDEM_NET_SOCK_H
#define TANDEM_NET_SOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "net/keys.h"
#include "net/msg.h"
#include "net/peer.h"

struct sock_ctx;
struct sock;

enum sock_kind { SOCK_ROUTER, SOCK_DEALER };

/* CONTROL: everything but KV; closing waits up to 1 s for what was sent. DATA: the KV stream; small
 * frames only, closing drops what is queued. */
enum sock_lane { SOCK_CONTROL, SOCK_DATA };

struct sock_options {
    enum sock_kind kind;
    enum sock_lane lane;
    const char *identity; /* DEALER: 1 .. PEER_ID_MAX bytes; name#boot[.attempt]. ROUTER: NULL */
    uint32_t hwm;         /* messages queued per peer and direction; 0: more than credit allows */
    unsigned admits;      /* ROUTER: KEYS_BIT of the roles it lets in, where keys are in use */
};

/* One io thread. Owned by the caller; freed after its sockets; freeing waits for their linger. */
struct sock_ctx *sock_ctx_new(void);
void sock_ctx_free(struct sock_ctx **ctx);

struct sock_security {
    const char *keys;    /* a key file (net/keys.h); "" or NULL: none */
    enum keys_role role; /* which of its secrets is ours */
    bool insecure;       /* without keys: tcp beyond this machine all the same, with a warning */
};

/* From now on every tcp endpoint of the context's sockets is CURVE under these keys, both ways; ipc is
 * guarded by its folder. Before its first socket; without this call: no keys, not insecure. Any failure
 * of sock_curve_open. */
int sock_ctx_secure(struct sock_ctx *ctx, const struct sock_security *security, struct err *e);

/* ERR_NET if the system has no more sockets. */
int sock_open(struct sock **s, struct sock_ctx *ctx, const struct sock_options *o, struct err *e);
void sock_close(struct sock **s);

/* endpoint: tcp://host:port or ipc://path, at most MSG_ENDPOINT_MAX - 1 bytes; port * takes a free
 * one. The directory of an ipc path exists (mode 0700 is the caller's business); a stale socket file
 * is replaced. "#KEY" behind a tcp endpoint to connect to: the key of who is there; else the router's.
 * ERR_NET: in use, no such address. ERR_CONFIG: tcp beyond this machine without keys. Connecting
 * succeeds at once and goes on trying. */
int sock_bind(struct sock *s, const char *endpoint, struct err *e);
int sock_connect(struct sock *s, const char *endpoint, struct err *e);

/* Where the last bind ended up ("tcp://127.0.0.1:40123", with keys "...#KEY": ours); "" before.
 * Borrowed. */
const char *sock_endpoint(const struct sock *s);

/* Sends m; `to` is NULL on a DEALER. On success m is taken and left empty; on failure it is as
 * before. ERR_BUSY: would block, try later. ERR_NOT_FOUND: this ROUTER has no such peer (any more).
 * ERR_LIMIT: m breaks a limit of msg.h: a bug of ours, or a config that no peer would accept.
 * A KV_PAGE's bytes are not copied: bulk.release is called once, by the io thread when they are
 * written out, or by any thread that closes the connection or the socket, or within this call. */
int sock_send(struct sock *s, const struct peer *to, struct msg *m, struct err *e);

/* Takes the next message: 1 and *m is the caller's (msg_fini); 0: nothing there now. Negative: a
 * message from *from (n = 0: unknown) was malformed and is gone; the code and e say why, *m is
 * empty; there may be more. The bytes of a KV_PAGE stay in the received frame until msg_fini; any
 * thread may do that. from may be NULL. */
int sock_recv(struct sock *s, struct peer *from, struct msg *m, struct err *e);

/* Of a DEALER: true if its connection broke since the last call. ZeroMQ makes a new one by itself, but
 * what was under way either way is lost. Ask on a timer. */
bool sock_broke(struct sock *s);

/* Of a DEALER: why the other end did not let it in when it last tried, NULL if it did or could not be
 * reached. As sock_broke last saw it. Static text. ZeroMQ may not try again on this socket: close it. */
const char *sock_refusal(const struct sock *s);

/* True if sock_recv would not return 0. Also lets ZeroMQ catch up with its io thread. */
bool sock_readable(struct sock *s);

/* Becomes readable, once, when something happened; then sock_readable must be asked until false, and
 * after every send as well (net/loop does). Owned by the socket. */
int sock_fd(const struct sock *s);

enum sock_kind sock_kind(const struct sock *s);

#endif
