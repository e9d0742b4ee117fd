#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"
#include "host/place.h"
#include "tests/lib/data.h"
#include "tests/lib/topo_make.h"

#define GIB ((uint64_t)1 << 30)

/* "router h0d0:2 prefill-1 h0d0:4 decode-1 h0d1:4*": node, host, domain, cores, * if shared. */
static void render(char *out, size_t size, const struct placement *p)
{
    size_t at = 0;

    out[0] = '\0';
    for (size_t i = 0; i < p->n && at < size; i++) {
        const struct place_node *node = &p->nodes[i];

        at += (size_t)snprintf(out + at, size - at, "%s%s h%ud%u:%u%s", i ? " " : "", node->name,
                               node->host, node->domain, node->n_pus, node->shared ? "*" : "");
    }
}

/* What holds of every placement: unshared cores belong to one node, PUs are first hardware threads of
 * their own domain, names count up. */
static void assert_sound(const struct placement *p, const struct topo *const *hosts)
{
    for (size_t i = 0; i < p->n; i++) {
        const struct place_node *a = &p->nodes[i];
        const struct topo_domain *domain = &hosts[a->host]->domains[a->domain];

        assert_true(a->n_pus >= 1);
        for (uint32_t x = 0; x < a->n_pus; x++) {
            uint32_t users = 0, is_core = 0;

            for (uint32_t c = 0; c < domain->n_cores; c++)
                is_core += domain->cores[c].pu == a->pus[x];
            assert_int_equal(is_core, 1);
            for (size_t j = 0; j < p->n; j++)
                for (uint32_t y = 0; y < p->nodes[j].n_pus; y++)
                    users += p->nodes[j].host == a->host && p->nodes[j].pus[y] == a->pus[x];
            /* a shared router does not make the others count as shared */
            if (!a->shared && !(p->nodes[0].shared && p->nodes[0].host == a->host))
                assert_int_equal(users, 1);
        }
    }
}

struct synthetic {
    uint32_t n_hosts, n_domains, n_cores, reserved_cores;
    struct place_policy policy;
    const char *want;
};

