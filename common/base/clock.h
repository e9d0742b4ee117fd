/* clock: monotonic time in nanoseconds. Wall-clock time is for log lines only, so that a step of the
 * system clock expires no lease. State machines never call this: `now` is handed to them. */
#ifndef TANDEM_BASE_CLOCK_H
#define TANDEM_BASE_CLOCK_H

#include <stdint.h>

#define CLOCK_US ((int64_t)1000)
#define CLOCK_MS ((int64_t)1000000)
#define CLOCK_S ((int64_t)1000000000)

/* Nanoseconds since an arbitrary start; never goes back. Any thread. */
int64_t clock_now(void);

static inline double clock_ms(int64_t ns) { return (double)ns / 1e6; }
static inline double clock_s(int64_t ns) { return (double)ns / 1e9; }

#endif
