#include "host/place_add.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"

static const struct place_host *said_of(const struct place_more *m, uint32_t host)
{
    static const struct place_host nothing;

    return m->said ? &m->said[host] : &nothing;
}

static bool host_takes(const struct place_more *m, uint32_t host)
{
    const struct place_host *said = said_of(m, host);

    if (!m->hosts[host] || m->host != PLACE_ANY_HOST)
        return m->hosts[host] && m->host == host;
    return !said->explicit || (m->kind == PLACE_PREFILL ? said->prefill.n : said->decode.n) > 0;
}

/* Whether one of the host's nodes, of the kind (PLACE_ROUTER: of any), computes on this processor. */
static bool pu_taken(const struct place_more *m, uint32_t host, enum place_kind kind, uint32_t pu)
{
    for (size_t i = 0; i < m->n_running; i++) {
        const struct place_node *node = &m->running[i];

        if (node->kind == PLACE_ROUTER || node->host != host ||
            (kind != PLACE_ROUTER && node->kind != kind))
            continue;
        for (uint32_t k = 0; k < node->n_pus; k++)
            if (node->pus[k] == pu)
                return true;
    }
    return false;
}

/* The domain's cores for nodes that nodes of the kind have, or have not, into pus (NULL: only
 * counted). */
static uint32_t domain_pus(uint32_t *pus, const struct place_more *m, uint32_t host, uint32_t domain,
                           enum place_kind kind, bool taken)
{
    const struct topo_domain *d = &m->hosts[host]->domains[domain];
    uint32_t reserved = said_of(m, host)->reserved_cores, count = 0;
    uint32_t n = reserved < d->n_cores && !taken ? d->n_cores - reserved : d->n_cores;

    for (uint32_t i = 0; i < n; i++) {
        if (pu_taken(m, host, kind, d->cores[i].pu) != taken)
            continue;
        if (pus)
            pus[count] = d->cores[i].pu;
        count++;
    }
    return count;
}

struct candidate {
    uint32_t host, domain;
    uint32_t cores, free, nodes;
};

static struct candidate candidate_of(const struct place_more *m, uint32_t host, uint32_t domain)
{
    struct candidate c = {.host = host,
                          .domain = domain,
                          .cores = m->hosts[host]->domains[domain].n_cores,
                          .free = domain_pus(NULL, m, host, domain, PLACE_ROUTER, false)};

    for (size_t i = 0; i < m->n_running; i++)
        c.nodes += m->running[i].kind != PLACE_ROUTER && m->running[i].host == host &&
                   m->running[i].domain == domain;
    return c;
}

/* Most free cores; among those without, fewest nodes a core. */
static bool is_better(const struct candidate *a, const struct candidate *b)
{
    if (a->free != b->free)
        return a->free > b->free;
    return (uint64_t)a->nodes * b->cores < (uint64_t)b->nodes * a->cores;
}

/* The first of the best; cores 0: there is none. */
static struct candidate candidate_best(const struct place_more *m)
{
    struct candidate best = {0};

    for (uint32_t h = 0; h < m->n_hosts; h++)
        for (uint32_t d = 0; host_takes(m, h) && d < m->hosts[h]->n_domains; d++) {
            struct candidate c = candidate_of(m, h, d);

            if (!best.cores || is_better(&c, &best))
                best = c;
        }
    return best;
}

static bool name_taken(const struct place_more *m, const char *name)
{
    for (size_t i = 0; i < m->n_running; i++)
        if (!strcmp(m->running[i].name, name))
            return true;
    return false;
}

int place_add(struct place_node *out, const struct place_more *m, struct err *e)
{
    uint32_t number = 0, own;
    struct candidate at;

    memset(out, 0, sizeof(*out));
    if (m->n_running >= PLACE_NODES_MAX)
        return err_set(e, ERR_LIMIT, "place: %zu nodes run, at most %u", m->n_running,
                       PLACE_NODES_MAX);
    at = candidate_best(m);
    if (!at.cores)
        return m->host == PLACE_ANY_HOST
                   ? err_set(e, ERR_ARG,
                             "place: each host names its nodes, and none a %s node: say which host is "
                             "to run one",
                             place_kind_name(m->kind))
                   : err_set(e, ERR_ARG, "place: there is no host %u", m->host);
    out->kind = m->kind;
    out->host = at.host;
    out->domain = at.domain;
    out->pus = mem_calloc(at.cores, sizeof(*out->pus));
    out->n_pus = domain_pus(out->pus, m, at.host, at.domain, PLACE_ROUTER, false);
    if (!out->n_pus) {
        out->shared = true;
        own = domain_pus(out->pus, m, at.host, at.domain, m->kind, true);
        out->n_pus = own ? own : domain_pus(out->pus, m, at.host, at.domain, PLACE_ROUTER, true);
    }
    do
        snprintf(out->name, sizeof(out->name), "%s-%u", place_kind_name(m->kind), ++number);
    while (name_taken(m, out->name));
    return ERR_OK;
}
