#include "bench/monitor.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "net/http.h"
#include "net/loop.h"

#define POLL_MS 1000
#define PAGE_TIMEOUT_MS 2000
#define PAGE_MAX ((size_t)1 << 20)

static const char *const value_names[MONITOR_COUNT] = {
#define X(name, text) text,
    MONITOR_VALUES(X)
#undef X
};

static enum monitor_value value_find(const char *name, size_t n)
{
    int i = 0;

    while (i < MONITOR_COUNT &&
           (strlen(value_names[i]) != n || memcmp(value_names[i], name, n) != 0))
        i++;
    return (enum monitor_value)i;
}

/* The value of label `key` in {a="x",b="y"} into out; names need no escapes. */
static void label(char *out, size_t size, const char *labels, const char *key)
{
    const char *at = strstr(labels, key), *end = strchr(labels, '}');

    *out = '\0';
    if (!at || !end || at > end)
        return;
    at += strlen(key);
    snprintf(out, size, "%.*s", (int)strcspn(at, "\""), at);
}

static struct monitor_node *node_of(struct monitor_nodes *m, const char *labels)
{
    char name[sizeof(m->list[0].name)];

    label(name, sizeof(name), labels, "node=\"");
    for (uint32_t i = 0; i < m->n; i++)
        if (strcmp(m->list[i].name, name) == 0)
            return &m->list[i];
    if (!*name || m->n == MONITOR_NODES_MAX)
        return NULL;
    memcpy(m->list[m->n].name, name, sizeof(name));
    label(m->list[m->n].role, sizeof(m->list[0].role), labels, "role=\"");
    return &m->list[m->n++];
}

static void value_take(struct monitor_node *n, enum monitor_value what, double v, bool resume)
{
    double last = n->last[what];

    if (what < MONITOR_QUEUED && !resume && n->n > 0)
        n->total[what] += v >= last ? v - last : v;
    n->last[what] = v;
}

static void sample_add(struct monitor_node *n, int64_t now)
{
    if (n->n == n->cap) {
        n->cap = n->cap ? 2 * n->cap : 64;
        n->samples = mem_realloc(n->samples, n->cap * sizeof(*n->samples));
    }
    n->samples[n->n].at = now;
    for (int i = 0; i < MONITOR_COUNT; i++)
        n->samples[n->n].values[i] = (float)n->last[i];
    n->n++;
}

size_t monitor_page(struct monitor_nodes *m, const char *page, int64_t now, int resume)
{
    size_t known = 0;

    for (const char *line = page; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        enum monitor_value what = value_find(line, strcspn(line, "{ \n"));
        const char *end = strchr(line, '\n'), *labels = strchr(line, '{'),
                   *close = strchr(line, '}');
        struct monitor_node *n;

        if (what == MONITOR_COUNT || !labels || !close || (end && close > end))
            continue;
        n = node_of(m, labels);
        if (n)
            value_take(n, what, strtod(close + 1, NULL), resume);
        known += n != NULL;
    }
    if (known > 0 && m->last_at > 0 && !resume)
        m->seconds += clock_s(now - m->last_at);
    if (known > 0)
        m->last_at = now;
    for (uint32_t i = 0; i < m->n && known > 0; i++)
        sample_add(&m->list[i], now);
    return known;
}

static double positive(const json_t *object, const char *key)
{
    double v = json_number_value(json_object_get(object, key));

    return v > 0 ? v : 0;
}

uint32_t monitor_peaks(struct monitor_nodes *m, const char *json, size_t n)
{
    json_t *root = json_loadb(json, n, 0, NULL), *list = json_object_get(root, "nodes");
    uint32_t found = 0;

    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *node = json_array_get(list, i), *costs = json_object_get(node, "costs");
        const char *name = json_string_value(json_object_get(node, "name"));

        for (uint32_t k = 0; k < m->n && name && costs; k++) {
            if (strcmp(m->list[k].name, name) != 0)
                continue;
            m->list[k].peaks.flops = positive(costs, "flops_s");
            m->list[k].peaks.bytes = positive(costs, "read_bytes_s");
            m->list[k].peaks.slots = positive(node, "slots");
            found++;
        }
    }
    json_decref(root);
    return found;
}

