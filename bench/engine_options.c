#include "bench/engine_options.h"

#include <ctype.h>
#include <limits.h>
#include <stdlib.h>

#include "base/check.h"
#include "daemon/options.h"
#include "host/team.h"

int engine_list(uint32_t list[ENGINE_LIST_MAX], const char *text)
{
    int n = 0;

    while (*text) {
        char *end;
        unsigned long value = isdigit((unsigned char)*text) ? strtoul(text, &end, 10) : ULONG_MAX;

        if (value > ENGINE_TOKENS_MAX || n == ENGINE_LIST_MAX || (*end && *end != ','))
            return -1;
        list[n++] = (uint32_t)value;
        text = *end ? end + 1 : end;
        if (*end && !*text)
            return -1;
    }
    return n;
}

static const char *list_wrong(const char *value)
{
    uint32_t list[ENGINE_LIST_MAX];

    return engine_list(list, value) < 0 ? "is not a list of numbers, such as 1,4,16" : NULL;
}

/* A list of numbers that are not 0. */
static const char *counts_wrong(const char *value)
{
    uint32_t list[ENGINE_LIST_MAX];
    int n = engine_list(list, value);

    for (int i = 0; i < n; i++)
        if (list[i] == 0)
            return "has a 0";
    return list_wrong(value);
}

static const char *batch_wrong(const char *value)
{
    uint32_t list[ENGINE_LIST_MAX];
    int n = engine_list(list, value);

    for (int i = 0; i < n; i++)
        if (list[i] > ENGINE_ROWS_MAX)
            return "has a batch of more than 512 rows";
    return counts_wrong(value);
}

static const char *threads_wrong(const char *value)
{
    uint32_t list[ENGINE_LIST_MAX];
    int n = engine_list(list, value);

    for (int i = 0; i < n; i++)
        if (list[i] > TEAM_THREADS_MAX)
            return "has more than 1024 threads";
    return counts_wrong(value);
}

static const struct option list[] = {
    OPTION(engine_bench_options, model, STR, .unit = "FILE", .help = "the model, a GGUF"),
    OPTION(engine_bench_options, threads, STR, .unit = "LIST", .wrong = threads_wrong,
           .help = "counts of threads, each measured; default: as many as it may use"),
    OPTION(engine_bench_options, cores, STR, .unit = "LIST", .wrong = options_cores_wrong,
           .help = "processors to pin to, 0,2-5; default: not pinned"),
    OPTION(engine_bench_options, cpu, STR, .def = "auto", .unit = "TIER", .wrong = options_cpu_wrong,
           .help = "kernel tier: " OPTIONS_CPU_TIERS),
    OPTION(engine_bench_options, pp, STR, .def = "64,128,512", .unit = "LIST", .wrong = counts_wrong,
           .help = "prompts of N tokens, in chunks of 512 rows; logits of the last"),
    OPTION(engine_bench_options, tg, U32, .def = "64", .max = ENGINE_TOKENS_MAX,
           .help = "steps of generation; 0: none"),
    OPTION(engine_bench_options, batch, STR, .def = "1,4,8,16,32", .unit = "LIST",
           .wrong = batch_wrong, .help = "sequences that generate together"),
    OPTION(engine_bench_options, ctx, STR, .def = "0,1024", .unit = "LIST", .wrong = list_wrong,
           .help = "tokens that each of them has already, of small random KV"),
    OPTION(engine_bench_options, kv_type, ENUM, .def = "auto", .names = options_kv_types,
           .help = "type of the KV pages; auto: bf16 with cpu amx, else f16"),
    OPTION(engine_bench_options, few_rows, U32, .def = "0", .max = 64,
           .help = "rows up to which the tier's kernels for few rows are taken; 0: measured when the model is loaded"),
    OPTION(engine_bench_options, repeat, U32, .def = "5", .min = 1, .max = 1000,
           .help = "rounds; each runs every test once"),
    OPTION(engine_bench_options, loads, U32, .def = "1", .min = 1, .max = 1000,
           .help = "times to load the model, each time after a copy of as many bytes"),
    OPTION(engine_bench_options, json, STR, .unit = "FILE",
           .help = "write the results there; - is stdout"),
};

static int check(const void *cfg, struct err *e)
{
    const struct engine_bench_options *o = cfg;

    if (!*o->model)
        return err_set(e, ERR_CONFIG, "--model is missing: a GGUF file to measure");
    if (!*o->pp && (o->tg == 0 || !*o->batch || !*o->ctx))
        return err_set(e, ERR_CONFIG, "nothing to measure: --pp is empty, and so is one of --tg, "
                                      "--batch, --ctx");
    return ERR_OK;
}

const struct option_table engine_bench_table = {
    .program = "tandem-bench engine",
    .summary =
        "Measures one engine in this process: no network, no sampling. Tests: pp512 is a prompt of 512\n"
        "tokens; tg64@b16c1024 is 64 steps of 16 sequences that have 1024 tokens each already.\n"
        "GFLOP/s counts 2 a weight of the matrices a row passes, and attention's 4 * heads * head size\n"
        "a token attended to, a layer; in the last layer only rows with logits go past K and V.\n"
        "MFU is that over the peak of the unit the tier multiplies with (AMX bf16; int8 dot for\n"
        "quantised weights; f32), MBU the bytes of weights (once a pass) and KV (once a sequence and\n"
        "pass) over the machine's read rate; both measured right before and after each run, the better\n"
        "of the two. MFU and MBU are medians of the rounds; \"best\" is best rate over best peak",
    .options = list,
    .n = ARRAY_LEN(list),
    .check = check,
};
