#include "deploy/launch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "config/ranges.h"
#include "deploy/address.h"

#define LAUNCH_ENDPOINT_MAX 160 /* tcp:// with ADDRESS_MAX and a port, ipc:// with OPTIONS_IPC_MAX */

/* Where things are while the command lines are written. */
struct launch_context {
    const struct cluster *cluster;
    const struct launch_place *places;
    bool tcp;                         /* the processes meet over TCP, not in socket files */
    char (*addresses)[ADDRESS_MAX];   /* [cluster->n_hosts], numeric, with tcp */
    char nodes[LAUNCH_ENDPOINT_MAX];  /* the router's endpoint for nodes, as it binds it */
    char router[LAUNCH_ENDPOINT_MAX]; /* the same as nodes connect to it */
};

/* "ipc://RUN/NAME.sock". */
static int launch_ipc(char out[LAUNCH_ENDPOINT_MAX], const char *run_dir, const char *name,
                      struct err *e)
{
    int n = snprintf(out, LAUNCH_ENDPOINT_MAX, "ipc://%s/%s.sock", run_dir, name);

    ASSERT(n > 0);
    if (n > OPTIONS_IPC_MAX + 6)
        return err_set(e, ERR_LIMIT, "%s/%s.sock is %d bytes long, the system's limit is %d", run_dir,
                       name, n - 6, OPTIONS_IPC_MAX);
    return 0;
}

/* "tcp://ADDRESS:PORT", of a numeric address; that of IPv6 in brackets. */
static void launch_tcp(char out[LAUNCH_ENDPOINT_MAX], const char *address, const char *port)
{
    int n = snprintf(out, LAUNCH_ENDPOINT_MAX,
                     strchr(address, ':') ? "tcp://[%s]:%s" : "tcp://%s:%s", address, port);

    ASSERT(n > 0 && n < LAUNCH_ENDPOINT_MAX);
}

/* The host in "tcp://host:port"; "" if that means all addresses. */
static void launch_host_of(char out[ADDRESS_MAX], const char *endpoint)
{
    static const char *const all[] = {"*", "0.0.0.0", "[::]"};
    const char *host = endpoint + strlen("tcp://");

    snprintf(out, ADDRESS_MAX, "%.*s", (int)(strrchr(host, ':') - host), host);
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (!strcmp(out, all[i]))
            *out = '\0';
}

/* What a host's address is, where its entry may leave it out: that of the router's endpoint. */
static int launch_address(struct launch_context *x, size_t i, struct err *e)
{
    const struct cluster *c = x->cluster;
    const struct cluster_host *h = &c->hosts[i];
    char given[ADDRESS_MAX];
    struct err why = {0};

    snprintf(given, sizeof(given), "%s", h->address);
    if (!*given && *c->router.nodes)
        launch_host_of(given, c->router.nodes);
    if (!*given)
        return cluster_fail(c, h->mark, e, "nodes: %s: say the `address:` of host %s, at which nodes "
                                           "elsewhere reach it", c->router.nodes, h->host);
    if (address_resolve(x->addresses[i], given, &why))
        return cluster_fail(c, h->mark, e, "host %s: %s; say its `address:`", h->host, why.text);
    return 0;
}

/* The router's endpoint where that is a socket file: as the file says, or in the run directory. */
static int launch_endpoint_file(struct launch_context *x, struct err *e)
{
    const char *given = x->cluster->router.nodes;
    int rc = 0;

    if (*given)
        snprintf(x->nodes, sizeof(x->nodes), "%s", given);
    else
        rc = launch_ipc(x->nodes, x->places[0].run_dir, "nodes", e);
    memcpy(x->router, x->nodes, sizeof(x->router));
    return rc;
}

/* The same over TCP: at its host's address, or where the file says. Nodes reach one that is bound to
 * all addresses at its host's. */
static int launch_endpoint_tcp(struct launch_context *x, struct err *e)
{
    const char *given = x->cluster->router.nodes;
    char host[ADDRESS_MAX], numeric[ADDRESS_MAX];
    struct err why = {0};

    launch_tcp(x->router, x->addresses[0], cluster_nodes_port(x->cluster));
    if (*given) {
        launch_host_of(host, given);
        if (*host && address_resolve(numeric, host, &why))
            return err_set(e, ERR_CONFIG, "%s: nodes: %s: %s", x->cluster->file, given, why.text);
        if (*host)
            launch_tcp(x->router, numeric, cluster_nodes_port(x->cluster));
        else
            snprintf(x->nodes, sizeof(x->nodes), "%s", given);
    }
    if (!*x->nodes)
        memcpy(x->nodes, x->router, sizeof(x->nodes));
    return 0;
}

static int launch_context_init(struct launch_context *x, struct err *e)
{
    size_t n = x->cluster->n_hosts;
    int rc = 0;

    x->tcp = cluster_uses_tcp(x->cluster);
    x->addresses = mem_calloc(n, sizeof(*x->addresses));
    for (size_t i = 0; i < n && x->tcp && !rc; i++)
        rc = launch_address(x, i, e);
    if (rc)
        return rc;
    return x->tcp ? launch_endpoint_tcp(x, e) : launch_endpoint_file(x, e);
}

