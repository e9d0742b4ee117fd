#include "deploy/doctor_want.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "config/ranges.h"
#include "deploy/api.h"
#include "deploy/launch.h"

#define DOCTOR_NODE_FILES 1024 /* a node's peers are prefill nodes and the router */

/* The port of "tcp://host:port" or "host:port"; 0: it has none, or any is meant. */
static uint32_t want_port(const char *endpoint)
{
    const char *colon = strrchr(endpoint, ':');

    return !strncmp(endpoint, "ipc://", 6) || !colon ? 0 : (uint32_t)strtoul(colon + 1, NULL, 10);
}

static void want_add_port(json_t *ports, const char *endpoint)
{
    if (want_port(endpoint))
        json_array_append_new(ports, json_integer(want_port(endpoint)));
}

/* Weights and KV of the nodes that the plan puts on each domain of the host. */
static json_t *want_domains(const struct plan *p, uint32_t host)
{
    json_t *list = json_array();

    for (size_t i = 0; p && i < p->n; i++) {
        const struct plan_node *node = &p->nodes[i];
        json_int_t bytes = (json_int_t)node->weight_bytes + (json_int_t)node->kv_bytes;
        json_t *known = NULL;

        if (node->host != host || !bytes)
            continue;
        for (size_t k = 0; k < json_array_size(list) && !known; k++)
            if (api_number(json_array_get(list, k), "domain") ==
                node->domain->os_index)
                known = json_array_get(list, k);
        if (!known) {
            known = json_pack("{s:i, s:i}", "domain", (int)node->domain->os_index, "bytes", 0);
            json_array_append_new(list, known);
        }
        bytes += api_number(known, "bytes");
        json_object_set_new(known, "bytes", json_integer(bytes));
    }
    return list;
}

static json_t *want_cores(const struct plan *p, uint32_t host)
{
    json_t *list = json_array();

    for (size_t i = 0; p && i < p->n; i++)
        for (uint32_t k = 0; k < p->nodes[i].place->n_pus; k++)
            if (p->nodes[i].host == host)
                json_array_append_new(list, json_integer(p->nodes[i].place->pus[k]));
    return list;
}

json_t *doctor_want_json(const struct cluster *c, const struct plan *p, uint32_t host, bool running)
{
    json_t *ports = json_array();
    bool router = host == 0;

    if (router) {
        want_add_port(ports, c->router.http);
        if (cluster_uses_tcp(c))
            json_array_append_new(ports, json_integer(strtol(cluster_nodes_port(c), NULL, 10)));
        want_add_port(ports, c->router.clients);
    }
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:i, s:b, s:b}", "model", c->hosts[host].model,
                     "programs", c->hosts[host].programs, "ports", ports, "domains", want_domains(p, host), "cores",
                     want_cores(p, host), "files", router ? LAUNCH_ROUTER_FILES : DOCTOR_NODE_FILES,
                     "huge_pages",
                     c->prefill.options.huge_pages == MEM_HUGE_ON ||
                         c->decode.options.huge_pages == MEM_HUGE_ON,
                     "running", running);
}

/* A whole number of [0, max]; false if it is none. */
static bool want_number(uint64_t *out, const json_t *value, uint64_t max)
{
    json_int_t v = json_integer_value(value);

    *out = (uint64_t)v;
    return json_is_integer(value) && v >= 0 && *out <= max;
}

void doctor_want_read(struct doctor_want *w, const json_t *json)
{
    const json_t *ports = json_object_get(json, "ports"), *domains = json_object_get(json, "domains");
    const json_t *cores = json_object_get(json, "cores");
    size_t n_cores = size_min(json_array_size(cores), RANGES_MAX);
    uint64_t v, domain;

    *w = (struct doctor_want){
        .model = api_text(json, "model"),
        .programs = api_text(json, "programs"),
        .cores = mem_calloc(n_cores, sizeof(uint32_t)),
        .huge_pages = json_is_true(json_object_get(json, "huge_pages")),
        .running = json_is_true(json_object_get(json, "running")),
    };
    for (size_t i = 0; i < json_array_size(ports) && w->n_ports < DOCTOR_PORTS_MAX; i++)
        if (want_number(&v, json_array_get(ports, i), 65535) && v)
            w->ports[w->n_ports++] = (uint32_t)v;
    for (size_t i = 0; i < json_array_size(domains) && w->n_domains < DOCTOR_DOMAINS_MAX; i++)
        if (want_number(&domain, json_object_get(json_array_get(domains, i), "domain"), RANGES_MAX) &&
            want_number(&v, json_object_get(json_array_get(domains, i), "bytes"), INT64_MAX))
            w->domains[w->n_domains++] =
                (struct doctor_domain){.os_index = (uint32_t)domain, .bytes = v};
    for (size_t i = 0; i < n_cores; i++)
        if (want_number(&v, json_array_get(cores, i), RANGES_MAX - 1))
            w->cores[w->n_cores++] = (uint32_t)v;
    if (want_number(&v, json_object_get(json, "files"), UINT32_MAX))
        w->files = (uint32_t)v;
}

void doctor_want_fini(struct doctor_want *w)
{
    mem_free(w->cores);
    *w = (struct doctor_want){0};
}
