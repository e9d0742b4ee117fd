/* DESIGN. Four passes over plain arrays:
 *   settle  the nodes of explicit hosts: listed domains, then those with fewest nodes
 *   count   how many nodes of each kind remain for the other hosts
 *   assign  each of those to the domain that has fewest, domains taken round robin over the hosts
 *   divide  each domain's cores among its nodes, in proportion to their weights */
#include "host/place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"

struct slot { /* a domain while nodes are assigned */
    uint32_t host, domain, n_cores;
    uint32_t n_prefill, n_decode;
};

#define ANY UINT32_MAX /* of a slot's domain */

struct plan {
    const struct topo *const *hosts;
    size_t n_hosts;
    struct place_policy policy; /* with the counts filled in */
    struct slot *slots;
    size_t n_slots, n_free;             /* the first n_free are the ratio's */
    uint32_t settled[PLACE_DECODE + 1]; /* nodes of explicit hosts */
    uint64_t weight[PLACE_DECODE + 1]; /* a node's share of a divided domain, by kind */
};

static const struct topo_domain *slot_domain(const struct plan *plan, const struct slot *slot)
{
    return &plan->hosts[slot->host]->domains[slot->domain];
}

static const struct place_host *host_of(const struct plan *plan, uint32_t host)
{
    static const struct place_host nothing;

    return plan->policy.hosts ? &plan->policy.hosts[host] : &nothing;
}

/* Those of the hosts that the ratio decides over come first: first domain of each host, then second of
 * each, and so on. */
static void slots_list(struct plan *plan)
{
    size_t total = 0;
    uint32_t deepest = 0;

    for (size_t h = 0; h < plan->n_hosts; h++) {
        total += plan->hosts[h]->n_domains;
        deepest = u32_max(deepest, plan->hosts[h]->n_domains);
    }
    plan->slots = mem_calloc(total, sizeof(*plan->slots));
    for (int explicit = 0; explicit < 2; explicit++) {
        for (uint32_t d = 0; d < deepest; d++)
            for (uint32_t h = 0; h < plan->n_hosts; h++)
                if (d < plan->hosts[h]->n_domains && host_of(plan, h)->explicit == explicit)
                    plan->slots[plan->n_slots++] = (struct slot){
                        .host = h, .domain = d, .n_cores = plan->hosts[h]->domains[d].n_cores};
        if (!explicit)
            plan->n_free = plan->n_slots;
    }
}

static void slot_take(struct plan *plan, struct slot *slot, enum place_kind kind)
{
    if (kind == PLACE_PREFILL)
        slot->n_prefill++;
    else
        slot->n_decode++;
    plan->settled[kind]++;
}

/* The host's domain of that os number; os == ANY: the one with fewest nodes, the first of those. */
static struct slot *slot_find(struct plan *plan, uint32_t host, uint32_t os)
{
    struct slot *best = NULL;

    for (size_t s = plan->n_free; s < plan->n_slots; s++) {
        struct slot *slot = &plan->slots[s];

        if (slot->host != host)
            continue;
        if (os != ANY && slot_domain(plan, slot)->os_index == os)
            return slot;
        if (os == ANY && (!best || slot->n_prefill + slot->n_decode < best->n_prefill + best->n_decode))
            best = slot;
    }
    return best;
}

/* listed: the nodes whose domain is said, or the others. */
static int settle_wish(struct plan *plan, uint32_t host, enum place_kind kind, bool listed,
                       struct err *e)
{
    const struct place_host *h = host_of(plan, host);
    const struct place_wish *wish = kind == PLACE_PREFILL ? &h->prefill : &h->decode;

    if ((wish->domains != NULL) != listed)
        return 0;
    if (wish->n > PLACE_NODES_MAX)
        return err_set(e, ERR_ARG, "place: %u %s nodes on %s are over the limit of %u", wish->n,
                       place_kind_name(kind), plan->hosts[host]->host, PLACE_NODES_MAX);
    for (uint32_t i = 0; i < wish->n; i++) {
        struct slot *slot = slot_find(plan, host, listed ? wish->domains[i] : ANY);

        if (!slot)
            return err_set(e, ERR_ARG, "place: %s has no NUMA domain %u with cores for a %s node",
                           plan->hosts[host]->host, wish->domains[i], place_kind_name(kind));
        slot_take(plan, slot, kind);
    }
    return 0;
}

/* The nodes of the explicit hosts. */
static int settle(struct plan *plan, struct err *e)
{
    int rc = 0;

    for (uint32_t h = 0; h < plan->n_hosts; h++)
        for (int listed = 1; listed >= 0 && host_of(plan, h)->explicit; listed--) {
            if (!rc)
                rc = settle_wish(plan, h, PLACE_PREFILL, listed, e);
            if (!rc)
                rc = settle_wish(plan, h, PLACE_DECODE, listed, e);
        }
    return rc;
}

