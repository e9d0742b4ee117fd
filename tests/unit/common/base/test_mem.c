#include "base/mem.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_size_0_is_a_pointer_too(void **state)
{
    void *p[] = {mem_alloc(0),     mem_zalloc(0),  mem_calloc(0, 8),
                 mem_calloc(8, 0), mem_dup("", 0), mem_aligned(0, 64)};

    (void)state;
    for (size_t i = 0; i < sizeof(p) / sizeof(p[0]); i++) {
        assert_non_null(p[i]);
        mem_free(p[i]);
    }
    mem_free(NULL);
}

static void test_cleared_where_promised(void **state)
{
    static const char zeros[4096];
    char *p = mem_zalloc(sizeof(zeros)), *q = mem_calloc(64, 64);

    (void)state;
    assert_memory_equal(p, zeros, sizeof(zeros));
    assert_memory_equal(q, zeros, sizeof(zeros));
    mem_free(p);
    mem_free(q);
}

static void test_copies_are_their_own(void **state)
{
    char text[] = "one two";
    char *whole = mem_strdup(text), *part = mem_strndup(text, 3), *bytes = mem_dup(text, 3);

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    assert_string_equal(whole, "one two");
    assert_string_equal(part, "one");
    assert_memory_equal(bytes, "one", 3);
    whole = mem_realloc(whole, 4096);
    assert_string_equal(whole, "one two");
    mem_free(whole);
    mem_free(part);
    mem_free(bytes);
}

static void test_alignment(void **state)
{
    (void)state;
    for (size_t align = sizeof(void *); align <= 4096; align *= 2) {
        void *p = mem_aligned(100, align);

        assert_int_equal((uintptr_t)p % align, 0);
        memset(p, 1, 100);
        mem_free(p);
    }
}

static void test_maps_are_cleared_and_page_aligned(void **state)
{
    struct mem_map m;
    char *p;

    (void)state;
    for (int huge = 0; huge < 2; huge++) {
        assert_int_equal(mem_map_open(&m, 5000, huge, NULL), 0);
        assert_int_equal(m.size, 8192);
        assert_int_equal((uintptr_t)m.data % 4096, 0);
        p = m.data;
        assert_true(p[0] == 0 && p[8191] == 0);
        p[8191] = 1;
        mem_map_close(&m);
        assert_null(m.data);
        mem_map_close(&m);
    }
}

/* Advice changes no byte, and is refused only where it was ordered. */
static void test_huge_pages_are_advice(void **state)
{
    struct mem_map m;
    struct err e;
    int rc;

    (void)state;
    assert_int_equal(mem_map_open(&m, 4 << 20, false, NULL), 0);
    assert_int_equal(mem_map_huge(m.data, m.size, MEM_HUGE_AUTO, NULL), 0);
    assert_int_equal(mem_map_huge(m.data, m.size, MEM_HUGE_OFF, NULL), 0);
    rc = mem_map_huge(m.data, m.size, MEM_HUGE_ON, &e);
    if (rc) { /* as this machine is set up */
        assert_int_equal(rc, ERR_UNSUPPORTED);
        assert_non_null(strstr(e.text, "transparent_hugepage"));
    }
    assert_int_equal(((char *)m.data)[(4 << 20) - 1], 0);
    mem_map_close(&m);
}

static void test_a_map_the_system_refuses_is_an_error(void **state)
{
    struct mem_map m;
    struct err e;

    (void)state;
    assert_int_equal(mem_map_open(&m, (size_t)1 << 60, false, &e), ERR_MEMORY);
    assert_string_equal(e.text, "the system refuses 1099511627776 MiB of memory");
    assert_null(m.data);
    mem_map_close(&m);
}

static void test_a_shared_map_is_a_sealed_file(void **state)
{
    struct mem_map m;
    uint8_t byte = 0;
    int fd;

    (void)state;
    assert_int_equal(mem_map_open_shared(&m, &fd, 5000, true, NULL), 0);
    assert_int_equal(m.size, 8192);
    assert_int_equal(((uint8_t *)m.data)[8191], 0);
    assert_int_equal(lseek(fd, 0, SEEK_END), 8192);
    assert_int_equal(ftruncate(fd, 4096), -1);
    assert_int_equal(ftruncate(fd, 12288), -1);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1); /* nobody stops us from writing */
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    ((uint8_t *)m.data)[8191] = 7;
    assert_int_equal(pread(fd, &byte, 1, 8191), 1);
    assert_int_equal(byte, 7);
    mem_map_close(&m);
    close(fd);
}

/* In a child, for a limit once lowered does not rise again. */
static void test_a_shared_map_the_system_refuses_is_an_error(void **state)
{
    struct rlimit small = {4096, 4096};
    struct mem_map m;
    struct err e;
    int fd, status;
    pid_t pid;

    (void)state;
    assert_int_equal(mem_map_open_shared(&m, &fd, (size_t)1 << 60, false, &e), ERR_MEMORY);
    assert_int_equal(fd, -1);
    assert_null(m.data);
    pid = fork();
    if (pid == 0) {
        bool over = !setrlimit(RLIMIT_FSIZE, &small) &&
                    mem_map_open_shared(&m, &fd, 8192, false, &e) == ERR_MEMORY &&
                    strstr(e.text, "ulimit -f") && fd == -1;

        _exit(over ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0); /* no SIGXFSZ */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_size_0_is_a_pointer_too),
        cmocka_unit_test(test_cleared_where_promised),
        cmocka_unit_test(test_copies_are_their_own),
        cmocka_unit_test(test_alignment),
        cmocka_unit_test(test_maps_are_cleared_and_page_aligned),
        cmocka_unit_test(test_huge_pages_are_advice),
        cmocka_unit_test(test_a_map_the_system_refuses_is_an_error),
        cmocka_unit_test(test_a_shared_map_is_a_sealed_file),
        cmocka_unit_test(test_a_shared_map_the_system_refuses_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