static const struct synthetic synthetic[] = {
    /* one domain: the ratio divides the cores */
    {1, 1, 8, 0, {0}, "router h0d0:8* prefill-1 h0d0:4 decode-1 h0d0:4"},
    {1, 1, 8, 0, {.prefill = 1, .decode = 3}, "router h0d0:8* prefill-1 h0d0:2 decode-1 h0d0:6"},
    {1, 1, 8, 0, {.prefill = 1, .decode = 100}, "router h0d0:8* prefill-1 h0d0:1 decode-1 h0d0:7"},
    {1, 1, 8, 0, {.prefill = 100, .decode = 1}, "router h0d0:8* prefill-1 h0d0:7 decode-1 h0d0:1"},
    {1, 1, 8, 0, {.prefill = 1, .decode = 3, .n_prefill = 1, .n_decode = 3},
     "router h0d0:8* prefill-1 h0d0:2 decode-1 h0d0:2 decode-2 h0d0:2 decode-3 h0d0:2"},
    {1, 1, 8, 0, {.n_prefill = 1, .n_decode = 2},
     "router h0d0:8* prefill-1 h0d0:3 decode-1 h0d0:3 decode-2 h0d0:2"},
    /* reserved cores are the router's, and given up before a node goes without a core */
    {1, 1, 8, 2, {0}, "router h0d0:2 prefill-1 h0d0:3 decode-1 h0d0:3"},
    {1, 1, 2, 1, {0}, "router h0d0:2* prefill-1 h0d0:1 decode-1 h0d0:1"},
    {1, 1, 8, 9, {0}, "router h0d0:8* prefill-1 h0d0:4 decode-1 h0d0:4"},
    /* fewer cores than nodes: shared */
    {1, 1, 2, 0, {.n_prefill = 1, .n_decode = 2},
     "router h0d0:2* prefill-1 h0d0:1* decode-1 h0d0:1 decode-2 h0d0:1*"},
    {1, 1, 1, 0, {0}, "router h0d0:1* prefill-1 h0d0:1* decode-1 h0d0:1*"},
    /* several domains: whole ones */
    {1, 2, 4, 0, {.prefill = 1, .decode = 3}, "router h0d0:4* prefill-1 h0d0:4 decode-1 h0d1:4"},
    {1, 4, 4, 0, {.prefill = 1, .decode = 3},
     "router h0d0:4* prefill-1 h0d0:4 decode-1 h0d1:4 decode-2 h0d2:4 decode-3 h0d3:4"},
    {1, 4, 4, 0, {0},
     "router h0d0:4* prefill-1 h0d0:4 prefill-2 h0d1:4 decode-1 h0d2:4 decode-2 h0d3:4"},
    {1, 4, 4, 0, {.n_prefill = 1, .n_decode = 2},
     "router h0d0:4* prefill-1 h0d0:4 decode-1 h0d1:4 decode-2 h0d2:4"},
    {1, 4, 4, 0, {.prefill = 1, .decode = 2, .n_prefill = 1},
     "router h0d0:4* prefill-1 h0d0:4 decode-1 h0d1:4 decode-2 h0d2:4"},
    {1, 4, 4, 0, {.prefill = 1, .decode = 2, .n_decode = 2},
     "router h0d0:4* prefill-1 h0d0:4 decode-1 h0d1:4 decode-2 h0d2:4"},
    /* decode nodes alone */
    {1, 2, 4, 0, {.prefill = 1, .decode = 3, .decode_only = true},
     "router h0d0:4* decode-1 h0d0:4 decode-2 h0d1:4"},
    {1, 1, 8, 0, {.n_decode = 2, .decode_only = true}, "router h0d0:8* decode-1 h0d0:4 decode-2 h0d0:4"},
    /* more nodes than domains: 2 domains, 4 nodes */
    {1, 2, 4, 0, {.prefill = 1, .decode = 3, .n_prefill = 1, .n_decode = 3},
     "router h0d0:4* prefill-1 h0d0:2 decode-1 h0d0:2 decode-2 h0d1:2 decode-3 h0d1:2"},
    /* two hosts: a prefill node on each */
    {2, 4, 4, 0, {.prefill = 1, .decode = 3},
     "router h0d0:4* prefill-1 h0d0:4 prefill-2 h1d0:4 decode-1 h0d1:4 decode-2 h0d2:4 "
     "decode-3 h0d3:4 decode-4 h1d1:4 decode-5 h1d2:4 decode-6 h1d3:4"},
    {2, 1, 4, 0, {.prefill = 1, .decode = 3}, "router h0d0:4* prefill-1 h0d0:4 decode-1 h1d0:4"},
};

static void synthetic_hosts_are_placed_as_the_table_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(synthetic); i++) {
        const struct synthetic *s = &synthetic[i];
        struct topo *hosts[2] = {NULL, NULL};
        const struct topo *borrowed[2];
        const struct place_host said[2] = {{.reserved_cores = s->reserved_cores}};
        struct place_policy policy = s->policy;
        struct placement p;
        struct err e = {0};
        char got[512];

        policy.hosts = said;
        for (uint32_t h = 0; h < s->n_hosts; h++)
            borrowed[h] = hosts[h] = topo_make("synthetic", s->n_domains, s->n_cores, GIB);
        if (place(&p, borrowed, s->n_hosts, &policy, &e) != ERR_OK)
            fail_msg("%zu: %s", i, e.text);
        render(got, sizeof(got), &p);
        assert_string_equal(got, s->want);
        assert_sound(&p, borrowed);
        placement_fini(&p);
        topo_free(&hosts[0]);
        topo_free(&hosts[1]);
    }
}

/* Cores of prefill nodes : decode nodes, by machine, at 1:3. */
static const struct {
    const char *file;
    uint32_t n_prefill, n_decode, prefill_cores, decode_cores;
} recorded[] = {
    {"hwloc/altra-1s-q80-monolithic.synthetic.xml", 1, 1, 20, 60},
    {"hwloc/altra-1s-q80-quadrant.synthetic.xml", 1, 3, 20, 60},
    {"hwloc/altra-2s-q80-monolithic.synthetic.xml", 1, 1, 80, 80},
    {"hwloc/arm-2s-kunpeng920-cluster4.xml", 1, 3, 32, 96},
    {"hwloc/arm-2s-thunderx2-smt4.xml", 1, 1, 32, 32},
    {"hwloc/clx-2s-xeon8259cl-g4dnmetal.xml", 1, 1, 24, 24},
    {"hwloc/naples-2s-epyc7401-8numa.xml", 2, 6, 12, 36},
    {"hwloc/rome-2s-epyc7742-nps4.xml", 2, 6, 32, 96},
    {"hwloc/spr-2s-xeonmax9462-snc4-hbmcache.xml", 2, 6, 16, 48},
};

