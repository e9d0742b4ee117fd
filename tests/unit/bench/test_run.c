/* The whole client against servers in a thread of this process: one speaks HTTP, one ZeroMQ. */
#include "tests/lib/test.h"

#include <math.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <jansson.h>

#include "base/clock.h"
#include "base/mem.h"
#include "bench/run.h"
#include "bench/workload.h"
#include "net/loop.h"
#include "net/sock.h"

/* How the fake server answers. */
enum behaviour { GOOD, REFUSE, CUT, GARBAGE, ERROR_EVENT, NEVER, DIE };

struct server {
    enum behaviour behaviour;
    struct loop *loop;
    struct evhttp *http;
    struct sock_ctx *ctx;
    struct sock *sock;
    int stop_fd;
    char address[MSG_ENDPOINT_MAX];
    pthread_t thread;
    unsigned requests, ids, texts, ignoring_eos; /* read after the thread has ended */
};

static void sse(struct evhttp_request *q, const char *data)
{
    struct evbuffer *b = evbuffer_new();

    evbuffer_add_printf(b, "data: %s\n\n", data);
    evhttp_send_reply_chunk(q, b);
    evbuffer_free(b);
}

/* "abc", then two tokens in one event, then the end with usage: 5 tokens in, 3 out. */
static void complete(struct evhttp_request *q, enum behaviour how)
{
    evhttp_send_reply_start(q, 200, "OK");
    sse(q, "{\"choices\":[{\"index\":0,\"text\":\"abc\\u0000\",\"finish_reason\":null}]}");
    if (how == GARBAGE)
        sse(q, "{\"choices\":");
    if (how == ERROR_EVENT)
        sse(q, "{\"error\":{\"message\":\"node died\"}}");
    if (how == GOOD) {
        sse(q, "{\"choices\":[{\"index\":0,\"text\":\"d e\",\"finish_reason\":\"length\"}]}");
        sse(q, "{\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":3}}");
        sse(q, "[DONE]");
    }
    evhttp_send_reply_end(q);
}

static void on_http(struct evhttp_request *q, void *arg)
{
    struct server *s = arg;
    struct evbuffer *in = evhttp_request_get_input_buffer(q);
    struct evbuffer *out = evbuffer_new();
    json_t *body;

    if (strcmp(evhttp_request_get_uri(q), "/v1/models") == 0) {
        evbuffer_add_printf(out, "{\"object\":\"list\",\"data\":[{\"id\":\"fake\"}]}");
        evhttp_send_reply(q, 200, "OK", out);
        goto out;
    }
    if (strcmp(evhttp_request_get_uri(q), "/metrics") == 0) {
        evhttp_send_error(q, 404, NULL);
        goto out;
    }
    body = json_loadb((char *)evbuffer_pullup(in, -1), evbuffer_get_length(in), 0, NULL);
    s->requests++;
    s->ids += json_array_size(json_object_get(body, "prompt")) == 5;
    s->texts += json_is_string(json_object_get(body, "prompt"));
    s->ignoring_eos += json_is_true(json_object_get(body, "ignore_eos"));
    json_decref(body);
    if (s->behaviour == REFUSE) {
        evbuffer_add_printf(out, "{\"error\":{\"message\":\"queue full\"}}");
        evhttp_send_reply(q, 429, "Too Many Requests", out);
    } else if (s->behaviour != NEVER) {
        complete(q, s->behaviour);
    }
out:
    evbuffer_free(out);
}

