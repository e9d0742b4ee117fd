/* process: what a command writes, and how a child ends. */
#ifndef TANDEM_TESTS_PROCESS_H
#define TANDEM_TESTS_PROCESS_H

#include <sys/types.h>

#include "base/str.h"

enum process_output { PROCESS_OUT = 1, PROCESS_ERR = 2, PROCESS_BOTH = 3 };

/* Calls command(argc, argv) with these arguments, at most 16 and NULL at their end, and returns what it
 * does; *out is what it wrote there meanwhile. */
int process_capture(struct str *out, enum process_output from, int (*command)(int, char **),
                    const char *const *args);

/* Waits for a child of fork, which is to exit with 0; fails the running test else. */
void process_succeeds(pid_t pid);

#endif
