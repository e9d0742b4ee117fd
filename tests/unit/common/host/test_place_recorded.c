/* place() on every recorded machine, and on this one under each set of processors it may be given. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"
#include "host/place.h"
#include "host/place_add.h"
#include "tests/lib/data.h"
#include "tests/lib/process.h"

#define GIB ((uint64_t)1 << 30)
#define DOMAINS_MAX 8

/* At 1:3 and 2:1 with one core reserved, at explicit lists (the first half of the domains, rounded up,
 * computes prompts), and the largest whole GiB of weights and KV that each domain holds once. */
static const struct machine {
    const char *file;
    uint32_t domains, cores; /* cores of a domain */
    uint32_t prefill_1_3, decode_1_3, prefill_2_1, decode_2_1;
    uint64_t gib;
} machines[] = {
    {"hwloc/altra-1s-q80-monolithic.synthetic.xml", 1, 80, 1, 1, 1, 1, 252},
    {"hwloc/altra-1s-q80-quadrant.synthetic.xml", 4, 20, 1, 3, 3, 1, 63},
    {"hwloc/altra-2s-q80-monolithic.synthetic.xml", 2, 80, 1, 1, 1, 1, 252},
    {"hwloc/arm-2s-kunpeng920-cluster4.xml", 4, 32, 1, 3, 3, 1, 124},
    {"hwloc/arm-2s-thunderx2-smt4.xml", 2, 32, 1, 1, 1, 1, 127},
    {"hwloc/clx-2s-xeon8259cl-g4dnmetal.xml", 2, 24, 1, 1, 1, 1, 188},
    {"hwloc/naples-2s-epyc7401-8numa.xml", 8, 6, 2, 6, 5, 3, 31},
    {"hwloc/rome-2s-epyc7742-nps4.xml", 8, 16, 2, 6, 5, 3, 62},
    {"hwloc/spr-2s-xeonmax9462-snc4-hbmcache.xml", 8, 8, 2, 6, 5, 3, 124},
};

static const struct topo *const *one(struct topo *const *t)
{
    return (const struct topo *const *)t;
}

static struct topo *load(const char *path)
{
    struct err e = {0};
    struct topo *t;

    if (topo_load(&t, path, &e) != ERR_OK)
        fail_msg("%s", e.text);
    return t;
}

/* Each thread is the first of a core of the node's domain, and no other node's. */
static void assert_sound(const struct placement *p, const struct topo *const *hosts)
{
    for (size_t i = 1; i < p->n; i++) {
        const struct place_node *a = &p->nodes[i];
        const struct topo_domain *d = &hosts[a->host]->domains[a->domain];

        assert_in_range(a->n_pus, 1, d->n_cores);
        assert_false(a->shared);
        for (uint32_t x = 0; x < a->n_pus; x++) {
            uint32_t cores = 0, users = 0;

            for (uint32_t c = 0; c < d->n_cores; c++)
                cores += d->cores[c].pu == a->pus[x];
            for (size_t j = 1; j < p->n; j++)
                for (uint32_t y = 0; y < p->nodes[j].n_pus; y++)
                    users += p->nodes[j].host == a->host && p->nodes[j].pus[y] == a->pus[x];
            assert_int_equal(cores, 1);
            assert_int_equal(users, 1);
        }
    }
}

struct counts {
    uint32_t nodes[PLACE_DECODE + 1], cores[PLACE_DECODE + 1];
};

static struct counts count(const struct placement *p)
{
    struct counts c = {0};

    for (size_t i = 0; i < p->n; i++) {
        c.nodes[p->nodes[i].kind]++;
        c.cores[p->nodes[i].kind] += p->nodes[i].n_pus;
    }
    return c;
}

/* The first hardware thread of each core: the machine as it is with SMT off. */
static void smt_off(struct topo *t)
{
    uint32_t pus[1024], n = 0;

    for (uint32_t d = 0; d < t->n_domains; d++)
        for (uint32_t c = 0; c < t->domains[d].n_cores; c++)
            pus[n++] = t->domains[d].cores[c].pu;
    assert_int_equal(topo_restrict(t, pus, n, NULL), 0);
    for (uint32_t d = 0; d < t->n_domains; d++)
        for (uint32_t c = 0; c < t->domains[d].n_cores; c++)
            assert_int_equal(t->domains[d].cores[c].n_pus, 1);
}

