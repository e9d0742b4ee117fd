/* lines: a file's lines one by one, with FILE:LINE before what is wrong with one. */
#ifndef TANDEM_BENCH_LINES_H
#define TANDEM_BENCH_LINES_H

#include <stddef.h>

#include "base/err.h"

#define LINE_MAX_BYTES ((size_t)8 << 20) /* MSG_PROMPT_MAX: what the router takes */

/* Calls fn with each line that is not empty, without its end; an error of fn ends it and is wrapped
 * with FILE:LINE. ERR_IO; ERR_LIMIT: a line is over LINE_MAX_BYTES. */
int lines_each(const char *path, int (*fn)(void *ctx, const char *line, size_t n, struct err *e),
               void *ctx, struct err *e);

#endif
