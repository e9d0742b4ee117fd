#include "host/share.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "tests/lib/test.h"

#define BYTES ((size_t)300 << 10)
#define NOBODY 65534 /* a user other than root */

/* A child that has memory to share, and files that are none. */
struct other {
    pid_t pid;
    struct share_offer offer; /* of memory that it filled with 0x5a */
    struct share_offer plain, fifo, device, unsealed;
    struct share_offer foreign; /* memory of another user; none: only root can make that */
};

static int plain_file(void)
{
    char path[] = "/tmp/tandem-test-XXXXXX";
    int fd = mkstemp(path);

    if (fd < 0 || unlink(path) || ftruncate(fd, 4096))
        _exit(2);
    return fd;
}

static int unsealed_file(void)
{
    int fd = memfd_create("test", MFD_ALLOW_SEALING);

    if (fd < 0 || ftruncate(fd, 4096) || fcntl(fd, F_ADD_SEALS, F_SEAL_GROW))
        _exit(2);
    return fd;
}

static void other_run(int answer)
{
    struct other o = {0};
    struct mem_map m, theirs;
    int fd, foreign, ends[2];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (mem_map_open_shared(&m, &fd, BYTES, false, NULL) || pipe(ends))
        _exit(1);
    memset(m.data, 0x5a, BYTES);
    share_offer(&o.offer, fd);
    share_offer(&o.plain, plain_file());
    share_offer(&o.fifo, ends[0]);
    share_offer(&o.device, open("/dev/zero", O_RDONLY));
    share_offer(&o.unsealed, unsealed_file());
    if (mem_map_open_shared(&theirs, &foreign, BYTES, false, NULL))
        _exit(3);
    if (fchown(foreign, NOBODY, (gid_t)-1) == 0)
        share_offer(&o.foreign, foreign);
    o.pid = getpid();
    if (write(answer, &o, sizeof(o)) != (ssize_t)sizeof(o))
        _exit(1);
    for (;;)
        pause();
}

static void other_open(struct other *o)
{
    int fd[2];
    pid_t pid;

    assert_int_equal(pipe(fd), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        other_run(fd[1]);
    close(fd[1]);
    assert_int_equal(read(fd[0], o, sizeof(*o)), sizeof(*o));
    assert_int_equal(o->pid, pid);
    close(fd[0]);
}

static void other_kill(const struct other *o)
{
    kill(o->pid, SIGKILL);
    waitpid(o->pid, NULL, 0);
}

/* Where the system lets nobody look at anybody, there is nothing to test. */
static void other_open_mappable(struct other *o)
{
    struct share_map m;

    other_open(o);
    if (share_open(&m, &o->offer, NULL)) {
        other_kill(o);
        skip();
    }
    share_close(&m);
}

static void what_another_process_shares_is_mapped_and_outlives_it(void **state)
{
    struct share_map m;
    struct other o;

    (void)state;
    other_open_mappable(&o);
    assert_int_equal(share_open(&m, &o.offer, NULL), 0);
    assert_true(share_same(&m, &o.offer));
    assert_false(share_same(&m, &o.plain));
    assert_true(share_lives(&m));
    for (int killed = 0; killed < 2; killed++) {
        for (size_t i = 0; i < BYTES; i++)
            assert_int_equal(m.data[i], 0x5a);
        if (!killed)
            other_kill(&o);
    }
    assert_false(share_lives(&m));
    share_close(&m);
    assert_null(m.data);
    share_close(&m);
}

static void it_is_mapped_to_be_read(void **state)
{
    struct share_map m;
    struct other o;
    int status;
    pid_t pid;

    (void)state;
    other_open_mappable(&o);
    assert_int_equal(share_open(&m, &o.offer, NULL), 0);
    pid = fork();
    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL); /* cmocka and sanitizers have handlers */
        *(volatile uint8_t *)m.data = 1;
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    share_close(&m);
    other_kill(&o);
}

static void refused(const struct share_offer *offer, const char *why)
{
    struct share_map m = {.data = (const uint8_t *)""};
    struct err e = {0};

    assert_int_equal(share_open(&m, offer, &e), ERR_UNSUPPORTED);
    if (!strstr(e.text, why))
        fail_msg("\"%s\" does not say \"%s\"", e.text, why);
    assert_null(m.data);
}

#define LIE(field, value, why)                                                                     \
    do {                                                                                           \
        struct share_offer lie = o.offer;                                                          \
                                                                                                   \
        lie.field = (value);                                                                       \
        refused(&lie, why);                                                                        \
    } while (0)

static void an_offer_that_does_not_hold_is_refused(void **state)
{
    struct share_offer none;
    struct other o;

    (void)state;
    other_open_mappable(&o);
    share_offer(&none, -1);
    refused(&none, "no offer");
    LIE(host, o.offer.host + 1, "another machine");
    LIE(pid, (uint32_t)getpid(), "of process");
    LIE(pid, INT32_MAX, "cannot be opened: No such file");
    LIE(fd, o.plain.fd, "not the memory that it was said to be");
    LIE(fd, 1000000, "cannot be opened: No such file");
    LIE(dev, o.offer.dev + 1, "not the memory");
    LIE(ino, o.offer.ino + 1, "not the memory");
    LIE(size, o.offer.size - 4096, "not the memory");
    LIE(size, o.offer.size + 4096, "not the memory");
    LIE(size, 0, "not the memory");
    other_kill(&o);
    refused(&o.offer, "cannot be opened");
}

/* Offers that are true, of what is not to be mapped. A fifo is not even opened: that would wait for ever. */
static void what_is_no_sealed_memory_is_refused(void **state)
{
    struct other o;

    (void)state;
    other_open_mappable(&o);
    refused(&o.plain, "may shrink");
    refused(&o.unsealed, "may shrink");
    refused(&o.fifo, "not the memory");
    refused(&o.device, "not the memory");
    other_kill(&o);
}

/* Root may look at all, and yet maps only what is root's. */
static void what_another_user_has_is_refused(void **state)
{
    struct other o;

    (void)state;
    other_open_mappable(&o);
    if (!o.foreign.host) {
        other_kill(&o);
        skip();
    }
    refused(&o.foreign, "is another user's");
    other_kill(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_another_process_shares_is_mapped_and_outlives_it),
        cmocka_unit_test(it_is_mapped_to_be_read),
        cmocka_unit_test(an_offer_that_does_not_hold_is_refused),
        cmocka_unit_test(what_is_no_sealed_memory_is_refused),
        cmocka_unit_test(what_another_user_has_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
