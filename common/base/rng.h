/* rng: random numbers as a pure function of (key, counter), so that token i of a request gets the
 * same draw on every node and after every restart. Philox4x32-10: Salmon, Moraes, Dror, Shaw,
 * "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Any thread; no state. */
#ifndef TANDEM_BASE_RNG_H
#define TANDEM_BASE_RNG_H

#include <stdint.h>

/* out = Philox4x32-10 of the counter under the key. */
void rng_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

/* 64 random bits for (key, counter). */
uint64_t rng_u64(uint64_t key, uint64_t counter);

/* Uniform in [0, 1), 53 bits. */
double rng_f64(uint64_t key, uint64_t counter);

/* 64 bits from the system, to make a seed of. Not for the state machines. */
uint64_t rng_entropy(void);

#endif