static void recorded_machines_at_one_to_three(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(recorded); i++) {
        struct place_policy policy = {.prefill = 1, .decode = 3};
        uint32_t nodes[3] = {0}, cores[3] = {0};
        struct placement p;
        struct topo *t;
        struct err e = {0};

        DATA_OR_SKIP(path, recorded[i].file);
        if (topo_load(&t, path, &e) != ERR_OK ||
            place(&p, (const struct topo *const *)&t, 1, &policy, &e) != ERR_OK)
            fail_msg("%s", e.text);
        assert_sound(&p, (const struct topo *const *)&t);
        for (size_t n = 0; n < p.n; n++) {
            nodes[p.nodes[n].kind]++;
            cores[p.nodes[n].kind] += p.nodes[n].n_pus;
        }
        assert_int_equal(nodes[PLACE_ROUTER], 1);
        assert_int_equal(nodes[PLACE_PREFILL], recorded[i].n_prefill);
        assert_int_equal(nodes[PLACE_DECODE], recorded[i].n_decode);
        assert_int_equal(cores[PLACE_PREFILL], recorded[i].prefill_cores);
        assert_int_equal(cores[PLACE_DECODE], recorded[i].decode_cores);
        placement_fini(&p);
        topo_free(&t);
    }
}

/* Over many shapes and counts: every node has a core, and every core of a domain in use is used. */
static void random_shapes_are_sound(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 2000; i++) {
        struct topo *t = topo_make("h", 1 + i % 5, 1 + i / 5 % 17, 0);
        const struct place_host said = {.reserved_cores = i / 7 % 3};
        struct place_policy policy = {.prefill = 1 + i % 3, .decode = 1 + i / 3 % 7,
                                      .n_prefill = i % 4, .n_decode = i / 4 % 9, .hosts = &said};
        struct placement p;
        uint64_t used = 0;

        assert_int_equal(place(&p, (const struct topo *const *)&t, 1, &policy, NULL), ERR_OK);
        assert_sound(&p, (const struct topo *const *)&t);
        for (size_t n = 1; n < p.n; n++)
            if (!p.nodes[n].shared)
                used += p.nodes[n].n_pus;
        assert_true(used <= topo_core_count(t));
        placement_fini(&p);
        topo_free(&t);
    }
}

/* A wish of n nodes on random domains of h, in `list`, or anywhere. */
static struct place_wish make_wish(uint32_t seed, uint32_t list[4], const struct topo *t)
{
    uint32_t n = seed % 4;

    if (seed & 8 || n > t->n_domains)
        return (struct place_wish){NULL, n};
    for (uint32_t i = 0; i < n; i++)
        list[i] = (i + seed / 16) % t->n_domains;
    return (struct place_wish){n ? list : NULL, n};
}

/* Over many clusters of one to three hosts of which some name their nodes: what is not refused is sound,
 * and who named nodes has those. */
