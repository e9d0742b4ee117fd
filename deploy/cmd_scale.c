/* tandem scale: more or fewer nodes of a kind in a cluster that serves. New ones are started as their
 * siblings were, on cores of their own if there are any, on the host that has most of them or the one
 * that was named; those that go are drained first, so no request is lost. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/mem.h"
#include "config/ranges.h"
#include "deploy/address.h"
#include "deploy/api.h"
#include "deploy/change.h"
#include "deploy/command.h"
#include "deploy/commands.h"
#include "host/place_add.h"
#include "host/topo.h"

struct scale_options {
    uint32_t wait_s;
    char *host;
};

static const struct option scale_rows[] = {
    OPTION(scale_options, host, STR, .unit = "HOST",
           .help = "where nodes come or go; left out: where there is most room, and the last ones"),
    OPTION(scale_options, wait_s, U32, .def = "600", .min = 1, .max = 86400, .unit = "S",
           .help = "how long one node may take to come or to go"),
};

static const struct option_table scale_option_table = {
    .program = "tandem scale",
    .usage = "[FILE|CLUSTER] KIND=N...",
    .summary = "Starts or drains nodes until the cluster has N of that kind: decode=4, prefill=2",
    .options = scale_rows,
    .n = ARRAY_LEN(scale_rows),
};

/* One run. */
struct scale {
    const struct scale_options *options;
    struct target target;
    struct fleet fleet;
    struct change change;
    struct topo **topos;     /* [fleet.n], NULL: nothing of the cluster runs there */
    struct place_host *said; /* [fleet.n], what the file said of each */
    uint32_t host;       /* PLACE_ANY_HOST */
    uint32_t want[PLACE_DECODE + 1]; /* nodes of each kind; 0: nothing was said */
    struct place_node *nodes; /* [change.n], as the change's */
};

static void scale_forget(struct scale *s, size_t n)
{
    for (size_t i = 0; s->nodes && i < n; i++)
        mem_free(s->nodes[i].pus);
    mem_free(s->nodes);
    s->nodes = NULL;
}

/* The index of a domain with this number of the system's. */
static uint32_t scale_domain(const struct topo *t, const char *os_index)
{
    uint32_t want = os_index ? (uint32_t)strtoul(os_index, NULL, 10) : 0;

    for (uint32_t d = 0; d < t->n_domains; d++)
        if (t->domains[d].os_index == want)
            return d;
    return 0;
}

/* Where all that runs is, from the command lines that it runs with. */
static int scale_nodes(struct scale *s, struct err *e)
{
    const struct change *c = &s->change;

    s->nodes = mem_calloc(c->n, sizeof(*s->nodes));
    for (size_t i = 0; i < c->n; i++) {
        const struct change_node *from = &c->nodes[i];
        const char *cores = change_argument(from->argv, "cores");
        struct place_node *node = &s->nodes[i];

        node->kind = from->kind;
        node->host = from->host;
        node->domain = scale_domain(s->topos[from->host], change_argument(from->argv, "domain"));
        snprintf(node->name, sizeof(node->name), "%s", from->name);
        if (cores && ranges_parse(&node->pus, &node->n_pus, cores, e))
            return err_wrap(e, "%s", node->name);
    }
    return 0;
}

static uint32_t scale_count(const struct scale *s, enum place_kind kind)
{
    uint32_t n = 0;

    for (size_t i = 0; i < s->change.n; i++)
        n += s->change.nodes[i].kind == kind;
    return n;
}

/* The last of a kind, of a host or of any. NULL: there is none. */
static const struct change_node *scale_last(const struct scale *s, enum place_kind kind, uint32_t host)
{
    const struct change_node *last = NULL;

    for (size_t i = 0; i < s->change.n; i++) {
        const struct change_node *n = &s->change.nodes[i];

        if (n->kind == kind && (host == PLACE_ANY_HOST || n->host == host) &&
            (!last || place_name_order(n->name, last->name) > 0))
            last = n;
    }
    return last;
}

/* Whose command line a new node gets: one of its kind and host, else of its host, else of its kind, else
 * any, for all have the same options. */
static const struct change_node *scale_sibling(const struct scale *s, enum place_kind kind,
                                               uint32_t host)
{
    enum place_kind other = kind == PLACE_DECODE ? PLACE_PREFILL : PLACE_DECODE;
    const struct change_node *n = scale_last(s, kind, host);

    n = n ? n : scale_last(s, other, host);
    n = n ? n : scale_last(s, kind, PLACE_ANY_HOST);
    return n ? n : scale_last(s, other, PLACE_ANY_HOST);
}

/* One argument of the sibling's, as the new node gets it. A TCP socket takes any free port: the node
 * tells the router which. */
