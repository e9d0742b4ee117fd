/* batches: how sure a throughput is. The run is cut into parts of equal length; their rates, which
 * know little of each other if a part is longer than a request, give an interval by Student's t. Pure. */
#ifndef TANDEM_BENCH_BATCHES_H
#define TANDEM_BENCH_BATCHES_H

#include <stdbool.h>

#include "bench/result.h"

#define BATCHES_PARTS 20
#define BATCHES_REQUESTS_MIN 40 /* two a part: with fewer nothing is said */

struct batches {
    double requests_per_s[2], output_tokens_per_s[2]; /* at 95 %: from, to */
};

/* Of the requests that succeeded. False: too few of them, or a run in turns with another server's. */
bool batches_make(struct batches *b, const struct result *r);

#endif
