#include "deploy/topology.h"

#include <string.h>

#include "base/mem.h"

/* The host that the n bytes of name mean; -1: none. */
static int topology_host(const struct cluster *c, const char *name, size_t n)
{
    for (size_t h = 0; h < c->n_hosts; h++)
        if (strlen(c->hosts[h].host) == n && !memcmp(c->hosts[h].host, name, n))
            return (int)h;
    return -1;
}

/* Into xml[c->n_hosts] of NULLs, whose strings stay in list, which is cut up. */
static int topology_split(const char **xml, const struct cluster *c, char *list, struct err *e)
{
    char *rest = NULL;

    for (char *item = strtok_r(list, ",", &rest); item; item = strtok_r(NULL, ",", &rest)) {
        char *equals = strchr(item, '=');
        size_t n = equals ? (size_t)(equals - item) : 0;
        int h = equals ? topology_host(c, item, n) : 0;

        if (h < 0)
            return err_set(e, ERR_ARG, "--topology: %s has no host \"%.*s\"", c->file, (int)n, item);
        if (xml[h])
            return err_set(e, ERR_ARG, "--topology: host %s is given twice", c->hosts[h].host);
        xml[h] = equals ? equals + 1 : item;
    }
    for (size_t h = 0; h < c->n_hosts; h++)
        if (!xml[h] && !cluster_host_is_local(&c->hosts[h]))
            return err_set(e, ERR_ARG, "host %s: record its topology there with `lstopo FILE.xml` and "
                                       "say --topology=%s=FILE.xml", c->hosts[h].host,
                           c->hosts[h].host);
    return 0;
}

int topology_plan(struct plan *p, const struct cluster *c, const char *topology, struct err *e)
{
    const char **xml = mem_calloc(c->n_hosts, sizeof(*xml));
    char *list = mem_strdup(topology);
    int rc = topology_split(xml, c, list, e);

    if (!rc)
        rc = plan_init(p, c, xml, e);
    mem_free(xml);
    mem_free(list);
    return rc;
}
