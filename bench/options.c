#include "bench/options.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "bench/fault.h"
#include "daemon/options.h"

static const char *const backend_names[] = {"openai", "vllm", "openai-chat", NULL};
static const char *const dataset_names[] = {"random", "sharegpt", "custom",   "text",
                                            "mooncake", "azure",  "burstgpt", NULL};
static const char *const scenario_names[] = {"none", "offline", "server", NULL};
static const char *const ramp_names[] = {"none", "linear", "exponential", NULL};
static const char *const progress_names[] = {"auto", "on", "off", NULL};

double bench_number(const char *text)
{
    return strcmp(text, "inf") == 0 ? INFINITY : strtod(text, NULL);
}

static const char *number_wrong(const char *value)
{
    char *end;
    double x = strtod(value, &end);

    if (strcmp(value, "inf") == 0 || (end != value && !*end && x > 0 && x <= 1e6))
        return NULL;
    return "is not a number above 0, at most 1e6, or inf";
}

static const struct option bench_option_list[] = {
    OPTION(bench_options, base_url, STR, .def = "http://127.0.0.1:8000", .unit = "URL",
           .help = "OpenAI server"),
    OPTION(bench_options, native, STR, .unit = "ENDPOINT",
           .help = "send the requests by tandem's ZeroMQ protocol there instead"),
    OPTION(bench_options, keys, STR, .unit = "FILE",
           .help = "with --native: key file of a client; `tandem keys` makes one"),
    OPTION(bench_options, insecure, BOOL,
           .help = "with --native and without --keys: tcp beyond this machine, unprotected"),
    OPTION(bench_options, backend, ENUM, .names = backend_names,
           .help = "openai: /v1/completions; openai-chat: /v1/chat/completions"),
    OPTION(bench_options, endpoint, STR, .unit = "PATH", .help = "instead of the backend's path"),
    OPTION(bench_options, model, STR, .unit = "NAME|FILE.gguf",
           .help = "model named in requests; or a file: --tokenizer"),
    OPTION(bench_options, served_model_name, STR, .unit = "NAME",
           .help = "model named in requests; default: the first that /v1/models lists"),
    OPTION(bench_options, tokenizer, STR, .unit = "FILE.gguf",
           .help = "whose vocabulary makes text of exact length and counts tokens"),
    OPTION(bench_options, header, STR, .unit = "KEY=VALUE",
           .help = "of each request; OPENAI_API_KEY in the environment is sent as Bearer"),
    OPTION(bench_options, extra_body, STR, .unit = "JSON", .help = "members added to each request"),
    OPTION(bench_options, ready_check_timeout_sec, F64, .max = 86400, .unit = "S",
           .help = "wait so long for the server to be there"),
    OPTION(bench_options, dataset_name, ENUM, .names = dataset_names,
           .help = "where prompts come from; all but random need --dataset-path"),
    OPTION(bench_options, dataset_path, STR, .unit = "FILE",
           .help =
               "sharegpt: JSON; custom: {\"prompt\"} or {\"turns\"} a line; text: a prompt a line"),
    OPTION(bench_options, random_input_len, U32, .def = "1024", .min = 1, .max = 1 << 20,
           .help = "tokens of a random prompt"),
    OPTION(bench_options, random_output_len, U32, .def = "128", .min = 1, .max = 1 << 20,
           .help = "tokens to generate for it"),
    OPTION(bench_options, random_range_ratio, F64, .max = 0.999, .unit = "R",
           .help = "lengths are uniform in [len (1 - R), len (1 + R)]"),
    OPTION(bench_options, random_prefix_len, U32, .max = 1 << 20,
           .help = "tokens that all random prompts begin with, on top of the length"),
    OPTION(bench_options, vocab_size, U32, .max = 1 << 21,
           .help = "without --tokenizer: prompts are random token ids below N"),
    OPTION(bench_options, output_len, U32, .max = 1 << 20,
           .help = "tokens to generate for prompts of a file; 0: as the file says, else 64"),
    OPTION(bench_options, turns, U32, .def = "1", .min = 1, .max = 1000,
           .help = "of a chat, each with the real answers before it in the prompt"),
    OPTION(bench_options, think_time, F64, .max = 86400, .unit = "S",
           .help = "from an answer's end to the next turn"),
    OPTION(bench_options, ignore_eos, BOOL,
           .help = "generate past the end of text; random prompts and traces always do"),
    OPTION(bench_options, temperature, F64, .max = 100, .help = "0 is greedy"),
    OPTION(bench_options, seed, U64, .def = "1", .help = "of arrivals, prompts and sampling"),
    OPTION(bench_options, log_format, ENUM, .def = "text", .names = options_log_formats,
           .help = "of warnings: lines for people, or a JSON object each"),
    OPTION(bench_options, num_prompts, U32, .max = 100000000,
           .help = "how many; 0: until --duration has passed, without that 100"),
    OPTION(bench_options, duration, F64, .max = 1e6, .unit = "S",
           .help = "start no request after this time; 0: no limit"),
    OPTION(bench_options, num_warmups, U32, .max = 1000000,
           .help = "requests before the measurement, not counted"),
    OPTION(bench_options, request_rate, STR, .def = "inf", .wrong = number_wrong, .unit = "PER_S",
           .help = "open loop; inf: all at once, or as --max-concurrency lets them"),
    OPTION(bench_options, burstiness, STR, .def = "1", .wrong = number_wrong, .unit = "SHAPE",
           .help = "of gamma gaps: 1 Poisson, below 1 burstier, inf constant"),
    OPTION(bench_options, max_concurrency, U32, .max = 65536,
           .help = "requests in flight at most; 0: no limit"),
    OPTION(bench_options, ramp_up_strategy, ENUM, .names = ramp_names,
           .help = "the rate changes over the prompts, instead of --request-rate"),
    OPTION(bench_options, ramp_up_start_rps, F64, .max = 1e6, .unit = "PER_S", .help = "from"),
    OPTION(bench_options, ramp_up_end_rps, F64, .max = 1e6, .unit = "PER_S", .help = "to"),
    OPTION(bench_options, trace_scale, F64, .def = "1", .min = 1e-6, .max = 1e6, .unit = "X",
           .help = "a trace's times are multiplied by this: 0.5 is twice as fast"),
    OPTION(bench_options, request_cancellation_rate, F64, .max = 100, .unit = "PERCENT",
           .help = "of requests that the client cancels"),
    OPTION(bench_options, request_cancellation_delay, F64, .def = "1", .max = 86400, .unit = "S",
           .help = "mean time to a cancellation, exponential"),
    OPTION(bench_options, timeout, F64, .def = "600", .min = 0.001, .max = 1e6, .unit = "S",
           .help = "a request that takes longer is given up and counted as failed"),
    OPTION(bench_options, sweep, STR, .unit = "R1,R2,...", .help = "one run for each request rate"),
    OPTION(bench_options, find_goodput, BOOL,
           .help = "search the highest request rate that keeps the targets of --goodput"),
    OPTION(bench_options, before, STR, .unit = "FILE",
           .help = "with --find-goodput: result of an earlier search, shown beside this one"),
    OPTION(bench_options, goodput_share, F64, .def = "0.9", .min = 0.01, .max = 1,
           .help = "share of requests that must keep them"),
    OPTION(bench_options, scenario, ENUM, .names = scenario_names,
           .help = "MLPerf's: offline is all at once; server is Poisson with 99 % in the targets"),
    OPTION(bench_options, against, STR, .unit = "URL",
           .help = "another OpenAI server that gets the same schedule, in turns"),
    OPTION(bench_options, rounds, U32, .def = "4", .min = 1, .max = 1000,
           .help = "turns of --against"),
    OPTION(bench_options, kill, STR, .unit = "NODE@TIME",
           .help = "SIGKILL a node of this machine's cluster: decode:3@30s; several with commas"),
    OPTION(bench_options, stop, STR, .unit = "NODE@TIME+LENGTH",
           .help = "SIGSTOP it, SIGCONT after the length: decode:3@30s+5s"),
    OPTION(bench_options, goodput, STR, .unit = "NAME:MS ...",
           .help = "targets of ttft, ttst, tpot, itl, e2el: \"ttft:500 tpot:100\""),
    OPTION(bench_options, price_per_hour, F64, .max = 1e9, .unit = "PRICE",
           .help = "of all servers together, for the cost of tokens"),
    OPTION(bench_options, roofline, STR, .unit = "FILE",
           .help = "what tandem-bench engine --json wrote on a node's machine"),
    OPTION(bench_options, percentile_metrics, STR, .def = "ttft,ttst,tpot,itl,e2el",
           .unit = "NAMES", .help = "whose percentiles are in the result"),
    OPTION(bench_options, metric_percentiles, STR, .def = "50,90,95,99", .unit = "P1,P2,...",
           .help = "which"),
    OPTION(bench_options, save_result, BOOL, .help = "write JSON, named by time, rate and model"),
    OPTION(bench_options, save_detailed, BOOL, .help = "with each request's times in it"),
    OPTION(bench_options, result_dir, STR, .unit = "DIR", .help = "where"),
    OPTION(bench_options, result_filename, STR, .unit = "FILE",
           .help = "write JSON there; - is stdout"),
    OPTION(bench_options, csv, STR, .unit = "FILE", .help = "a line a request"),
    OPTION(bench_options, jsonl, STR, .unit = "FILE", .help = "an object a request"),
    OPTION(bench_options, html, STR, .unit = "FILE", .help = "a report in one file"),
    OPTION(bench_options, trace, STR, .unit = "FILE", .help = "for chrome://tracing and Perfetto"),
    OPTION(bench_options, progress, ENUM, .names = progress_names,
           .help = "a live line on stderr; auto: on a terminal"),
};

