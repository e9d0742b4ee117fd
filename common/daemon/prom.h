/* prom: the text that Prometheus reads, format 0.0.4: what each process's /metrics is written with, and
 * the names and buckets under which vLLM's dashboards look. A metric's HELP and TYPE come once, before
 * its samples. Pure; any thread. */
#ifndef TANDEM_DAEMON_PROM_H
#define TANDEM_DAEMON_PROM_H

#include <stddef.h>
#include <stdint.h>

#include "base/hist.h"
#include "base/str.h"

#define PROM_TYPE "text/plain; version=0.0.4; charset=utf-8" /* Content-Type of a page */
#define PROM_LABELS_MAX 400

/* type: "counter", "gauge" or "histogram". */
void prom_head(struct str *out, const char *name, const char *type, const char *help);
/* One sample. labels: as prom_labels made them; "": none. Whole numbers are written out whole. */
void prom_sample(struct str *out, const char *name, const char *labels, double value);
/* Both: a metric of one sample. */
void prom_one(struct str *out, const char *name, const char *type, const char *help,
              const char *labels, double value);

/* key="value" of both, values escaped, into out; one that has no room is left out. */
void prom_labels(char out[PROM_LABELS_MAX], const char *key, const char *value, const char *other_key,
                 const char *other_value);

struct prom_buckets {
    const double *bounds; /* [n], ascending */
    size_t n;
};
/* A histogram of values that are `unit` of the bounds: 1e-9 for one of ns under bounds in seconds. */
void prom_hist(struct str *out, const char *name, const char *help, const char *labels,
               const struct hist *h, double unit, const struct prom_buckets *b);

/* Seconds: to the first token, between tokens, of a whole request or phase; ours, finer than those.
 * Tokens: of a pass, of a prompt or an answer. */
extern const struct prom_buckets prom_ttft, prom_itl, prom_request, prom_fine, prom_pass, prom_tokens;

/* What an engine is, to vLLM's dashboards. */
struct prom_engine {
    const char *labels; /* model_name, engine */
    double running, waiting;
    double kv_usage; /* 0 .. 1 */
    uint64_t prompt_tokens, generation_tokens, prefix_queries, prefix_hits, preemptions;
};
void prom_engine(struct str *out, const struct prom_engine *e);

#endif
