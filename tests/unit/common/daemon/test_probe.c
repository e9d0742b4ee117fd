#include "daemon/probe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <event2/event.h>

#include "net/http.h"

struct rig {
    struct event_base *base;
    struct http_client *client;
    struct probe *probe;
    bool ready;
    int status;
    struct str body;
};

static void on_metrics(void *ctx, struct str *out)
{
    (void)ctx;
    str_adds(out, "x 1\n");
}

static bool on_ready(void *ctx) { return ((struct rig *)ctx)->ready; }

static void on_status(void *ctx, int status) { ((struct rig *)ctx)->status = status; }

static void on_body(void *ctx, const void *bytes, size_t n)
{
    str_add(&((struct rig *)ctx)->body, bytes, n);
}

static void on_done(void *ctx, const struct err *error)
{
    struct rig *r = ctx;

    assert_null(error);
    event_base_loopbreak(r->base);
}

static void ask(struct rig *r, const char *method, const char *path, int status, const char *part)
{
    static const struct http_handlers handlers = {on_status, on_body, on_done};
    struct http_request *request;
    struct err e;

    str_clear(&r->body);
    assert_int_equal(
        http_start(&request, r->client, method, path, NULL, 0, &handlers, r, &e), 0);
    event_base_dispatch(r->base);
    assert_int_equal(r->status, status);
    if (!strstr(str_text(&r->body), part))
        fail_msg("%s: no \"%s\" in %s", path, part, str_text(&r->body));
}

static void test_a_node_answers_probes(void **state)
{
    struct rig r = {.base = event_base_new()};
    const struct probe_events events = {&r, on_metrics, on_ready};
    char address[160], url[200];
    struct err e;

    (void)state;
    assert_int_equal(probe_open(&r.probe, r.base, "127.0.0.1:0", &events, &e), 0);
    probe_address(r.probe, address, sizeof(address));
    assert_true(!strncmp(address, "127.0.0.1:", 10) && strcmp(address + 10, "0") != 0);
    snprintf(url, sizeof(url), "http://%s", address);
    assert_int_equal(http_client_open(&r.client, r.base, url, 5000, &e), 0);
    ask(&r, "GET", "/metrics", 200, "x 1\n");
    ask(&r, "GET", "/health", 200, "ok");
    ask(&r, "GET", "/v1/health", 200, "ok");
    ask(&r, "GET", "/ready", 503, "not registered");
    r.ready = true;
    ask(&r, "GET", "/ready", 200, "ready");
    ask(&r, "POST", "/metrics", 405, "only GET");
    ask(&r, "GET", "/v1/completions", 404, "the router's");
    http_client_close(&r.client);
    probe_close(&r.probe);
    str_fini(&r.body);
    event_base_free(r.base);
}

static void test_addresses(void **state)
{
    struct event_base *base = event_base_new();
    const struct probe_events events = {NULL, on_metrics, on_ready};
    struct probe *p, *q;
    char address[160], want[256];
    struct err e;

    (void)state;
    assert_int_equal(probe_open(&p, base, "", &events, &e), 0);
    assert_null(p);
    probe_address(p, address, sizeof(address));
    assert_string_equal(address, "");
    assert_int_equal(probe_open(&p, base, "0.0.0.0:0", &events, &e), 0);
    probe_address(p, address, sizeof(address)); /* that of the machine: 0.0.0.0 is nobody's */
    assert_true(strncmp(address, "0.0.0.0", 7) != 0 && strchr(address, ':'));
    probe_close(&p);
    assert_int_equal(probe_open(&p, base, "127.0.0.1:0", &events, &e), 0);
    probe_address(p, address, sizeof(address));
    assert_int_not_equal(probe_open(&q, base, address, &events, &e), 0);
    snprintf(want, sizeof(want), "metrics: cannot listen on %s: Address already in use", address);
    assert_string_equal(e.text, want);
    assert_null(q);
    probe_close(&p);
    event_base_free(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_node_answers_probes),
        cmocka_unit_test(test_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
