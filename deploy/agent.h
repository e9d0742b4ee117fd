/* agent: the far end of `tandem up` and the other commands on one host of a cluster: `tandem agent`,
 * started there by ssh, or here by fork for `host: local`. It answers requests in their order, one at
 * a time; what takes long tells events meanwhile. Bytes go in, bytes come out (wire.h): descriptors are
 * its owner's. One thread.
 *
 *   {"op": "hello", "protocol", "cluster", "topology": BOOL}
 *                                   -> {"version", "run_dir", "running", "available": bytes of memory,
 *                                       "topology": XML}
 *   {"op": "model", "path"}         -> {"size", "hash"} or {"absent": true}
 *   {"op": "receive", "path", "size", "hash"}  {"event": "offset", "offset"}, then the raw bytes from there
 *                                      on are read, {}: the file is there, whole and checked
 *   {"op": "start", "cluster", "processes": [{"name", "argv"}], "files": {NAME: TEXT}}
 *                                   -> {}; then, until detach, events progress and failed
 *   {"op": "detach", "stay": BOOL}  -> {}: it is ready; without stay it goes on without us
 *   {"op": "ping"}                  -> {}
 *   {"op": "write", "cluster", "files"}        -> {}: into the run directory
 *   {"op": "list" | "add" | "remove" | "replace", "cluster", ...}  -> as the supervisor answers,
 *                                      control.h; a listed process that is dead has "last", its last words
 *   {"op": "stop", "cluster"}       -> {"was": BOOL}: it is down
 *   {"op": "tail", "cluster", "names": [...], "lines", "follow": BOOL}  events line, then {} or never
 *   {"op": "http", "http", "method", "path", "body", "key"}  -> {"status", "body"}
 *   {"op": "connect", "http"}       -> {}: all that follows, both ways, is that connection's
 *   {"op": "doctor", "want"}        -> as doctor_run answers, doctor.h
 *   {"op": "clock"}                 -> {"time_s"}: what the clock on the wall says there
 *
 * Each reply has "re", the operation; one that failed has "error", a sentence, and "code". A cluster
 * that was started here and not left by detach ends with the agent, and so does an agent that has
 * heard nothing for AGENT_SILENCE_S meanwhile: a cut connection may never tell. */
#ifndef TANDEM_DEPLOY_AGENT_H
#define TANDEM_DEPLOY_AGENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

#define AGENT_SILENCE_S 90
#define AGENT_PING_S 20 /* how often who started something says ping, if nothing else */

struct agent;

/* Owned by the caller. agent_free waits for the end of a cluster that was started and not left. */
struct agent *agent_new(void);
void agent_free(struct agent **a);

void agent_feed(struct agent *a, const void *bytes, size_t n);

/* Takes requests and goes on with what is under way. Returns when it wants to be called again at the
 * latest, clock_now's time; INT64_MAX: when bytes come, or agent_fd is readable. */
int64_t agent_work(struct agent *a, int64_t now);

/* What is to be sent; the caller removes what it has sent. */
struct str *agent_output(struct agent *a);

int agent_fd(const struct agent *a); /* -1: none */

/* There is no going on: the input was no conversation of ours. */
bool agent_ended(const struct agent *a);

/* After connect: the connected descriptor, -1 before. What was fed beyond is to be sent there first. */
int agent_relay(const struct agent *a);
const char *agent_rest(const struct agent *a, size_t *n);

#endif