static json_t *scale_argument(const struct scale *s, const struct change_node *sibling,
                              const struct place_node *node, const char *arg)
{
    const struct roster_host *host = &s->target.roster.hosts[node->host];
    const char *run_dir = api_text(s->fleet.hello[node->host], "run_dir"), *colon = strrchr(arg, ':');
    bool moved = sibling->host != node->host;
    char address[ADDRESS_MAX];
    struct str cores = {0};
    json_t *out;

    if (!strncmp(arg, "--cores=", 8)) {
        ranges_format(&cores, node->pus, node->n_pus);
        out = json_sprintf("--cores=%s", str_text(&cores));
        str_fini(&cores);
        return out;
    }
    if (!strncmp(arg, "--name=", 7))
        return json_sprintf("--name=%s", node->name);
    if (!strncmp(arg, "--domain=", 9))
        return json_sprintf("--domain=%u", s->topos[node->host]->domains[node->domain].os_index);
    if (!strncmp(arg, "--kv=ipc://", 11))
        return json_sprintf("--kv=ipc://%s/%s.sock", run_dir, node->name);
    if (!strncmp(arg, "--kv=tcp://", 11) && moved && !address_resolve(address, host->address, NULL))
        return json_sprintf(strchr(address, ':') ? "--kv=tcp://[%s]:0" : "--kv=tcp://%s:0", address);
    if (!strncmp(arg, "--kv=tcp://", 11) && colon)
        return json_sprintf("%.*s:0", (int)(colon - arg), arg);
    if (moved && !strncmp(arg, "--model=", 8))
        return json_sprintf("--model=%s", host->model);
    if (moved && !strncmp(arg, "--keys=", 7) && arg[7])
        return json_sprintf("--keys=%s%s", run_dir, strrchr(arg, '/'));
    return json_string(arg);
}

static json_t *scale_argv(const struct scale *s, const struct place_node *node)
{
    const struct change_node *sibling = scale_sibling(s, node->kind, node->host);
    json_t *argv = json_array();

    json_array_append_new(argv, json_sprintf("%s/tandem-%s", s->target.roster.hosts[node->host].programs,
                                             place_kind_name(node->kind)));
    for (size_t i = 1; i < json_array_size(sibling->argv); i++)
        json_array_append_new(argv, scale_argument(s, sibling, node, json_string_value(
                                                       json_array_get(sibling->argv, i))));
    return argv;
}

/* A model that does not fit beside what is there would only drive the machine into swap. */
static int scale_memory(const struct scale *s, uint32_t host, struct err *e)
{
    uint64_t left = (uint64_t)api_number(s->fleet.hello[host], "available");
    struct str need = {0}, have = {0};
    struct stat st;

    if (!left || stat(s->target.state.model, &st) || (uint64_t)st.st_size <= left)
        return 0;
    size_text(&need, (uint64_t)st.st_size);
    size_text(&have, left);
    err_set(e, ERR_LIMIT, "one more node needs %s for the weights, the machine has %s left",
            str_text(&need), str_text(&have));
    str_fini(&need);
    str_fini(&have);
    return fleet_wrap(&s->fleet, host, e);
}

/* Where it goes: a host where nothing runs gets nothing. */
static int scale_place(struct scale *s, enum place_kind kind, struct place_node *out, struct err *e)
{
    int rc = scale_nodes(s, e);

    if (!rc)
        rc = place_add(out, &(struct place_more){.kind = kind, .host = s->host,
                                                 .hosts = (const struct topo *const *)s->topos,
                                                 .n_hosts = s->fleet.n, .said = s->said,
                                                 .running = s->nodes, .n_running = s->change.n}, e);
    scale_forget(s, s->change.n);
    return rc;
}

/* Starts one node and waits until the router has it. */
static int scale_more(struct scale *s, enum place_kind kind, struct err *e)
{
    struct place_node node = {0};
    int rc = scale_place(s, kind, &node, e);

    if (!rc)
        rc = scale_memory(s, node.host, e);
    if (!rc)
        rc = change_add(&s->change, node.host, node.name, scale_argv(s, &node), e);
    if (!rc) {
        printf("%s is up, %u core%s of domain %u%s%s%s\n", node.name, node.n_pus,
               node.n_pus == 1 ? "" : "s", s->topos[node.host]->domains[node.domain].os_index,
               s->fleet.n > 1 ? " of " : "",
               s->fleet.n > 1 ? s->target.roster.hosts[node.host].host : "",
               node.shared ? ", shared" : "");
        fflush(stdout);
    }
    mem_free(node.pus);
    return rc;
}

/* Drains the last node of the kind: it finishes what it has, and goes. */
static int scale_fewer(struct scale *s, enum place_kind kind, struct err *e)
{
    const struct change_node *last = scale_last(s, kind, s->host);
    char name[OPTIONS_NAME_MAX + 1];
    int rc;

    if (!last)
        return err_set(e, ERR_NOT_FOUND, "there is no %s node on host %s that could go",
                       place_kind_name(kind), s->options->host);
    snprintf(name, sizeof(name), "%s", last->name);
    rc = change_remove(&s->change, name, e);
    if (!rc)
        printf("%s is drained and gone\n", name);
    fflush(stdout);
    return rc;
}

