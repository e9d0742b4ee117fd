/* solve: `ratio: auto`. How a machine's cores are shared between prefill and decode so that neither
 * pool waits for the other, from what a core of this machine computes and reads, what the model
 * costs, and the lengths that are expected (`workload:` in cluster.yaml). The router corrects it
 * while serving, by what it sees. */
#ifndef TANDEM_DEPLOY_SOLVE_H
#define TANDEM_DEPLOY_SOLVE_H

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "host/cpu.h"
#include "host/ratio.h"
#include "model/hparams.h"

struct solve {
    struct ratio_cost cost; /* on one core */
    struct ratio_mix mix;
    struct ratio_times times;
    uint32_t prefill, decode; /* parts of the whole */
};

/* Arithmetic of one row through all layers, without attention and output: two operations for each
 * element of the matrices that a token passes. */
double solve_flops_token(const struct hparams *h);

/* Measures one core for some milliseconds: bytes read, and SOLVE_EFFICIENCY of the tier's peak. */
int solve_measure(struct ratio_cost *cost, enum cpu_tier tier, struct err *e);

/* Shares `units` (domains, or cores of a single one) by s->cost and s->mix; one unit cannot be shared
 * and stands for both. slots: sequences that a decode node runs at once. */
void solve_share(struct solve *s, uint32_t units, uint32_t slots);

/* Appends "ratio auto: 1:3 for prompts of ... ", a line. */
void solve_print(const struct solve *s, struct str *out);

#endif