static void generate(struct server *s, const struct peer *from, struct msg *m)
{
    static const uint32_t tokens[] = {7, 8, 9};
    uint64_t tag = m->u.generate.tag;
    struct msg reply = {.type = MSG_GENERATE_DONE};

    s->requests++;
    s->ids += m->u.generate.n_tokens == 5;
    s->texts += m->u.generate.text != NULL;
    s->ignoring_eos += m->u.generate.ignore_eos;
    if (s->behaviour == DIE)
        loop_stop(s->loop);
    if (s->behaviour == NEVER || s->behaviour == DIE)
        return;
    for (uint32_t i = 0; s->behaviour == GOOD && i < 3; i += i == 0 ? 2 : 1) {
        uint32_t n = i == 0 ? 2 : 1; /* tokens 0 and 1 together, then 2 */
        struct msg t = {.type = MSG_GENERATE_TOKENS};

        t.u.generate_tokens.tag = tag;
        t.u.generate_tokens.index = i;
        t.u.generate_tokens.n_tokens = n;
        t.u.generate_tokens.tokens = mem_dup(tokens + i, n * sizeof(*tokens));
        sock_send(s->sock, from, &t, NULL);
        msg_fini(&t);
    }
    reply.u.generate_done.tag = tag;
    reply.u.generate_done.status = s->behaviour == REFUSE ? 429 : 200;
    reply.u.generate_done.finish = s->behaviour == REFUSE ? FINISH_ERROR : FINISH_LENGTH;
    reply.u.generate_done.prompt_tokens = 5;
    reply.u.generate_done.output_tokens = s->behaviour == REFUSE ? 0 : 3;
    reply.u.generate_done.cached_tokens = 2;
    reply.u.generate_done.prefill_ns = 4 * CLOCK_MS;
    reply.u.generate_done.kv_bytes = 1ull << 40;
    strcpy(reply.u.generate_done.decode, "decode-1");
    snprintf(reply.u.generate_done.text, sizeof(reply.u.generate_done.text), "%s",
             s->behaviour == REFUSE ? "queue full" : "");
    sock_send(s->sock, from, &reply, NULL);
    msg_fini(&reply);
}

static void on_msg(void *ctx, const struct peer *from, struct msg *m)
{
    if (m->type == MSG_GENERATE)
        generate(ctx, from, m);
}

static void on_stop(void *ctx)
{
    struct server *s = ctx;

    loop_stop(s->loop);
}

static void *server_main(void *arg)
{
    struct server *s = arg;

    loop_run(s->loop);
    if (s->behaviour == DIE) {
        loop_del_sock(s->loop, s->sock);
        sock_close(&s->sock);
    }
    return NULL;
}

static void server_start(struct server *s, bool native)
{
    struct sock_options options = {.kind = SOCK_ROUTER, .lane = SOCK_CONTROL};
    struct evhttp_bound_socket *bound;
    struct err e = {0};

    s->loop = loop_new();
    s->stop_fd = eventfd(0, EFD_CLOEXEC);
    loop_add_fd(s->loop, s->stop_fd, on_stop, s);
    if (native) {
        s->ctx = sock_ctx_new();
        assert_int_equal(sock_open(&s->sock, s->ctx, &options, &e), ERR_OK);
        assert_int_equal(sock_bind(s->sock, "tcp://127.0.0.1:*", &e), ERR_OK);
        snprintf(s->address, sizeof(s->address), "%s", sock_endpoint(s->sock));
        loop_add_sock(s->loop, s->sock, on_msg, s);
    } else {
        struct sockaddr_in a;
        socklen_t n = sizeof(a);

        s->http = evhttp_new(loop_base(s->loop));
        evhttp_set_gencb(s->http, on_http, s);
        bound = evhttp_bind_socket_with_handle(s->http, "127.0.0.1", 0);
        assert_non_null(bound);
        getsockname(evhttp_bound_socket_get_fd(bound), (struct sockaddr *)&a, &n);
        snprintf(s->address, sizeof(s->address), "http://127.0.0.1:%d", ntohs(a.sin_port));
    }
    assert_int_equal(pthread_create(&s->thread, NULL, server_main, s), 0);
}

static void server_stop(struct server *s)
{
    uint64_t one = 1;

    assert_int_equal(write(s->stop_fd, &one, sizeof(one)), sizeof(one));
    pthread_join(s->thread, NULL);
    if (s->http)
        evhttp_free(s->http);
    if (s->sock)
        loop_del_sock(s->loop, s->sock);
    sock_close(&s->sock);
    if (s->ctx)
        sock_ctx_free(&s->ctx);
    loop_free(&s->loop);
    close(s->stop_fd);
}

/* Runs the bench with the flags against a server that behaves so. */
static void bench(struct result *r, struct server *s, bool native, int argc, const char **argv)
{
    struct bench_options o = {0};
    struct run_setup setup = {.options = &o, .native = native, .keep_answers = true, .label = ""};
    enum option_action action;
    char *args[20] = {(char *)"tandem-bench", (char *)"--progress=off"};
    struct workload w;
    struct err e = {0};

    server_start(s, native);
    for (int i = 0; i < argc; i++)
        args[i + 2] = (char *)argv[i];
    memset(r, 0, sizeof(*r));
    if (option_main(&bench_option_table, &o, argc + 2, args, NULL, &action, &e) != ERR_OK ||
        workload_open(&w, &o, &e) != ERR_OK)
        fail_msg("%s", e.text);
    setup.workload = &w;
    setup.url = s->address;
    setup.rate = bench_number(o.request_rate);
    setup.count = bench_prompts(&o);
    if (native) /* no metrics are asked of a server that is not there */
        option_set(option_find(&bench_option_table, "base_url"), &o, "http://127.0.0.1:1", NULL,
                   NULL);
    if (run(r, &setup, &e) != ERR_OK)
        fail_msg("%s", e.text);
    workload_close(&w);
    option_free(&bench_option_table, &o);
    server_stop(s);
}