bool bench_trace(const struct bench_options *o) { return o->dataset_name >= DATASET_MOONCAKE; }

bool bench_exact(const struct bench_options *o)
{
    return o->dataset_name == DATASET_RANDOM || bench_trace(o);
}

bool bench_open_loop(const struct bench_options *o)
{
    return o->ramp_up_strategy != RAMP_NONE || isfinite(bench_number(o->request_rate)) ||
           (bench_trace(o) && o->max_concurrency == 0) || o->find_goodput || *o->sweep;
}

const char *bench_tokenizer(const struct bench_options *o)
{
    size_t n = strlen(o->model);

    if (*o->tokenizer)
        return o->tokenizer;
    return n > 5 && strcmp(o->model + n - 5, ".gguf") == 0 ? o->model : "";
}

uint32_t bench_prompts(const struct bench_options *o)
{
    if (o->num_prompts > 0)
        return o->num_prompts;
    return o->duration > 0 ? UINT32_MAX : NUM_PROMPTS_DEFAULT;
}

struct arrivals_spec bench_arrivals(const struct bench_options *o, double rate)
{
    return (struct arrivals_spec){.rate = rate,
                                  .burstiness = bench_number(o->burstiness),
                                  .ramp = (enum ramp)o->ramp_up_strategy,
                                  .ramp_from = o->ramp_up_start_rps,
                                  .ramp_to = o->ramp_up_end_rps,
                                  .ramp_count = bench_prompts(o)};
}

