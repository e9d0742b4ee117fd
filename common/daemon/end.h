/* end: how a node's process ended, from whoever saw it end to the router.
 *
 * The router alone cannot tell a node that a request has crashed from one that was killed under it, or
 * a dead host from a slow one. A supervisor can: it starts the node's program with the node's own
 * arguments and --tell_end, which sends MSG_ENDED over a connection of its own and exits. So the word
 * takes the way, and the keys, that the node itself had. */
#ifndef TANDEM_DAEMON_END_H
#define TANDEM_DAEMON_END_H

#include "base/err.h"
#include "base/str.h"
#include "daemon/options.h"

/* Appends `--tell_end=PID,crashed,TEXT` (or `killed`) for a process that ended with this status of
 * waitpid. It crashed if a signal that programs raise against themselves ended it (SIGSEGV, SIGABRT,
 * SIGBUS, SIGILL, SIGFPE, SIGSYS, SIGTRAP), or an exit code other than 0. SIGKILL is the out-of-memory
 * killer's too: the pools of a node are of fixed size, so that no request is to blame for it. */
void end_argument(struct str *out, int pid, int status);

/* For option.wrong: NULL, or why value is nothing that end_argument makes. "" is right. */
const char *end_wrong(const char *value);

/* Tells the router what o->tell_end says; waits a moment for a connection. ERR_NET: there was none. */
int end_tell(const struct node_options *o, struct err *e);

#endif