static void assert_same(const struct placement *a, const struct placement *b)
{
    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        assert_string_equal(a->nodes[i].name, b->nodes[i].name);
        assert_int_equal(a->nodes[i].domain, b->nodes[i].domain);
        assert_int_equal(a->nodes[i].n_pus, b->nodes[i].n_pus);
        assert_memory_equal(a->nodes[i].pus, b->nodes[i].pus, a->nodes[i].n_pus * sizeof(uint32_t));
    }
}

static void ratios_divide_domains_and_leave_the_reserved_cores(void **state)
{
    static const struct place_host reserve_one = {.reserved_cores = 1};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(machines); i++) {
        const struct machine *m = &machines[i];

        DATA_OR_SKIP(path, m->file);
        for (uint32_t smt = 0; smt < 2; smt++)
            for (uint32_t ratio = 0; ratio < 2; ratio++) {
                const struct place_policy policy = {.prefill = ratio ? 2 : 1, .decode = ratio ? 1 : 3,
                                                    .hosts = &reserve_one};
                struct topo *t = load(path);
                struct placement p;
                struct counts n;

                if (!smt)
                    smt_off(t);
                assert_int_equal(place(&p, one(&t), 1, &policy, NULL), ERR_OK);
                assert_sound(&p, one(&t));
                n = count(&p);
                assert_int_equal(n.nodes[PLACE_PREFILL], ratio ? m->prefill_2_1 : m->prefill_1_3);
                assert_int_equal(n.nodes[PLACE_DECODE], ratio ? m->decode_2_1 : m->decode_1_3);
                assert_int_equal(n.cores[PLACE_PREFILL] + n.cores[PLACE_DECODE],
                                 m->domains * (m->cores - 1));
                /* the router has the core that domain 0 reserves, alone */
                assert_int_equal(p.nodes[0].n_pus, 1);
                assert_int_equal(p.nodes[0].pus[0], t->domains[0].cores[m->cores - 1].pu);
                assert_false(p.nodes[0].shared);
                placement_fini(&p);
                topo_free(&t);
            }
    }
}

static void smt_changes_no_placement(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(machines); i++) {
        DATA_OR_SKIP(path, machines[i].file);
        for (uint32_t k = 0; k < 27; k++) {
            const struct place_host said = {.reserved_cores = k % 3};
            const struct place_policy policy = {.prefill = 1, .decode = 1 + k / 3 % 3,
                                                .n_decode = k / 9 * 5, .hosts = &said};
            struct topo *on = load(path), *off = load(path);
            struct placement a, b;

            smt_off(off);
            assert_int_equal(place(&a, one(&on), 1, &policy, NULL), ERR_OK);
            assert_int_equal(place(&b, one(&off), 1, &policy, NULL), ERR_OK);
            assert_sound(&a, one(&on));
            assert_same(&a, &b);
            placement_fini(&a);
            placement_fini(&b);
            topo_free(&on);
            topo_free(&off);
        }
    }
}

static void listed_domains_get_the_nodes_that_are_listed(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(machines); i++) {
        const uint32_t absent = 77;
        uint32_t domains[DOMAINS_MAX], half = (machines[i].domains + 1) / 2;
        struct place_host said = {.explicit = true, .reserved_cores = i % 2};
        const struct place_policy policy = {.prefill = 1, .decode = 7, .hosts = &said};
        struct placement p;
        struct topo *t;
        struct err e = {0};

        DATA_OR_SKIP(path, machines[i].file);
        t = load(path);
        for (uint32_t d = 0; d < t->n_domains; d++) /* last first: the order is no matter */
            domains[t->n_domains - 1 - d] = t->domains[d].os_index;
        said.prefill = (struct place_wish){domains + t->n_domains - half, half};
        if (t->n_domains > 1)
            said.decode = (struct place_wish){domains, t->n_domains - half};
        else
            said.decode = (struct place_wish){NULL, 1};
        if (place(&p, one(&t), 1, &policy, &e))
            fail_msg("%s: %s", machines[i].file, e.text);
        assert_sound(&p, one(&t));
        assert_int_equal(p.n, 1 + half + said.decode.n);
        for (size_t n = 1; n < p.n; n++) {
            assert_int_equal(p.nodes[n].kind, n <= half ? PLACE_PREFILL : PLACE_DECODE);
            assert_int_equal(p.nodes[n].domain, t->n_domains > 1 ? n - 1 : 0);
            if (t->n_domains > 1)
                assert_int_equal(p.nodes[n].n_pus, machines[i].cores - i % 2);
        }
        placement_fini(&p);
        /* A domain too many is named. */
        said.decode = (struct place_wish){&absent, 1};
        assert_int_equal(place(&p, one(&t), 1, &policy, &e), ERR_ARG);
        assert_non_null(strstr(e.text, "has no NUMA domain 77 with cores for a decode node"));
        topo_free(&t);
    }
}

