/* node_metrics: the page that Prometheus reads from a node: what vLLM's dashboards ask an engine for, and
 * tandem_ names for what only this kind of node has. */
#ifndef TANDEM_DAEMON_NODE_METRICS_H
#define TANDEM_DAEMON_NODE_METRICS_H

#include "base/str.h"
#include "daemon/node.h"

/* One of a role's own. */
struct node_figure {
    const char *name, *type, *help;
    double value;
};

struct node_page {
    enum node_role role;
    struct msg_heartbeat beat; /* as the router hears it */
    bool ready;                /* the router gives it work */
    const struct node_figure *own;
    size_t n_own;
};

/* Appends the page. */
void node_metrics(const struct node *n, const struct node_options *o, const struct node_page *p,
                  struct str *out);

#endif
