/* paths: where things are: beside the program, beside a file. Any thread. */
#ifndef TANDEM_DEPLOY_PATHS_H
#define TANDEM_DEPLOY_PATHS_H

#include "base/err.h"

/* The folder of the running program, by /proc/self/exe; "." if that cannot be read. Static storage,
 * found at the first call. */
const char *paths_program_dir(void);

/* The path of a file named in another file: absolute ones as they are, others from dir. Returns
 * owned. */
char *paths_resolve(const char *dir, const char *path);

/* The folder of a path, "." if it names none. Returns owned. */
char *paths_dir(const char *path);

/* The model that comes with tandem: below dir (of cluster.yaml), beside the source tree the program
 * was built in, or installed in share/tandem. Returns owned; NULL and ERR_NOT_FOUND where it is
 * in none of them. */
char *paths_default_model(const char *dir, struct err *e);

#endif
