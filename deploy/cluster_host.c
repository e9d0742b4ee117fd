#include "deploy/cluster_host.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "config/option.h"
#include "daemon/options.h"
#include "deploy/paths.h"
#include "host/place.h"
#include "host/topo.h"

/* What ssh takes as one word, and never as an option of its own. */
static const char *host_name_wrong(const char *value)
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@:";

    return *value && *value != '-' && *value != '@' && value[strlen(value) - 1] != '@' &&
                   !value[strspn(value, good)]
               ? NULL
               : "is neither local nor a name for ssh, [USER@]HOST";
}

/* The host's part of "host:port": a name, an IPv4 address, an IPv6 address with or without brackets. */
static const char *host_address_wrong(const char *value)
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:%";
    size_t n = strlen(value);
    bool brackets = *value == '[' && n > 2 && value[n - 1] == ']';
    const char *colon = strchr(value, ':');

    if (strspn(value + brackets, good) != n - 2 * (size_t)brackets || n == 0 || *value == '-' ||
        (colon && !strchr(colon + 1, ':')) || (brackets && !colon))
        return "is not an address: a name, an IPv4 or an IPv6 address, without a port";
    return NULL;
}

static const struct option host_rows[] = {
    OPTION(cluster_host, host, STR, .max = 255, .wrong = host_name_wrong),
    OPTION(cluster_host, address, STR, .max = 120, .wrong = host_address_wrong),
    OPTION(cluster_host, programs, STR),
    OPTION(cluster_host, model, STR),
    OPTION(cluster_host, cores, STR, .wrong = options_cores_wrong),
    OPTION(cluster_host, reserve, U32, .min = 0, .max = 1024),
    {.key = "prefill", .type = OPTION_YAML},
    {.key = "decode", .type = OPTION_YAML},
};

static const struct option_table host_table = {
    .program = "tandem",
    .options = host_rows,
    .n = ARRAY_LEN(host_rows),
};

bool cluster_host_is_local(const struct cluster_host *h)
{
    return !strcmp(h->host, CLUSTER_HOST_LOCAL);
}

bool cluster_host_is_explicit(const struct cluster_host *h)
{
    return h->prefill.said || h->decode.said;
}

/* A number of 0 .. max that is all of the scalar. */
static bool host_number(uint32_t *out, const struct yaml_node *node, uint32_t max)
{
    unsigned long v;
    char *end;

    if (node->kind != YAML_SCALAR || *node->value < '0' || *node->value > '9')
        return false;
    v = strtoul(node->value, &end, 10);
    if (*end || v > max)
        return false;
    *out = (uint32_t)v;
    return true;
}

static bool wish_has(const struct cluster_wish *w, uint32_t domain)
{
    for (uint32_t i = 0; w->domains && i < w->n; i++)
        if (w->domains[i] == domain)
            return true;
    return false;
}

/* other: the wish of the other kind that was read before, which may be empty. */
static int wish_read(struct cluster_wish *w, const struct cluster_wish *other,
                     const struct yaml_doc *doc, const struct yaml_node *node, struct err *e)
{
    if (!node)
        return 0;
    w->said = true;
    w->mark = node->mark;
    if (node->kind != YAML_SEQ)
        return host_number(&w->n, node, PLACE_NODES_MAX)
                   ? 0
                   : yaml_fail(doc, node->mark, e,
                               "%s: neither a number of nodes, 0..%d, nor a list of NUMA domains "
                               "such as [0, 1]",
                               node->key, PLACE_NODES_MAX);
    if (!node->child) /* none: a count of 0 */
        return 0;
    w->domains = mem_calloc(node->n, sizeof(*w->domains));
    for (const struct yaml_node *d = node->child; d; d = d->next) {
        uint32_t domain;

        if (!host_number(&domain, d, TOPO_DOMAINS_MAX - 1))
            return yaml_fail(doc, d->mark, e, "%s: a NUMA domain is a number, 0..%d", node->key,
                             TOPO_DOMAINS_MAX - 1);
        if (wish_has(w, domain))
            return yaml_fail(doc, d->mark, e, "%s: domain %u is listed twice", node->key, domain);
        if (wish_has(other, domain))
            return yaml_fail(doc, d->mark, e, "%s: domain %u is listed for prefill too", node->key,
                             domain);
        w->domains[w->n++] = domain;
    }
    return 0;
}

/* Paths on another host say where they start; those of this one may start at the file's folder. */
static int host_path(char **path, const struct cluster_host *h, const struct yaml_doc *doc,
                     const struct yaml_node *map, const char *key, const char *dir, struct err *e)
{
    char *whole;

    if (!**path || **path == '/')
        return 0;
    if (!cluster_host_is_local(h))
        return yaml_fail(doc, yaml_get(map, key)->mark, e,
                         "%s: \"%.80s\" is not an absolute path, as one on another host must be", key,
                         *path);
    whole = paths_resolve(dir, *path);
    mem_free(*path);
    *path = whole;
    return 0;
}

