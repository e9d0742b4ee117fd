/* launch: the command lines of a cluster's processes. Plain data, made once from the cluster and its
 * plan; starts nothing. */
#ifndef TANDEM_DEPLOY_LAUNCH_H
#define TANDEM_DEPLOY_LAUNCH_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "deploy/cluster.h"
#include "deploy/plan.h"
#include "host/place.h"
#include "net/http_server.h"

/* Open files that a router may need: HTTP connections; those of nodes; native clients, pipes,
 * files. */
#define LAUNCH_ROUTER_FILES (HTTP_CONNS_MAX + PLACE_NODES_MAX + 1024)

struct launch_process {
    char *name;  /* owned: "router", "decode-1" */
    char **argv; /* NULL-terminated, owned; argv[0] is the program's path */
    uint32_t host; /* index into the cluster's hosts: where it is to run */
};

/* out gets copies of its own of name and argv[n]; its host is 0. */
void launch_process_init(struct launch_process *out, const char *name, const char *const *argv,
                         size_t n);
void launch_process_fini(struct launch_process *p);
/* Its argv as a JSON list, owned by the caller: as agents and supervisors say it. */
json_t *launch_process_argv(const struct launch_process *p);

struct launch {
    struct launch_process *processes; /* the router first */
    size_t n;
};

/* Where things are on a host. Borrowed. */
struct launch_place {
    const char *program_dir; /* where tandem-router and the others are */
    const char *run_dir;     /* where their sockets go */
    const char *keys;        /* the file there with the secrets of its processes; NULL: none */
    bool unchecked;          /* programs that are missing now are no error */
};

/* Fills a zeroed l; launch_fini in any case. places[c->n_hosts]. Every option is passed, so that no
 * environment of ours decides anything. With several hosts the endpoints are TCP at the hosts'
 * addresses; names are resolved here and now. ERR_NOT_FOUND: a program is missing on this machine (on
 * others: theirs to find out); ERR_LIMIT: a run_dir too long for a socket in it; ERR_CONFIG: an
 * address that is none. */
int launch_init(struct launch *l, const struct cluster *c, const struct plan *p,
                const struct launch_place *places, struct err *e);
void launch_fini(struct launch *l);

#endif