/* The program's path, then --key=value of every option. */
static char **launch_argv(const char *program_dir, const struct option_table *t,
                          const void *options)
{
    char **argv = mem_calloc(t->n + 2, sizeof(*argv));
    struct str s = {0};

    str_addf(&s, "%s/%s", program_dir, t->program);
    argv[0] = str_steal(&s);
    for (size_t i = 0; i < t->n; i++) {
        str_addf(&s, "--%s=", t->options[i].key);
        option_text(&t->options[i], options, &s);
        argv[i + 1] = str_steal(&s);
    }
    return argv;
}

/* The copies below borrow their strings from the cluster, the plan and the stack. */
static void launch_common(struct daemon_options *o, const struct launch_context *x,
                          const struct plan_node *node)
{
    const char *keys = x->places[node->host].keys;

    o->cluster = x->cluster->cluster;
    o->model = x->cluster->hosts[node->host].model;
    o->name = (char *)node->place->name;
    o->keys = (char *)(keys ? keys : "");
    o->insecure = x->cluster->insecure;
}

static int launch_router(char ***argv, const struct launch_context *x, const struct plan_node *node,
                         struct err *e)
{
    const struct launch_place *place = &x->places[node->host];
    struct router_options o = x->cluster->router;
    char nodes[LAUNCH_ENDPOINT_MAX], clients[LAUNCH_ENDPOINT_MAX];
    int rc = launch_ipc(clients, place->run_dir, "clients", e);

    launch_common(&o.common, x, node);
    memcpy(nodes, x->nodes, sizeof(nodes));
    o.nodes = nodes;
    if (!*o.clients)
        o.clients = clients;
    *argv = launch_argv(place->program_dir, &router_option_table, &o);
    return rc;
}

static int launch_node(char ***argv, const struct launch_context *x, const struct plan_node *node,
                       struct err *e)
{
    const struct launch_place *place = &x->places[node->host];
    bool prefill = node->place->kind == PLACE_PREFILL;
    struct node_options o = (prefill ? &x->cluster->prefill : &x->cluster->decode)->options;
    char router[LAUNCH_ENDPOINT_MAX], kv[LAUNCH_ENDPOINT_MAX];
    struct str cores = {0};
    int rc = 0;

    launch_common(&o.common, x, node);
    memcpy(router, x->router, sizeof(router));
    if (x->tcp) {
        launch_tcp(kv, x->addresses[node->host], "0"); /* any port: it tells the router */
        if (!strcmp(o.metrics, OPTIONS_METRICS))
            o.metrics = kv + strlen("tcp://"); /* where Prometheus on another host reaches it */
    } else {
        rc = launch_ipc(kv, place->run_dir, node->place->name, e);
    }
    ranges_format(&cores, node->place->pus, node->place->n_pus);
    o.router = router;
    o.kv = kv;
    o.cores = cores.data;
    o.domain = (int32_t)node->domain->os_index;
    o.kv_pages = node->kv_pages;
    *argv = launch_argv(place->program_dir, prefill ? &prefill_option_table : &decode_option_table,
                        &o);
    str_fini(&cores);
    return rc;
}

static int launch_one(struct launch_process *out, const struct launch_context *x,
                      const struct plan_node *node, struct err *e)
{
    bool router = node->place->kind == PLACE_ROUTER;

    out->name = mem_strdup(node->place->name);
    out->host = node->host;
    return router ? launch_router(&out->argv, x, node, e) : launch_node(&out->argv, x, node, e);
}

/* Of this machine's programs only: others are looked at on their hosts. */
static int launch_check(const struct launch_process *p, const struct launch_context *x, struct err *e)
{
    if (cluster_host_is_local(&x->cluster->hosts[p->host]) && !x->places[p->host].unchecked &&
        access(p->argv[0], X_OK))
        return err_set(e, ERR_NOT_FOUND, "%s: %s", p->argv[0], strerror(errno));
    return 0;
}

int launch_init(struct launch *l, const struct cluster *c, const struct plan *p,
                const struct launch_place *places, struct err *e)
{
    struct launch_context x = {.cluster = c, .places = places};
    int rc = launch_context_init(&x, e);

    l->processes = mem_calloc(p->n, sizeof(*l->processes));
    for (size_t i = 0; i < p->n && !rc; i++)
        rc = launch_one(&l->processes[l->n++], &x, &p->nodes[i], e);
    for (size_t i = 0; i < l->n && !rc; i++)
        rc = launch_check(&l->processes[i], &x, e);
    mem_free(x.addresses);
    return rc;
}

void launch_process_init(struct launch_process *out, const char *name, const char *const *argv,
                         size_t n)
{
    out->host = 0;
    out->name = mem_strdup(name);
    out->argv = mem_calloc(n + 1, sizeof(*out->argv));
    for (size_t i = 0; i < n; i++)
        out->argv[i] = mem_strdup(argv[i]);
}

void launch_process_fini(struct launch_process *p)
{
    for (char **arg = p->argv; arg && *arg; arg++)
        mem_free(*arg);
    mem_free(p->argv);
    mem_free(p->name);
    *p = (struct launch_process){0};
}

json_t *launch_process_argv(const struct launch_process *p)
{
    json_t *argv = json_array();

    for (char **arg = p->argv; *arg; arg++)
        json_array_append_new(argv, json_string(*arg));
    return argv;
}

void launch_fini(struct launch *l)
{
    for (size_t i = 0; i < l->n; i++)
        launch_process_fini(&l->processes[i]);
    mem_free(l->processes);
    *l = (struct launch){0};
}
