/* Who gets in: a permitted key of a permitted role does, and nobody else; what the file says now counts,
 * unless it is malformed; without keys nothing leaves the machine. */
#include "net/sock_curve.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/sock.h"
#include "tests/lib/test.h"

/* A router's socket behind keys, and what dealers need to reach it. Its log goes to a file. */
struct house {
    char dir[32], keys[48], log[48], key_of[48];
    struct keys_set set;
    struct keys_pair client;
    struct sock_ctx *ctx;
    struct sock *door;
    char endpoint[MSG_ENDPOINT_MAX]; /* without the key */
    int saved_stderr;
};

static void put(const char *path, struct str *text)
{
    struct err e = {0};

    if (keys_write(path, text, &e))
        fail_msg("%s", e.text);
    str_fini(text);
}

/* The router's file: its own keys, the nodes', and the client's if it is permitted. */
static void house_permit(struct house *h, bool client)
{
    struct keys_pair pair = h->client;
    struct str text = {0};

    keys_text(&h->set, KEYS_BIT(KEYS_ROUTER), &text);
    *pair.secret = '\0';
    if (client)
        keys_line(KEYS_CLIENT, "tester", &pair, &text);
    put(h->keys, &text);
}

static void house_open(struct house *h, unsigned admits)
{
    struct sock_options o = {.kind = SOCK_ROUTER, .lane = SOCK_DATA, .admits = admits};
    struct sock_security security = {.role = KEYS_ROUTER};
    struct err e = {0};

    *h = (struct house){.dir = "/tmp/tandem-test-XXXXXX", .ctx = sock_ctx_new()};
    assert_non_null(mkdtemp(h->dir));
    snprintf(h->keys, sizeof(h->keys), "%s/keys", h->dir);
    snprintf(h->key_of, sizeof(h->key_of), "%s/peer", h->dir);
    snprintf(h->log, sizeof(h->log), "%s/log", h->dir);
    assert_int_equal(keys_make(&h->set, &e), 0);
    assert_int_equal(keys_pair_make(&h->client, &e), 0);
    house_permit(h, true);
    security.keys = h->keys;
    if (sock_ctx_secure(h->ctx, &security, &e) || sock_open(&h->door, h->ctx, &o, &e) ||
        sock_bind(h->door, "tcp://127.0.0.1:*", &e))
        fail_msg("%s", e.text);
    snprintf(h->endpoint, sizeof(h->endpoint), "%.*s",
             (int)strcspn(sock_endpoint(h->door), "#"), sock_endpoint(h->door));
    h->saved_stderr = dup(STDERR_FILENO);
    assert_non_null(freopen(h->log, "a", stderr));
}

static void house_close(struct house *h)
{
    sock_close(&h->door);
    sock_ctx_free(&h->ctx);
    fflush(stderr);
    dup2(h->saved_stderr, STDERR_FILENO);
    close(h->saved_stderr);
    unlink(h->keys);
    unlink(h->key_of);
    unlink(h->log);
    rmdir(h->dir);
}

/* How often the log has the text. */
static int house_said(const struct house *h, const char *text)
{
    static char all[1 << 16];
    FILE *f = fopen(h->log, "r");
    size_t n = f ? fread(all, 1, sizeof(all) - 1, f) : 0;
    int times = 0;

    all[n] = '\0';
    if (f)
        fclose(f);
    for (const char *at = all; (at = strstr(at, text)); at++)
        times++;
    return times;
}

/* Comes with that secret, in that role; keys NULL: without any. Whether it gets a message in; if not,
 * *refusal says why. */
static bool enters_at(const char *key_file, struct house *h, const struct keys_pair *own,
                      enum keys_role role, const struct keys_pair *router, const char **refusal)
{
    static int visits; /* the router may not have forgotten the one before */
    char identity[16];
    struct sock_options o = {.kind = SOCK_DEALER, .lane = SOCK_DATA, .identity = identity};
    struct sock_security security = {.role = role, .keys = own ? key_file : NULL};
    struct keys_pair server = *router;
    struct sock_ctx *ctx = sock_ctx_new();
    struct str text = {0};
    struct sock *s = NULL;
    struct err e = {0};
    bool in = false;

