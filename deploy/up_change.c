#include "deploy/up.h"

#include <stdio.h>

int up_change(struct up *u, const char *file, struct err *e)
{
    (void)file;
    return err_set(e, ERR_BUSY, "cluster %s is running already; `tandem down %s` ends it", u->cluster.cluster, u->cluster.cluster);
}