#define BENCH(r, s, native, ...)                                                                   \
    bench(r, s, native, (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(const char *)),       \
          (const char *[]){__VA_ARGS__})

static void assert_good(const struct result *r, size_t n)
{
    assert_int_equal(r->n, n);
    assert_int_equal(r->failures[OUTCOME_OK].count, n);
    for (size_t i = 0; i < n; i++) {
        const struct record *c = &r->records[i];

        assert_int_equal(c->prompt_tokens, 5);
        assert_int_equal(c->output_tokens, 3);
        assert_true(c->start <= c->sent && c->sent < c->first);
        assert_int_equal(c->outputs, 2);
        assert_true(c->first <= c->last && c->last <= c->done);
        assert_true(c->second == c->last);
        assert_true(fabs((double)c->gaps_ms[0] - (double)(c->last - c->first) * 1e-6) < 1e-3);
    }
}

static void closed_loop_sends_each_request_once(void **state)
{
    struct server s = {.behaviour = GOOD};
    struct result r;

    (void)state;
    BENCH(&r, &s, false, "--random-input-len=5", "--vocab-size=100", "--num-prompts=20",
          "--max-concurrency=4");
    assert_good(&r, 20);
    assert_string_equal(r.model, "fake");
    assert_int_equal(s.requests, 20);
    assert_int_equal(s.ids, 20);
    assert_int_equal(s.ignoring_eos, 20);
    assert_int_equal(r.start_lag_ms.n, 0);
    result_fini(&r);
}

static void open_loop_counts_from_the_time_a_request_was_due(void **state)
{
    struct server s = {.behaviour = GOOD};
    struct result r;

    (void)state;
    BENCH(&r, &s, false, "--random-input-len=5", "--vocab-size=100", "--num-prompts=30",
          "--request-rate=1000");
    assert_good(&r, 30);
    assert_int_equal(r.start_lag_ms.n, 30);
    for (size_t i = 0; i < r.n; i++)
        assert_true(r.records[i].start < r.records[i].sent);
    result_fini(&r);
}

static void the_native_protocol_measures_the_same(void **state)
{
    struct server s = {.behaviour = GOOD}, open = {.behaviour = GOOD};
    struct result r;

    (void)state;
    BENCH(&r, &s, true, "--random-input-len=5", "--vocab-size=100", "--num-prompts=20",
          "--max-concurrency=4");
    assert_good(&r, 20);
    assert_int_equal(s.requests, 20);
    assert_int_equal(s.ids, 20);
    assert_int_equal(s.ignoring_eos, 20);
    assert_int_equal(r.records[0].cached_tokens, 2);
    assert_true(r.records[0].server.prefill == 4);
    assert_true(r.records[0].server.kv_bytes == 1ull << 40);
    assert_string_equal(r.records[0].server.decode_node, "decode-1");
    assert_string_equal(r.records[0].server.prefill_node, "");
    result_fini(&r);
    BENCH(&r, &open, true, "--random-input-len=5", "--vocab-size=100", "--num-prompts=30",
          "--request-rate=1000");
    assert_good(&r, 30);
    result_fini(&r);
}

