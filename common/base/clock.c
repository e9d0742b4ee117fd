#include "base/clock.h"

#include <time.h>

int64_t clock_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * CLOCK_S + ts.tv_nsec;
}
