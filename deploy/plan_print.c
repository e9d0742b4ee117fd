#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "config/ranges.h"
#include "deploy/command.h"
#include "deploy/plan.h"
#include "kv/kv_layout.h"

/* A size, right-aligned in width. */
static void plan_size(struct str *out, uint64_t bytes, int width)
{
    struct str text = {0};

    size_text(&text, bytes);
    str_addf(out, "%*s", width, str_text(&text));
    str_fini(&text);
}

static void plan_print_model(const struct plan *p, const struct cluster *c, struct str *out)
{
    const char *file = strrchr(c->model, '/');

    str_addf(out, "cluster %s: ", c->cluster);
    str_adds(out, file ? file + 1 : c->model);
    str_addf(out, ", %s, %" PRIu32 " layers, context %" PRIu32 ", weights ", p->hparams.arch,
             p->hparams.n_layer, p->hparams.n_ctx);
    plan_size(out, p->weight_bytes, 0);
    str_addf(out, "\n");
}

/* Cores of the domain that no node computes on, where one does on others. */
static uint32_t plan_spare(const struct plan *p, uint32_t host, uint32_t domain)
{
    const struct topo_domain *d = &p->topos[host]->domains[domain];
    uint32_t spare = 0;

    for (uint32_t c = 0; c < d->n_cores; c++) {
        bool used = false;

        for (size_t i = 0; i < p->n; i++)
            for (uint32_t k = 0; k < p->nodes[i].place->n_pus && p->nodes[i].kv_pages; k++)
                used |= p->nodes[i].domain == d && p->nodes[i].place->pus[k] == d->cores[c].pu;
        spare += !used;
    }
    return spare < d->n_cores ? spare : 0;
}

static void plan_print_domain(const struct plan *p, uint32_t host, uint32_t domain, struct str *out)
{
    const struct topo_domain *d = &p->topos[host]->domains[domain];
    uint32_t spare = plan_spare(p, host, domain);
    uint64_t taken = 0;

    for (size_t i = 0; i < p->n; i++)
        if (p->nodes[i].domain == d)
            taken += p->nodes[i].weight_bytes + p->nodes[i].kv_bytes;
    str_addf(out, "  domain %" PRIu32 ": socket %" PRIu32 ", %" PRIu32 " core%s", d->os_index,
             d->package, d->n_cores, d->n_cores == 1 ? "" : "s");
    if (p->said[host].reserved_cores && taken) /* 0: given up, for each node to have a core */
        str_addf(out, " (%" PRIu32 " reserved)", spare);
    str_adds(out, ", memory ");
    if (d->memory_bytes)
        plan_size(out, d->memory_bytes, 0);
    else
        str_adds(out, "unknown");
    if (taken) {
        str_adds(out, ", taken ");
        plan_size(out, taken, 0);
    }
    str_addc(out, '\n');
}

static void plan_print_host(const struct plan *p, uint32_t host, struct str *out)
{
    const struct topo *t = p->topos[host];

    str_addf(out, "host %s: %" PRIu32 " core%s in %" PRIu32 " NUMA domain%s\n", t->host,
             topo_core_count(t), topo_core_count(t) == 1 ? "" : "s", t->n_domains,
             t->n_domains == 1 ? "" : "s");
    for (uint32_t d = 0; d < t->n_domains; d++)
        plan_print_domain(p, host, d, out);
}

/* "prefill-1    prefill         0  0-3       5.4 MiB   12.0 MiB". */
static void plan_print_node(const struct plan_node *node, const char *host, uint32_t width,
                            struct str *out)
{
    struct str cores = {0};

    ranges_format(&cores, node->place->pus, node->place->n_pus);
    if (node->place->shared)
        str_addc(&cores, '*');
    str_addf(out, "%-12s %-8s %-*s%6" PRIu32 "  %-12s", node->place->name,
             place_kind_name(node->place->kind), (int)width, host, node->domain->os_index,
             str_text(&cores));
    str_fini(&cores);
    if (!node->kv_pages) {
        str_addf(out, "%11s %11s\n", "-", "-");
        return;
    }
    plan_size(out, node->weight_bytes, 11);
    plan_size(out, node->kv_bytes, 12);
    str_addf(out, "  (%" PRIu32 " tokens)\n", node->kv_pages * KV_PAGE_TOKENS);
}

void plan_print(const struct plan *p, const struct cluster *c, struct str *out)
{
    bool shared = false;
    uint32_t width = 0;

    plan_print_model(p, c, out);
    for (uint32_t h = 0; h < p->n_hosts; h++) {
        plan_print_host(p, h, out);
        width = u32_max(width, (uint32_t)strlen(p->topos[h]->host));
    }
    width = p->n_hosts > 1 ? u32_max(width, 4) + 1 : 0; /* of one host the column would say nothing */
    str_addf(out, "%-12s %-8s %-*s%6s  %-12s%11s%12s\n", "process", "role", (int)width,
             width ? "host" : "", "domain", "cores", "weights", "KV");
    for (size_t i = 0; i < p->n; i++) {
        plan_print_node(&p->nodes[i], width ? p->topos[p->nodes[i].host]->host : "", width, out);
        shared |= p->nodes[i].place->shared;
    }
    if (shared)
        str_adds(out, "* shared with another process\n");
    if (p->solve.prefill)
        solve_print(&p->solve, out);
    str_addf(out, "http://%s\n", c->router.http);
}
