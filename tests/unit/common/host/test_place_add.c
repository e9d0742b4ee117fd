#include "host/place_add.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"
#include "tests/lib/topo_make.h"

static int add(struct place_node *out, const struct topo *t, const struct place_node *running, size_t n,
               enum place_kind kind)
{
    const struct place_more more = {.kind = kind, .host = PLACE_ANY_HOST, .hosts = &t, .n_hosts = 1,
                                    .running = running, .n_running = n};

    return place_add(out, &more, NULL);
}

/* Two domains of four cores; prefill-1 has all of the first, decode-1 two of the second. */
static void one_more_takes_free_cores_then_shares_with_its_kind(void **state)
{
    struct topo *t = topo_make("box", 2, 4, 0);
    uint32_t all0[] = {0, 1, 2, 3}, two1[] = {4, 5}, every[] = {0, 1, 2, 3, 4, 5, 6, 7};
    struct place_node running[4] = {
        {.kind = PLACE_ROUTER, .name = "router", .pus = every, .n_pus = 8},
        {.kind = PLACE_PREFILL, .name = "prefill-1", .pus = all0, .n_pus = 4},
        {.kind = PLACE_DECODE, .name = "decode-1", .domain = 1, .pus = two1, .n_pus = 2},
    };
    struct place_node third, more;

    (void)state;
    assert_int_equal(add(&third, t, running, 3, PLACE_DECODE), 0);
    assert_string_equal(third.name, "decode-2");
    assert_int_equal(third.domain, 1);
    assert_int_equal(third.n_pus, 2);
    assert_int_equal(third.pus[0], 6);
    assert_int_equal(third.pus[1], 7);
    assert_false(third.shared);
    running[3] = third;
    /* Now all are taken: domain 0 has one node on four cores, domain 1 two. No decode node is in
     * domain 0, so the new one shares all of it. */
    assert_int_equal(add(&more, t, running, 4, PLACE_DECODE), 0);
    assert_string_equal(more.name, "decode-3");
    assert_int_equal(more.domain, 0);
    assert_int_equal(more.n_pus, 4);
    assert_true(more.shared);
    mem_free(more.pus);
    /* A prefill node shares with its own kind; a gap in the names is filled. */
    strcpy(running[1].name, "prefill-2");
    assert_int_equal(add(&more, t, running, 4, PLACE_PREFILL), 0);
    assert_string_equal(more.name, "prefill-1");
    assert_int_equal(more.domain, 0);
    assert_int_equal(more.pus[3], 3);
    assert_true(more.shared);
    mem_free(more.pus);
    mem_free(third.pus);
    topo_free(&t);
}

/* Three hosts of one domain with four cores; each node has a host's all. */
static void one_more_goes_to_the_host_named_or_the_emptiest(void **state)
{
    static const struct {
        enum place_kind kind;
        uint32_t host;
        struct place_host said[3];
        uint32_t want_host, want_pus;
        const char *want_name; /* or the sentence of the refusal */
    } cases[] = {
        {PLACE_DECODE, PLACE_ANY_HOST, {{0}}, 2, 4, "decode-2"},
        {PLACE_DECODE, 1, {{0}}, 1, 4, "decode-2"}, /* shared with decode-1 */
        {PLACE_DECODE, 0, {{0}}, 0, 4, "decode-2"},
        {PLACE_DECODE, PLACE_ANY_HOST, {{.reserved_cores = 0}, {0}, {.reserved_cores = 3}}, 2, 1,
         "decode-2"},
        /* host 2 is for prefill, host 0 says nothing; and where nobody takes it */
        {PLACE_DECODE, PLACE_ANY_HOST, {{0}, {true, {0}, {NULL, 1}, 0}, {true, {NULL, 1}, {0}, 0}}, 0, 4,
         "decode-2"},
        {PLACE_PREFILL, PLACE_ANY_HOST, {{0}, {true, {0}, {NULL, 1}, 0}, {true, {NULL, 1}, {0}, 0}}, 2,
         4, "prefill-2"},
        {PLACE_PREFILL, PLACE_ANY_HOST, {{true, {0}, {0}, 0}, {true, {0}, {0}, 0}, {true, {0}, {0}, 0}},
         0, 0,
         "place: each host names its nodes, and none a prefill node: say which host is to run one"},
        {PLACE_PREFILL, 2, {{0}, {0}, {true, {0}, {NULL, 1}, 0}}, 2, 4, "prefill-2"},
        {PLACE_DECODE, 3, {{0}}, 0, 0, "place: there is no host 3"},
    };
    uint32_t all[] = {0, 1, 2, 3};
    const struct place_node running[] = {
        {.kind = PLACE_ROUTER, .name = "router", .host = 2, .pus = all, .n_pus = 4},
        {.kind = PLACE_PREFILL, .name = "prefill-1", .host = 0, .pus = all, .n_pus = 4},
        {.kind = PLACE_DECODE, .name = "decode-1", .host = 1, .pus = all, .n_pus = 4},
    };
    struct topo *hosts[3];

    (void)state;
    for (int h = 0; h < 3; h++)
        hosts[h] = topo_make("box", 1, 4, 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct place_more more = {
            .kind = cases[i].kind,
            .host = cases[i].host,
            .hosts = (const struct topo *const *)hosts,
            .n_hosts = 3,
            .said = cases[i].said,
            .running = running,
            .n_running = ARRAY_LEN(running),
        };
        struct place_node node;
        struct err e = {0};

        if (place_add(&node, &more, &e)) {
            assert_string_equal(e.text, cases[i].want_name);
            continue;
        }
        assert_string_equal(node.name, cases[i].want_name);
        assert_int_equal(node.host, cases[i].want_host);
        assert_int_equal(node.n_pus, cases[i].want_pus);
        assert_int_equal(node.shared, node.host != 2);
        mem_free(node.pus);
    }
    /* Without a topology a host is none. */
    topo_free(&hosts[2]);
    for (uint32_t named = 0; named < 2; named++) {
        struct place_more more = {.kind = PLACE_PREFILL, .host = named ? 2 : PLACE_ANY_HOST,
                                  .hosts = (const struct topo *const *)hosts, .n_hosts = 3,
                                  .running = running + 1, .n_running = 1};
        struct place_node node;
        struct err e = {0};

        assert_int_equal(place_add(&node, &more, &e), named ? ERR_ARG : 0);
        if (named)
            assert_string_equal(e.text, "place: there is no host 2");
        else
            assert_int_equal(node.host, 1);
        mem_free(node.pus);
    }
    topo_free(&hosts[0]);
    topo_free(&hosts[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_more_takes_free_cores_then_shares_with_its_kind),
        cmocka_unit_test(one_more_goes_to_the_host_named_or_the_emptiest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
