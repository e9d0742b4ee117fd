/* options: what tandem-bench can be told. Plain data, filled at start and only read afterwards. */
#ifndef TANDEM_BENCH_OPTIONS_H
#define TANDEM_BENCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/arrivals.h"
#include "bench/target.h"
#include "config/option.h"

enum bench_backend { BACKEND_OPENAI, BACKEND_VLLM, BACKEND_CHAT }; /* vllm: another word for openai */
enum bench_dataset {
    DATASET_RANDOM,
    DATASET_SHAREGPT,
    DATASET_CUSTOM,
    DATASET_TEXT,
    DATASET_MOONCAKE,
    DATASET_AZURE,
    DATASET_BURSTGPT
};
enum bench_scenario { SCENARIO_NONE, SCENARIO_OFFLINE, SCENARIO_SERVER };
enum bench_progress { PROGRESS_AUTO, PROGRESS_ON, PROGRESS_OFF };

struct bench_options {
    /* the server */
    char *base_url, *native, *keys, *endpoint, *header, *extra_body;
    bool insecure;
    int backend; /* enum bench_backend */
    char *model; /* name in requests, or FILE.gguf: then a tokenizer */
    char *served_model_name, *tokenizer;
    double ready_check_timeout_sec;
    /* the prompts */
    int dataset_name; /* enum bench_dataset */
    char *dataset_path;
    uint32_t random_input_len, random_output_len, random_prefix_len, vocab_size;
    double random_range_ratio;
    uint32_t output_len; /* 0: what the file says, or OUTPUT_LEN_DEFAULT */
    uint32_t turns;
    double think_time; /* s */
    bool ignore_eos;
    double temperature;
    uint64_t seed;
    int log_format; /* enum log_format */
    /* the load */
    uint32_t num_prompts; /* 0: until duration */
    double duration;      /* s; 0: no limit */
    uint32_t num_warmups;
    char *request_rate, *burstiness; /* numbers or "inf" */
    uint32_t max_concurrency;        /* 0: no limit */
    int ramp_up_strategy;            /* enum ramp */
    double ramp_up_start_rps, ramp_up_end_rps;
    double trace_scale;
    double request_cancellation_rate, request_cancellation_delay; /* %, s */
    double timeout;                                               /* s */
    /* more than one run */
    char *sweep;
    bool find_goodput;
    double goodput_share;
    char *before; /* result of an earlier search, to show beside this one */
    int scenario; /* enum bench_scenario */
    char *against;
    uint32_t rounds;
    char *kill, *stop;
    /* the report */
    char *goodput;
    double price_per_hour;
    char *roofline;
    char *percentile_metrics, *metric_percentiles;
    bool save_result, save_detailed;
    char *result_dir, *result_filename, *csv, *jsonl, *html, *trace;
    int progress; /* enum bench_progress */
};

extern const struct option_table bench_option_table;

#define NUM_PROMPTS_DEFAULT 100
#define OUTPUT_LEN_DEFAULT 64

/* "inf" or a number above 0, as option.h's `wrong` has checked. */
double bench_number(const char *text);

/* Whether requests come at times of their own, whatever the server does: a rate, ramp or trace. */
bool bench_open_loop(const struct bench_options *o);
bool bench_trace(const struct bench_options *o);

/* Lengths come from the data: outputs go on past the end of text. */
bool bench_exact(const struct bench_options *o);

/* How many prompts at most: --num-prompts, or the default without --duration, or no limit. */
uint32_t bench_prompts(const struct bench_options *o);

/* The GGUF whose vocabulary counts tokens; "" if none. */
const char *bench_tokenizer(const struct bench_options *o);

/* The arrivals of one run at `rate`; a ramp has its own. */
struct arrivals_spec bench_arrivals(const struct bench_options *o, double rate);

/* Appends a positional argument ("tpot:100", as in vLLM's --goodput ttft:500 tpot:100). ERR_ARG. */
int bench_positional(struct bench_options *o, const struct option_args *rest, struct err *e);

/* The targets of --goodput; n = 0 without. Checked by the table. */
struct targets bench_targets(const struct bench_options *o);

#endif