    snprintf(identity, sizeof(identity), "x#%d", visits++);
    *server.secret = '\0';
    if (own) {
        keys_line(KEYS_ROUTER, "router", &server, &text);
        keys_line(role, "me", own, &text);
        put(key_file, &text);
    }
    if (sock_ctx_secure(ctx, &security, &e) || sock_open(&s, ctx, &o, &e) ||
        sock_connect(s, h->endpoint, &e))
        fail_msg("%s", e.text);
    *refusal = NULL;
    for (int i = 0; i < 1000 && !in && !*refusal; i++) {
        struct msg m = {.type = MSG_HEARTBEAT};

        in = sock_send(s, NULL, &m, &e) == 0;
        sock_broke(s);
        *refusal = in ? NULL : sock_refusal(s);
        if (!in)
            usleep(10000);
    }
    for (int i = 0; i < 1000 && in; i++) {
        struct msg m;

        if (sock_recv(h->door, NULL, &m, &e) == 1) {
            msg_fini(&m);
            break;
        }
        usleep(10000);
        in = i < 999;
    }
    sock_close(&s);
    sock_ctx_free(&ctx);
    return in;
}

static bool enters(struct house *h, const struct keys_pair *own, enum keys_role role, const char **why)
{
    return enters_at(h->key_of, h, own, role, &h->set.router, why);
}

static void test_a_permitted_key_gets_in(void **state)
{
    const char *why;
    struct house h;

    (void)state;
    house_open(&h, KEYS_CLIENTS);
    assert_true(enters(&h, &h.set.node, KEYS_NODE, &why));
    assert_true(enters(&h, &h.client, KEYS_CLIENT, &why));
    assert_int_equal(house_said(&h, "refused"), 0);
    house_close(&h);
}

static void test_a_stranger_s_key_is_refused_and_the_log_says_so_once(void **state)
{
    struct keys_pair stranger;
    const char *why;
    struct house h;
    struct err e;

    (void)state;
    house_open(&h, KEYS_CLIENTS);
    assert_int_equal(keys_pair_make(&stranger, &e), 0);
    for (int i = 0; i < 5; i++) {
        assert_false(enters(&h, &stranger, KEYS_CLIENT, &why));
        assert_string_equal(why, "our key is not let in there");
    }
    assert_int_equal(house_said(&h, stranger.public_key), house_said(&h, "refused"));
    assert_in_range(house_said(&h, "connection from 127.0.0.1 refused: its key "), 1, 4);
    house_close(&h);
}

/* It says node; the file says client, and that counts. */
static void test_a_key_of_another_role_is_refused(void **state)
{
    const char *why;
    struct house h;

    (void)state;
    house_open(&h, KEYS_NODES);
    assert_true(enters(&h, &h.set.node, KEYS_NODE, &why));
    assert_false(enters(&h, &h.client, KEYS_NODE, &why));
    assert_string_equal(why, "our key is not let in there");
    assert_int_equal(house_said(&h, "its key is that of client tester"), 1);
    house_close(&h);
}

static void test_who_knows_another_router_is_refused(void **state)
{
    struct keys_pair other;
    const char *why;
    struct house h;
    struct err e;

    (void)state;
    house_open(&h, KEYS_NODES);
    assert_int_equal(keys_pair_make(&other, &e), 0);
    assert_false(enters_at(h.key_of, &h, &h.set.node, KEYS_NODE, &other, &why));
    assert_string_equal(why, "it hung up; is its public key another than in our key file?");
    house_close(&h);
}

static void test_who_has_no_keys_is_refused(void **state)
{
    const char *why;
    struct house h;

    (void)state;
    house_open(&h, KEYS_CLIENTS);
    assert_false(enters(&h, NULL, KEYS_CLIENT, &why));
    assert_non_null(why);
    assert_non_null(strstr(why, "keys are in use there, but not here")); /* known, or supposed */
    house_close(&h);
}

static void test_what_the_file_says_now_counts(void **state)
{
    const char *why;
    struct house h;

    (void)state;
    house_open(&h, KEYS_CLIENTS);
    assert_true(enters(&h, &h.client, KEYS_CLIENT, &why));
    house_permit(&h, false);
    assert_false(enters(&h, &h.client, KEYS_CLIENT, &why));
    assert_true(enters(&h, &h.set.node, KEYS_NODE, &why));
    house_permit(&h, true);
    assert_true(enters(&h, &h.client, KEYS_CLIENT, &why));
    assert_int_equal(house_said(&h, "read again, keys=3"), 1);
    house_close(&h);
}

static void test_a_file_that_became_malformed_changes_nothing(void **state)
{
    struct str text = {0};
    const char *why;
    struct house h;

    (void)state;
    house_open(&h, KEYS_CLIENTS);
    str_adds(&text, "client tester\n");
    put(h.keys, &text);
    assert_true(enters(&h, &h.client, KEYS_CLIENT, &why));
    assert_true(enters(&h, &h.client, KEYS_CLIENT, &why));
    assert_int_equal(house_said(&h, ":1: 2 words where ROLE NAME PUBLIC are wanted; the keys of before"),
                     1);
    unlink(h.keys);
    assert_true(enters(&h, &h.client, KEYS_CLIENT, &why));
    assert_true(enters(&h, &h.client, KEYS_CLIENT, &why));
    assert_int_equal(house_said(&h, "No such file or directory; the keys of before"), 1);
    house_close(&h);
}

