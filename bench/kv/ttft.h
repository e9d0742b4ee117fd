/* ttft: what shipping KV adds to the time to the first token. A prefill node runs as a process, without a
 * prefix cache; the bench is its router and its decode node, which checks every page and puts it away.
 * Prompts whose KV is all shipped alternate with prompts of which only the last page is. On a machine that
 * others use, what computing takes differs by more from prompt to prompt than shipping adds; the
 * threads that ship, the network thread and those of ZeroMQ, are therefore told apart, too. */
#ifndef TANDEM_BENCH_KV_TTFT_H
#define TANDEM_BENCH_KV_TTFT_H

#include <stdint.h>

#include "base/err.h"

/* program: tandem-prefill. Runs `rounds` pairs of prompts of n tokens and prints a table. ERR_FORMAT if KV
 * came spoiled, ERR_PEER if the node failed a prompt, ERR_TIMEOUT, ERR_IO. */
int ttft_run(const char *program, const char *model, uint32_t n, uint32_t rounds, struct err *e);

#endif
