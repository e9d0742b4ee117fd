#include "bench/compare.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/rng.h"
#include "bench/series.h"
#include "config/option.h"
#include "daemon/daemon.h"

#define RESAMPLES 1000
#define RESAMPLE_MAX 2000 /* values a resample draws: percentiles need no more */
#define BOOTSTRAP_KEY 0x626f6f7473747261u /* "bootstra" */

static const struct row {
    const char *key, *name;
    bool lower_is_better;
    const char *list; /* of each request's value, for the interval; NULL: none */
    double p;
} rows[] = {
    {"request_throughput", "requests/s", false, NULL, 0},
    {"request_goodput", "good requests/s", false, NULL, 0},
    {"input_throughput", "tokens in/s", false, NULL, 0},
    {"output_throughput", "tokens out/s", false, NULL, 0},
    {"p50_ttft_ms", "TTFT p50 ms", true, "ttfts", 50},
    {"p99_ttft_ms", "TTFT p99 ms", true, "ttfts", 99},
    {"p50_tpot_ms", "TPOT p50 ms", true, "tpots", 50},
    {"p99_tpot_ms", "TPOT p99 ms", true, "tpots", 99},
    {"p50_itl_ms", "ITL p50 ms", true, NULL, 0},
    {"p99_itl_ms", "ITL p99 ms", true, NULL, 0},
    {"p50_e2el_ms", "E2EL p50 ms", true, "e2els", 50},
    {"p99_e2el_ms", "E2EL p99 ms", true, "e2els", 99},
    {"cost_per_1000_requests", "cost/1000", true, NULL, 0},
    {"output_tokens_per_joule", "tokens out/J", false, NULL, 0},
    {"failed", "failed", true, NULL, 0},
};

static int order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

/* The values are sorted, so the k-th smallest of a resample is that of the k-th smallest index. */
static double resample(const double *values, size_t n, double p, uint64_t key)
{
    size_t m = size_min(n, RESAMPLE_MAX);
    struct series s = {0};
    double index;

    for (size_t i = 0; i < m; i++)
        series_add(&s, floor(rng_f64(key, i) * (double)n));
    index = series_percentile(&s, p);
    series_fini(&s);
    return values[(size_t)index];
}

void compare_bootstrap(double *low, double *high, double *a, size_t n_a, double *b, size_t n_b,
                       double p)
{
    struct series ratios = {0};

    qsort(a, n_a, sizeof(*a), order);
    qsort(b, n_b, sizeof(*b), order);
    for (uint64_t i = 0; i < RESAMPLES; i++)
        series_add(&ratios, resample(b, n_b, p, BOOTSTRAP_KEY + 2 * i) /
                                resample(a, n_a, p, BOOTSTRAP_KEY + 2 * i + 1));
    *low = series_percentile(&ratios, 2.5);
    *high = series_percentile(&ratios, 97.5);
    series_fini(&ratios);
}

/* The values above 0 (a failed request has 0); NULL if there are fewer than 2. mem_free. */
static double *list_read(size_t *n, const json_t *root, const char *key)
{
    const json_t *list = json_object_get(root, key);
    double *out = mem_calloc(json_array_size(list) + 1, sizeof(*out));

    *n = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        double x = json_number_value(json_array_get(list, i));

        if (x > 0)
            out[(*n)++] = x;
    }
    if (*n >= 2)
        return out;
    mem_free(out);
    return NULL;
}

/* False: the lists are not there. */
static bool interval(double *low, double *high, const struct row *row, const json_t *a,
                     const json_t *b)
{
    size_t n_a = 0, n_b = 0;
    double *x = row->list ? list_read(&n_a, a, row->list) : NULL;
    double *y = row->list ? list_read(&n_b, b, row->list) : NULL;
    bool there = x && y;

    if (there)
        compare_bootstrap(low, high, x, n_a, y, n_b, row->p);
    mem_free(x);
    mem_free(y);
    return there;
}

