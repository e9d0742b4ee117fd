/* tandem agent: the agent (agent.h) between stdin and stdout. Not for people: `tandem up` and the
 * others start it on each host. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "daemon/daemon.h"
#include "deploy/agent.h"
#include "deploy/commands.h"
#include "deploy/tunnel.h"

#define AGENT_READ (256u << 10)

static bool agent_flush(struct agent *a)
{
    struct str *out = agent_output(a);
    ssize_t n = out->len ? write(STDOUT_FILENO, out->data, out->len) : 0;

    if (n > 0)
        str_drop(out, (size_t)n);
    return n >= 0 || errno == EINTR || errno == EAGAIN;
}

/* Milliseconds until `when`, for poll. */
static int agent_timeout(int64_t when, int64_t now)
{
    if (when == INT64_MAX)
        return -1;
    return when <= now ? 0 : (int)size_min((size_t)((when - now) / CLOCK_MS + 1), 60000);
}

/* Until stdin ends, we are told to, or there is no going on. */
static void agent_serve(struct agent *a, int told_fd)
{
    static char buffer[AGENT_READ];

    while (!agent_ended(a) && agent_relay(a) < 0) {
        int64_t now = clock_now(), next = agent_work(a, now);
        struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                               {.fd = agent_output(a)->len ? STDOUT_FILENO : -1, .events = POLLOUT},
                               {.fd = agent_fd(a), .events = POLLIN},
                               {.fd = told_fd, .events = POLLIN}};
        ssize_t n;

        if (poll(fds, ARRAY_LEN(fds), agent_timeout(next, now)) < 0 && errno != EINTR)
            return;
        if (fds[3].revents || (fds[1].revents && !agent_flush(a)))
            return;
        if (!fds[0].revents)
            continue;
        n = read(STDIN_FILENO, buffer, sizeof(buffer));
        if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
            return;
        if (n > 0)
            agent_feed(a, buffer, (size_t)n);
    }
    while (agent_output(a)->len && agent_flush(a))
        ;
}

/* connect was asked for: stdin goes there, and what comes from there to stdout, until that ends. */
static void agent_carry(struct agent *a)
{
    size_t n;
    const char *first = agent_rest(a, &n);
    ssize_t put = n ? send(agent_relay(a), first, n, MSG_NOSIGNAL) : 0;

    if (put == (ssize_t)n)
        tunnel_carry(STDIN_FILENO, STDOUT_FILENO, agent_relay(a));
}

int cmd_agent(int argc, char **argv)
{
    struct agent *a;
    sigset_t told, set;
    int told_fd;

    (void)argv;
    if (argc > 1) {
        fprintf(stderr, "tandem agent: takes no arguments; `tandem up` starts it on each host\n");
        return EXIT_USAGE;
    }
    /* The end of the connection is what ends us, or SIGTERM; then we end what we started and had not
     * left, and so never half-way. */
    sigemptyset(&told);
    sigaddset(&told, SIGTERM);
    told_fd = signalfd(-1, &told, SFD_CLOEXEC);
    set = told;
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    if (told_fd < 0) {
        fprintf(stderr, "tandem agent: no signalfd: %s\n", strerror(errno));
        return EXIT_FAILED;
    }
    a = agent_new();
    agent_serve(a, told_fd);
    if (agent_relay(a) >= 0) { /* it has started nothing */
        sigprocmask(SIG_UNBLOCK, &told, NULL);
        agent_carry(a);
    }
    agent_free(&a);
    return EXIT_OK;
}
