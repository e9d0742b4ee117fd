/* topology: the recorded machines that `tandem plan` and `tandem render` are given for hosts. */
#ifndef TANDEM_DEPLOY_TOPOLOGY_H
#define TANDEM_DEPLOY_TOPOLOGY_H

#include "base/err.h"
#include "deploy/cluster.h"

/* What --topology says, "a.xml" for the first host or "web1=a.xml,web2=b.xml", into xml[c->n_hosts] of
 * NULLs, whose strings stay in list, which is cut up. ERR_ARG: a host that is unknown or given twice,
 * or another machine without a file. */
int topology_split(const char **xml, const struct cluster *c, char *list, struct err *e);

#endif
