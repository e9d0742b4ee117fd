/* overview: what GET /v1/cluster, /tandem/history and /tandem/targets tell of the cluster. */
#ifndef TANDEM_ROUTER_OVERVIEW_H
#define TANDEM_ROUTER_OVERVIEW_H

#include <jansson.h>

#include "router/router.h"

/* The cluster as it is: router, nodes, rates of the last seconds, percentiles of the last minute. */
json_t *overview_cluster(const struct router *r);

/* The last minutes, a value a second, oldest first; null where no request says anything. */
json_t *overview_history(const struct router *r);

/* Where everybody's /metrics is, as Prometheus's http_sd_config wants it. host: under which the router
 * was asked. */
json_t *overview_targets(const struct router *r, const char *host);

#endif
