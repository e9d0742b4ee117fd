/* node: a prefill or decode node as a child process. */
#ifndef TANDEM_TESTS_NODE_H
#define TANDEM_TESTS_NODE_H

#include <sys/types.h>

#include "daemon/options.h"
#include "daemon/role.h"

/* Begins as `role`. options: KEY, VALUE of the table, ..., NULL. Logs errors only. It dies with us, so that a test
 * that fails leaves nobody. Fails the running test if there can be no child. */
pid_t node_fork(const struct option_table *table, const struct role *role, const char *const *options);

#endif
