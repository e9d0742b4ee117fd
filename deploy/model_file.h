/* model_file: what a model file is, by a hash of all its bytes, XXH3 of 128 bits. Hashing tens of
 * gigabytes takes its time, so it goes step by step, and the result is remembered by path, size, time
 * and inode in ${XDG_CACHE_HOME:-~/.cache}/tandem/hashes. One thread. */
#ifndef TANDEM_DEPLOY_MODEL_FILE_H
#define TANDEM_DEPLOY_MODEL_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define MODEL_HASH_TEXT 33 /* hexadecimal digits and NUL */

struct model_file; /* one that is being hashed */

/* path: absolute. ERR_NOT_FOUND: there is none; ERR_IO: it cannot be read or is no regular file.
 * Where the hash is remembered, model_file_done is true at once. Owned by the caller. */
int model_file_open(struct model_file **m, const char *path, struct err *e);
void model_file_close(struct model_file **m);

/* Reads some 64 MiB. A done one has nothing to do. ERR_IO: reading failed, or the file changed. */
int model_file_step(struct model_file *m, struct err *e);
bool model_file_done(const struct model_file *m);

uint64_t model_file_size(const struct model_file *m);
uint64_t model_file_at(const struct model_file *m); /* bytes read so far */
const char *model_file_hash(const struct model_file *m); /* of a done one */

/* Makes what is at path now known by the hash: it was renamed. Failing costs time later, no more. */
void model_file_remember(const char *path, const char *hash);

#endif
