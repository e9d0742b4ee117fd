/* control: how the other commands talk to the supervisor of a running cluster: a socket in its run
 * directory, one JSON object there and one back on each connection.
 *
 *   {"op": "list"}                  -> {"processes": [{"name", "pid", "stopping": BOOL, "argv"}, ...]}
 *   {"op": "add", "name": NAME, "argv": [...]}    -> {}: started, and kept alive as the others
 *   {"op": "remove", "name": NAME, "stop": BOOL}  -> {}: not started again; stop: ended now
 *   {"op": "replace", "name": NAME, "argv": [...]} -> {}: ended, and from now on started as argv says
 *   anything that cannot be done                  -> {"error": "a sentence"}
 *
 * The directory is the user's alone (0700), and so is the socket. pid is 0 while a process is dead. */
#ifndef TANDEM_DEPLOY_CONTROL_H
#define TANDEM_DEPLOY_CONTROL_H

#include <jansson.h>

#include "base/err.h"
#include "deploy/rundir.h"

#define CONTROL_BYTES_MAX (1u << 20) /* of one object */
#define CONTROL_TIMEOUT_MS 1000      /* for a peer to send or take one */

/* The supervisor's end: a listening descriptor, or -1 and e. */
int control_listen(const struct rundir *d, struct err *e);

/* Takes one waiting connection and answers it. answer returns a new object; it is called only with an
 * object. A peer that is slow or talks nonsense costs CONTROL_TIMEOUT_MS at most. */
void control_serve(int fd, json_t *(*answer)(void *ctx, const json_t *request), void *ctx);

/* {"error": ...} of a printf-like sentence. */
json_t *control_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The commands' end. Takes request; *reply is owned by the caller, NULL on failure. An error in the
 * reply is ERR_PEER and the sentence. */
int control_ask(json_t **reply, const struct rundir *d, json_t *request, struct err *e);

#endif
