#include "daemon/prom.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/check.h"

#define BUCKETS(...) {(const double[]){__VA_ARGS__}, sizeof((const double[]){__VA_ARGS__}) / sizeof(double)}

/* The edges of vLLM's histograms, so that quantiles of both can be drawn in one panel. */
const struct prom_buckets prom_ttft = BUCKETS(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25,
                                              0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640,
                                              2560);
const struct prom_buckets prom_itl = BUCKETS(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5,
                                             0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80);
const struct prom_buckets prom_request = BUCKETS(0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40,
                                                 50, 60, 120, 240, 480, 960, 1920, 7680);
const struct prom_buckets prom_pass = BUCKETS(1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192,
                                              16384);
const struct prom_buckets prom_tokens = BUCKETS(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000,
                                                10000, 20000, 50000, 100000, 200000, 500000, 1000000);
/* Tokens of a small model come faster than vLLM's first bucket ends. */
const struct prom_buckets prom_fine = BUCKETS(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                              1, 2.5, 5, 10, 25, 60, 120, 300);

void prom_head(struct str *out, const char *name, const char *type, const char *help)
{
    str_addf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void prom_sample(struct str *out, const char *name, const char *labels, double value)
{
    str_addf(out, "%s%s%s%s ", name, *labels ? "{" : "", labels, *labels ? "}" : "");
    if (floor(value) == value && fabs(value) < 0x1p63)
        str_addf(out, "%" PRId64 "\n", (int64_t)value);
    else
        str_addf(out, "%.9g\n", value);
}

void prom_one(struct str *out, const char *name, const char *type, const char *help,
              const char *labels, double value)
{
    prom_head(out, name, type, help);
    prom_sample(out, name, labels, value);
}

static void prom_label(struct str *all, const char *key, const char *value)
{
    struct str one = {0};

    str_addf(&one, "%s%s=\"", all->len ? "," : "", key);
    for (; *value; value++) {
        if (*value == '\\' || *value == '"')
            str_addc(&one, '\\');
        str_addc(&one, *value == '\n' ? ' ' : *value);
    }
    str_addc(&one, '"');
    if (all->len + one.len < PROM_LABELS_MAX)
        str_add(all, one.data, one.len);
    str_fini(&one);
}

void prom_labels(char out[PROM_LABELS_MAX], const char *key, const char *value, const char *other_key,
                 const char *other_value)
{
    struct str all = {0};

    prom_label(&all, key, value);
    prom_label(&all, other_key, other_value);
    snprintf(out, PROM_LABELS_MAX, "%s", str_text(&all));
    str_fini(&all);
}

void prom_hist(struct str *out, const char *name, const char *help, const char *labels,
               const struct hist *h, double unit, const struct prom_buckets *b)
{
    const char *comma = *labels ? "," : "", *open = *labels ? "{" : "", *close = *labels ? "}" : "";

    prom_head(out, name, "histogram", help);
    for (size_t i = 0; i < b->n; i++)
        str_addf(out, "%s_bucket{%s%sle=\"%g\"} %" PRIu64 "\n", name, labels, comma, b->bounds[i],
                 hist_count_le(h, llround(b->bounds[i] / unit)));
    str_addf(out, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, labels, comma, h->count);
    str_addf(out, "%s_sum%s%s%s %.9g\n", name, open, labels, close, h->sum * unit);
    str_addf(out, "%s_count%s%s%s %" PRIu64 "\n", name, open, labels, close, h->count);
}

void prom_engine(struct str *out, const struct prom_engine *e)
{
    const struct {
        const char *name, *type, *help;
        double value;
    } all[] = {
        {"vllm:num_requests_running", "gauge", "Requests being computed.", e->running},
        {"vllm:num_requests_waiting", "gauge", "Requests waiting to be.", e->waiting},
        {"vllm:kv_cache_usage_perc", "gauge", "KV pages in use, 1 is all.", e->kv_usage},
        {"vllm:gpu_cache_usage_perc", "gauge", "The same under its former name.", e->kv_usage},
        {"vllm:prompt_tokens_total", "counter", "Prompt tokens.", (double)e->prompt_tokens},
        {"vllm:generation_tokens_total", "counter", "Generated tokens.",
         (double)e->generation_tokens},
        {"vllm:prefix_cache_queries_total", "counter", "Prompt tokens looked up in prefix caches.",
         (double)e->prefix_queries},
        {"vllm:prefix_cache_hits_total", "counter", "Prompt tokens found there.",
         (double)e->prefix_hits},
        {"vllm:num_preemptions_total", "counter", "Sequences set aside for want of KV pages.",
         (double)e->preemptions},
    };

    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        prom_one(out, all[i].name, all[i].type, all[i].help, e->labels, all[i].value);
}
