/* engine_report: the numbers of `tandem-bench engine` as a table and as JSON. */
#ifndef TANDEM_BENCH_ENGINE_REPORT_H
#define TANDEM_BENCH_ENGINE_REPORT_H

#include <jansson.h>

#include "base/str.h"
#include "bench/engine_case.h"

/* Appends the lines of the machine and of loading, and a line a test. */
void engine_report_table(struct str *out, const struct engine_bench_options *o,
                         const struct engine_rig *rig, struct engine_cases *cases);

/* The document without results yet, owned by the caller. */
json_t *engine_report_json(const struct engine_bench_options *o);

/* Adds the rig to `machines` and `loads` and its tests to `results`. */
void engine_report_json_add(json_t *root, const struct engine_bench_options *o,
                            const struct engine_rig *rig, struct engine_cases *cases);

#endif