static void random_clusters_are_sound(void **state)
{
    uint32_t seed = 1, placed = 0;

    (void)state;
    for (uint32_t i = 0; i < 5000; i++) {
        uint32_t r[8], lists[3][2][4], n_hosts, found[3][3] = {{0}};
        struct place_host said[3];
        struct topo *hosts[3];
        struct place_policy policy = {.hosts = said};
        struct placement p;

        for (size_t k = 0; k < ARRAY_LEN(r); k++)
            r[k] = (seed = seed * 1664525 + 1013904223) >> 16;
        n_hosts = 1 + r[0] % 3;
        for (uint32_t h = 0; h < n_hosts; h++) {
            hosts[h] = topo_make("h", 1 + (r[1] >> 4 * h) % 4, 1 + (r[2] >> 4 * h) % 9, 0);
            said[h] = (struct place_host){.explicit = r[3] >> h & 1, .reserved_cores = r[4] >> h & 1};
            said[h].prefill = make_wish(r[5] >> 4 * h, lists[h][0], hosts[h]);
            said[h].decode = make_wish(r[6] >> 4 * h, lists[h][1], hosts[h]);
        }
        policy.prefill = policy.decode = r[7] % 4;
        policy.n_decode = r[7] / 4 % 8;
        if (!place(&p, (const struct topo *const *)hosts, n_hosts, &policy, NULL)) {
            placed++;
            assert_sound(&p, (const struct topo *const *)hosts);
            for (size_t n = 0; n < p.n; n++)
                found[p.nodes[n].host][p.nodes[n].kind]++;
            for (uint32_t h = 0; h < n_hosts; h++) {
                assert_int_equal(found[h][PLACE_ROUTER], h == 0);
                if (said[h].explicit) {
                    assert_int_equal(found[h][PLACE_PREFILL], said[h].prefill.n);
                    assert_int_equal(found[h][PLACE_DECODE], said[h].decode.n);
                }
            }
        }
        placement_fini(&p);
        for (uint32_t h = 0; h < n_hosts; h++)
            topo_free(&hosts[h]);
    }
    assert_in_range(placed, 2500, 4999); /* both happen */
}

static void too_little_memory_is_refused_with_the_numbers(void **state)
{
    struct topo *t = topo_make("box", 2, 4, 16 * GIB);
    const struct topo *hosts[] = {t};
    struct place_policy policy = {0};
    struct place_memory memory[4] = {{0, 0}, {12 * GIB, 1 * GIB}, {12 * GIB, 4 * GIB}, {0, 0}};
    struct placement p;
    struct err e = {0};

    (void)state;
    assert_int_equal(place(&p, hosts, 1, &policy, &e), ERR_OK);
    assert_int_equal(place_check_memory(&p, hosts, 1, memory, &e), ERR_OK); /* exactly full */
    memory[2].kv_bytes++;
    assert_int_equal(place_check_memory(&p, hosts, 1, memory, &e), ERR_LIMIT);
    assert_string_equal(e.text, "place: NUMA domain 1 of box has 16.00 GiB, its 0 prefill and 1 decode "
                                "nodes need 12.00 GiB of weights and 4.00 GiB of KV");
    t->domains[1].memory_bytes = 0; /* unknown is not checked */
    assert_int_equal(place_check_memory(&p, hosts, 1, memory, &e), ERR_OK);
    placement_fini(&p);
    policy = (struct place_policy){.n_prefill = 2, .n_decode = 1};
    assert_int_equal(place(&p, hosts, 1, &policy, &e), ERR_OK);
    memory[3] = memory[1]; /* domain 0 now holds the weights twice */
    assert_int_equal(place_check_memory(&p, hosts, 1, memory, &e), ERR_LIMIT);
    placement_fini(&p);
    topo_free(&t);
}

/* Unlike domains: the ratio is of cores, by whole domains, small ones for prefill. */
static void unlike_domains_are_divided_by_their_cores(void **state)
{
    static const struct {
        uint32_t prefill, decode;
        struct place_host said[2]; /* a has 1 domain of 80 cores, b 2 of 24 */
        const char *want;
    } cases[] = {
        {1, 2, {{0}}, "router h0d0:80* prefill-1 h1d0:24 prefill-2 h1d1:24 decode-1 h0d0:80"},
        {1, 5, {{0}}, "router h0d0:80* prefill-1 h1d0:24 decode-1 h0d0:80 decode-2 h1d1:24"},
        {1, 99, {{0}}, "router h0d0:80* prefill-1 h1d0:24 decode-1 h0d0:80 decode-2 h1d1:24"},
        {9, 1, {{0}}, "router h0d0:80* prefill-1 h1d0:24 prefill-2 h1d1:24 decode-1 h0d0:80"},
        /* a computes prompts, as it says: more than its share, so b decodes, and the reverse */
        {1, 2, {{true, {NULL, 1}, {0}, 0}, {0}},
         "router h0d0:80* prefill-1 h0d0:80 decode-1 h1d0:24 decode-2 h1d1:24"},
        {9, 1, {{true, {0}, {NULL, 1}, 0}, {0}},
         "router h0d0:80* prefill-1 h1d0:24 prefill-2 h1d1:24 decode-1 h0d0:80"},
        /* half of a is prefill, nearer to a third of 128 than with one of b; there 1 has to serve 3 */
        {1, 2, {{true, {NULL, 1}, {NULL, 1}, 0}, {0}},
         "router h0d0:80* prefill-1 h0d0:48 decode-1 h0d0:32 decode-2 h1d0:24 decode-3 h1d1:24"},
    };
    struct topo *hosts[] = {topo_make("a", 1, 80, 0), topo_make("b", 2, 24, 0)};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct place_policy policy = {.prefill = cases[i].prefill, .decode = cases[i].decode,
                                            .hosts = cases[i].said};
        struct placement p;
        char got[512];

        assert_int_equal(place(&p, (const struct topo *const *)hosts, 2, &policy, NULL), ERR_OK);
        render(got, sizeof(got), &p);
        assert_string_equal(got, cases[i].want);
        assert_sound(&p, (const struct topo *const *)hosts);
        placement_fini(&p);
    }
    topo_free(&hosts[0]);
    topo_free(&hosts[1]);
}

