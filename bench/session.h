/* session: one call of tandem-bench: the runs that its options ask for, and what is written of them. */
#ifndef TANDEM_BENCH_SESSION_H
#define TANDEM_BENCH_SESSION_H

#include <stdbool.h>

#include "base/err.h"
#include "bench/options.h"

/* *ok: some request succeeded and nothing asked for failed. ERR_*: a measurement could not begin, or a
 * result not be written. */
int session_run(bool *ok, const struct bench_options *o, struct err *e);

#endif