/* round(n * a / b), at least 1; b > 0. */
static uint32_t scaled(uint64_t n, uint64_t a, uint64_t b)
{
    uint64_t q;

    ASSERT(b > 0);
    q = (2 * n * a + b) / (2 * b);
    return q < 1 ? 1 : q > UINT32_MAX ? UINT32_MAX : (uint32_t)q;
}

static int slot_compare_cores(const void *a, const void *b)
{
    const struct slot *x = a, *y = b;

    if (x->n_cores != y->n_cores)
        return x->n_cores < y->n_cores ? -1 : 1;
    if (x->domain != y->domain)
        return x->domain < y->domain ? -1 : 1;
    return x->host < y->host ? -1 : x->host > y->host;
}

/* Counts in all from the ratio: whole domains, small ones first, compute prompts until their cores are
 * nearest to its share of all cores. */
static void count_by_ratio(struct plan *plan)
{
    struct place_policy *p = &plan->policy;
    uint32_t prefill = plan->settled[PLACE_PREFILL], decode = plan->settled[PLACE_DECODE];
    size_t most = plan->n_free - (decode == 0), taken = 0; /* one must decode */
    double total = 0, sum = 0, share;

    for (size_t s = 0; s < plan->n_slots; s++) {
        const struct slot *slot = &plan->slots[s];
        uint32_t k = slot->n_prefill + slot->n_decode;

        total += s < plan->n_free || k ? slot->n_cores : 0;
        sum += k ? (double)slot->n_cores * slot->n_prefill / k : 0;
    }
    share = total * p->prefill / ((double)p->prefill + p->decode);
    /* Like domains stay in the order that spreads them over the hosts. */
    qsort(plan->slots, plan->n_free, sizeof(*plan->slots), slot_compare_cores);
    while (taken < most && 2 * (share - sum) >= plan->slots[taken].n_cores)
        sum += plan->slots[taken++].n_cores;
    if (prefill + taken == 0) /* of the only domain that there is it gets a part */
        taken = 1;
    p->n_prefill = prefill + (uint32_t)taken;
    p->n_decode = u32_max(1, decode + (uint32_t)(plan->n_free - taken));
}

/* The number of nodes that is asked for, or what the explicit hosts have where no other is. */
static int count_check(const struct plan *plan, enum place_kind kind, uint32_t *n, struct err *e)
{
    uint32_t settled = plan->settled[kind];

    if (plan->n_free == 0 && *n == 0)
        *n = settled;
    if (*n < settled || (plan->n_free == 0 && *n > settled))
        return err_set(e, ERR_ARG,
                       "place: %u %s nodes are wanted, the hosts that name theirs have %u%s", *n, place_kind_name(kind), settled,
                       plan->n_free == 0 ? " and there are no others" : "");
    return 0;
}

static int count(struct plan *plan, struct err *e)
{
    struct place_policy *p = &plan->policy;
    bool automatic = p->prefill == 0 && p->decode == 0;

    if (!automatic && (p->prefill == 0 || p->decode == 0))
        return err_set(e, ERR_ARG, "place: ratio %u:%u: both sides must be at least 1", p->prefill,
                       p->decode);
    if (automatic)
        p->prefill = p->decode = 1;
    if (p->n_prefill > PLACE_NODES_MAX || p->n_decode > PLACE_NODES_MAX)
        goto too_many;
    if (plan->n_free == 0) {
        /* nothing is the ratio's */
    } else if (p->decode_only) {
        p->n_prefill = plan->settled[PLACE_PREFILL];
        if (p->n_decode == 0)
            p->n_decode = plan->settled[PLACE_DECODE] + (uint32_t)plan->n_free;
    } else if (p->n_prefill == 0 && p->n_decode == 0) {
        count_by_ratio(plan);
    } else if (p->n_prefill == 0) {
        p->n_prefill = u32_max(scaled(p->n_decode, p->prefill, p->decode),
                               plan->settled[PLACE_PREFILL]);
    } else if (p->n_decode == 0) {
        p->n_decode = u32_max(scaled(p->n_prefill, p->decode, p->prefill),
                              plan->settled[PLACE_DECODE]);
    }
    if (count_check(plan, PLACE_PREFILL, &p->n_prefill, e) ||
        count_check(plan, PLACE_DECODE, &p->n_decode, e))
        return ERR_ARG;
    if ((uint64_t)p->n_prefill + p->n_decode > PLACE_NODES_MAX)
        goto too_many;
    if (p->n_decode == 0)
        return err_set(e, ERR_ARG, "place: no host runs a decode node, so nothing would be answered");
    /* A kind's share is divided among its nodes: P / n_prefill to D / n_decode, as integers. */
    automatic |= p->n_prefill == 0;
    plan->weight[PLACE_PREFILL] = automatic ? 1 : (uint64_t)p->prefill * p->n_decode;
    plan->weight[PLACE_DECODE] = automatic ? 1 : (uint64_t)p->decode * p->n_prefill;
    return ERR_OK;
too_many:
    return err_set(e, ERR_ARG, "place: %u prefill and %u decode nodes are over the limit of %u",
                   p->n_prefill, p->n_decode, PLACE_NODES_MAX);
}