static const uint32_t d0[] = {0}, d01[] = {0, 1}, d3[] = {3}, d23[] = {2, 3}, d9[] = {9};

/* What hosts name for themselves, {domains, n}, and what comes of it. */
static const struct {
    uint32_t n_hosts, n_domains;
    struct place_host said[3];
    struct place_policy policy;
    const char *want; /* or the sentence of the refusal */
} named[] = {
    {1, 4, {{true, {d01, 2}, {d23, 2}, 0}}, {.prefill = 1, .decode = 100},
     "router h0d0:4* prefill-1 h0d0:4 prefill-2 h0d1:4 decode-1 h0d2:4 decode-2 h0d3:4"},
    /* any order, not all domains; a number goes where nothing is */
    {1, 4, {{true, {d3, 1}, {d0, 1}, 0}}, {0}, "router h0d0:4* prefill-1 h0d3:4 decode-1 h0d0:4"},
    {1, 4, {{true, {NULL, 1}, {d01, 2}, 0}}, {0},
     "router h0d0:4* prefill-1 h0d2:4 decode-1 h0d0:4 decode-2 h0d1:4"},
    {1, 1, {{true, {NULL, 1}, {NULL, 3}, 0}}, {.prefill = 1, .decode = 1},
     "router h0d0:4* prefill-1 h0d0:1 decode-1 h0d0:1 decode-2 h0d0:1 decode-3 h0d0:1"},
    /* one kind named: none of the other there */
    {2, 2, {{true, {NULL, 1}, {NULL, 0}, 0}, {true, {NULL, 0}, {NULL, 3}, 1}}, {0},
     "router h0d0:4* prefill-1 h0d0:4 decode-1 h1d0:2 decode-2 h1d0:1 decode-3 h1d1:3"},
    /* a host that only has the router */
    {2, 1, {{true, {NULL, 0}, {NULL, 0}, 0}, {false, {NULL, 0}, {NULL, 0}, 0}}, {0},
     "router h0d0:4 prefill-1 h1d0:2 decode-1 h1d0:2"},
    /* the ratio is of the whole cluster, the named nodes included */
    {3, 1, {{true, {NULL, 1}, {NULL, 0}, 0}}, {.prefill = 1, .decode = 2},
     "router h0d0:4* prefill-1 h0d0:4 decode-1 h1d0:4 decode-2 h2d0:4"},
    {3, 2, {{true, {NULL, 0}, {d0, 1}, 0}}, {.prefill = 1, .decode = 1},
     "router h0d0:4* prefill-1 h1d0:4 prefill-2 h1d1:4 prefill-3 h2d0:4 decode-1 h0d0:4 "
     "decode-2 h2d1:4"},
    {2, 2, {{true, {d01, 2}, {NULL, 0}, 0}}, {.n_prefill = 3, .n_decode = 1},
     "router h0d0:4* prefill-1 h0d0:4 prefill-2 h0d1:4 prefill-3 h1d0:4 decode-1 h1d1:4"},
    /* reserved cores are each host's own, and of every domain */
    {2, 2, {{false, {NULL, 0}, {NULL, 0}, 1}, {false, {NULL, 0}, {NULL, 0}, 2}},
     {.prefill = 1, .decode = 1},
     "router h0d0:1 prefill-1 h0d0:3 prefill-2 h1d0:2 decode-1 h0d1:3 decode-2 h1d1:2"},
    {1, 2, {{true, {d9, 1}, {NULL, 1}, 0}}, {0},
     "place: box has no NUMA domain 9 with cores for a prefill node"},
    {1, 2, {{true, {NULL, 1}, {NULL, 0}, 0}}, {0},
     "place: no host runs a decode node, so nothing would be answered"},
    {1, 2, {{true, {NULL, 1}, {NULL, 1}, 0}}, {.n_decode = 2},
     "place: 2 decode nodes are wanted, the hosts that name theirs have 1 and there are no others"},
    {2, 2, {{true, {NULL, 3}, {NULL, 0}, 0}}, {.n_prefill = 2, .n_decode = 1},
     "place: 2 prefill nodes are wanted, the hosts that name theirs have 3"},
    {1, 2, {{true, {NULL, PLACE_NODES_MAX}, {NULL, 1}, 0}}, {0},
     "place: 4096 prefill and 1 decode nodes are over the limit of 4096"},
    {1, 2, {{true, {NULL, PLACE_NODES_MAX + 1}, {NULL, 1}, 0}}, {0},
     "place: 4097 prefill nodes on box are over the limit of 4096"},
};

