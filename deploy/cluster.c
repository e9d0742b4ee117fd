/* DESIGN: defaults, file, environment, flags, in this order, each over what was before.
 *
 *   cluster_load_text
 *     cluster_defaults        the four tables
 *     cluster_from_file       top-level keys; then those of cluster_hand_down as new defaults of the
 *                             daemons; then the router:, prefill: and decode: maps; hosts:
 *     option_from_env         each table
 *     cluster_apply_override  a key is set in every table that has it
 *     cluster_finish          paths made absolute, the ratio split, what involves several options */
#include "deploy/cluster.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "deploy/paths.h"
#include "kv/kv_layout.h"
#include "net/endpoint.h"

#define CLUSTER_ROWS_MAX 32 /* rows of a daemon's table, and one */

/* "P:D" with both sides 1..CLUSTER_RATIO_MAX. */
static bool cluster_split_ratio(uint32_t *p, uint32_t *d, const char *text)
{
    char *end;
    unsigned long a, b;

    if (*text < '0' || *text > '9')
        return false;
    a = strtoul(text, &end, 10);
    if (*end != ':' || end[1] < '0' || end[1] > '9')
        return false;
    b = strtoul(end + 1, &end, 10);
    if (*end || a < 1 || b < 1 || a > CLUSTER_RATIO_MAX || b > CLUSTER_RATIO_MAX)
        return false;
    *p = (uint32_t)a;
    *d = (uint32_t)b;
    return true;
}

static const char *cluster_ratio_wrong(const char *value)
{
    uint32_t p, d;

    return !strcmp(value, "auto") || cluster_split_ratio(&p, &d, value)
               ? NULL
               : "is not P:D with both sides 1..1024, nor auto";
}

static const char *cluster_ssh_wrong(const char *value)
{
    return value[strspn(value, " \t")] ? NULL : "is not a command";
}

static const struct option cluster_rows[] = {
    OPTION(cluster, cluster, STR, .def = "tandem", .wrong = options_name_wrong),
    OPTION(cluster, model, STR),
    OPTION(cluster, ratio, STR, .def = "auto", .wrong = cluster_ratio_wrong),
    OPTION(cluster, cpu, STR, .def = "auto", .wrong = options_cpu_wrong),
    OPTION(cluster, log_level, ENUM, .def = "info", .names = options_log_levels),
    OPTION(cluster, log_format, ENUM, .def = "text", .names = options_log_formats),
    OPTION(cluster, chat_template, STR, .def = "auto"),
    OPTION(cluster, kv_type, ENUM, .def = "auto", .names = options_kv_types),
    OPTION(cluster, kv_wire, ENUM, .def = "auto", .names = options_kv_types),
    OPTION(cluster, ssh, STR, .def = "ssh -o BatchMode=yes", .wrong = cluster_ssh_wrong),
    OPTION(cluster, insecure, BOOL),
    {.key = "workload", .type = OPTION_YAML},
    {.key = "router", .type = OPTION_YAML},
    {.key = "prefill", .type = OPTION_YAML},
    {.key = "decode", .type = OPTION_YAML},
    {.key = "hosts", .type = OPTION_YAML},
    {.key = "slo", .type = OPTION_YAML},
};

static const struct option workload_rows[] = {
    OPTION(cluster_workload, prompt_tokens, U32, .def = "512", .min = 1, .max = 1 << 20),
    OPTION(cluster_workload, output_tokens, U32, .def = "128", .min = 1, .max = 1 << 20),
};

static const struct option_table workload_table = {
    .program = "tandem",
    .options = workload_rows,
    .n = ARRAY_LEN(workload_rows),
};

static const struct option_table cluster_table = {
    .program = "tandem",
    .options = cluster_rows,
    .n = ARRAY_LEN(cluster_rows),
    .environment = true,
};

