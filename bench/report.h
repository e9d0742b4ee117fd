/* report: writes of a result all that the options ask for. */
#ifndef TANDEM_BENCH_REPORT_H
#define TANDEM_BENCH_REPORT_H

#include <jansson.h>

#include "base/err.h"
#include "base/str.h"
#include "bench/figures.h"

/* The table goes to stdout, unless that is where the JSON goes; then to stderr. */
void report_print(const struct str *text, const struct bench_options *o);

/* The files. root: the result as JSON, maybe with more than json_result gives. ERR_IO. */
int report_files(const json_t *root, struct figures *f, const struct result *r,
                 const struct bench_options *o, struct err *e);

/* Writes bytes to a file, "-" being stdout. ERR_IO. */
int report_write(const char *path, const struct str *text, struct err *e);

#endif
