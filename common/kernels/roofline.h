/* roofline: what this machine can do at most, measured with a team: bytes read a second, and
 * multiply-adds a second of each unit that kernels use. Nothing here depends on a model.
 *
 * Loops multiply numbers without a pattern: of zeros a unit does a fifth more, as the clock rises.
 * The rates move with the clock, and with whoever shares a core or the memory: measure in the same
 * round as what is compared with them, and look at best and median. By the team's thread 0. */
#ifndef TANDEM_KERNELS_ROOFLINE_H
#define TANDEM_KERNELS_ROOFLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "host/cpu.h"
#include "host/team.h"

/* Bytes/s or operations/s; a multiply-add is two operations. */
enum roof {
    ROOF_READ,         /* large memory, all threads, each its own part */
    ROOF_READ_ONE,     /* the same by thread 0 alone */
    ROOF_F32,          /* the tier's fused multiply-add, on registers */
    ROOF_INT8,         /* the tier's exact int8 dot step, on registers: VNNI; maddubs, madd, add;
                        * SDOT; SMMLA */
    ROOF_AMX_BF16,     /* tiles, on registers */
    ROOF_AMX_BF16_L1,  /* with the loads of a 2 x 2 blocking, from L1: falls to a quarter when a
                        * neighbour works on the sibling hyper-thread, while ROOF_AMX_BF16 stays */
    ROOF_AMX_INT8,
    ROOF_AMX_INT8_L1,
    ROOF_COUNT
};

struct roof_rate {
    double best, median; /* of the rounds; 0: this machine or tier has no such unit */
};

struct roofline {
    enum cpu_tier tier;
    uint32_t threads, rounds;
    struct roof_rate rate[ROOF_COUNT];
};

/* What the read loops read if the caller has less: more than the caches of a few cores. */
#define ROOFLINE_MEMORY ((size_t)64 << 20)

const char *roof_name(enum roof what); /* "read", "amx_bf16", ... */

/* The unit that multiplies weights in this tier: tiles; int8 if weights are quantised; else f32. */
enum roof roof_of_matmul(enum cpu_tier tier, bool quantised);

/* One round, of about a millisecond: the rate, or 0. memory[bytes] is resident and read only by
 * ROOF_READ and ROOF_READ_ONE, a different part for each `round`; it is 64-byte aligned. */
double roofline_once(struct team *team, enum cpu_tier tier, enum roof what, const void *memory,
                     size_t bytes, uint32_t round);

/* Rounds of everything, until budget_ns have passed, but at least 3. memory[bytes] as above; if less
 * than ROOFLINE_MEMORY (or NULL), memory is mapped for the time of the call. */
void roofline_measure(struct roofline *r, struct team *team, enum cpu_tier tier, const void *memory,
                      size_t bytes, int64_t budget_ns);

/* Appends `read=12.3/10.9GB/s f32=...`: best/median of what there is. */
void roofline_text(struct str *out, const struct roofline *r);

#endif
