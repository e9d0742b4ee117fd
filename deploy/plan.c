#include "deploy/plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "config/ranges.h"
#include "daemon/node.h"
#include "kernels/kernels.h"
#include "kv/kv_layout.h"
#include "model/gguf.h"
#include "model/weights.h"

#define PLAN_PREFILL_SEQUENCES 4 /* one computed, the others on their way to decode nodes */
#define PLAN_MEMORY_SHARE 4      /* KV takes a quarter: the rest is for weights and the system */

uint32_t plan_kv_pages(uint64_t page_bytes, uint32_t context, uint32_t wanted,
                       uint64_t memory_bytes, uint32_t sharers)
{
    uint64_t one = kv_layout_pages(context), pages = one * wanted;

    ASSERT(page_bytes > 0 && sharers > 0);
    if (memory_bytes) {
        uint64_t fit = memory_bytes / PLAN_MEMORY_SHARE / sharers / page_bytes;

        pages = pages < fit ? pages : fit;
        pages = pages > one ? pages : one;
    }
    return pages < OPTIONS_KV_PAGES_MAX ? (uint32_t)pages : OPTIONS_KV_PAGES_MAX;
}

/* As a node holds it: types without kernels are packed as larger ones. */
static uint64_t plan_tensor_bytes(const struct gguf_tensor *t)
{
    struct panels packed;

    if (t->ne[1] == 1) /* a vector */
        return t->bytes;
    panels_init(&packed, (enum dtype)t->type, (uint32_t)t->ne[1], (uint32_t)t->ne[0]);
    return panels_bytes(&packed) * t->ne[2];
}

/* Opens the model as the nodes will: what they would refuse is refused here, before anything runs. */
static int plan_model(struct plan *p, const char *path, struct err *e)
{
    struct weights weights;
    struct gguf *g = NULL;
    int rc = gguf_open(&g, path, e);

    if (!rc)
        rc = hparams_load(&p->hparams, g, e);
    if (!rc)
        rc = weights_load(&weights, g, &p->hparams, e);
    if (!rc) {
        weights_fini(&weights);
        for (uint32_t i = 0; i < gguf_n_tensors(g); i++)
            p->weight_bytes += plan_tensor_bytes(gguf_tensor_at(g, i));
    }
    gguf_close(&g);
    return rc ? err_wrap(e, "model") : 0;
}

static const struct topo *const *plan_hosts(const struct plan *p)
{
    return (const struct topo *const *)p->topos;
}

/* Nodes of that domain among nodes[n]. */
static uint32_t plan_sharers(const struct place_node *nodes, size_t n, uint32_t host, uint32_t domain)
{
    uint32_t count = 0;

    for (size_t i = 0; i < n; i++)
        count += nodes[i].kind != PLACE_ROUTER && nodes[i].host == host && nodes[i].domain == domain;
    return count;
}

/* Full sequences that a node's pool is for. */
static uint32_t plan_sequences(const struct cluster *c, bool prefill)
{
    if (!prefill)
        return c->decode.options.slots;
    return c->prefill.options.change_role
               ? u32_max(PLAN_PREFILL_SEQUENCES, c->prefill.options.slots)
               : PLAN_PREFILL_SEQUENCES;
}

/* A role's tier and the type of its KV; an error if that may not travel as the role is told. */
static int plan_kv_type(enum kv_type *type, enum cpu_tier *tier, const struct cluster *c, bool prefill,
                        struct err *e)
{
    int asked = prefill ? c->prefill.options.kv_type : c->decode.options.kv_type;
    int wire = prefill ? c->prefill.options.kv_wire : c->decode.options.kv_wire;
    const char *cpu = prefill ? c->prefill.options.common.cpu : c->decode.options.common.cpu;
    enum kv_type travels;
    int rc = cpu_tier_choose(tier, cpu, e);

    if (rc)
        return rc;
    *type = asked == KV_AUTO ? kernels_kv_auto(kernels_get(*tier)) : (enum kv_type)asked;
    return node_wire(&travels, wire, *type, e);
}

/* Nodes of one tier promise equal streams, so the KV of either role is the other's bit for bit. Other hosts
 * may have other tiers, which only they know. */
static int plan_check_kv(const struct plan *p, const struct cluster *c, struct err *e)
{
    enum kv_type prefill, decode;
    enum cpu_tier tier[2];
    bool ships = false;
    int rc;

    for (size_t i = 0; i < p->n; i++)
        ships = ships || p->nodes[i].place->kind == PLACE_PREFILL;
    if (p->n_hosts > 1 || !ships)
        return 0;
    if ((rc = plan_kv_type(&prefill, &tier[0], c, true, e)) ||
        (rc = plan_kv_type(&decode, &tier[1], c, false, e)))
        return rc;
    if (prefill == decode || tier[0] != tier[1])
        return 0;
    return err_set(e, ERR_CONFIG, "kv_type: prefill nodes have %s and decode nodes %s, and a stream that starts "
                   "again would get other tokens; use one type for both", kv_type_name(prefill),
                   kv_type_name(decode));
}

