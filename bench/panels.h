/* panels: the figures of the report, each a chart. */
#ifndef TANDEM_BENCH_PANELS_H
#define TANDEM_BENCH_PANELS_H

#include <jansson.h>

#include "bench/figures.h"
#include "bench/roof.h"

/* What a chart is drawn from. Borrowed. */
struct panels {
    struct figures *figures;
    const struct result *result;
    const struct bench_options *options;
    const json_t *root; /* the result as JSON, maybe with "points" and "find_goodput" */
    const struct roof *roof;
};

/* Each appends its figure, or nothing where there is nothing to show. */
void panel_percentiles(struct str *out, const struct panels *p);
void panel_prompt_length(struct str *out, const struct panels *p);
void panel_stages(struct str *out, const struct panels *p);
void panel_waterfall(struct str *out, const struct panels *p);
void panel_tokens(struct str *out, const struct panels *p);
void panel_in_flight(struct str *out, const struct panels *p);
void panel_goodput(struct str *out, const struct panels *p);
void panel_rate_latency(struct str *out, const struct panels *p);
void panel_roofline(struct str *out, const struct panels *p);
void panel_nodes(struct str *out, const struct panels *p);

#endif
