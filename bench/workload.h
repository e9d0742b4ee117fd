/* workload: item i of what is asked: its prompt, turn by turn, and how much is to be generated. All
 * is a function of the options and i, so that two servers, or two runs, get the same. Immutable
 * after open. */
#ifndef TANDEM_BENCH_WORKLOAD_H
#define TANDEM_BENCH_WORKLOAD_H

#include <stdint.h>

#include "base/err.h"
#include "bench/dataset.h"
#include "bench/options.h"
#include "bench/prompt.h"
#include "bench/synth.h"
#include "bench/trace.h"

/* A zeroed struct is closed. */
struct workload {
    const struct bench_options *options;
    struct synth synth;
    struct dataset dataset;
    struct trace trace;
};

/* Files named by the options are read here. options are borrowed until close. */
int workload_open(struct workload *w, const struct bench_options *o, struct err *e);
void workload_close(struct workload *w);

/* Turns of item i (prompts of a file are used round and round; a trace ends), at most --turns. */
uint32_t workload_turns(const struct workload *w, uint32_t i);

/* Tokens to generate in this turn. */
uint32_t workload_output(const struct workload *w, uint32_t i, uint32_t turn);

/* Adds what item i says in this turn: to an empty prompt if turn is 0, otherwise after the answer,
 * which the caller has added. ERR_UNSUPPORTED: no random text of that length. */
int workload_prompt(struct prompt *p, const struct workload *w, uint32_t i, uint32_t turn,
                    struct err *e);

#endif