/* sharers: nodes of its domain, itself included. */
static int plan_node_init(const struct plan *p, const struct cluster *c, struct plan_node *out,
                          const struct place_node *node, uint32_t sharers, struct err *e)
{
    bool prefill = node->kind == PLACE_PREFILL;
    uint32_t asked = prefill ? c->prefill.options.kv_pages : c->decode.options.kv_pages;
    struct kv_layout kv;
    enum cpu_tier tier;
    enum kv_type type;
    int rc;

    out->place = node;
    out->host = node->host;
    out->domain = &p->topos[node->host]->domains[node->domain];
    if (node->kind == PLACE_ROUTER)
        return 0;
    rc = plan_kv_type(&type, &tier, c, prefill, e);
    if (rc)
        return rc;
    kv_layout_init(&kv, type, p->hparams.n_layer, p->hparams.n_head_kv, p->hparams.head_dim);
    out->kv_pages = asked ? asked
                          : plan_kv_pages(kv.page_bytes, p->hparams.n_ctx,
                                          plan_sequences(c, prefill),
                                          out->domain->memory_bytes, sharers);
    out->kv_bytes = out->kv_pages * (uint64_t)kv.page_bytes;
    out->weight_bytes = p->weight_bytes;
    return 0;
}

/* Whether any host leaves the ratio something to decide. */
static bool plan_has_choice(const struct plan *p)
{
    for (size_t h = 0; h < p->n_hosts; h++)
        if (!p->said[h].explicit)
            return true;
    return false;
}

/* What the ratio divides: domains, or cores where there is one domain or they are unlike. */
static uint32_t plan_units(const struct plan *p)
{
    uint32_t domains = 0, cores = 0, first = p->topos[0]->domains[0].n_cores;
    bool alike = true;

    for (size_t h = 0; h < p->n_hosts; h++) {
        domains += p->topos[h]->n_domains;
        cores += topo_core_count(p->topos[h]);
        for (uint32_t d = 0; d < p->topos[h]->n_domains; d++)
            alike &= p->topos[h]->domains[d].n_cores == first;
    }
    return domains > 1 && alike ? domains : cores;
}

/* `ratio: auto` without counts: solved. On a recorded machine too, with this one's rates. */
static int plan_solve(struct plan *p, const struct cluster *c, struct place_policy *policy,
                      struct err *e)
{
    uint32_t units = plan_units(p);
    enum cpu_tier tier;
    enum kv_type type;
    struct kv_layout kv;
    int rc;

    if (c->ratio_prefill || c->prefill.nodes || c->decode.nodes || policy->decode_only ||
        !plan_has_choice(p))
        return 0;
    rc = plan_kv_type(&type, &tier, c, false, e);
    if (!rc)
        rc = cpu_tier_choose(&tier, c->cpu, e);
    if (!rc)
        rc = solve_measure(&p->solve.cost, tier, e);
    if (rc)
        return rc;
    kv_layout_init(&kv, type, p->hparams.n_layer, p->hparams.n_head_kv, p->hparams.head_dim);
    p->solve.mix = (struct ratio_mix){.prompt = c->workload.prompt_tokens,
                                      .output = c->workload.output_tokens};
    p->solve.cost.flops_token = solve_flops_token(&p->hparams);
    p->solve.cost.weight_bytes = (double)p->weight_bytes;
    p->solve.cost.kv_token_bytes = (double)kv.page_bytes / KV_PAGE_TOKENS;
    solve_share(&p->solve, units, c->decode.options.slots);
    policy->prefill = p->solve.prefill;
    policy->decode = p->solve.decode;
    return 0;
}

static struct place_host *plan_said(const struct cluster *c)
{
    struct place_host *said = mem_calloc(c->n_hosts, sizeof(*said));

    for (size_t i = 0; i < c->n_hosts; i++) {
        const struct cluster_host *h = &c->hosts[i];

        said[i].explicit = cluster_host_is_explicit(h);
        said[i].prefill = (struct place_wish){.domains = h->prefill.domains, .n = h->prefill.n};
        said[i].decode = (struct place_wish){.domains = h->decode.domains, .n = h->decode.n};
        said[i].reserved_cores = h->reserve;
    }
    return said;
}

