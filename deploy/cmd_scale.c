/* tandem scale: more or fewer nodes of a kind in a cluster that serves. New ones are started as their
 * siblings were, on cores of their own if there are any; those that go are drained first, so no
 * request is lost. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "config/ranges.h"
#include "deploy/api.h"
#include "deploy/child.h"
#include "deploy/command.h"
#include "deploy/commands.h"
#include "deploy/control.h"
#include "host/place_add.h"
#include "host/topo.h"

#define SCALE_POLL (100 * CLOCK_MS)

struct scale_options {
    uint32_t wait_s;
};

static const struct option scale_rows[] = {
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
    struct target target;
    struct topo *topo;
    int64_t patience;
    json_t *processes;         /* as the supervisor listed them */
    struct place_node *nodes;  /* [n], of the same order */
    size_t n;
};

static void scale_forget(struct scale *s)
{
    for (size_t i = 0; i < s->n; i++)
        mem_free(s->nodes[i].pus);
    mem_free(s->nodes);
    json_decref(s->processes);
    s->nodes = NULL;
    s->processes = NULL;
    s->n = 0;
}

/* The value behind "--key=" in a command line, NULL if it is not there. */
static const char *scale_argument(const json_t *argv, const char *key)
{
    size_t n = strlen(key);

    for (size_t i = 1; i < json_array_size(argv); i++) {
        const char *arg = json_string_value(json_array_get(argv, i));

        if (arg && !strncmp(arg, "--", 2) && !strncmp(arg + 2, key, n) && arg[2 + n] == '=')
            return arg + 2 + n + 1;
    }
    return NULL;
}

/* What the process was started as. */
static enum place_kind scale_kind(const json_t *argv)
{
    const char *path = json_string_value(json_array_get(argv, 0));
    const char *file = path ? strrchr(path, '/') : NULL;

    if (file && !strcmp(file, "/tandem-prefill"))
        return PLACE_PREFILL;
    return file && !strcmp(file, "/tandem-decode") ? PLACE_DECODE : PLACE_ROUTER;
}

/* A node may have changed its role since: the router knows. */
static void scale_roles(struct scale *s)
{
    json_t *reply;

    if (api_cluster(&reply, s->target.url, NULL))
        return;
    for (size_t i = 0; i < s->n; i++) {
        const json_t *node = api_node(reply, s->nodes[i].name);

        if (node)
            s->nodes[i].kind = !strcmp(api_text(node, "role"), "prefill") ? PLACE_PREFILL : PLACE_DECODE;
    }
    json_decref(reply);
}

/* What runs, from the command lines that it runs with. */
static int scale_look(struct scale *s, struct err *e)
{
    json_t *reply;
    int rc = control_ask(&reply, &s->target.dir, json_pack("{s:s}", "op", "list"), e);

    scale_forget(s);
    if (rc)
        return rc;
    s->processes = json_incref(json_object_get(reply, "processes"));
    json_decref(reply);
    s->n = json_array_size(s->processes);
    s->nodes = mem_calloc(s->n, sizeof(*s->nodes));
    for (size_t i = 0; i < s->n; i++) {
        const json_t *process = json_array_get(s->processes, i);
        const json_t *argv = json_object_get(process, "argv");
        const char *cores = scale_argument(argv, "cores"), *domain = scale_argument(argv, "domain");
        struct place_node *node = &s->nodes[i];
        uint32_t os_index = domain ? (uint32_t)strtoul(domain, NULL, 10) : 0;

        node->kind = scale_kind(argv);
        snprintf(node->name, sizeof(node->name), "%s", api_text(process, "name"));
        for (uint32_t d = 0; d < s->topo->n_domains; d++)
            if (s->topo->domains[d].os_index == os_index)
                node->domain = d;
        if (cores && ranges_parse(&node->pus, &node->n_pus, cores, e))
            return err_wrap(e, "%s", node->name);
    }
    scale_roles(s);
    return 0;
}

static uint32_t scale_count(const struct scale *s, enum place_kind kind)
{
    uint32_t n = 0;

    for (size_t i = 0; i < s->n; i++)
        n += s->nodes[i].kind == kind;
    return n;
}

/* The last of its kind: names count up. */
static size_t scale_last(const struct scale *s, enum place_kind kind)
{
    size_t last = 0;

    for (size_t i = 0; i < s->n; i++)
        if (s->nodes[i].kind == kind)
            last = i;
    return last;
}

/* Whose command line a new node of the kind gets: the last of its kind, else the last node there is,
 * for all have the same options. The router: there is none. */