/* A map of cluster.yaml: a daemon's table, less what `up` decides, plus the number of nodes. */
struct cluster_role {
    const char *key;
    const struct option_table *daemon;
    const char *const *decided; /* NULL-terminated */
    struct option nodes;        /* key NULL: none */
    size_t offset;              /* of the role's struct in struct cluster */
};

static const char *const router_decided[] = {"cluster", "name", "model", "keys", "insecure", NULL};
static const char *const node_decided[] = {"cluster", "name", "model", "router",
                                           "kv",      "cores", "domain", "tell_end",
                                           "keys",    "insecure", NULL};

#define CLUSTER_NODES(least)                                                                       \
    OPTION(cluster_nodes, nodes, U32, .min = (least), .max = CLUSTER_NODES_MAX)

static const struct cluster_role cluster_roles[] = {
    {.key = "router",
     .daemon = &router_option_table,
     .decided = router_decided,
     .offset = offsetof(struct cluster, router)},
    {.key = "prefill",
     .daemon = &prefill_option_table,
     .decided = node_decided,
     .nodes = CLUSTER_NODES(0),
     .offset = offsetof(struct cluster, prefill)},
    {.key = "decode",
     .daemon = &decode_option_table,
     .decided = node_decided,
     .nodes = CLUSTER_NODES(1),
     .offset = offsetof(struct cluster, decode)},
};

static void *cluster_role_options(struct cluster *c, const struct cluster_role *role)
{
    return (char *)c + role->offset;
}

static bool cluster_is_decided(const struct cluster_role *role, const char *key)
{
    for (size_t i = 0; role->decided[i]; i++)
        if (!strcmp(role->decided[i], key))
            return true;
    return false;
}

/* Fills rows with the role's table as the file sees it. */
static struct option_table cluster_role_table(const struct cluster_role *role,
                                              struct option rows[CLUSTER_ROWS_MAX])
{
    struct option_table t = *role->daemon;

    ASSERT(t.n < CLUSTER_ROWS_MAX);
    t.n = 0;
    for (size_t i = 0; i < role->daemon->n; i++)
        if (!cluster_is_decided(role, role->daemon->options[i].key))
            rows[t.n++] = role->daemon->options[i];
    if (role->nodes.key)
        rows[t.n++] = role->nodes;
    t.options = rows;
    return t;
}

static int cluster_read_role(struct cluster *c, const struct cluster_role *role,
                             const struct yaml_doc *doc, const struct yaml_node *map, struct err *e)
{
    struct option rows[CLUSTER_ROWS_MAX];
    struct option_table t = cluster_role_table(role, rows);

    for (const struct yaml_node *n = map->kind == YAML_MAP ? map->child : NULL; n; n = n->next)
        if (cluster_is_decided(role, n->key))
            return yaml_fail(doc, n->key_mark, e, "%s in %s: tandem decides this itself", n->key,
                             role->key);
    return option_from_map(&t, cluster_role_options(c, role), doc, map, e);
}

/* `slo: {ttft_ms: N, tpot_ms: N}`: the router's slo_ttft_ms and slo_tpot_ms. */
static int cluster_read_slo(struct cluster *c, const struct yaml_doc *doc,
                            const struct yaml_node *slo, struct err *e)
{
    if (slo->kind != YAML_MAP)
        return yaml_fail(doc, slo->mark, e, "slo: a map such as {ttft_ms: 500, tpot_ms: 100} expected");
    for (const struct yaml_node *n = slo->child; n; n = n->next) {
        bool ttft = !strcmp(n->key, "ttft_ms");
        const struct option *o = option_find(&router_option_table,
                                             ttft ? "slo_ttft_ms" : "slo_tpot_ms");

        if (!ttft && strcmp(n->key, "tpot_ms") != 0)
            return yaml_fail(doc, n->key_mark, e, "unknown key \"%.64s\" in slo", n->key);
        if (n->kind != YAML_SCALAR || option_set(o, &c->router, n->value, NULL, e))
            return yaml_fail(doc, n->mark, e, "slo: %s must be milliseconds, 0 to 3600000", n->key);
    }
    return 0;
}

