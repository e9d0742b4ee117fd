#include "host/peek.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "tests/lib/test.h"

#define BYTES ((size_t)300 << 10)

static uint64_t probe = 0x1234567890abcdef;

/* A child, whose memory is ours as it was but for what it writes into `bytes`. */
struct other {
    pid_t pid;
    uint8_t *bytes; /* [BYTES], at the same place in both; then a page that neither has */
    struct peek_offer offer;
};

static void other_open(struct other *o, uint8_t fill)
{
    int fd[2];

    assert_int_equal(pipe(fd), 0);
    o->bytes = mmap(NULL, BYTES + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(o->bytes != MAP_FAILED);
    assert_int_equal(munmap(o->bytes + BYTES, 4096), 0);
    o->pid = fork();
    assert_true(o->pid >= 0);
    if (o->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        memset(o->bytes, fill, BYTES);
        peek_allow(&o->offer, &probe);
        if (write(fd[1], &o->offer, sizeof(o->offer)) != (ssize_t)sizeof(o->offer))
            _exit(1);
        for (;;)
            pause();
    }
    assert_int_equal(read(fd[0], &o->offer, sizeof(o->offer)), sizeof(o->offer));
    close(fd[0]);
    close(fd[1]);
}

static void other_kill(const struct other *o)
{
    kill(o->pid, SIGKILL);
    waitpid(o->pid, NULL, 0);
}

static void other_close(struct other *o)
{
    other_kill(o);
    munmap(o->bytes, BYTES);
}

/* Where the system lets nobody read anybody, there is nothing to test. */
static void other_open_readable(struct other *o, uint8_t fill)
{
    other_open(o, fill);
    if (!peek_try(&o->offer, NULL))
        return;
    other_close(o);
    skip();
}

static void what_another_process_has_is_read(void **state)
{
    uint8_t *got = mem_zalloc(BYTES);
    struct other o;

    (void)state;
    other_open_readable(&o, 0x5a);
    assert_int_equal(o.offer.pid, o.pid);
    assert_int_equal(o.bytes[0], 0); /* ours is another */
    assert_int_equal(peek_read(got, o.offer.pid, (uintptr_t)o.bytes, BYTES, NULL), 0);
    for (size_t i = 0; i < BYTES; i++)
        assert_int_equal(got[i], 0x5a);
    other_close(&o);
    mem_free(got);
}

static void what_is_not_there_is_an_error(void **state)
{
    uint8_t got[128];
    struct other o;
    struct err e = {0};

    (void)state;
    other_open_readable(&o, 1);
    assert_int_equal(peek_read(got, o.offer.pid, (uintptr_t)o.bytes + BYTES - 64, 128, &e), ERR_IO);
    assert_non_null(strstr(e.text, "64 of 128 bytes"));
    assert_int_equal(peek_read(got, o.offer.pid, 0, 128, &e), ERR_IO);
    assert_non_null(strstr(e.text, "Bad address"));
    assert_int_equal(peek_read(got, o.offer.pid, UINT64_MAX - 63, 128, &e), ERR_IO);
    other_kill(&o);
    assert_int_equal(peek_read(got, o.offer.pid, (uintptr_t)o.bytes, 128, &e), ERR_IO);
    assert_non_null(strstr(e.text, "No such process"));
    other_close(&o);
}

static void an_offer_that_does_not_hold_is_refused(void **state)
{
    struct peek_offer wrong, none = {0};
    struct other o;
    struct err e = {0};

    (void)state;
    other_open_readable(&o, 1);
    assert_int_equal(peek_try(&none, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "no offer"));
    wrong = o.offer;
    wrong.host++;
    assert_int_equal(peek_try(&wrong, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "another machine"));
    wrong = o.offer;
    wrong.value++;
    assert_int_equal(peek_try(&wrong, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "has other bytes"));
    assert_null(strstr(e.text, "1234567890abcdef")); /* what it has is nobody's business */
    wrong = o.offer;
    wrong.at = 8;
    assert_int_equal(peek_try(&wrong, &e), ERR_UNSUPPORTED);
    other_close(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_another_process_has_is_read),
        cmocka_unit_test(what_is_not_there_is_an_error),
        cmocka_unit_test(an_offer_that_does_not_hold_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
