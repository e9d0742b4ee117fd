#include "bench/process.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>

#include "base/log.h"

void process_realtime(bool on)
{
    struct sched_param param = {.sched_priority = on ? 1 : 0};

    if (sched_setscheduler(0, on ? SCHED_RR : SCHED_OTHER, &param) != 0)
        log_debug("process", "no realtime priority: %s", strerror(errno));
}

double process_cpu_s(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

void process_descriptors_raise(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}