static double share(double work, double seconds, double rate)
{
    return seconds > 0 && rate > 0 ? work / seconds / rate : 0;
}

double monitor_mfu(const struct monitor_nodes *m, const struct monitor_node *n)
{
    return share(n->total[MONITOR_FLOPS], m->seconds, n->peaks.flops);
}

double monitor_mbu(const struct monitor_nodes *m, const struct monitor_node *n)
{
    return share(n->total[MONITOR_READ], m->seconds, n->peaks.bytes);
}

double monitor_mean(const struct monitor_node *n, enum monitor_value what)
{
    double sum = 0;

    for (size_t i = 0; i < n->n; i++)
        sum += n->samples[i].values[what];
    return n->n > 0 ? sum / (double)n->n : 0;
}

void monitor_nodes_fini(struct monitor_nodes *m)
{
    for (uint32_t i = 0; i < m->n; i++)
        mem_free(m->list[i].samples);
    memset(m, 0, sizeof(*m));
}

struct monitor {
    struct monitor_nodes *nodes;
    struct loop *loop;
    struct loop_event *timer;
    struct http_client *client;
    struct http_request *request; /* under way, or NULL */
    struct str page;
    const char *url;
};

static void on_body(void *ctx, const void *bytes, size_t n)
{
    struct monitor *m = ctx;

    str_add(&m->page, bytes, size_min(n, PAGE_MAX - m->page.len));
}

static void on_done(void *ctx, const struct err *error)
{
    struct monitor *m = ctx;

    m->request = NULL;
    if (!error) /* a page that is an error's has no line we know */
        monitor_page(m->nodes, str_text(&m->page), clock_now(), 0);
}

static void on_timer(void *ctx)
{
    static const struct http_handlers handlers = {NULL, on_body, on_done};
    struct monitor *m = ctx;

    if (m->request)
        return;
    str_clear(&m->page);
    if (http_start(&m->request, m->client, "GET", "/metrics", NULL, 0, &handlers, m, NULL) !=
        ERR_OK)
        m->request = NULL;
}

/* Waits for what the nodes registered with; of a server that does not tell, nothing is known. */
static void ask_peaks(struct monitor *m)
{
    int status = 0;

    str_clear(&m->page);
    if (http_fetch(&status, &m->page, "GET", m->url, "/v1/cluster", NULL, PAGE_TIMEOUT_MS, NULL) ==
            ERR_OK &&
        status == 200)
        monitor_peaks(m->nodes, str_text(&m->page), m->page.len);
}

/* Waits for a page; how many lines of it are known. */
static size_t ask(struct monitor *m, int resume)
{
    int status = 0;
    size_t known = 0;

    str_clear(&m->page);
    if (http_fetch(&status, &m->page, "GET", m->url, "/metrics", NULL, PAGE_TIMEOUT_MS, NULL) ==
            ERR_OK &&
        status == 200)
        known = monitor_page(m->nodes, str_text(&m->page), clock_now(), resume);
    return known;
}

struct monitor *monitor_open(struct monitor_nodes *nodes, struct loop *loop, const char *url)
{
    struct monitor *m = mem_zalloc(sizeof(*m));

    m->nodes = nodes;
    m->loop = loop;
    m->url = url;
    if (ask(m, 1) == 0 ||
        http_client_open(&m->client, loop_base(loop), url, PAGE_TIMEOUT_MS, NULL) != ERR_OK) {
        str_fini(&m->page);
        mem_free(m);
        return NULL;
    }
    ask_peaks(m); /* of those that will have gone at the end */
    m->timer = loop_add_timer(loop, POLL_MS, on_timer, m);
    return m;
}

void monitor_close(struct monitor **m)
{
    if (!*m)
        return;
    loop_del_event(&(*m)->timer);
    if ((*m)->request)
        http_cancel(&(*m)->request);
    http_client_close(&(*m)->client);
    ask(*m, 0);
    ask_peaks(*m);
    str_fini(&(*m)->page);
    mem_free(*m);
    *m = NULL;
}
