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

void admin_drain(struct router *r, struct http_conn *c, struct http_text rest)
{
    struct api_error e;
    struct str fields = {0}, body = {0};
    const struct node *node = NULL;
    const char *name;
    size_t n;
    const char *text = http_conn_body(c, &n);
    json_t *root = api_json_load(text, n, &e);

    (void)rest;
    name = json_string_value(json_object_get(root, "node"));
    if (name)
        node = router_core_node_named(r->core, name);
    if (!root) {
        admin_fail(r, c, 400, "%s", e.text);
    } else if (!name || json_object_size(root) != 1) {
        admin_fail(r, c, 400, "%s", "the body must be {\"node\": NAME}");
    } else if (!node) {
        admin_fail(r, c, 404, "no node is called '%.64s'", name);
    } else {
        router_drain(r, node->handle);
        str_addf(&body, "{\"node\":\"%s\",\"state\":\"%s\",\"running\":%u}\n", node->reg.name,
                 node_state_names[node->state], node->running);
        serve_fields(r, c, NULL, &fields);
        serve_json(c, 200, &fields, &body);
    }
    json_decref(root);
    str_fini(&fields);
    str_fini(&body);
}
