#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

const char *const log_level_names[LOG_LEVEL_COUNT] = {"error", "warn", "info", "debug"};
enum log_level log_level_max = LOG_INFO;
static char log_role[32] = "-";

void log_init(const char *role, enum log_level level)
{
    snprintf(log_role, sizeof(log_role), "%s", role);
    log_level_max = level;
}

void log_write(enum log_level level, const char *module, const char *fmt, ...)
{
    char line[1024]; /* longer lines are cut: a log line is for a person */
    struct timespec ts;
    struct tm tm;
    va_list ap;
    size_t n, room = sizeof(line) - 1; /* one byte kept for the newline */
    int k;

    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    n = strftime(line, room, "%Y-%m-%dT%H:%M:%S", &tm);
    k = snprintf(line + n, room - n, ".%03ldZ %s %s %s ", ts.tv_nsec / 1000000,
                 log_level_names[level], log_role, module);
    n += k > 0 ? (size_t)k : 0;
    if (n < room) {
        va_start(ap, fmt);
        k = vsnprintf(line + n, room - n, fmt, ap);
        va_end(ap);
        n += k > 0 ? (size_t)k : 0;
    }
    if (n >= room)
        n = room - 1;
    for (size_t i = 0; i < n; i++) { /* values come from files and peers: none may start a line */
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    }
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, n) < 0)
        return; /* nowhere left to say it */
}
