/* admin: the endpoints behind /tandem/: why a request went where it went, draining a node, and
 * changing its role. */
#ifndef TANDEM_ROUTER_ADMIN_H
#define TANDEM_ROUTER_ADMIN_H

#include "router/router.h"

/* GET /tandem/explain/ID: rest is "/ID", a response's id, its x-request-id, or the request's number
 * in the log. JSON as explain.h makes it, or 404. */
void admin_explain(struct router *r, struct http_conn *c, struct http_text rest);

/* POST /tandem/drain {"node": NAME}: the node finishes what it has, takes nothing new, and leaves.
 * Answers {"node", "state", "running"} at once, or 404; with a "warning" if no decode node is left. */
void admin_drain(struct router *r, struct http_conn *c, struct http_text rest);

/* POST /tandem/role {"node": NAME, "role": "prefill"|"decode"}: the node finishes what it has, then goes
 * on in that role. The same answer; 409 if it cannot. */
void admin_role(struct router *r, struct http_conn *c, struct http_text rest);

#endif