struct targets bench_targets(const struct bench_options *o)
{
    struct targets t;

    targets_parse(&t, o->goodput, NULL);
    return t;
}

int bench_positional(struct bench_options *o, const struct option_args *rest, struct err *e)
{
    for (int i = 0; i < rest->n; i++) {
        struct targets t;
        char *joined;
        size_t n = strlen(o->goodput) + strlen(rest->argv[i]) + 2;

        if (!*o->goodput)
            return err_set(e, ERR_ARG, "\"%s\" is not an option; tandem-bench --help lists them",
                           rest->argv[i]);
        if (targets_parse(&t, rest->argv[i], e))
            return e ? e->code : ERR_CONFIG;
        joined = mem_alloc(n);
        snprintf(joined, n, "%s %s", o->goodput, rest->argv[i]);
        mem_free(o->goodput);
        o->goodput = joined;
    }
    return ERR_OK;
}

static int check_prompts(const struct bench_options *o, struct err *e)
{
    if (o->dataset_name != DATASET_RANDOM && !*o->dataset_path)
        return err_set(e, ERR_CONFIG, "--dataset-name %s needs --dataset-path",
                       dataset_names[o->dataset_name]);
    if (bench_exact(o) && !*bench_tokenizer(o) && o->vocab_size == 0)
        return err_set(e, ERR_CONFIG,
                       "prompts of exact length need --tokenizer FILE.gguf (text) or --vocab-size "
                       "(token ids)");
    if (bench_exact(o) && !*bench_tokenizer(o) && (o->turns > 1 || o->backend == BACKEND_CHAT))
        return err_set(e, ERR_CONFIG, "chats are text: give --tokenizer FILE.gguf");
    if (bench_trace(o) && o->turns > 1)
        return err_set(e, ERR_CONFIG, "a trace has no turns: --turns is for other datasets");
    return ERR_OK;
}