/* Sets key in each daemon's options that have it. */
static int cluster_set_roles(struct cluster *c, const char *key, const char *value,
                             const char *where, struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(cluster_roles); i++) {
        const struct option *o = option_find(cluster_roles[i].daemon, key);
        int rc = o ? option_set(o, cluster_role_options(c, &cluster_roles[i]), value, where, e) : 0;

        if (rc)
            return rc;
    }
    return 0;
}

/* The keys whose top-level value is the default of the daemons' maps. */
static int cluster_hand_down(struct cluster *c, struct err *e)
{
    static const char *const keys[] = {"cpu", "log_level", "log_format", "chat_template",
                                       "kv_type", "kv_wire"};

    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        struct str value = {0};
        int rc;

        option_text(option_find(&cluster_table, keys[i]), c, &value);
        rc = cluster_set_roles(c, keys[i], str_text(&value), NULL, e);
        str_fini(&value);
        if (rc)
            return rc;
    }
    return 0;
}

/* A relative path is meant from dir; the daemons, which run elsewhere, get an absolute one. Whether
 * the file is there is for its reader to say. */
static void cluster_anchor(char **path, const char *dir)
{
    char whole[PATH_MAX], *from;

    if (!**path)
        return;
    from = paths_resolve(dir, *path);
    mem_free(*path);
    *path = from;
    if (!realpath(from, whole))
        return;
    *path = mem_strdup(whole);
    mem_free(from);
}

/* A template's family is a word; the name of a file has a '/' or a '.' in it. */
static void cluster_anchor_template(char **template, const char *dir)
{
    if (strpbrk(*template, "/."))
        cluster_anchor(template, dir);
}

static int cluster_from_file(struct cluster *c, const struct yaml_doc *doc, const char *dir,
                             struct err *e)
{
    const struct yaml_node *root = yaml_root(doc), *node;
    int rc = option_from_map(&cluster_table, c, doc, root, e);

    if (rc)
        return rc;
    cluster_anchor(&c->model, dir);
    rc = cluster_hand_down(c, e);
    for (size_t i = 0; i < ARRAY_LEN(cluster_roles) && !rc; i++) {
        node = yaml_get(root, cluster_roles[i].key);
        rc = node ? cluster_read_role(c, &cluster_roles[i], doc, node, e) : 0;
    }
    node = yaml_get(root, "prefill");
    c->prefill.none = !rc && node && yaml_get(node, "nodes") && !c->prefill.nodes;
    node = yaml_get(root, "workload");
    if (!rc && node)
        rc = option_from_map(&workload_table, &c->workload, doc, node, e);
    node = yaml_get(root, "slo");
    if (!rc && node)
        rc = cluster_read_slo(c, doc, node, e);
    if (!rc)
        rc = cluster_hosts_read(&c->hosts, &c->n_hosts, doc, yaml_get(root, "hosts"), dir, e);
    cluster_anchor_template(&c->router.chat_template, dir);
    cluster_anchor(&c->router.api_keys, dir);
    return rc;
}

/* The rows without that of key; returns how many are left. */
static size_t cluster_drop(struct option *rows, size_t n, const char *key)
{
    size_t kept = 0;

    for (size_t i = 0; i < n; i++)
        if (strcmp(rows[i].key, key) != 0)
            rows[kept++] = rows[i];
    return kept;
}

static int cluster_from_env(struct cluster *c, struct err *e)
{
    int rc = option_from_env(&cluster_table, c, e);

    for (size_t i = 0; i < ARRAY_LEN(cluster_roles) && !rc; i++) {
        struct option rows[CLUSTER_ROWS_MAX];
        struct option_table t = cluster_role_table(&cluster_roles[i], rows);

        t.n = cluster_drop(rows, t.n, "nodes"); /* too common a name, and of two things */
        rc = option_from_env(&t, cluster_role_options(c, &cluster_roles[i]), e);
    }
    return rc;
}

