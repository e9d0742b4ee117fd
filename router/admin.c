#include "router/admin.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "router/api_json.h"
#include "router/serve.h"

static void admin_fail(struct router *r, struct http_conn *c, int status, const char *fmt,
                       const char *what)
{
    struct api_error e = {.status = status};
    struct str fields = {0};

    snprintf(e.text, sizeof(e.text), fmt, what);
    serve_fields(r, c, NULL, &fields);
    serve_error(c, &fields, &e, 0);
    str_fini(&fields);
}

/* As one of the things that a client may call a request by. */
static bool admin_find(const struct router *r, const char *id, struct str *out)
{
    const char *dash = strrchr(id, '-');
    size_t n = strlen(id);
    bool number = strspn(id, "0123456789") == n;

    if (dash && strspn(dash + 1, "0123456789abcdef") == 16 && strlen(dash + 1) == 16 &&
        router_core_explain(r->core, strtoull(dash + 1, NULL, 16), out))
        return true;
    return router_core_explain(r->core, hash64(id, n, 0), out) ||
           (number && router_core_explain(r->core, strtoull(id, NULL, 10), out));
}

void admin_explain(struct router *r, struct http_conn *c, struct http_text rest)
{
    char id[SERVE_ID_MAX];
    struct str fields = {0}, body = {0};

    snprintf(id, sizeof(id), "%.*s", (int)(rest.n ? rest.n - 1 : 0), rest.n ? rest.s + 1 : "");
    if (!admin_find(r, id, &body)) {
        admin_fail(r, c, 404,
                   "no request '%s' is running or was among the last that ended: give a response's "
                   "id or its x-request-id",
                   id);
        return;
    }
    serve_fields(r, c, NULL, &fields);
    serve_json(c, 200, &fields, &body);
    str_fini(&fields);
    str_fini(&body);
}

/* The body's members, all text. NULL in *node and an answer if the body is something else or names no
 * node. The values live as long as *root, which the caller lets go. */
static const struct node *admin_node(struct router *r, struct http_conn *c, json_t **root,
                                     size_t members, const char *form)
{
    struct api_error e;
    const struct node *node;
    const char *name;
    size_t n;
    const char *text = http_conn_body(c, &n);

    *root = api_json_load(text, n, &e);
    name = json_string_value(json_object_get(*root, "node"));
    if (!*root) {
        admin_fail(r, c, 400, "%s", e.text);
    } else if (!name || json_object_size(*root) != members) {
        admin_fail(r, c, 400, "the body must be %s", form);
    } else if (!(node = router_core_node_named(r->core, name))) {
        admin_fail(r, c, 404, "no node is called '%.64s'", name);
    } else {
        return node;
    }
    return NULL;
}

static void admin_answer(struct router *r, struct http_conn *c, const struct node *node)
{
    struct str fields = {0}, body = {0};

    str_addf(&body, "{\"node\":\"%s\",\"state\":\"%s\",\"running\":%u", node->reg.name,
             node_state_names[node->state], node->running);
    if (!router_core_decodes(r->core))
        str_adds(&body, ",\"warning\":\"no decode node is left that takes requests: they wait\"");
    str_adds(&body, "}\n");
    serve_fields(r, c, NULL, &fields);
    serve_json(c, 200, &fields, &body);
    str_fini(&fields);
    str_fini(&body);
}

void admin_drain(struct router *r, struct http_conn *c, struct http_text rest)
{
    json_t *root;
    const struct node *node = admin_node(r, c, &root, 1, "{\"node\": NAME}");

    (void)rest;
    if (node) {
        router_node_event(r, ROUTER_DRAIN, node->handle);
        admin_answer(r, c, node);
    }
    json_decref(root);
}

void admin_role(struct router *r, struct http_conn *c, struct http_text rest)
{
    static const char form[] = "{\"node\": NAME, \"role\": \"prefill\" or \"decode\"}";
    json_t *root;
    const struct node *node = admin_node(r, c, &root, 2, form);
    const char *role = json_string_value(json_object_get(root, "role"));
    bool prefill = role && !strcmp(role, "prefill");

    (void)rest;
    if (!node) {
        ; /* answered */
    } else if (!prefill && (!role || strcmp(role, "decode") != 0)) {
        admin_fail(r, c, 400, "the body must be %s", form);
    } else if (!node->reg.change_role) {
        admin_fail(r, c, 409, "node '%.64s' was started without change_role", node->reg.name);
    } else if ((node->reg.role == ROLE_PREFILL) == prefill) {
        admin_fail(r, c, 409, "node '%.64s' has that role already", node->reg.name);
    } else if (node->drained) {
        admin_fail(r, c, 409, "node '%.64s' is leaving already", node->reg.name);
    } else if (router_core_needs(r->core, node)) {
        admin_fail(r, c, 409, "node '%.64s' is the only one of its role, and without it no request could be served",
                   node->reg.name);
    } else {
        router_node_event(r, prefill ? ROUTER_BECOME_PREFILL : ROUTER_BECOME_DECODE, node->handle);
        admin_answer(r, c, node);
    }
    json_decref(root);
}
