/* html: the report: one page with all in it, no script and nothing from elsewhere, for light and dark
 * and narrow screens. */
#ifndef TANDEM_BENCH_HTML_H
#define TANDEM_BENCH_HTML_H

#include <jansson.h>

#include "base/str.h"
#include "bench/figures.h"
#include "bench/roof.h"

/* Appends the page. root: as in report_files. */
void html_report(struct str *out, const json_t *root, struct figures *f, const struct result *r,
                 const struct bench_options *o, const struct roof *roof);

#endif
