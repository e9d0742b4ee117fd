#include "daemon/end.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/rng.h"
#include "net/sock.h"

#define END_PATIENCE (2 * CLOCK_S) /* a router that cannot be reached so long is gone itself */
#define END_RETRY_NS (5 * CLOCK_MS)

static const char *const end_words[] = {",killed,", ",crashed,"};

static bool end_is_crash(int status)
{
    static const int raised[] = {SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE, SIGSYS, SIGTRAP};

    if (!WIFSIGNALED(status))
        return WEXITSTATUS(status) != 0;
    for (size_t i = 0; i < ARRAY_LEN(raised); i++)
        if (WTERMSIG(status) == raised[i])
            return true;
    return false;
}

void end_argument(struct str *out, int pid, int status)
{
    str_addf(out, "--tell_end=%d%s", pid, end_words[end_is_crash(status)]);
    if (WIFSIGNALED(status))
        str_addf(out, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        str_addf(out, "exit code %d", WEXITSTATUS(status));
}

/* Fills in m's pid, crashed and text. False: value is none of ours. */
static bool end_parse(struct msg_ended *m, const char *value)
{
    char *rest;
    long pid = strtol(value, &rest, 10);

    if (pid < 1 || pid > INT32_MAX)
        return false;
    m->pid = (int32_t)pid;
    for (size_t i = 0; i < ARRAY_LEN(end_words); i++) {
        size_t n = strlen(end_words[i]);

        if (strncmp(rest, end_words[i], n) != 0)
            continue;
        m->crashed = i;
        snprintf(m->text, sizeof(m->text), "%s", rest + n);
        return true;
    }
    return false;
}

const char *end_wrong(const char *value)
{
    struct msg_ended m;

    return !*value || end_parse(&m, value) ? NULL : "is not PID,crashed,TEXT or PID,killed,TEXT";
}

/* A connection takes a moment to make. */
static int end_send(struct sock *s, struct msg *m, struct err *e)
{
    const struct timespec pause = {.tv_nsec = END_RETRY_NS};
    int64_t until = clock_now() + END_PATIENCE;
    int rc;

    while ((rc = sock_send(s, NULL, m, e)) == ERR_BUSY && clock_now() < until) {
        sock_readable(s);
        nanosleep(&pause, NULL);
    }
    return rc == ERR_BUSY ? err_set(e, ERR_NET, "the router was not reached in %.0f ms",
                                    clock_ms(END_PATIENCE))
                          : rc;
}

int end_tell(const struct node_options *o, struct err *e)
{
    struct msg m = {.type = MSG_ENDED};
    char identity[PEER_ID_MAX];
    struct sock_options so = {.kind = SOCK_DEALER, .lane = SOCK_CONTROL, .identity = identity};
    struct sock_ctx *ctx = sock_ctx_new();
    struct sock *s = NULL;
    int rc;

    ASSERT(end_parse(&m.u.ended, o->tell_end)); /* end_wrong has seen it */
    snprintf(m.u.ended.cluster, sizeof(m.u.ended.cluster), "%s", o->common.cluster);
    snprintf(m.u.ended.name, sizeof(m.u.ended.name), "%s", o->common.name);
    if (gethostname(m.u.ended.host, sizeof(m.u.ended.host)))
        m.u.ended.host[0] = '\0';
    m.u.ended.host[sizeof(m.u.ended.host) - 1] = '\0';
    snprintf(identity, sizeof(identity), "%s#%016" PRIx64 ".end", o->common.name, rng_entropy());
    rc = sock_open(&s, ctx, &so, e);
    if (!rc)
        rc = sock_connect(s, o->router, e);
    if (!rc)
        rc = end_send(s, &m, e);
    msg_fini(&m);
    sock_close(&s);
    sock_ctx_free(&ctx);
    return rc;
}