/* The nodes that no explicit host has. */
static void assign(struct plan *plan)
{
    uint32_t prefill = plan->policy.n_prefill - plan->settled[PLACE_PREFILL];
    uint32_t total = prefill + plan->policy.n_decode - plan->settled[PLACE_DECODE];

    ASSERT(plan->n_free > 0 || total == 0);
    /* Taking the slots in turn is taking the one with fewest nodes, the first of those. */
    for (uint32_t i = 0; i < total; i++) {
        struct slot *slot = &plan->slots[i % plan->n_free];

        if (i < prefill)
            slot->n_prefill++;
        else
            slot->n_decode++;
    }
}

/* Compute cores of the slot's domain: all but the reserved ones, which are given up where the nodes
 * would not get a core each. */
static uint32_t compute_cores(const struct plan *plan, const struct slot *slot)
{
    uint32_t n = slot_domain(plan, slot)->n_cores;
    uint32_t k = slot->n_prefill + slot->n_decode;
    uint32_t reserved = host_of(plan, slot->host)->reserved_cores;

    return reserved < n && n - reserved >= u32_max(k, 1) ? n - reserved : n;
}

static void node_pus(struct place_node *node, const struct topo_domain *domain, uint32_t first,
                     uint32_t n)
{
    node->pus = mem_calloc(n, sizeof(*node->pus));
    node->n_pus = n;
    for (uint32_t i = 0; i < n; i++)
        node->pus[i] = domain->cores[first + i].pu;
}

/* Fills the cores of the slot's nodes: prefill[0 .. n_prefill), then decode[0 .. n_decode). Each in
 * turn takes its rounded share of what is left, at least one core, leaving one for each that
 * follows: so the runs are contiguous and cover the domain. */
static void divide(struct place_node *prefill, struct place_node *decode, const struct plan *plan,
                   const struct slot *slot)
{
    const struct topo_domain *domain = slot_domain(plan, slot);
    uint32_t k = slot->n_prefill + slot->n_decode;
    uint32_t cores = compute_cores(plan, slot);
    const uint64_t *w = plan->weight;
    uint64_t weight = w[PLACE_PREFILL] * slot->n_prefill + w[PLACE_DECODE] * slot->n_decode;
    uint32_t at = 0;

    ASSERT(cores > 0);
    for (uint32_t i = 0; i < k; i++) {
        bool first = i < slot->n_prefill;
        struct place_node *node = first ? &prefill[i] : &decode[i - slot->n_prefill];
        uint64_t own = w[first ? PLACE_PREFILL : PLACE_DECODE];
        uint32_t left = cores - at, n;

        if (cores < k) { /* decode nodes come last: on different cores while there are some */
            node_pus(node, domain, i % cores, 1);
            node->shared = i >= cores || i + cores < k;
            continue;
        }
        n = u32_min(scaled(left, own, weight), left - (k - 1 - i));
        node_pus(node, domain, at, n);
        at += n;
        weight -= own;
    }
}

static void node_name(struct place_node *node, enum place_kind kind, const struct slot *slot,
                      uint32_t number)
{
    node->kind = kind;
    node->host = slot->host;
    node->domain = slot->domain;
    snprintf(node->name, sizeof(node->name), "%s-%u", place_kind_name(kind), number);
}

/* slot: of host 0, domain 0. */
static void router_fill(struct place_node *node, const struct plan *plan, const struct slot *slot)
{
    const struct topo_domain *domain = slot_domain(plan, slot);
    uint32_t cores = compute_cores(plan, slot);

    node->kind = PLACE_ROUTER;
    snprintf(node->name, sizeof(node->name), "router");
    node->shared = cores == domain->n_cores && slot->n_prefill + slot->n_decode > 0;
    if (cores == domain->n_cores)
        node_pus(node, domain, 0, cores);
    else
        node_pus(node, domain, cores, domain->n_cores - cores);
}

