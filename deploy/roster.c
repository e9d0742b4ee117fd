#include "deploy/roster.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "config/ranges.h"
#include "deploy/api.h"
#include "deploy/paths.h"

void roster_add(struct roster *r, const struct roster_host *host)
{
    r->hosts = mem_realloc(r->hosts, (r->n + 1) * sizeof(*r->hosts));
    r->hosts[r->n] = *host;
    r->hosts[r->n].host = mem_strdup(host->host);
    r->hosts[r->n].address = mem_strdup(host->address);
    r->hosts[r->n].programs = mem_strdup(host->programs);
    r->hosts[r->n].model = mem_strdup(host->model);
    r->hosts[r->n].cores = mem_strdup(host->cores);
    r->n++;
}

void roster_from_cluster(struct roster *r, const struct cluster *c)
{
    r->ssh = mem_strdup(c->ssh);
    for (size_t i = 0; i < c->n_hosts; i++) {
        const struct cluster_host *h = &c->hosts[i];

        roster_add(r, &(struct roster_host){
                          .host = h->host,
                          .address = h->address,
                          .programs = h->programs,
                          .model = h->model,
                          .cores = h->cores,
                          .reserve = h->reserve,
                          .named = cluster_host_is_explicit(h),
                          .prefill = h->prefill.n > 0,
                          .decode = h->decode.n > 0,
                      });
    }
}

void roster_local(struct roster *r)
{
    static char local[] = CLUSTER_HOST_LOCAL, none[] = "";

    r->ssh = mem_strdup("");
    roster_add(r, &(struct roster_host){.host = local,
                                        .address = none,
                                        .programs = (char *)(uintptr_t)paths_program_dir(),
                                        .model = none,
                                        .cores = none});
}

/* Borrowed, though not const. */
static char *roster_word(const json_t *host, const char *key)
{
    return (char *)(uintptr_t)api_text(host, key);
}

static int roster_parse(struct roster *r, const json_t *root, const char *path, struct err *e)
{
    const json_t *hosts = json_object_get(root, "hosts");

    r->ssh = mem_strdup(api_text(root, "ssh"));
    r->prefill = (uint32_t)api_number(root, "prefill");
    r->decode = (uint32_t)api_number(root, "decode");
    for (size_t i = 0; i < json_array_size(hosts); i++) {
        const json_t *h = json_array_get(hosts, i);
        struct roster_host host = {
            .host = roster_word(h, "host"),
            .address = roster_word(h, "address"),
            .programs = roster_word(h, "programs"),
            .model = roster_word(h, "model"),
            .cores = roster_word(h, "cores"),
            .reserve = (uint32_t)api_number(h, "reserve"),
            .named = json_is_true(json_object_get(h, "named")),
            .prefill = json_is_true(json_object_get(h, "prefill")),
            .decode = json_is_true(json_object_get(h, "decode")),
        };

        if (!*host.host || *host.programs != '/')
            return err_set(e, ERR_FORMAT, "%s: host %zu has no name or no programs", path, i + 1);
        roster_add(r, &host);
    }
    return r->n ? 0 : err_set(e, ERR_FORMAT, "%s: it names no host", path);
}

int roster_read(struct roster *r, const struct rundir *d, struct err *e)
{
    char path[PATH_MAX + sizeof(ROSTER_FILE) + 1];
    json_error_t where;
    json_t *root;
    int rc;

    snprintf(path, sizeof(path), "%s/" ROSTER_FILE, d->path);
    if (access(path, F_OK))
        return err_set(e, ERR_NOT_FOUND, "%s: no such file", path);
    root = json_load_file(path, 0, &where);
    rc = root ? roster_parse(r, root, path, e)
              : err_set(e, ERR_FORMAT, "%s:%d: %s", path, where.line, where.text);
    json_decref(root);
    return rc;
}

void roster_text(const struct roster *r, struct str *out)
{
    json_t *hosts = json_array(), *root;
    char *text;

    for (size_t i = 0; i < r->n; i++) {
        const struct roster_host *h = &r->hosts[i];

        json_array_append_new(
            hosts, json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:b, s:b, s:b}", "host", h->host, "address",
                             h->address, "programs", h->programs, "model", h->model, "cores", h->cores,
                             "reserve", (int)h->reserve, "named", h->named, "prefill", h->prefill,
                             "decode", h->decode));
    }
    root = json_pack("{s:s, s:i, s:i, s:o}", "ssh", r->ssh, "prefill", (int)r->prefill, "decode",
                     (int)r->decode, "hosts", hosts);
    text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    str_adds(out, text ? text : "");
    free(text); /* jansson's own */
    json_decref(root);
}

size_t roster_find(const struct roster *r, const char *host)
{
    size_t i = 0;

    while (i < r->n && strcmp(r->hosts[i].host, host) != 0)
        i++;
    return i;
}

int roster_apply(const struct roster_host *h, struct topo *t, struct place_host *said, struct err *e)
{
    uint32_t *cores, n;
    int rc;

    *said = (struct place_host){
        .explicit = h->named,
        .prefill.n = h->prefill,
        .decode.n = h->decode,
        .reserved_cores = h->reserve,
    };
    if (!*h->cores)
        return 0;
    rc = ranges_parse(&cores, &n, h->cores, e);
    if (!rc)
        rc = topo_restrict(t, cores, n, e);
    mem_free(cores);
    return rc;
}

bool roster_is_local(const struct roster *r, size_t host)
{
    return !strcmp(r->hosts[host].host, CLUSTER_HOST_LOCAL);
}

bool roster_has_local(const struct roster *r)
{
    return roster_find(r, CLUSTER_HOST_LOCAL) < r->n;
}

bool roster_is_here(const struct roster *r) { return r->n == 1 && roster_is_local(r, 0); }

void roster_fini(struct roster *r)
{
    for (size_t i = 0; i < r->n; i++) {
        mem_free(r->hosts[i].host);
        mem_free(r->hosts[i].address);
        mem_free(r->hosts[i].programs);
        mem_free(r->hosts[i].model);
        mem_free(r->hosts[i].cores);
    }
    mem_free(r->hosts);
    mem_free(r->ssh);
    *r = (struct roster){0};
}
