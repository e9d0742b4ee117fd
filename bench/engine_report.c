#include "bench/engine_report.h"

#include <time.h>
#include <unistd.h>

#include "engine/cost.h"

struct summary {
    double min, median, max;
};

static struct summary summarize(struct series *s)
{
    struct stats stats = series_stats(s); /* sorts */

    return (struct summary){s->values[0], stats.p50, stats.max};
}

/* The best rate over the machine's best in any of the rounds; 0 if it has no such unit. */
static double share(double rate, double machine) { return machine > 0 ? rate / machine : 0; }

static void table_loads(struct str *out, const struct engine_rig *rig)
{
    struct engine_loads l = rig->loads;
    double rate = summarize(&l.byte_s).max, copy = summarize(&l.copy_byte_s).max;

    str_addf(out, "\nloaded %.2f GB at %.2f GB/s, best of %zu; copied into new memory at %.2f GB/s (%.0f %%); "
             "in memory %.3f of the file's size",
             (double)l.file_bytes * 1e-9, rate * 1e-9, l.byte_s.n, copy * 1e-9, 100 * share(rate, copy),
             (double)l.memory_bytes / (double)l.file_bytes);
}

void engine_report_table(struct str *out, const struct engine_bench_options *o,
                         const struct engine_rig *rig, struct engine_cases *cases)
{
    const struct roofline *r = &rig->roofline;
    struct str types = {0};

    cost_types(&types, rig->engine);
    str_addf(out, "%s  types %s  tier %s  threads %u  KV %s  rounds %u\nmachine, best/median: ",
             o->model, str_text(&types), cpu_tier_name(r->tier), r->threads,
             kv_type_name(engine_kv_layout(rig->engine)->type), o->repeat);
    roofline_text(out, r);
    table_loads(out, rig);
    if (*engine_few_rows(rig->engine))
        str_addf(out, "\nkernels for few rows up to: %s", engine_few_rows(rig->engine));
    str_addf(out, "\nMFU against %s, \"best\" is best rate over best peak\n\n",
             roof_name(cost_roof(rig->engine)));
    str_addf(out, "%-16s %10s %10s %10s %10s %7s %7s %7s %7s\n", "tokens/s", "min", "median", "max",
             "GFLOP/s", "MFU", "best", "MBU", "best");
    for (size_t i = 0; i < cases->n; i++) {
        struct engine_case *c = &cases->items[i];
        struct summary tok = summarize(&c->tok_s), flop = summarize(&c->flop_s);
        struct summary byte = summarize(&c->byte_s);

        str_addf(out, "%-16s %10.2f %10.2f %10.2f %10.1f %5.1f %% %5.1f %% %5.1f %% %5.1f %%\n",
                 c->name, tok.min, tok.median, tok.max, flop.median * 1e-9,
                 100 * summarize(&c->mfu).median, 100 * share(flop.max, c->peak),
                 100 * summarize(&c->mbu).median, 100 * share(byte.max, c->read));
    }
    str_addc(out, '\n');
    str_fini(&types);
}

json_t *engine_report_json(const struct engine_bench_options *o)
{
    char host[64] = "", started[32] = "";
    time_t now = time(NULL);
    struct tm tm;

    gethostname(host, sizeof(host) - 1);
    strftime(started, sizeof(started), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    return json_pack("{s:s, s:s, s:s, s:i, s:[], s:[], s:[]}", "version", TANDEM_VERSION, "started",
                     started, "host", host, "repeat", (int)o->repeat, "machines", "loads", "results");
}

static json_t *json_machine(const struct roofline *r)
{
    json_t *out = json_pack("{s:s, s:i}", "tier", cpu_tier_name(r->tier), "threads",
                            (int)r->threads);

    for (int i = 0; i < ROOF_COUNT; i++)
        if (r->rate[i].best > 0)
            json_object_set_new(out, roof_name((enum roof)i),
                                json_pack("{s:f, s:f}", "best", r->rate[i].best * 1e-9, "median",
                                          r->rate[i].median * 1e-9));
    return out;
}

static json_t *json_rates(struct series *s)
{
    struct summary r = summarize(s);

    return json_pack("{s:f, s:f, s:f}", "min", r.min * 1e-9, "median", r.median * 1e-9, "max",
                     r.max * 1e-9);
}

static json_t *json_load(const struct engine_bench_options *o, const struct engine_rig *rig,
                         const char *types)
{
    struct engine_loads l = rig->loads;

    return json_pack("{s:s, s:s, s:s, s:i, s:s, s:f, s:f, s:o, s:o}", "model", o->model, "types", types,
                     "tier", cpu_tier_name(rig->roofline.tier), "threads", (int)rig->n_threads,
                     "few_rows", engine_few_rows(rig->engine), "file_gb", (double)l.file_bytes * 1e-9, "memory_ratio",
                     (double)l.memory_bytes / (double)l.file_bytes, "gb_s", json_rates(&l.byte_s),
                     "copy_gb_s", json_rates(&l.copy_byte_s));
}

/* A share of the machine; null where it was not measured. */
static json_t *json_share(double x) { return x > 0 ? json_real(x) : json_null(); }

static json_t *json_case(const struct engine_bench_options *o, const struct engine_rig *rig,
                         struct engine_case *c, const char *types)
{
    struct summary tok = summarize(&c->tok_s), flop = summarize(&c->flop_s);
    struct summary byte = summarize(&c->byte_s);

    return json_pack(
        "{s:s, s:s, s:s, s:i, s:s, s:{s:f, s:f, s:f}, s:f, s:o, s:o, s:o, s:o, s:s, s:f, s:f}",
        "model", o->model, "types", types, "tier", cpu_tier_name(rig->roofline.tier), "threads",
        (int)rig->n_threads, "test", c->name, "tok_s", "min", tok.min, "median", tok.median, "max",
        tok.max, "gflop_s", flop.median * 1e-9, "mfu", json_share(summarize(&c->mfu).median), "mbu",
        json_share(summarize(&c->mbu).median), "mfu_best", json_share(share(flop.max, c->peak)),
        "mbu_best", json_share(share(byte.max, c->read)), "peak_of", roof_name(cost_roof(rig->engine)),
        "peak_gflop_s", c->peak * 1e-9, "read_gb_s", c->read * 1e-9);
}

void engine_report_json_add(json_t *root, const struct engine_bench_options *o,
                            const struct engine_rig *rig, struct engine_cases *cases)
{
    struct str types = {0};

    cost_types(&types, rig->engine);
    json_array_append_new(json_object_get(root, "machines"), json_machine(&rig->roofline));
    json_array_append_new(json_object_get(root, "loads"), json_load(o, rig, str_text(&types)));
    for (size_t i = 0; i < cases->n; i++)
        json_array_append_new(json_object_get(root, "results"),
                              json_case(o, rig, &cases->items[i], str_text(&types)));
    str_fini(&types);
}