static int slot_compare(const void *a, const void *b)
{
    const struct slot *x = a, *y = b;

    if (x->host != y->host)
        return x->host < y->host ? -1 : 1;
    return x->domain < y->domain ? -1 : x->domain > y->domain;
}

static void emit(struct placement *out, struct plan *plan)
{
    struct place_node *prefill, *decode;
    uint32_t n_prefill = 0, n_decode = 0;

    qsort(plan->slots, plan->n_slots, sizeof(*plan->slots), slot_compare);
    out->n = 1 + (size_t)plan->policy.n_prefill + plan->policy.n_decode;
    out->nodes = mem_calloc(out->n, sizeof(*out->nodes));
    prefill = out->nodes + 1;
    decode = prefill + plan->policy.n_prefill;
    router_fill(&out->nodes[0], plan, &plan->slots[0]);
    for (size_t s = 0; s < plan->n_slots; s++) {
        const struct slot *slot = &plan->slots[s];

        divide(prefill + n_prefill, decode + n_decode, plan, slot);
        for (uint32_t i = 0; i < slot->n_prefill; i++, n_prefill++)
            node_name(&prefill[n_prefill], PLACE_PREFILL, slot, n_prefill + 1);
        for (uint32_t i = 0; i < slot->n_decode; i++, n_decode++)
            node_name(&decode[n_decode], PLACE_DECODE, slot, n_decode + 1);
    }
}

int place(struct placement *out, const struct topo *const *hosts, size_t n_hosts,
          const struct place_policy *policy, struct err *e)
{
    struct plan plan = {.hosts = hosts, .n_hosts = n_hosts, .policy = *policy};
    int rc;

    memset(out, 0, sizeof(*out));
    slots_list(&plan);
    rc = plan.n_slots > 0 ? settle(&plan, e)
                          : err_set(e, ERR_ARG, "place: there is no domain to place nodes on");
    if (rc == ERR_OK)
        rc = count(&plan, e);
    if (rc == ERR_OK) {
        assign(&plan);
        emit(out, &plan);
    }
    mem_free(plan.slots);
    return rc;
}

/* All that the nodes of one domain take; n[kind] is how many they are. */
static struct place_memory domain_memory(uint32_t n[PLACE_DECODE + 1], const struct placement *p,
                                         const struct place_memory *memory, uint32_t host,
                                         uint32_t domain)
{
    struct place_memory sum = {0};

    memset(n, 0, sizeof(*n) * (PLACE_DECODE + 1));
    for (size_t i = 0; i < p->n; i++) {
        if (p->nodes[i].host != host || p->nodes[i].domain != domain)
            continue;
        n[p->nodes[i].kind]++;
        sum.weight_bytes += memory[i].weight_bytes;
        sum.kv_bytes += memory[i].kv_bytes;
    }
    return sum;
}

int place_check_memory(const struct placement *p, const struct topo *const *hosts, size_t n_hosts,
                       const struct place_memory *memory, struct err *e)
{
    const double gib = 1073741824.0;

    for (uint32_t h = 0; h < n_hosts; h++)
        for (uint32_t d = 0; d < hosts[h]->n_domains; d++) {
            const struct topo_domain *domain = &hosts[h]->domains[d];
            uint32_t n[PLACE_DECODE + 1];
            struct place_memory sum = domain_memory(n, p, memory, h, d);

            if (domain->memory_bytes == 0 ||
                sum.weight_bytes + sum.kv_bytes <= domain->memory_bytes)
                continue;
            return err_set(e, ERR_LIMIT,
                           "place: NUMA domain %u of %s has %.2f GiB, its %u prefill and %u decode "
                           "nodes need %.2f GiB of weights and %.2f GiB of KV",
                           domain->os_index, hosts[h]->host, (double)domain->memory_bytes / gib,
                           n[PLACE_PREFILL], n[PLACE_DECODE], (double)sum.weight_bytes / gib,
                           (double)sum.kv_bytes / gib);
        }
    return 0;
}

void placement_fini(struct placement *p)
{
    for (size_t i = 0; i < p->n; i++)
        mem_free(p->nodes[i].pus);
    mem_free(p->nodes);
    memset(p, 0, sizeof(*p));
}

const char *place_kind_name(enum place_kind kind)
{
    static const char *const names[] = {"router", "prefill", "decode"};

    return (unsigned)kind < ARRAY_LEN(names) ? names[kind] : "?";
}

int place_name_order(const char *a, const char *b)
{
    size_t n_a = strlen(a), n_b = strlen(b);

    return n_a != n_b ? (n_a < n_b ? -1 : 1) : strcmp(a, b);
}
