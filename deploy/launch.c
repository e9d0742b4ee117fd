#include "deploy/launch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "config/ranges.h"

/* Where things are while the command lines are written. */
struct launch_places {
    const struct cluster *cluster;
    const char *program_dir, *run_dir;
    char nodes[OPTIONS_IPC_MAX + 8]; /* the router's endpoint for nodes */
};

/* "ipc://RUN/NAME.sock"; rundir_locate has seen to the length. */
static void launch_endpoint(char out[OPTIONS_IPC_MAX + 8], const char *run_dir, const char *name)
{
    int n = snprintf(out, OPTIONS_IPC_MAX + 8, "ipc://%s/%s.sock", run_dir, name);

    ASSERT(n > 0 && n < OPTIONS_IPC_MAX + 8);
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
static void launch_common(struct daemon_options *o, const struct cluster *c,
                          const struct place_node *node)
{
    o->cluster = c->cluster;
    o->model = c->model;
    o->name = (char *)node->name;
}

static char **launch_router(const struct launch_places *places, const struct plan_node *node)
{
    struct router_options o = places->cluster->router;
    char nodes[sizeof(places->nodes)], clients[sizeof(places->nodes)];

    launch_common(&o.common, places->cluster, node->place);
    memcpy(nodes, places->nodes, sizeof(nodes));
    o.nodes = nodes;
    launch_endpoint(clients, places->run_dir, "clients");
    if (!*o.clients)
        o.clients = clients;
    return launch_argv(places->program_dir, &router_option_table, &o);
}

static char **launch_node(const struct launch_places *places, const struct plan_node *node)
{
    bool prefill = node->place->kind == PLACE_PREFILL;
    struct node_options o = (prefill ? &places->cluster->prefill : &places->cluster->decode)->options;
    char nodes[sizeof(places->nodes)], kv[sizeof(places->nodes)];
    struct str cores = {0};
    char **argv;

    launch_common(&o.common, places->cluster, node->place);
    memcpy(nodes, places->nodes, sizeof(nodes));
    launch_endpoint(kv, places->run_dir, node->place->name);
    ranges_format(&cores, node->place->pus, node->place->n_pus);
    o.router = nodes;
    o.kv = kv;
    o.cores = cores.data;
    o.domain = (int32_t)node->domain->os_index;
    o.kv_pages = node->kv_pages;
    argv = launch_argv(places->program_dir, prefill ? &prefill_option_table : &decode_option_table,
                       &o);
    str_fini(&cores);
    return argv;
}

int launch_init(struct launch *l, const struct cluster *c, const struct plan *p,
                const char *program_dir, const char *run_dir, struct err *e)
{
    struct launch_places places = {.cluster = c, .program_dir = program_dir, .run_dir = run_dir};
    int rc = 0;

    launch_endpoint(places.nodes, run_dir, "nodes");
    l->processes = mem_calloc(p->n, sizeof(*l->processes));
    for (size_t i = 0; i < p->n; i++) {
        static char **(*const argv_of[])(const struct launch_places *, const struct plan_node *) = {
            [PLACE_ROUTER] = launch_router,
            [PLACE_PREFILL] = launch_node,
            [PLACE_DECODE] = launch_node,
        };
        const struct plan_node *node = &p->nodes[i];
        struct launch_process *process = &l->processes[l->n++];

        process->name = mem_strdup(node->place->name);
        process->argv = argv_of[node->place->kind](&places, node);
        if (access(process->argv[0], X_OK) && !rc)
            rc = err_set(e, ERR_NOT_FOUND, "%s: %s", process->argv[0], strerror(errno));
    }
    return rc;
}

void launch_process_init(struct launch_process *out, const char *name, const char *const *argv,
                         size_t n)
{
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

void launch_fini(struct launch *l)
{
    for (size_t i = 0; i < l->n; i++)
        launch_process_fini(&l->processes[i]);
    mem_free(l->processes);
    *l = (struct launch){0};
}
