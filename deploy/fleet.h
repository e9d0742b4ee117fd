/* fleet: the agents of all hosts of a cluster, asked together. What fails is one sentence a host, on
 * stderr but for the last, which goes up as any error does. One thread. */
#ifndef TANDEM_DEPLOY_FLEET_H
#define TANDEM_DEPLOY_FLEET_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "deploy/remote.h"
#include "deploy/roster.h"

struct fleet {
    const char *program;         /* borrowed: "tandem up", which begins the sentences */
    const char *cluster;         /* borrowed: its name */
    const struct roster *roster; /* borrowed */
    struct remote *remotes;      /* [n], as the roster's hosts */
    json_t **hello;              /* [n], what each said first; NULL: nothing */
    size_t n;
    int wake_fd; /* readable: somebody wants us to end; -1 */
};

/* Fills *f: connects to all hosts and greets them; waits until each has answered or failed. topology:
 * they send theirs. A host that failed is dead, with a sentence. fleet_close it in any case.
 * ERR_CANCELLED: wake_fd. */
int fleet_open(struct fleet *f, const char *program, const char *cluster, const struct roster *roster,
               bool topology, int wake_fd, struct err *e);
void fleet_close(struct fleet *f); /* all at once */

/* Whether a supervisor of the cluster was there when the host greeted us. */
bool fleet_running(const struct fleet *f, size_t host);

/* Asks the host what it runs; the reply (control.h, list) is there after fleet_wait. */
void fleet_ask_list(struct fleet *f, size_t host);

/* Until nobody is asked any more. ERR_CANCELLED: wake_fd. */
int fleet_wait(struct fleet *f, struct err *e);

/* 0 if none failed, or has; else the sentences. Those that are skipped have a true in skip[n], NULL:
 * none. */
int fleet_check(const struct fleet *f, const bool *skip, struct err *e);

/* e begins with the host's name, unless the cluster is this machine alone. Returns e's code. */
int fleet_wrap(const struct fleet *f, size_t host, struct err *e);

/* One request to one host, waited for. It takes request; *reply is the caller's, NULL on failure. */
int fleet_ask(struct fleet *f, size_t host, json_t *request, json_t **reply, struct err *e);

/* The request of op http, with our TANDEM_API_KEY if we have one. It takes body, NULL: none. */
json_t *fleet_http_request(const char *http, const char *method, const char *path, json_t *body);

/* The router's HTTP interface, by the agent of its host: as api_call does. */
int fleet_http(struct fleet *f, const char *http, const char *method, const char *path, json_t *body,
               json_t **reply, struct err *e);

#endif