static int plan_place(struct plan *p, const struct cluster *c, struct err *e)
{
    struct place_policy policy = {
        .prefill = c->ratio_prefill,
        .decode = c->ratio_decode,
        .n_prefill = c->prefill.nodes,
        .n_decode = c->decode.nodes,
        .decode_only = c->prefill.none ||
                       (c->router.mode == ROUTER_AGGREGATED && !c->prefill.nodes),
        .hosts = p->said = plan_said(c),
    };
    int rc = plan_solve(p, c, &policy, e);

    return rc ? rc : place(&p->placement, plan_hosts(p), p->n_hosts, &policy, e);
}

/* Nodes are placed, then sized by their domain and their neighbours there, then weighed. */
static int plan_nodes(struct plan *p, const struct cluster *c, struct err *e)
{
    struct place_memory *memory;
    int rc = plan_place(p, c, e);

    if (rc)
        return rc;
    p->n = p->placement.n;
    p->nodes = mem_calloc(p->n, sizeof(*p->nodes));
    memory = mem_calloc(p->n, sizeof(*memory));
    for (size_t i = 0; i < p->n && !rc; i++) {
        const struct place_node *node = &p->placement.nodes[i];

        rc = plan_node_init(p, c, &p->nodes[i], node,
                            plan_sharers(p->placement.nodes, p->n, node->host, node->domain), e);
        memory[i].weight_bytes = p->nodes[i].weight_bytes;
        memory[i].kv_bytes = p->nodes[i].kv_bytes;
    }
    if (!rc)
        rc = plan_check_kv(p, c, e);
    if (!rc)
        rc = place_check_memory(&p->placement, plan_hosts(p), p->n_hosts, memory, e);
    mem_free(memory);
    return rc;
}

/* A domain that a wish names is one the host has, with cores that may be used. */
static int plan_check_wish(const struct cluster *c, const struct cluster_host *h,
                           const struct cluster_wish *wish, const struct topo *t, const char *kind,
                           struct err *e)
{
    for (uint32_t i = 0; wish->domains && i < wish->n; i++) {
        bool found = false;

        for (uint32_t d = 0; d < t->n_domains; d++)
            found |= t->domains[d].os_index == wish->domains[i];
        if (!found)
            return cluster_fail(c, wish->mark, e,
                                "%s: host %s has no NUMA domain %u with cores to use", kind, h->host,
                                wish->domains[i]);
    }
    return 0;
}

/* What the host's entry in the file says, applied to its topology. */
static int plan_host(const struct cluster *c, const struct cluster_host *h, struct topo *t,
                     struct err *e)
{
    uint32_t *cores, n;
    struct err why = {0};
    int rc = 0;

    if (!cluster_host_is_local(h))
        snprintf(t->host, sizeof(t->host), "%s", h->host);
    if (*h->cores) {
        rc = ranges_parse(&cores, &n, h->cores, &why);
        if (!rc)
            rc = topo_restrict(t, cores, n, &why);
        mem_free(cores);
        if (rc)
            return cluster_fail(c, h->mark, e, "cores: %s: %s", h->cores, why.text);
    }
    for (uint32_t d = 0; d < t->n_domains; d++)
        if (h->reserve >= t->domains[d].n_cores)
            return cluster_fail(c, h->mark, e,
                                "reserve: %u leaves none of the %u core%s of domain %u of host %s",
                                h->reserve, t->domains[d].n_cores,
                                t->domains[d].n_cores == 1 ? "" : "s", t->domains[d].os_index, h->host);
    rc = plan_check_wish(c, h, &h->prefill, t, "prefill", e);
    return rc ? rc : plan_check_wish(c, h, &h->decode, t, "decode", e);
}

static int plan_topos(struct plan *p, const struct cluster *c, const char *const *topo_xml,
                      struct err *e)
{
    int rc = 0;

    p->topos = mem_calloc(c->n_hosts, sizeof(struct topo *));
    for (size_t h = 0; h < c->n_hosts && !rc; h++) {
        rc = topo_load(&p->topos[h], topo_xml ? topo_xml[h] : NULL, e);
        if (rc && !cluster_host_is_local(&c->hosts[h]))
            err_wrap(e, "host %s", c->hosts[h].host);
        p->n_hosts += !rc;
        if (!rc)
            rc = plan_host(c, &c->hosts[h], p->topos[h], e);
    }
    return rc;
}

int plan_init(struct plan *p, const struct cluster *c, const char *const *topo_xml, struct err *e)
{
    int rc = plan_model(p, c->model, e);

    if (!rc)
        rc = plan_topos(p, c, topo_xml, e);
    if (!rc)
        rc = plan_nodes(p, c, e);
    return rc;
}

void plan_fini(struct plan *p)
{
    for (size_t h = 0; h < p->n_hosts; h++)
        topo_free(&p->topos[h]);
    mem_free(p->topos);
    mem_free(p->said);
    placement_fini(&p->placement);
    mem_free(p->nodes);
    *p = (struct plan){0};
}
