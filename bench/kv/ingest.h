/* ingest: by how much KV that comes in lengthens the steps of running streams. A decode node runs as a process
 * on one processor; the bench, on the others, is its router and a prefill node that sends as fast as the
 * node grants credit. Steps with KV coming in alternate with steps without. */
#ifndef TANDEM_BENCH_KV_INGEST_H
#define TANDEM_BENCH_KV_INGEST_H

#include <stdint.h>

#include "base/err.h"

/* program: tandem-decode. Four streams run while the KV of a prompt of n tokens comes in, `rounds` times
 * in frames and then as often read where it lies; prints a table of each. ERR_PEER if the node refused anything, ERR_TIMEOUT, ERR_IO. */
int ingest_run(const char *program, const char *model, uint32_t n, uint32_t rounds, struct err *e);

#endif
