/* process: what the client is on its machine. */
#ifndef TANDEM_BENCH_PROCESS_H
#define TANDEM_BENCH_PROCESS_H

#include <stdbool.h>

/* Puts this thread before all others, or back. A client that waits for a processor behind the server's
 * threads measures its own wait: 15 ms an event on two busy cores, 0.5 ms so. Without the right to
 * (CAP_SYS_NICE) it stays as it is, and the loop's lag tells. */
void process_realtime(bool on);

/* Processor time of this process so far. */
double process_cpu_s(void);

/* As many descriptors as the system lets us have: a connection a request. */
void process_descriptors_raise(void);

#endif
