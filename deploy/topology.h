/* topology: the recorded machines that `tandem plan` and `tandem render` are given for hosts. */
#ifndef TANDEM_DEPLOY_TOPOLOGY_H
#define TANDEM_DEPLOY_TOPOLOGY_H

#include "base/err.h"
#include "deploy/cluster.h"
#include "deploy/plan.h"

/* plan_init with what --topology says, "a.xml" for the first host or "web1=a.xml,web2=b.xml"; "": this
 * machine. plan_fini in any case. ERR_ARG: a host that is unknown or given twice, or another machine
 * without a file. */
int topology_plan(struct plan *p, const struct cluster *c, const char *topology, struct err *e);

#endif
