/* cost: how long a node will take, from the rooflines that it registered, corrected by what is seen.
 * Pure: the owner says what time it is. Seconds throughout.
 *
 *   a prompt token      token_s = flops_token / (PEAK * flops_s) * prompt_x
 *   a decode step       step_s  = (weight_bytes + kv_tokens * kv_token_bytes) / read_bytes_s * step_x
 *                                 + rows * row_s * step_x
 *   each of its rows    row_s   = flops_token / (PEAK * flops_s) + ROW * weight_bytes / read_bytes_s
 *
 * The corrections prompt_x and step_x are observed over predicted, smoothed by the weight of each
 * observation, kept within COST_X_MAX either way, and fade to 1 with COST_FADE_NS half-life when
 * nothing is seen: a node that was slow for a while gets its chance again. What a node left 0 in
 * REGISTER is replaced by the COST_UNKNOWN_ values, which are those of a slow machine. */
#ifndef TANDEM_ROUTER_COST_H
#define TANDEM_ROUTER_COST_H

#include <stdbool.h>
#include <stdint.h>

#include "net/msg.h"

#define COST_PEAK 0.5                       /* of the measured peak that a matrix product reaches */
#define COST_ROW (1.0 / 32)                 /* of a step: attention, sampling, sending */
#define COST_X_MAX 64.0                     /* a model of a few MB is all overhead */
#define COST_FADE_NS (3 * (int64_t)1000000000) /* a busy node is seen four times a second */
#define COST_UNKNOWN_WEIGHTS 4e9            /* bytes: 7 B parameters in 4 bits */
#define COST_UNKNOWN_KV 131072.0            /* bytes a token: 32 layers, 8 heads of 128, f16 */
#define COST_UNKNOWN_FLOPS 14e9             /* a token */
#define COST_UNKNOWN_READ 10e9              /* bytes/s: one channel */
#define COST_UNKNOWN_FLOPS_S 200e9

struct cost_model {
    double weight_bytes, kv_token_bytes, flops_token, read_bytes_s, flops_s; /* none is 0 */
    bool known; /* measured by the node itself */
    double prompt_x, step_x;
    int64_t prompt_seen, step_seen; /* when */
};

/* What the model says of a node at one moment. */
struct cost_rates {
    double token_s;    /* computing one prompt token */
    double step_s;     /* a decode step of no rows: the weights */
    double step_row_s; /* what each row adds to a step */
    double step_kv_s;  /* what each token of KV adds to a step */
    double kv_token_bytes;
    bool known;
};

void cost_model_init(struct cost_model *m, const struct msg_register *reg);
/* Two nodes that are alike, halves of one machine: what either measured both can, for others on the machine
 * make a measurement too low and never too high. One that is too low would never be corrected: a node
 * that seems slow gets no work, and nothing is seen of it. */
void cost_model_level(struct cost_model *a, struct cost_model *b);
struct cost_rates cost_rates(const struct cost_model *m, int64_t now);

/* A step of `rows` sequences that have kv_tokens tokens together. */
double cost_step_s(const struct cost_rates *r, double rows, double kv_tokens);

/* `tokens` prompt tokens were computed in ns. Nothing if either is 0. */
void cost_saw_prompt(struct cost_model *m, uint64_t tokens, int64_t ns, int64_t now);
/* Steps of about that many rows and tokens of KV take step_ns. */
void cost_saw_step(struct cost_model *m, double rows, double kv_tokens, int64_t step_ns,
                   int64_t now);

#endif
