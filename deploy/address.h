/* address: the numeric address of a host. ZeroMQ binds to nothing else, and a name may mean another
 * address, or none, on another host. Any thread; asks the resolver and may wait for it. */
#ifndef TANDEM_DEPLOY_ADDRESS_H
#define TANDEM_DEPLOY_ADDRESS_H

#include "base/err.h"

#define ADDRESS_MAX 128

/* A numeric address as it is, without brackets; of a name the first that the resolver gives. ERR_NET:
 * it gives none, or one of loopback, which no other host reaches (Debian's /etc/hosts has the
 * machine's own name so). */
int address_resolve(char out[ADDRESS_MAX], const char *name, struct err *e);

#endif