static int cluster_apply_override(struct cluster *c, const struct cluster_override *o,
                                  struct err *e)
{
    const struct {
        const char *key, *value;
    } given[] = {
        {"cluster", o->cluster}, {"model", o->model},         {"ratio", o->ratio},
        {"mode", o->mode},       {"cpu", o->cpu},             {"log_level", o->log_level},
        {"log_format", o->log_format}, {"http", o->http},
    };

    for (size_t i = 0; i < ARRAY_LEN(given); i++) {
        const struct option *top = option_find(&cluster_table, given[i].key);
        int rc = 0;

        if (!*given[i].value)
            continue;
        if (top)
            rc = option_set(top, c, given[i].value, NULL, e);
        if (!rc)
            rc = cluster_set_roles(c, given[i].key, given[i].value, NULL, e);
        if (rc)
            return rc;
    }
    /* A ratio given now stands above counts in the file. */
    if (*o->ratio) {
        c->prefill.nodes = c->decode.nodes = 0;
        c->prefill.none = false;
    }
    return 0;
}

/* Where nodes on other hosts find the router cannot be a file of this one. */
static int cluster_check_nodes(const struct cluster *c, struct err *e)
{
    const char *nodes = c->router.nodes;

    if (!*nodes || strncmp(nodes, "ipc://", 6) == 0) {
        if (*nodes && cluster_is_remote(c))
            return err_set(e, ERR_CONFIG, "%s: nodes: %s: other hosts need tcp://ADDRESS:PORT",
                           c->file, nodes);
    } else if (!strcmp(strrchr(nodes, ':'), ":0")) {
        return err_set(e, ERR_CONFIG, "%s: nodes: %s: a cluster needs a port that is known, not 0",
                       c->file, nodes);
    }
    return 0;
}

static bool cluster_names_nodes(const struct cluster *c)
{
    for (size_t i = 0; i < c->n_hosts; i++)
        if (cluster_host_is_explicit(&c->hosts[i]))
            return true;
    return false;
}

/* Whether the file has the router listen for nodes of other machines. */
static bool cluster_is_open(const struct cluster *c)
{
    return endpoint_is_tcp(c->router.nodes) && !endpoint_is_loopback(c->router.nodes);
}

/* Each host would choose a type for itself, and KV does not travel between all of them. The same goes
 * for nodes that may be started by hand elsewhere. */
static void cluster_settle_kv(struct cluster *c)
{
    bool several = cluster_is_remote(c) || cluster_is_open(c);
    int *const types[] = {&c->prefill.options.kv_type, &c->decode.options.kv_type};

    for (size_t i = 0; i < ARRAY_LEN(types) && several; i++)
        if (*types[i] == KV_AUTO)
            *types[i] = KV_F16;
}

static int cluster_finish(struct cluster *c, const char *path, const char *dir, struct err *e)
{
    if (strcmp(c->ratio, "auto") != 0)
        ASSERT(cluster_split_ratio(&c->ratio_prefill, &c->ratio_decode, c->ratio));
    else if (!c->prefill.nodes && !c->prefill.none && !c->decode.nodes && !cluster_names_nodes(c))
        /* nobody said which nodes do what */
        c->router.move_roles = c->prefill.options.change_role = c->decode.options.change_role = 1;
    for (size_t i = 0; i < c->n_hosts && c->prefill.none; i++)
        if (c->hosts[i].prefill.n)
            return err_set(e, ERR_CONFIG, "%s: prefill: nodes: 0, but host %s names %u of them", path,
                           c->hosts[i].host, c->hosts[i].prefill.n);
    if (c->prefill.none && c->router.mode == ROUTER_DISAGGREGATED)
        return err_set(e, ERR_CONFIG, "%s: prefill: nodes: 0 leaves nobody to compute prompts in mode "
                       "disaggregated; without prefill nodes it is auto or aggregated", path);
    if (!strcmp(strrchr(c->router.http, ':'), ":0"))
        return err_set(e, ERR_CONFIG, "%s: http: %s: a cluster needs a port that is known, not 0",
                       path, c->router.http);
    if (!*c->model) {
        mem_free(c->model);
        c->model = paths_default_model(dir, e);
        if (!c->model) {
            c->model = mem_strdup("");
            return ERR_NOT_FOUND;
        }
    }
    /* Paths that came by flag or environment start where we are. */
    cluster_anchor(&c->model, ".");
    cluster_anchor_template(&c->router.chat_template, ".");
    cluster_hosts_finish(c->hosts, c->n_hosts, c->model, paths_program_dir());
    cluster_settle_kv(c);
    return cluster_check_nodes(c, e);
}