static int check_load(const struct bench_options *o, struct err *e)
{
    bool rate = isfinite(bench_number(o->request_rate));

    if (o->ramp_up_strategy != RAMP_NONE && (o->ramp_up_start_rps <= 0 || o->ramp_up_end_rps <= 0))
        return err_set(e, ERR_CONFIG,
                       "a ramp needs --ramp-up-start-rps and --ramp-up-end-rps, both above 0");
    if (o->ramp_up_strategy != RAMP_NONE && (rate || bench_prompts(o) == UINT32_MAX))
        return err_set(e, ERR_CONFIG,
                       rate ? "--request-rate and --ramp-up-strategy exclude each other"
                            : "a ramp goes over the prompts: give --num-prompts");
    if (!bench_open_loop(o) && o->max_concurrency == 0 && bench_prompts(o) == UINT32_MAX)
        return err_set(e, ERR_CONFIG,
                       "--duration alone would send without end: give --max-concurrency, "
                       "--request-rate or --num-prompts");
    if (*o->before && !o->find_goodput)
        return err_set(e, ERR_CONFIG, "--before is shown beside a search: add --find-goodput");
    if (o->find_goodput && !*o->goodput)
        return err_set(e, ERR_CONFIG, "--find-goodput needs --goodput \"ttft:MS tpot:MS\"");
    if (o->scenario == SCENARIO_SERVER && (!rate || !*o->goodput))
        return err_set(e, ERR_CONFIG, "--scenario server needs --request-rate and --goodput");
    if (o->scenario == SCENARIO_OFFLINE && bench_open_loop(o))
        return err_set(e, ERR_CONFIG,
                       "--scenario offline sends all at once: it has no request rate");
    if ((*o->against != 0) + (*o->sweep != 0) + o->find_goodput + (*o->kill || *o->stop) > 1)
        return err_set(
            e, ERR_CONFIG,
            "--against, --sweep, --find-goodput and --kill or --stop exclude each other");
    if ((*o->against || *o->kill || *o->stop) && bench_prompts(o) == UINT32_MAX)
        return err_set(e, ERR_CONFIG, "runs that are compared need --num-prompts");
    return ERR_OK;
}

/* A list of numbers with commas, each within the bounds. */
static int check_list(const char *key, const char *text, double min, double max, struct err *e)
{
    while (*text) {
        size_t n = strcspn(text, ",");
        char *end;
        double x = strtod(text, &end);

        if (end != text + n || n == 0 || !(x >= min && x <= max))
            return err_set(e, ERR_CONFIG, "--%s: \"%.*s\" is not a number from %g to %g", key,
                           (int)n, text, min, max);
        text += n + (text[n] == ',');
    }
    return ERR_OK;
}

static int check_names(const char *text, struct err *e)
{
    while (*text) {
        size_t n = strcspn(text, ",");

        if (metric_find(text, n) == METRIC_COUNT)
            return err_set(e, ERR_CONFIG,
                           "--percentile-metrics: \"%.*s\" is none of ttft, ttst, tpot, "
                           "itl, e2el",
                           (int)n, text);
        text += n + (text[n] == ',');
    }
    return ERR_OK;
}

static int check(const void *cfg, struct err *e)
{
    const struct bench_options *o = cfg;
    struct faults faults;
    struct targets t;
    int rc = targets_parse(&t, o->goodput, e);

    if (rc == ERR_OK)
        rc = check_prompts(o, e);
    if (rc == ERR_OK)
        rc = check_load(o, e);
    if (rc == ERR_OK)
        rc = check_list("sweep", o->sweep, 1e-6, 1e6, e);
    if (rc == ERR_OK)
        rc = check_list("metric-percentiles", o->metric_percentiles, 0, 100, e);
    if (rc == ERR_OK)
        rc = check_names(o->percentile_metrics, e);
    if (rc == ERR_OK)
        rc = faults_parse(&faults, o->kill, o->stop, e);
    return rc;
}

const struct option_table bench_option_table = {
    .program = "tandem-bench",
    .usage = "[NAME:MS...]",
    .summary =
        "Loads OpenAI servers and says how long clients wait and how much is delivered.\n"
        "TTFT: start to first output. TTST: first to second. TPOT: (last - first output) / "
        "(output\n"
        "tokens - 1), of a request. ITL: gaps between outputs, of all requests. E2EL: start to "
        "end.\n"
        "Start is when a request was sent; in an open loop, when it was due, sent late or not.\n"
        "Percentile p is the smallest value that p % of the values do not exceed.\n"
        "`tandem-bench engine` measures the engine of this machine alone,\n"
        "`tandem-bench compare A.json B.json` two results",
    .options = bench_option_list,
    .n = ARRAY_LEN(bench_option_list),
    .check = check,
};
