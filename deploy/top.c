#include "deploy/top.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "deploy/api.h"
#include "host/place.h"

const char *const top_sorts[TOP_SORTS] = {"name", "tokens/s", "queue", "KV"};

/* A counter's rate; one that fell belongs to a process that started anew. */
static double top_rate(json_int_t now, json_int_t before, double seconds)
{
    return seconds > 0 && now >= before ? (double)(now - before) / seconds : TOP_UNKNOWN;
}

static double top_real(const json_t *object, const char *key)
{
    double v = json_number_value(json_object_get(object, key));

    return v > 0 ? v : 0;
}

static void top_node_take(struct top_node *n, const struct top *before, const json_t *reply,
                          double seconds)
{
    const json_t *rates = json_object_get(reply, "rates");
    const struct top_node *old = NULL;

    snprintf(n->name, sizeof(n->name), "%s", api_text(reply, "name"));
    snprintf(n->role, sizeof(n->role), "%s", api_text(reply, "role"));
    snprintf(n->host, sizeof(n->host), "%s", api_text(reply, "host"));
    snprintf(n->state, sizeof(n->state), "%s", api_text(reply, "state"));
    n->pid = api_number(reply, "pid");
    n->domain = api_number(reply, "domain");
    n->queued = api_number(reply, "queued");
    n->running = api_number(reply, "running");
    n->slots = !strcmp(n->role, "decode") ? api_number(reply, "slots") : 0;
    n->pages_total = api_number(reply, "pages_total");
    n->pages = n->pages_total - api_number(reply, "pages_free");
    n->tokens = api_number(reply, "tokens");
    for (uint32_t i = 0; i < before->n && !old; i++)
        if (!strcmp(before->nodes[i].name, n->name) && before->nodes[i].pid == n->pid &&
            !strcmp(before->nodes[i].role, n->role))
            old = &before->nodes[i];
    n->tokens_s = old ? top_rate(n->tokens, old->tokens, seconds) : TOP_UNKNOWN;
    n->use = rates ? top_real(rates, !strcmp(n->role, "prefill") ? "mfu" : "mbu") : TOP_UNKNOWN;
}

static struct top_times top_times_take(const json_t *router, const char *key)
{
    const json_t *times = json_object_get(json_object_get(router, "percentiles"), key);
    const json_t *p50 = json_object_get(times, "p50"), *p90 = json_object_get(times, "p90"),
                 *p99 = json_object_get(times, "p99");

    return (struct top_times){
        .p50 = json_is_number(p50) ? json_number_value(p50) : TOP_UNKNOWN,
        .p90 = json_is_number(p90) ? json_number_value(p90) : TOP_UNKNOWN,
        .p99 = json_is_number(p99) ? json_number_value(p99) : TOP_UNKNOWN,
    };
}

void top_take(struct top *t, const json_t *reply, int64_t now)
{
    const json_t *router = json_object_get(reply, "router"), *nodes = json_object_get(reply, "nodes");
    struct top *before = mem_dup(t, sizeof(*t));
    double seconds = before->at ? clock_s(now - before->at) : 0;
    size_t n = json_array_size(nodes);

    snprintf(t->cluster, sizeof(t->cluster), "%s", api_text(reply, "cluster"));
    snprintf(t->model, sizeof(t->model), "%s", api_text(reply, "model"));
    t->queued = api_number(router, "queued");
    t->running = api_number(router, "running");
    t->requests = api_number(router, "requests");
    t->input = api_number(router, "prompt_tokens");
    t->output = api_number(router, "output_tokens");
    t->restarts = api_number(router, "restarts");
    t->uptime_s = top_real(router, "uptime_s");
    t->requests_s = top_rate(t->requests, before->requests, seconds);
    t->input_s = top_rate(t->input, before->input, seconds);
    t->output_s = top_rate(t->output, before->output, seconds);
    t->ttft = top_times_take(router, "ttft_ms");
    t->tpot = top_times_take(router, "tpot_ms");
    t->at = now;
    t->n = (uint32_t)size_min(n, TOP_NODES_MAX);
    t->hidden = (uint32_t)(n - t->n);
    for (uint32_t i = 0; i < t->n; i++)
        top_node_take(&t->nodes[i], before, json_array_get(nodes, i), seconds);
    mem_free(before);
}

static int top_by_name(const void *a, const void *b)
{
    const struct top_node *x = a, *y = b;
    int roles = strcmp(y->role, x->role); /* prefill above decode */

    return roles ? roles : place_name_order(x->name, y->name);
}

static int top_most(double x, double y, const void *a, const void *b)
{
    return x != y ? (x > y ? -1 : 1) : top_by_name(a, b);
}

static int top_by_tokens(const void *a, const void *b)
{
    return top_most(((const struct top_node *)a)->tokens_s, ((const struct top_node *)b)->tokens_s, a, b);
}

static int top_by_queue(const void *a, const void *b)
{
    const struct top_node *x = a, *y = b;

    return top_most((double)(x->queued + x->running), (double)(y->queued + y->running), a, b);
}

static double top_kv(const struct top_node *n)
{
    return n->pages_total > 0 ? (double)n->pages / (double)n->pages_total : 0;
}

static int top_by_kv(const void *a, const void *b) { return top_most(top_kv(a), top_kv(b), a, b); }

void top_order(struct top *t, enum top_sort by)
{
    static int (*const compare[TOP_SORTS])(const void *, const void *) = {
        [TOP_BY_NAME] = top_by_name,
        [TOP_BY_TOKENS] = top_by_tokens,
        [TOP_BY_QUEUE] = top_by_queue,
        [TOP_BY_KV] = top_by_kv,
    };

    qsort(t->nodes, t->n, sizeof(t->nodes[0]), compare[by]);
}
