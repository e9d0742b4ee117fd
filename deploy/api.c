#include "deploy/api.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "net/http.h"

int api_judge(json_int_t status, const json_t *body, const char *url, const char *path, struct err *e)
{
    if (status != 200)
        return err_set(e, status == 404 ? ERR_NOT_FOUND : ERR_PEER, "%s",
                       api_error(body) ? api_error(body) : "the router refused, without a reason");
    return json_is_object(body)
               ? 0
               : err_set(e, ERR_FORMAT, "%s%s: the router's reply is not a JSON object", url, path);
}

int api_call(json_t **reply, const char *url, const char *method, const char *path,
             const json_t *body, struct err *e)
{
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    struct str got = {0};
    json_error_t where;
    int status = 0;
    int rc = http_fetch(&status, &got, method, url, path, text, API_TIMEOUT_MS, e);

    free(text); /* jansson's own */
    *reply = rc ? NULL : json_loadb(str_text(&got), got.len, 0, &where);
    str_fini(&got);
    if (!rc)
        rc = api_judge(status, *reply, url, path, e);
    if (rc) {
        json_decref(*reply);
        *reply = NULL;
    }
    return rc;
}

int api_cluster(json_t **reply, const char *url, struct err *e)
{
    return api_call(reply, url, "GET", "/v1/cluster", NULL, e);
}

const json_t *api_node(const json_t *reply, const char *name)
{
    const json_t *nodes = json_object_get(reply, "nodes");

    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const json_t *node = json_array_get(nodes, i);

        if (!strcmp(api_text(node, "name"), name) && strcmp(api_text(node, "state"), "waiting") != 0)
            return node;
    }
    return NULL;
}

int api_drain(json_int_t *running, const char *url, const char *node, struct err *e)
{
    json_t *request = json_pack("{s:s}", "node", node), *reply = NULL;
    int rc = request ? api_call(&reply, url, "POST", "/tandem/drain", request, e)
                     : err_set(e, ERR_ARG, "the node's name is not UTF-8");

    *running = api_number(reply, "running");
    if (*api_text(reply, "warning"))
        log_warn("drain", "%s", api_text(reply, "warning"));
    json_decref(request);
    json_decref(reply);
    return rc;
}

int api_role(const char *url, const char *node, const char *role, struct err *e)
{
    json_t *request = json_pack("{s:s, s:s}", "node", node, "role", role), *reply;
    int rc = api_call(&reply, url, "POST", "/tandem/role", request, e);

    json_decref(request);
    json_decref(reply);
    return rc ? err_wrap(e, "%s", node) : 0;
}

const char *api_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "";
}

json_int_t api_number(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

const char *api_error(const json_t *reply)
{
    return json_string_value(json_object_get(json_object_get(reply, "error"), "message"));
}