static void cluster_defaults(struct cluster *c)
{
    option_defaults(&cluster_table, c);
    option_defaults(&workload_table, &c->workload);
    for (size_t i = 0; i < ARRAY_LEN(cluster_roles); i++)
        option_defaults(cluster_roles[i].daemon, cluster_role_options(c, &cluster_roles[i]));
    /* Filled by `up` with sockets in the run directory, where the file does not say. */
    *c->router.nodes = *c->router.clients = '\0';
}

static int cluster_read(struct cluster *c, const struct yaml_doc *doc, const char *path,
                        const struct cluster_override *override, struct err *e)
{
    char *dir = paths_dir(path);
    int rc;

    c->file = mem_strdup(path);
    rc = cluster_from_file(c, doc, dir, e);
    if (!rc)
        rc = cluster_from_env(c, e);
    if (!rc && override)
        rc = cluster_apply_override(c, override, e);
    if (!rc)
        rc = cluster_finish(c, path, dir, e);
    mem_free(dir);
    return rc;
}

int cluster_load_text(struct cluster *c, const char *text, size_t n, const char *path,
                      const struct cluster_override *override, struct err *e)
{
    struct yaml_doc *doc;
    int rc;

    cluster_defaults(c);
    rc = yaml_load_text(&doc, text, n, path, e);
    if (!rc)
        rc = cluster_read(c, doc, path, override, e);
    yaml_doc_free(&doc);
    return rc;
}

int cluster_load(struct cluster *c, const char *path, const struct cluster_override *override,
                 struct err *e)
{
    struct yaml_doc *doc;
    int rc;

    cluster_defaults(c);
    rc = yaml_load_file(&doc, path, e);
    if (!rc)
        rc = cluster_read(c, doc, path, override, e);
    yaml_doc_free(&doc);
    return rc;
}

bool cluster_is_remote(const struct cluster *c)
{
    for (size_t i = 0; i < c->n_hosts; i++)
        if (!cluster_host_is_local(&c->hosts[i]))
            return true;
    return false;
}

bool cluster_uses_tcp(const struct cluster *c)
{
    return cluster_is_remote(c) || endpoint_is_tcp(c->router.nodes);
}

const char *cluster_nodes_port(const struct cluster *c)
{
    return endpoint_is_tcp(c->router.nodes) ? strrchr(c->router.nodes, ':') + 1 : CLUSTER_PORT;
}

bool cluster_needs_keys(const struct cluster *c)
{
    return !c->insecure &&
           (cluster_is_remote(c) || cluster_is_open(c));
}

int cluster_fail(const struct cluster *c, struct yaml_mark at, struct err *e, const char *fmt, ...)
{
    char text[sizeof(e->text)];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    return at.line ? err_set(e, ERR_CONFIG, "%s:%zu:%zu: %s", c->file, at.line, at.column, text)
                   : err_set(e, ERR_CONFIG, "%s: %s", c->file, text);
}

void cluster_fini(struct cluster *c)
{
    cluster_hosts_free(&c->hosts, &c->n_hosts);
    mem_free(c->file);
    c->file = NULL;
    option_free(&cluster_table, c);
    for (size_t i = 0; i < ARRAY_LEN(cluster_roles); i++)
        option_free(cluster_roles[i].daemon, cluster_role_options(c, &cluster_roles[i]));
}
