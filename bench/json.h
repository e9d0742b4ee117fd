/* json: a result for programs. The keys of `vllm bench serve --save-result` mean what they mean there;
 * the rest is ours. */
#ifndef TANDEM_BENCH_JSON_H
#define TANDEM_BENCH_JSON_H

#include <jansson.h>

#include "base/str.h"
#include "bench/figures.h"

/* An object, owned by the caller. Percentiles are those that --metric-percentiles asks for; with
 * --save-detailed each request's times are there. */
json_t *json_result(struct figures *f, const struct result *r, const struct bench_options *o);

/* Adds vLLM's arrays of one value a request; times in seconds, 0 for a failed one. */
void json_details(json_t *root, const struct result *r);

/* Appends the value as text, with a final newline. */
void json_text(struct str *out, const json_t *value);

/* The file that --result-filename or --save-result name, under --result-dir; "" if neither. */
void json_path(char *out, size_t size, const struct result *r, const struct bench_options *o);

#endif