static size_t scale_sibling(const struct scale *s, enum place_kind kind)
{
    size_t last = scale_last(s, kind);

    return last ? last
                : scale_last(s, kind == PLACE_DECODE ? PLACE_PREFILL : PLACE_DECODE);
}

/* The sibling's command line with the new node's own name, place and socket. A TCP socket takes any
 * free port: the node tells the router which. */
static json_t *scale_argv(const struct scale *s, const json_t *sibling, const struct place_node *node)
{
    json_t *argv = json_array();
    struct str cores = {0};

    ranges_format(&cores, node->pus, node->n_pus);
    for (size_t i = 0; i < json_array_size(sibling); i++) {
        const char *arg = json_string_value(json_array_get(sibling, i));
        const char *colon = strrchr(arg, ':');

        if (i == 0) /* the sibling may have been started as the other kind */
            json_array_append_new(argv, json_sprintf("%.*s/tandem-%s",
                                                     (int)(strrchr(arg, '/') - arg), arg,
                                                     place_kind_name(node->kind)));
        else if (!strncmp(arg, "--name=", 7))
            json_array_append_new(argv, json_sprintf("--name=%s", node->name));
        else if (!strncmp(arg, "--cores=", 8))
            json_array_append_new(argv, json_sprintf("--cores=%s", str_text(&cores)));
        else if (!strncmp(arg, "--domain=", 9))
            json_array_append_new(argv, json_sprintf("--domain=%u",
                                                     s->topo->domains[node->domain].os_index));
        else if (!strncmp(arg, "--kv=ipc://", 11))
            json_array_append_new(argv, json_sprintf("--kv=ipc://%s/%s.sock", s->target.dir.path,
                                                     node->name));
        else if (!strncmp(arg, "--kv=tcp://", 11) && colon)
            json_array_append_new(argv, json_sprintf("%.*s:0", (int)(colon - arg), arg));
        else
            json_array_append_new(argv, json_string(arg));
    }
    str_fini(&cores);
    return argv;
}

/* The node as the router knows it: -1 unknown, else what it has to do. *up: it takes work. */
static json_int_t scale_load(const struct scale *s, const char *name, bool *up)
{
    const json_t *node;
    json_int_t load;
    json_t *reply;

    *up = false;
    if (api_cluster(&reply, s->target.url, NULL))
        return 0; /* busy: not gone */
    node = api_node(reply, name);
    load = node ? api_number(node, "queued") + api_number(node, "running") : -1;
    *up = !strcmp(api_text(node, "state"), "ready");
    json_decref(reply);
    return load;
}

static void scale_pause(void)
{
    const struct timespec t = {.tv_nsec = SCALE_POLL};

    nanosleep(&t, NULL);
}

static int scale_remove(const struct scale *s, const char *name, bool stop, struct err *e)
{
    json_t *reply;
    int rc = control_ask(&reply, &s->target.dir, json_pack("{s:s, s:s, s:b}", "op", "remove", "name",
                                                           name, "stop", stop), e);

    json_decref(reply);
    return rc;
}

/* Whether the supervisor still has a process of that name. */
static bool scale_runs(struct scale *s, const char *name)
{
    struct err e = {0};

    if (scale_look(s, &e))
        return false; /* the supervisor itself is gone, and with it everything */
    for (size_t i = 0; i < s->n; i++)
        if (!strcmp(s->nodes[i].name, name))
            return true;
    return false;
}

static bool scale_answers(const struct scale *s)
{
    struct err e = {0};
    json_t *reply;
    int rc = control_ask(&reply, &s->target.dir, json_pack("{s:s}", "op", "list"), &e);

    json_decref(reply);
    return rc == 0;
}

/* A model that does not fit beside what is there would only drive the machine into swap. */
static int scale_memory(const struct scale *s, struct err *e)
{
    struct str need = {0}, have = {0};
    unsigned long long kib = 0;
    char line[128];
    struct stat st;
    FILE *f = fopen("/proc/meminfo", "re");
    int rc = 0;

    while (f && fgets(line, sizeof(line), f))
        if (!strncmp(line, "MemAvailable:", 13))
            kib = strtoull(line + 13, NULL, 10);
    if (f)
        fclose(f);
    if (kib && !stat(s->target.state.model, &st) && (uint64_t)st.st_size > kib * 1024) {
        size_text(&need, (uint64_t)st.st_size);
        size_text(&have, kib * 1024);
        rc = err_set(e, ERR_LIMIT, "one more node needs %s for the weights, the machine has %s left",
                     str_text(&need), str_text(&have));
        str_fini(&need);
        str_fini(&have);
    }
    return rc;
}

