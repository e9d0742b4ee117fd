/* options: what tandem-bench can be told. Plain data, filled at start and only read afterwards. */
#ifndef TANDEM_BENCH_OPTIONS_H
#define TANDEM_BENCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "config/option.h"

enum bench_ignore_eos { IGNORE_EOS_AUTO, IGNORE_EOS_YES, IGNORE_EOS_NO };

struct bench_options {
    char *url;          /* of the OpenAI server */
    char *native;       /* ZeroMQ endpoint; "" for HTTP */
    char *served_model; /* the name in requests; "": the first that /v1/models lists */
    char *prompts;      /* file; "": synthetic */
    char *model;        /* GGUF whose tokenizer makes synthetic text; "": random token ids */
    uint32_t prompt_tokens, vocab;
    uint32_t max_tokens;
    double temperature;
    int ignore_eos; /* enum bench_ignore_eos */
    uint32_t concurrency;
    double rate; /* requests/s; 0: closed loop */
    uint32_t requests;
    double duration; /* s; 0: no limit */
    uint32_t warmup;
    double timeout; /* s */
    uint64_t seed;
    char *json; /* file; "": none, "-": stdout */
};

extern const struct option_table bench_option_table;

bool bench_ignore_eos(const struct bench_options *o);

/* How many requests at most: --requests, or REQUESTS_DEFAULT without --duration, or no limit. */
#define REQUESTS_DEFAULT 100
uint32_t bench_requests(const struct bench_options *o);

#endif
