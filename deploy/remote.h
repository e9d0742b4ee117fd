/* remote: the near end of `tandem agent` (agent.h) on one host: starts it, by ssh or for "local" by
 * fork, asks it, one request at a time, and hands its events to its owner. All hosts of a cluster are
 * served by one poll loop. What goes wrong becomes one sentence that says what to do. One thread.
 *
 *   remote_open --> idle --remote_ask--> asked --reply--> idle, .reply or .e
 *                    |                     |
 *                    +---------------------+--connection ends, time is up--> dead, .e */
#ifndef TANDEM_DEPLOY_REMOTE_H
#define TANDEM_DEPLOY_REMOTE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"
#include "deploy/wire.h"

#define REMOTE_HELLO_S 20   /* for ssh to connect, and the agent to look around */
#define REMOTE_REPLY_S 30   /* for what does not depend on the size of anything */
#define REMOTE_FOREVER 0

struct remote {
    const char *host;     /* borrowed: as in cluster.yaml; "local": this machine */
    const char *programs; /* borrowed: the folder of `tandem` there */
    pid_t pid;            /* of ssh or of the agent; 0: none */
    int in, out, err;     /* our ends of its stdin, stdout, stderr; -1 */
    struct wire wire;
    struct str tx, said;  /* to be sent; what came on stderr */
    bool greeted;         /* its first reply has come: what is no object until then is a login banner */
    size_t banner;        /* bytes of that */
    char heard[64];       /* its last line */
    bool asked, dead;
    json_t *reply;        /* of the last request; owned */
    struct err e;         /* why it failed, or is dead */
    int64_t until;        /* when patience with the request ends; INT64_MAX */
    int upload_fd;        /* a file that is being sent, borrowed; -1: none */
    uint64_t upload_left;
    void (*event)(void *ctx, struct remote *r, const json_t *event); /* NULL: nobody listens */
    void *ctx;
};

/* Fills *r and starts the agent; host and programs are borrowed. ssh: a command split at blanks. On
 * failure r is dead. remote_close it in any case. */
int remote_open(struct remote *r, const char *ssh, const char *host, const char *programs);

/* Asks the program to end, by the end of its input. */
void remote_hang_up(struct remote *r);

/* The same, waits for it a little, then kills it. */
void remote_close(struct remote *r);

/* Sends a request, which it takes. patience_s: REMOTE_FOREVER or how long the reply may take. A dead
 * one stays dead. */
void remote_ask(struct remote *r, json_t *request, uint32_t patience_s);

/* After the request, and the other end's consent: bytes of fd from where it stands. */
void remote_upload(struct remote *r, int fd, uint64_t bytes);

/* Serves them all once: sends, receives, calls event; waits at most timeout_ms (-1: no bound) for
 * something to happen, or for wake_fd (-1: none) to become readable. True while one of them is asked. */
bool remotes_serve(struct remote *r, size_t n, int timeout_ms, int wake_fd);

/* What to say of a program that has ended with this wait status having written `said` to stderr. Pure. */
void remote_explain(struct err *e, const struct remote *r, int status, const char *said);

#endif