/* Starts one node and waits until the router has it. One that does not come is taken away again. */
static int scale_more(struct scale *s, enum place_kind kind, struct err *e)
{
    const json_t *sibling = json_object_get(json_array_get(s->processes, scale_sibling(s, kind)), "argv");
    struct place_node node;
    json_t *reply = NULL;
    int64_t until;
    bool up = false;
    int rc = scale_memory(s, e);

    if (!rc) {
        const struct topo *here[] = {s->topo};

        rc = place_add(&node, &(struct place_more){.kind = kind, .host = 0, .hosts = here, .n_hosts = 1,
                                                   .running = s->nodes, .n_running = s->n}, e);
    }
    if (rc)
        return rc;
    rc = control_ask(&reply, &s->target.dir,
                     json_pack("{s:s, s:s, s:o}", "op", "add", "name", node.name, "argv",
                               scale_argv(s, sibling, &node)), e);
    json_decref(reply);
    for (until = clock_now() + s->patience; !rc && !up;) {
        scale_pause();
        scale_load(s, node.name, &up);
        if (!up && !scale_answers(s)) {
            rc = err_set(e, ERR_NOT_FOUND, "the cluster has ended");
            break;
        }
        if (!up && clock_now() >= until) {
            struct str last = {0};

            child_last_words(node.name, s->target.dir.path, &last);
            rc = err_set(e, ERR_TIMEOUT, "%s did not come up within %.0f s: %s", node.name,
                         clock_s(s->patience), str_text(&last));
            str_fini(&last);
            scale_remove(s, node.name, true, NULL);
        }
    }
    if (!rc) {
        printf("%s is up, %u core%s of domain %u%s\n", node.name, node.n_pus,
               node.n_pus == 1 ? "" : "s", s->topo->domains[node.domain].os_index,
               node.shared ? ", shared" : "");
        fflush(stdout);
    }
    mem_free(node.pus);
    return rc ? rc : scale_look(s, e);
}

/* Drains the last node of the kind: it finishes what it has, and goes. */
static int scale_fewer(struct scale *s, enum place_kind kind, struct err *e)
{
    int64_t until = clock_now() + s->patience;
    char name[sizeof(s->nodes->name)];
    bool up, told = false;
    json_int_t load;
    int rc;

    memcpy(name, s->nodes[scale_last(s, kind)].name, sizeof(name));
    rc = scale_remove(s, name, false, e);
    if (!rc && (rc = api_drain(&load, s->target.url, name, e)))
        err_wrap(e, "%s", name);
    while (!rc && scale_runs(s, name)) {
        if (!told && scale_load(s, name, &up) <= 0) { /* idle, or it has said BYE */
            rc = scale_remove(s, name, true, e);
            if (rc == ERR_PEER) /* it ended meanwhile */
                rc = 0;
            told = true;
        }
        if (clock_now() >= until)
            return err_set(e, ERR_TIMEOUT, "%s is still busy after %.0f s; it goes on draining", name,
                           clock_s(s->patience));
        scale_pause();
    }
    if (!rc)
        printf("%s is drained and gone\n", name);
    fflush(stdout);
    return rc;
}

/* "decode=4". */
static int scale_one(struct scale *s, const char *text, struct err *e)
{
    const char *value = strchr(text, '=');
    enum place_kind kind;
    unsigned long want;
    char *end;
    int rc;

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
    rc = scale_look(s, e);
    if (!rc && !scale_sibling(s, kind))
        rc = err_set(e, ERR_NOT_FOUND, "the cluster has no node left to start another like it");
    while (!rc && scale_count(s, kind) < want)
        rc = scale_more(s, kind, e);
    while (!rc && scale_count(s, kind) > want)
        rc = scale_fewer(s, kind, e);
    return rc;
}

static int scale_run(const void *options, const struct option_args *args, struct err *e)
{
    const struct scale_options *o = options;
    struct scale s = {.patience = o->wait_s * CLOCK_S};
    int first = args->n && !strchr(args->argv[0], '=');
    int rc = args->n > first ? target_find(&s.target, first ? args->argv[0] : NULL, e)
                             : err_set(e, ERR_ARG, "say how many: decode=N, prefill=N");

    if (!rc)
        rc = topo_load(&s.topo, NULL, e);
    for (int i = first; i < args->n && !rc; i++)
        rc = scale_one(&s, args->argv[i], e);
    scale_forget(&s);
    topo_free(&s.topo);
    target_fini(&s.target);
    return rc;
}

int cmd_scale(int argc, char **argv)
{
    struct scale_options o = {0};

    return command_main(&scale_option_table, &o, argc, argv, scale_run);
}