/* A node in every domain, half of what it takes being KV: up to the whole GiB of the table it fits, one
 * more and it does not, and two nodes in a domain need twice that. */
static void memory_is_enough_or_refused_by_domain(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(machines); i++) {
        const struct machine *m = &machines[i];
        const struct place_policy policy = {.n_decode = m->domains, .decode_only = true};
        struct place_memory memory[1 + 2 * DOMAINS_MAX] = {{0, 0}};
        const struct place_policy twice = {.n_decode = 2 * m->domains, .decode_only = true};
        struct placement p;
        struct topo *t;
        struct err e = {0};
        char want[160];

        DATA_OR_SKIP(path, m->file);
        t = load(path);
        assert_int_equal(place(&p, one(&t), 1, &policy, NULL), ERR_OK);
        for (uint32_t extra = 0; extra < 2; extra++) {
            for (size_t n = 1; n < ARRAY_LEN(memory); n++)
                memory[n] = (struct place_memory){m->gib * GIB / 2, m->gib * GIB / 2 + extra * GIB};
            assert_int_equal(place_check_memory(&p, one(&t), 1, memory, &e), extra ? ERR_LIMIT : ERR_OK);
        }
        snprintf(want, sizeof(want), "GiB, its 0 prefill and 1 decode nodes need %.2f GiB of weights and "
                                     "%.2f GiB of KV", (double)m->gib / 2, (double)m->gib / 2 + 1);
        assert_non_null(strstr(e.text, want));
        snprintf(want, sizeof(want), "of %s has ", t->host);
        assert_non_null(strstr(e.text, want));
        placement_fini(&p);
        assert_int_equal(place(&p, one(&t), 1, &twice, NULL), ERR_OK);
        assert_int_equal(place_check_memory(&p, one(&t), 1, memory, &e), ERR_LIMIT);
        assert_non_null(strstr(e.text, "its 0 prefill and 2 decode nodes"));
        placement_fini(&p);
        topo_free(&t);
    }
}

/* Each recorded machine with each other one: a Xeon that computes prompts for an Arm server, and so on.
 * The first names its nodes, or neither does. */
static void any_two_machines_are_one_cluster(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(machines) * ARRAY_LEN(machines); i++) {
        const struct machine *a = &machines[i % ARRAY_LEN(machines)];
        const struct machine *b = &machines[i / ARRAY_LEN(machines)];

        DATA_OR_SKIP(first, a->file);
        for (int named = 0; named < 2; named++) {
            DATA_OR_SKIP(path, b->file);
            struct place_host said[2] = {{.explicit = named, .prefill = {NULL, a->domains}}, {0}};
            const struct place_policy policy = {.prefill = 1, .decode = 1, .hosts = said};
            struct topo *hosts[2] = {load(first), load(path)};
            uint32_t domains = a->domains + b->domains, here[2] = {0};
            uint32_t most = u32_max(a->cores, b->cores);
            struct placement p;
            struct counts n;

            assert_int_equal(place(&p, one(hosts), 2, &policy, NULL), ERR_OK);
            assert_sound(&p, one(hosts));
            assert_int_equal(p.n, 1 + domains); /* a node in each domain */
            n = count(&p);
            for (size_t k = 1; k < p.n; k++) {
                here[p.nodes[k].host] += p.nodes[k].kind == PLACE_PREFILL;
                assert_int_equal(p.nodes[k].n_pus, p.nodes[k].host ? b->cores : a->cores);
            }
            if (named) {
                assert_int_equal(here[0], a->domains);
                assert_true(n.nodes[PLACE_DECODE] >= 1 && here[1] <= b->domains - 1);
            } else { /* 1:1, to half a domain if that is possible with one of each kind */
                uint32_t all = n.cores[PLACE_PREFILL] + n.cores[PLACE_DECODE];

                assert_true(domains == 2 || 2 * n.cores[PLACE_PREFILL] <= all + most);
                assert_true(domains == 2 || 2 * n.cores[PLACE_PREFILL] + most >= all);
                if (a == b && domains > 2)
                    assert_int_equal(here[0], here[1]); /* spread */
            }
            placement_fini(&p);
            topo_free(&hosts[0]);
            topo_free(&hosts[1]);
        }
    }
}