static void failures_are_counted_by_kind(void **state)
{
    static const struct {
        enum behaviour behaviour;
        bool native;
        enum outcome outcome;
        const char *says;
    } cases[] = {
        {REFUSE, false, OUTCOME_BUSY, "queue full"},
        {REFUSE, true, OUTCOME_BUSY, "queue full"},
        {CUT, false, OUTCOME_BROKEN, "without finish_reason"},
        {CUT, true, OUTCOME_BROKEN, "fewer tokens"},
        {GARBAGE, false, OUTCOME_MALFORMED, "not JSON"},
        {ERROR_EVENT, false, OUTCOME_SERVER_ERROR, "node died"},
        {NEVER, false, OUTCOME_TIMEOUT, "not complete after 0.05 s"},
        {NEVER, true, OUTCOME_TIMEOUT, "not complete after 0.05 s"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct server s = {.behaviour = cases[i].behaviour};
        const char *timeout = s.behaviour == NEVER ? "--timeout=0.05" : "--timeout=60";
        struct result r;

        BENCH(&r, &s, cases[i].native, "--random-input-len=5", "--vocab-size=100",
              "--num-prompts=3", "--max-concurrency=3", timeout);
        assert_int_equal(r.n, 3);
        assert_int_equal(r.failures[cases[i].outcome].count, 3);
        assert_non_null(strstr(r.failures[cases[i].outcome].first, cases[i].says));
        result_fini(&r);
    }
}

static void a_server_that_is_not_there_is_one_sentence(void **state)
{
    struct bench_options o = {0};
    struct server s = {.behaviour = GOOD};
    struct workload w = {0};
    struct run_setup setup = {.options = &o, .workload = &w, .url = s.address, .label = ""};
    struct result r = {0};
    struct err e = {0};

    (void)state;
    server_start(&s, false);
    server_stop(&s); /* its port is free now */
    option_defaults(&bench_option_table, &o);
    assert_int_equal(run(&r, &setup, &e), ERR_NET);
    assert_non_null(strstr(e.text, "cannot connect"));
    result_fini(&r);
    option_free(&bench_option_table, &o);
}

static void a_router_that_is_not_there_fails_every_request(void **state)
{
    struct bench_options o = {0};
    struct workload w;
    struct run_setup setup = {.options = &o, .workload = &w, .url = "ipc:///tmp/tandem-nosuch.sock",
                              .native = true, .rate = INFINITY, .count = 5, .label = ""};
    struct result r = {0};
    struct err e = {0};
    enum option_action action;
    char *args[] = {(char *)"tandem-bench",         (char *)"--base-url=http://127.0.0.1:1",
                    (char *)"--timeout=0.05",       (char *)"--random-input-len=5",
                    (char *)"--vocab-size=100",     (char *)"--max-concurrency=2"};

    (void)state;
    if (option_main(&bench_option_table, &o, 6, args, NULL, &action, &e) ||
        workload_open(&w, &o, &e) || run(&r, &setup, &e))
        fail_msg("%s", e.text);
    assert_int_equal(r.n, 5);
    assert_int_equal(r.failures[OUTCOME_CONNECT].count, 5);
    assert_string_equal(r.failures[OUTCOME_CONNECT].first,
                        "request 0: no router takes requests at ipc:///tmp/tandem-nosuch.sock");
    result_fini(&r);
    workload_close(&w);
    option_free(&bench_option_table, &o);
}

/* What it was sent, and the first that found nobody, take their time; the others none. */
static void a_router_that_dies_leaves_no_request_under_way(void **state)
{
    struct server s = {.behaviour = DIE};
    struct result r;

    (void)state;
    BENCH(&r, &s, true, "--random-input-len=5", "--vocab-size=100", "--num-prompts=20",
          "--max-concurrency=2", "--timeout=0.05");
    assert_int_equal(r.n, 20);
    assert_int_equal(r.failures[OUTCOME_TIMEOUT].count + r.failures[OUTCOME_CONNECT].count, 20);
    assert_true(r.failures[OUTCOME_CONNECT].count > 0);
    result_fini(&r);
}

static void a_duration_ends_the_run(void **state)
{
    struct server s = {.behaviour = GOOD}, open = {.behaviour = GOOD};
    struct result r;

    (void)state;
    BENCH(&r, &s, false, "--random-input-len=5", "--vocab-size=100", "--duration=0.05",
          "--max-concurrency=1");
    assert_true(r.n >= 1);
    assert_int_equal(r.failures[OUTCOME_OK].count, r.n);
    result_fini(&r);
    BENCH(&r, &open, true, "--random-input-len=5", "--vocab-size=100", "--duration=0.05",
          "--request-rate=200");
    assert_int_equal(r.failures[OUTCOME_OK].count, r.n);
    result_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closed_loop_sends_each_request_once),
        cmocka_unit_test(open_loop_counts_from_the_time_a_request_was_due),
        cmocka_unit_test(the_native_protocol_measures_the_same),
        cmocka_unit_test(failures_are_counted_by_kind),
        cmocka_unit_test(a_server_that_is_not_there_is_one_sentence),
        cmocka_unit_test(a_router_that_is_not_there_fails_every_request),
        cmocka_unit_test(a_router_that_dies_leaves_no_request_under_way),
        cmocka_unit_test(a_duration_ends_the_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