static void test_a_file_without_our_secret_is_refused(void **state)
{
    struct sock_security security = {.role = KEYS_CLIENT};
    struct sock_ctx *ctx = sock_ctx_new();
    struct err e = {0};
    struct house h;

    (void)state;
    house_open(&h, KEYS_CLIENTS);
    security.keys = h.keys;
    assert_int_equal(sock_ctx_secure(ctx, &security, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, ": has no secret of a client"));
    security.keys = "/nowhere/keys";
    assert_int_equal(sock_ctx_secure(ctx, &security, &e), ERR_IO);
    sock_ctx_free(&ctx);
    house_close(&h);
}

static void test_without_keys_nothing_leaves_the_machine(void **state)
{
    struct sock_options r = {.kind = SOCK_ROUTER}, d = {.kind = SOCK_DEALER, .identity = "x"};
    struct sock_security insecure = {.insecure = true};
    struct sock_ctx *ctx = sock_ctx_new(), *open = sock_ctx_new();
    struct sock *s;
    struct err e = {0};

    (void)state;
    assert_int_equal(sock_open(&s, ctx, &r, &e), 0);
    assert_int_equal(sock_bind(s, "tcp://0.0.0.0:*", &e), ERR_CONFIG);
    assert_string_equal(e.text, "tcp://0.0.0.0:* is beyond this machine, and there are no keys to protect "
                                "it; use --keys=FILE (`tandem keys FILE` makes one), or --insecure");
    assert_int_equal(sock_bind(s, "tcp://127.0.0.1:*", &e), 0);
    sock_close(&s);
    assert_int_equal(sock_open(&s, ctx, &d, &e), 0);
    assert_int_equal(sock_connect(s, "tcp://192.0.2.1:5555", &e), ERR_CONFIG);
    assert_int_equal(sock_connect(s, "tcp://127.0.0.1:5#" /* an endpoint with a key */, &e),
                     ERR_CONFIG);
    assert_string_equal(e.text, "tcp://127.0.0.1:5 wants keys, and we have none; use --keys=FILE");
    sock_close(&s);
    assert_int_equal(sock_ctx_secure(open, &insecure, &e), 0);
    assert_int_equal(sock_open(&s, open, &r, &e), 0);
    assert_int_equal(sock_bind(s, "tcp://0.0.0.0:*", &e), 0);
    sock_close(&s);
    sock_ctx_free(&open);
    sock_ctx_free(&ctx);
}

/* A bound endpoint names its key, so that its owner may have any that is permitted. */
static void test_an_endpoint_carries_its_key(void **state)
{
    struct sock_options o = {.kind = SOCK_DEALER, .lane = SOCK_DATA, .identity = "x#1"};
    struct sock_security security = {.role = KEYS_ROUTER};
    struct sock_ctx *ctx = sock_ctx_new();
    struct sock *s;
    struct house h;
    struct err e;

    (void)state;
    house_open(&h, KEYS_NODES);
    assert_string_equal(strchr(sock_endpoint(h.door), '#') + 1, h.set.router.public_key);
    security.keys = h.keys;
    assert_int_equal(sock_ctx_secure(ctx, &security, &e), 0);
    assert_int_equal(sock_open(&s, ctx, &o, &e), 0);
    assert_int_equal(sock_connect(s, "tcp://127.0.0.1:5#no-key", &e), ERR_FORMAT);
    assert_string_equal(e.text, "\"no-key\" is no key");
    assert_int_equal(sock_connect(s, sock_endpoint(h.door), &e), 0);
    sock_close(&s);
    sock_ctx_free(&ctx);
    house_close(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_permitted_key_gets_in),
        cmocka_unit_test(test_a_stranger_s_key_is_refused_and_the_log_says_so_once),
        cmocka_unit_test(test_a_key_of_another_role_is_refused),
        cmocka_unit_test(test_who_knows_another_router_is_refused),
        cmocka_unit_test(test_who_has_no_keys_is_refused),
        cmocka_unit_test(test_what_the_file_says_now_counts),
        cmocka_unit_test(test_a_file_that_became_malformed_changes_nothing),
        cmocka_unit_test(test_a_file_without_our_secret_is_refused),
        cmocka_unit_test(test_without_keys_nothing_leaves_the_machine),
        cmocka_unit_test(test_an_endpoint_carries_its_key),
    };

    log_init("test", LOG_INFO);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