/* "decode=4", into what is wanted of each kind. */
static int scale_read(struct scale *s, const char *text, struct err *e)
{
    const char *value = strchr(text, '=');
    enum place_kind kind;
    unsigned long want;
    char *end;

    if (value && !strncmp(text, "prefill=", 8))
        kind = PLACE_PREFILL;
    else if (value && !strncmp(text, "decode=", 7))
        kind = PLACE_DECODE;
    else
        return err_set(e, ERR_ARG, "\"%.80s\" is neither prefill=N nor decode=N", text);
    want = strtoul(value + 1, &end, 10);
    if (end == value + 1 || *end || value[1] == '-' || want < 1 || want > PLACE_NODES_MAX)
        return err_set(e, ERR_ARG, "%s: \"%.40s\" is not a number of nodes, 1 .. %u",
                       place_kind_name(kind), value + 1, PLACE_NODES_MAX);
    if (s->want[kind])
        return err_set(e, ERR_ARG, "%s is said twice, %u and %lu", place_kind_name(kind),
                       s->want[kind], want);
    s->want[kind] = (uint32_t)want;
    return 0;
}

/* Nodes that go leave their cores to those that come. */
static int scale_all(struct scale *s, struct err *e)
{
    static const enum place_kind kinds[] = {PLACE_PREFILL, PLACE_DECODE};
    int rc = 0;

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (s->want[kinds[i]] && !scale_sibling(s, kinds[i], PLACE_ANY_HOST))
            return err_set(e, ERR_NOT_FOUND, "the cluster has no node left to start another like it");
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        while (!rc && s->want[kinds[i]] && scale_count(s, kinds[i]) > s->want[kinds[i]])
            rc = scale_fewer(s, kinds[i], e);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        while (!rc && scale_count(s, kinds[i]) < s->want[kinds[i]])
            rc = scale_more(s, kinds[i], e);
    return rc;
}

/* The host's topology, as far as the cluster may have it. */
static int scale_topo(struct scale *s, uint32_t host, struct err *e)
{
    int rc = topo_load(&s->topos[host], api_text(s->fleet.hello[host], "topology"), e);

    if (!rc)
        rc = roster_apply(&s->target.roster.hosts[host], s->topos[host], &s->said[host], e);
    return rc ? fleet_wrap(&s->fleet, host, e) : 0;
}

/* Without a router no node comes up, and none can be drained. */
static int scale_ask_router(struct scale *s, struct err *e)
{
    json_t *reply;
    int rc = fleet_http(&s->fleet, s->target.state.http, "GET", "/v1/cluster", NULL, &reply, e);

    json_decref(reply);
    return rc ? err_wrap(e, "nothing was changed") : 0;
}

/* Greets the hosts, and reads their topologies. */
static int scale_open(struct scale *s, struct err *e)
{
    int rc = fleet_open(&s->fleet, "tandem scale", s->target.name, &s->target.roster, true, -1, e);

    if (!rc)
        rc = fleet_check(&s->fleet, NULL, e);
    if (!rc)
        rc = scale_ask_router(s, e);
    if (!rc)
        rc = change_init(&s->change, &s->fleet, s->target.state.http, s->options->wait_s, e);
    s->topos = mem_calloc(s->fleet.n, sizeof(*s->topos));
    s->said = mem_calloc(s->fleet.n, sizeof(*s->said));
    for (uint32_t i = 0; i < s->fleet.n && !rc; i++)
        if (s->change.runs[i])
            rc = scale_topo(s, i, e);
    s->host = PLACE_ANY_HOST;
    if (rc || !*s->options->host)
        return rc;
    s->host = (uint32_t)roster_find(&s->target.roster, s->options->host);
    if (s->host == s->fleet.n)
        return err_set(e, ERR_ARG, "the cluster has no host \"%.80s\"", s->options->host);
    if (!s->topos[s->host])
        return err_set(e, ERR_ARG, "nothing of the cluster runs on %s yet; give it a node in the file, "
                       "then `tandem up`", s->options->host);
    return 0;
}

static int scale_run(const void *options, const struct option_args *args, struct err *e)
{
    struct scale s = {.options = options};
    int first = args->n && !strchr(args->argv[0], '=');
    int rc = args->n > first ? 0 : err_set(e, ERR_ARG, "say how many: decode=N, prefill=N");

    for (int i = first; i < args->n && !rc; i++)
        rc = scale_read(&s, args->argv[i], e);
    if (!rc)
        rc = target_hosts(&s.target, first ? args->argv[0] : NULL, e);
    if (!rc)
        rc = scale_open(&s, e);
    if (!rc)
        rc = scale_all(&s, e);
    for (size_t i = 0; i < s.fleet.n; i++)
        topo_free(&s.topos[i]);
    mem_free(s.topos);
    mem_free(s.said);
    if (s.change.fleet)
        change_fini(&s.change);
    fleet_close(&s.fleet);
    target_fini(&s.target);
    return rc;
}

int cmd_scale(int argc, char **argv)
{
    struct scale_options o = {0};

    return command_main(&scale_option_table, &o, argc, argv, scale_run);
}