/* Whether B is worse by more than the limit, and by its whole interval, if it has one. */
static bool is_worse(const struct row *row, double ratio, const double *low, const double *high,
                     double percent)
{
    double limit = percent / 100;

    if (percent <= 0)
        return false;
    if (row->lower_is_better)
        return (low ? *low : ratio) > 1 + limit;
    return (high ? *high : ratio) < 1 - limit;
}

bool compare_table(struct str *out, const json_t *a, const json_t *b, double percent)
{
    bool regressed = false;

    str_addf(out, "%-16s %12s %12s %8s   95 %% of B/A\n", "", "A", "B", "B/A");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const json_t *x = json_object_get(a, rows[i].key), *y = json_object_get(b, rows[i].key);
        double va = json_number_value(x), vb = json_number_value(y), low, high;
        bool there, worse;

        if (!json_is_number(x) || !json_is_number(y) || (va == 0 && vb == 0))
            continue;
        there = interval(&low, &high, &rows[i], a, b);
        worse = is_worse(&rows[i], va > 0 ? vb / va : INFINITY, there ? &low : NULL,
                         there ? &high : NULL, percent);
        str_addf(out, "%-16s %12.3f %12.3f", rows[i].name, va, vb);
        if (va > 0)
            str_addf(out, " %7.3fx", vb / va);
        if (there)
            str_addf(out, "   %.3f .. %.3f%s", low, high,
                     low <= 1 && high >= 1 ? "  (no difference)" : "");
        str_adds(out, worse ? "  WORSE\n" : "\n");
        regressed = regressed || worse;
    }
    if (!json_is_true(json_object_get(a, "valid")) || !json_is_true(json_object_get(b, "valid")))
        str_adds(out, "NOTE: a result is invalid: its client was the bottleneck\n");
    return regressed;
}

struct compare_options {
    double regression;
};

static const struct option compare_rows[] = {
    OPTION(compare_options, regression, F64, .max = 1000, .unit = "PERCENT",
           .help = "exit with 1 if B is worse by more than this; 0: never"),
};

static const struct option_table compare_table_options = {
    .program = "tandem-bench compare",
    .usage = "A.json B.json",
    .summary = "Compares two results, with intervals where both were made with --save-detailed",
    .options = compare_rows,
    .n = ARRAY_LEN(compare_rows),
};

json_t *compare_load(const char *path, struct err *e)
{
    json_error_t why;
    json_t *root = json_load_file(path, 0, &why);

    if (!root && why.line <= 0) /* not opened: no line to name */
        err_set(e, ERR_IO, "%s", why.text);
    else if (!root)
        err_set(e, ERR_FORMAT, "%s:%d: %s", path, why.line, why.text);
    else if (!json_is_number(json_object_get(root, "request_throughput")))
        err_set(e, ERR_FORMAT, "%s: is no result of tandem-bench or vllm bench serve", path);
    return root;
}

int compare_main(int argc, char **argv)
{
    struct compare_options o = {0};
    struct option_args args = {0};
    enum option_action action = OPTION_RUN;
    json_t *a = NULL, *b = NULL;
    struct str text = {0};
    struct err e = {0};
    int code = EXIT_OK;

    if (option_main(&compare_table_options, &o, argc, argv, &args, &action, &e) == ERR_OK &&
        action == OPTION_RUN && args.n != 2)
        err_set(&e, ERR_ARG, "two files are compared, got %d", args.n);
    if (e.code)
        code = EXIT_USAGE;
    if (!e.code && action == OPTION_RUN) {
        a = compare_load(args.argv[0], &e);
        b = e.code ? NULL : compare_load(args.argv[1], &e);
        code = e.code ? EXIT_FAILED : EXIT_OK;
        if (!e.code && compare_table(&text, a, b, o.regression))
            code = EXIT_FAILED;
        fputs(str_text(&text), stdout);
    }
    if (e.code)
        fprintf(stderr, "tandem-bench: %s\n", e.text);
    json_decref(a);
    json_decref(b);
    str_fini(&text);
    option_free(&compare_table_options, &o);
    return code;
}