static int host_read(struct cluster_host *h, const struct yaml_doc *doc, const struct yaml_node *map,
                     const char *dir, struct err *e)
{
    const struct yaml_node *name = yaml_get(map, "host");
    int rc;

    h->mark = map->mark;
    if (!name)
        return yaml_fail(doc, map->mark, e, "hosts: each entry is {host: NAME, ...}");
    rc = option_from_map(&host_table, h, doc, map, e);
    if (!rc)
        rc = wish_read(&h->prefill, &h->decode, doc, yaml_get(map, "prefill"), e);
    if (!rc)
        rc = wish_read(&h->decode, &h->prefill, doc, yaml_get(map, "decode"), e);
    if (!rc)
        rc = host_path(&h->programs, h, doc, map, "programs", dir, e);
    if (!rc)
        rc = host_path(&h->model, h, doc, map, "model", dir, e);
    if (!rc && !*h->address && !cluster_host_is_local(h)) {
        const char *at = strrchr(h->host, '@');

        mem_free(h->address);
        h->address = mem_strdup(at ? at + 1 : h->host);
        if (host_address_wrong(h->address))
            return yaml_fail(doc, name->mark, e, "host \"%.80s\": say its address", h->host);
    }
    return rc;
}

/* What involves several entries. list: the node of hosts[0]. */
static int hosts_check(const struct cluster_host *hosts, size_t n, const struct yaml_doc *doc,
                       const struct yaml_node *list, struct err *e)
{
    const struct yaml_node *entry = list->child;

    for (size_t i = 0; i < n; i++, entry = entry->next)
        for (size_t k = 0; k < i; k++)
            if (!strcmp(hosts[i].host, hosts[k].host))
                return yaml_fail(doc, yaml_get(entry, "host")->mark, e,
                                 "host %s is listed twice, first in line %zu", hosts[i].host,
                                 hosts[k].mark.line);
    for (size_t i = 0; i < n && n > 1; i++)
        if (!*hosts[i].address)
            return yaml_fail(doc, hosts[i].mark, e,
                             "host local: say the address at which the other hosts reach it");
    return 0;
}

static struct cluster_host *hosts_grow(struct cluster_host **hosts, size_t *n)
{
    struct cluster_host *h;

    *hosts = mem_realloc(*hosts, (*n + 1) * sizeof(**hosts));
    h = &(*hosts)[(*n)++];
    *h = (struct cluster_host){0};
    option_defaults(&host_table, h);
    return h;
}

int cluster_hosts_read(struct cluster_host **out, size_t *n, const struct yaml_doc *doc,
                       const struct yaml_node *hosts, const char *dir, struct err *e)
{
    *out = NULL;
    *n = 0;
    if (!hosts) {
        struct cluster_host *h = hosts_grow(out, n);

        mem_free(h->host);
        h->host = mem_strdup(CLUSTER_HOST_LOCAL);
        return 0;
    }
    if (hosts->kind != YAML_SEQ || !hosts->child)
        return yaml_fail(doc, hosts->mark, e, "hosts: a list such as [{host: local}] expected");
    if (hosts->n > CLUSTER_HOSTS_MAX)
        return yaml_fail(doc, hosts->mark, e, "hosts: %zu are listed, at most %d are possible",
                         hosts->n, CLUSTER_HOSTS_MAX);
    for (const struct yaml_node *entry = hosts->child; entry; entry = entry->next) {
        int rc = host_read(hosts_grow(out, n), doc, entry, dir, e);

        if (rc)
            return rc;
    }
    return hosts_check(*out, *n, doc, hosts, e);
}

static void host_default(char **field, const char *value)
{
    if (**field)
        return;
    mem_free(*field);
    *field = mem_strdup(value);
}

void cluster_hosts_finish(struct cluster_host *hosts, size_t n, const char *model,
                          const char *programs)
{
    for (size_t i = 0; i < n; i++) {
        host_default(&hosts[i].model, model);
        host_default(&hosts[i].programs, programs);
    }
}

void cluster_hosts_free(struct cluster_host **hosts, size_t *n)
{
    for (size_t i = 0; i < *n; i++) {
        mem_free((*hosts)[i].prefill.domains);
        mem_free((*hosts)[i].decode.domains);
        option_free(&host_table, &(*hosts)[i]);
    }
    mem_free(*hosts);
    *hosts = NULL;
    *n = 0;
}