/* One more node on each machine when a domain is free, and when none is. */
static void one_more_fits_every_machine(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(machines); i++) {
        const struct place_host said = {.reserved_cores = 1};
        const struct place_policy policy = {.n_decode = u32_max(machines[i].domains - 1, 1),
                                            .decode_only = true, .hosts = &said};
        struct place_more more = {.kind = PLACE_DECODE, .host = PLACE_ANY_HOST, .n_hosts = 1,
                                  .said = &said};
        struct place_node node;
        struct placement p;
        struct topo *t;

        DATA_OR_SKIP(path, machines[i].file);
        t = load(path);
        assert_int_equal(place(&p, one(&t), 1, &policy, NULL), ERR_OK);
        more.hosts = one(&t);
        more.running = p.nodes;
        more.n_running = p.n;
        assert_int_equal(place_add(&node, &more, NULL), 0);
        assert_int_equal(node.shared, machines[i].domains == 1);
        assert_int_equal(node.domain, machines[i].domains - 1);
        assert_int_equal(node.n_pus, machines[i].cores - 1);
        mem_free(node.pus);
        placement_fini(&p);
        topo_free(&t);
    }
}

/* 0: what topo_load and place make of the processors set[n] is on these alone and uses each core. In a
 * child, whose binding ends with it. */
static int place_under(const uint32_t *set, uint32_t n)
{
    const struct place_policy policy = {.prefill = 1, .decode = 1};
    struct topo *t;
    struct placement p;
    uint32_t users = 0;

    if (topo_bind_pus(set, n, NULL) || topo_load(&t, NULL, NULL) ||
        place(&p, one(&t), 1, &policy, NULL))
        return 1;
    for (size_t i = 0; i < p.n; i++)
        for (uint32_t k = 0; k < p.nodes[i].n_pus; k++) {
            uint32_t found = 0;

            for (uint32_t s = 0; s < n; s++)
                found += p.nodes[i].pus[k] == set[s];
            if (!found)
                return 2;
            users += i > 0;
        }
    users = users == u32_max(topo_core_count(t), 2); /* both nodes share a single core */
    placement_fini(&p);
    topo_free(&t);
    return users ? 0 : 3;
}

static void this_machine_is_placed_within_its_cpuset(void **state)
{
    uint32_t pus[16], n = 0;
    struct topo *t;

    (void)state;
    assert_int_equal(topo_load(&t, NULL, NULL), ERR_OK);
    for (uint32_t d = 0; d < t->n_domains; d++)
        for (uint32_t c = 0; c < t->domains[d].n_cores; c++)
            for (uint32_t i = 0; i < t->domains[d].cores[c].n_pus && n < 6; i++)
                pus[n++] = t->domains[d].cores[c].pus[i];
    topo_free(&t);
    for (uint32_t set = 1; set < 1u << n; set++) {
        uint32_t some[16], n_some = 0;
        pid_t pid;

        for (uint32_t i = 0; i < n; i++)
            if (set >> i & 1)
                some[n_some++] = pus[i];
        pid = fork();
        if (pid == 0)
            _exit(place_under(some, n_some));
        process_succeeds(pid);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ratios_divide_domains_and_leave_the_reserved_cores),
        cmocka_unit_test(smt_changes_no_placement),
        cmocka_unit_test(listed_domains_get_the_nodes_that_are_listed),
        cmocka_unit_test(memory_is_enough_or_refused_by_domain),
        cmocka_unit_test(any_two_machines_are_one_cluster),
        cmocka_unit_test(one_more_fits_every_machine),
        cmocka_unit_test(this_machine_is_placed_within_its_cpuset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
