#include "bench/options.h"

#include "base/check.h"

static const char *const ignore_eos_names[] = {"auto", "yes", "no", NULL};

static const struct option bench_option_list[] = {
    OPTION(bench_options, url, STR, .def = "http://127.0.0.1:8000", .unit = "URL",
           .help = "OpenAI server: POST URL/v1/completions, streamed"),
    OPTION(bench_options, native, STR, .unit = "ENDPOINT",
           .help = "tandem's ZeroMQ endpoint for clients, instead of --url"),
    OPTION(bench_options, served_model, STR, .unit = "NAME",
           .help = "model named in requests; default: the first that /v1/models lists"),
    OPTION(bench_options, prompts, STR, .unit = "FILE",
           .help = "a prompt a line; in *.jsonl {\"prompt\": ...} a line"),
    OPTION(bench_options, prompt_tokens, U32, .max = 1 << 20,
           .help = "synthetic prompts of N tokens each, all different"),
    OPTION(bench_options, model, STR, .unit = "FILE",
           .help = "GGUF whose tokenizer makes synthetic text of exactly that many tokens"),
    OPTION(bench_options, vocab, U32, .max = 1 << 21,
           .help = "without --model: prompts are token ids below N"),
    OPTION(bench_options, max_tokens, U32, .def = "64", .min = 1, .max = 1 << 20,
           .help = "tokens to generate at most"),
    OPTION(bench_options, temperature, F64, .max = 100, .help = "0 is greedy"),
    OPTION(bench_options, ignore_eos, ENUM, .names = ignore_eos_names,
           .help = "generate on past the end of text; auto: if prompts are synthetic"),
    OPTION(bench_options, concurrency, U32, .def = "1", .min = 1, .max = 65536,
           .help = "closed loop: requests in flight, each followed by the next"),
    OPTION(bench_options, rate, F64, .max = 1e6, .unit = "PER_S",
           .help = "open loop: Poisson arrivals, whatever the server does; 0: closed loop"),
    OPTION(bench_options, requests, U32, .max = 100000000,
           .help = "how many; 0: until --duration has passed, without that 100"),
    OPTION(bench_options, duration, F64, .max = 1e6, .unit = "S",
           .help = "start no request after this time; 0: no limit"),
    OPTION(bench_options, warmup, U32, .max = 1000000,
           .help = "requests before the measurement, not counted"),
    OPTION(bench_options, timeout, F64, .def = "600", .min = 0.001, .max = 1e6, .unit = "S",
           .help = "a request that takes longer is given up and counted as failed"),
    OPTION(bench_options, seed, U64, .def = "1", .help = "of arrivals, prompts and sampling"),
    OPTION(bench_options, json, STR, .unit = "FILE", .help = "write the results there; - is stdout"),
};

static int check(const void *cfg, struct err *e)
{
    const struct bench_options *o = cfg;
    bool file = *o->prompts != '\0';

    if (file == (o->prompt_tokens > 0))
        return err_set(e, ERR_CONFIG, "%s: say where prompts come from",
                       file ? "--prompts and --prompt-tokens exclude each other"
                            : "neither --prompts nor --prompt-tokens");
    if (!file && !*o->model && o->vocab == 0)
        return err_set(e, ERR_CONFIG,
                       "--prompt-tokens needs --model (a tokenizer) or --vocab (how many token ids)");
    return ERR_OK;
}

const struct option_table bench_option_table = {
    .program = "tandem-bench",
    .summary = "Loads a server of language models and reports latency and throughput.\n"
               "TTFT: start to first output. TPOT: (last - first output) / (output tokens - 1), per\n"
               "request. ITL: gaps between outputs, of all requests. E2E: start to end. Start is when\n"
               "a request was sent; in an open loop, when it was due, sent late or not. Percentile p\n"
               "is the smallest value that p % of the values do not exceed. Throughput is of\n"
               "successful requests, over the time from the first start to the last end.\n"
               "`tandem-bench engine` measures the engine of this machine alone",
    .options = bench_option_list,
    .n = ARRAY_LEN(bench_option_list),
    .check = check,
};

bool bench_ignore_eos(const struct bench_options *o)
{
    return o->ignore_eos == IGNORE_EOS_YES ||
           (o->ignore_eos == IGNORE_EOS_AUTO && *o->prompts == '\0');
}

uint32_t bench_requests(const struct bench_options *o)
{
    if (o->requests > 0)
        return o->requests;
    return o->duration > 0 ? UINT32_MAX : REQUESTS_DEFAULT;
}
