/* secret_file: small text files that are secrets, as files of keys are: mode 0600, and read again when
 * they change. Any thread. */
#ifndef TANDEM_BASE_SECRET_FILE_H
#define TANDEM_BASE_SECRET_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "base/err.h"

#define SECRET_FILE_MAX ((size_t)1 << 20) /* bytes */

/* The whole file, its *n bytes and a NUL; *text is for secret_file_free, NULL on failure. ERR_IO;
 * ERR_CONFIG: no regular file, or others than its owner may read it; ERR_LIMIT. */
int secret_file_read(char **text, size_t *n, const char *path, struct err *e);
void secret_file_free(char **text); /* wipes it; also of NULL */

/* Whether the file is another than when this was last asked with the same *seen, zeroed at first. One
 * that is gone is another once. Ask before reading: a change in between is seen the next time. */
bool secret_file_changed(struct stat *seen, const char *path);

#endif
