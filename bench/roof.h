/* roof: how far nodes are from what their machine can do: work from the counts of tokens and passes,
 * ceilings from a file that `tandem-bench engine --json` wrote on such a machine, else the highest
 * that nodes told. */
#ifndef TANDEM_BENCH_ROOF_H
#define TANDEM_BENCH_ROOF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "bench/monitor.h"

#define ROOF_POINTS_MAX 64

struct roof_point {
    char name[48];
    double flops, bytes; /* a second */
    bool node;           /* of the run; otherwise a test of the file */
};

struct roof {
    double peak_flops, peak_bytes; /* a second; 0: nobody told */
    double weights, weight_bytes;  /* of the model's matrices; 0: no model file was given */
    struct roof_point points[ROOF_POINTS_MAX];
    uint32_t n;
};

/* engine_json and gguf: paths, "" for none. ERR_IO, ERR_FORMAT. */
int roof_load(struct roof *r, const char *engine_json, const char *gguf, struct err *e);

/* Adds a point a node: what its passes needed, by its own count; of one that told none 2 * weights a
 * token, and the matrices once a pass, if there is a model file. */
void roof_nodes(struct roof *r, const struct monitor_nodes *m);

#endif