static void what_a_host_names_wins_over_the_ratio(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(named); i++) {
        struct place_policy policy = named[i].policy;
        struct topo *hosts[3] = {NULL, NULL, NULL};
        const struct topo *borrowed[3];
        struct placement p;
        struct err e = {0};
        char got[512];

        policy.hosts = named[i].said;
        for (uint32_t h = 0; h < named[i].n_hosts; h++)
            borrowed[h] = hosts[h] = topo_make("box", named[i].n_domains, 4, GIB);
        if (place(&p, borrowed, named[i].n_hosts, &policy, &e) != ERR_OK) {
            assert_string_equal(e.text, named[i].want);
            assert_int_equal(p.n, 0);
        } else {
            render(got, sizeof(got), &p);
            assert_string_equal(got, named[i].want);
            assert_sound(&p, borrowed);
        }
        placement_fini(&p);
        for (uint32_t h = 0; h < named[i].n_hosts; h++)
            topo_free(&hosts[h]);
    }
}

static void policies_that_mean_nothing_are_refused(void **state)
{
    struct topo *t = topo_make("box", 2, 4, 16 * GIB);
    const struct topo *hosts[] = {t};
    struct place_policy policy = {.prefill = 1};
    struct placement p;
    struct err e = {0};

    (void)state;
    assert_int_equal(place(&p, hosts, 1, &policy, &e), ERR_ARG);
    assert_non_null(strstr(e.text, "1:0"));
    policy = (struct place_policy){.n_prefill = PLACE_NODES_MAX, .n_decode = 1};
    assert_int_equal(place(&p, hosts, 1, &policy, &e), ERR_ARG);
    policy = (struct place_policy){.n_decode = UINT32_MAX, .prefill = UINT32_MAX, .decode = 1};
    assert_int_equal(place(&p, hosts, 1, &policy, &e), ERR_ARG);
    policy = (struct place_policy){0};
    assert_int_equal(place(&p, hosts, 0, &policy, &e), ERR_ARG);
    placement_fini(&p);
    topo_free(&t);
}

static void names_count_up(void **state)
{
    (void)state;
    assert_true(place_name_order("decode-9", "decode-10") < 0);
    assert_true(place_name_order("decode-10", "decode-9") > 0);
    assert_true(place_name_order("decode-2", "decode-3") < 0);
    assert_int_equal(place_name_order("decode-2", "decode-2"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(synthetic_hosts_are_placed_as_the_table_says),
        cmocka_unit_test(recorded_machines_at_one_to_three),
        cmocka_unit_test(random_shapes_are_sound),
        cmocka_unit_test(random_clusters_are_sound),
        cmocka_unit_test(too_little_memory_is_refused_with_the_numbers),
        cmocka_unit_test(unlike_domains_are_divided_by_their_cores),
        cmocka_unit_test(what_a_host_names_wins_over_the_ratio),
        cmocka_unit_test(policies_that_mean_nothing_are_refused),
        cmocka_unit_test(names_count_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
