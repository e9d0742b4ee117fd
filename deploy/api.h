/* api: what the router of a running cluster says over HTTP. One request a call, waited for. */
#ifndef TANDEM_DEPLOY_API_H
#define TANDEM_DEPLOY_API_H

#include <jansson.h>

#include "base/err.h"

#define API_TIMEOUT_MS 2000 /* the router answers these from memory */

/* GET /v1/cluster: {cluster, model, router: {...}, nodes: [{name, role, tier, state, pid, ...}]}.
 * *reply is owned by the caller (json_decref), NULL on failure; its members are not checked. */
int api_cluster(json_t **reply, const char *url, struct err *e);

/* One call with a JSON body (NULL: none), answered in JSON. An error status is ERR_PEER (404:
 * ERR_NOT_FOUND) with the router's own sentence. *reply as above. */
int api_call(json_t **reply, const char *url, const char *method, const char *path,
             const json_t *body, struct err *e);

/* The node of that name in a reply of api_cluster, borrowed from it; NULL: the cluster has none. One
 * that only waits for the name is not meant. */
const json_t *api_node(const json_t *reply, const char *name);

/* POST /tandem/drain: the node finishes what it has, *running streams, and leaves. The router's sentence
 * if it does not. */
int api_drain(json_int_t *running, const char *url, const char *node, struct err *e);

/* POST /tandem/role: the same, and the node goes on as role, "prefill" or "decode". */
int api_role(const char *url, const char *node, const char *role, struct err *e);

/* Member `key` of an object as text or number; "" and 0 if it is missing or something else. */
const char *api_text(const json_t *object, const char *key);
json_int_t api_number(const json_t *object, const char *key);

/* What became of a call that was answered with this status and body (NULL: that was no JSON): 0, or an
 * error as api_call has them. url may be "". */
int api_judge(json_int_t status, const json_t *body, const char *url, const char *path, struct err *e);

/* The message of an error reply, {"error": {"message": ...}}, or NULL. Borrowed from reply. */
const char *api_error(const json_t *reply);

#endif
