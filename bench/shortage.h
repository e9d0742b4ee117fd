/* shortage: which pool of a cluster is short, from what missed the targets and where its time went.
 * Pure. */
#ifndef TANDEM_BENCH_SHORTAGE_H
#define TANDEM_BENCH_SHORTAGE_H

#include <stddef.h>

#include "bench/figures.h"

enum shortage { SHORT_NOTHING, SHORT_PREFILL, SHORT_DECODE, SHORT_UNKNOWN };

/* Why a sentence into out. Nothing is short if the share was kept. */
enum shortage shortage_find(char *out, size_t size, const struct figures *f, const struct result *r,
                            double share);

const char *shortage_name(enum shortage s);

#endif
