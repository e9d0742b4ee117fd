#include "decode-node/pace.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/lib/test.h"

static int sndbuf; /* of the sockets that pace.c makes; 0: as the system has it */

/* Instead of libc's: net.core.wmem_default is the machine's. */
int socketpair(int domain, int type, int protocol, int fds[2])
{
    int rc = (int)syscall(SYS_socketpair, domain, type, protocol, fds);

    for (int i = 0; i < 2 && !rc && sndbuf; i++)
        assert_int_equal(setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof(sndbuf)), 0);
    return rc;
}

/* Of any type and shape, units of several frames and padding included. */
static void every_layout_has_a_pace(void **state)
{
    static const uint32_t shapes[][3] = {{1, 1, 8}, {3, 2, 40}, {2, 48, 128}, {22, 4, 64}};

    (void)state;
    for (int type = 0; type < KV_TYPE_COUNT; type++)
        for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
            struct kv_layout l;

            kv_layout_init(&l, (enum kv_type)type, shapes[i][0], shapes[i][1], shapes[i][2]);
            assert_true(pace_measure(&l, l.type) > 0);
        }
}

/* Nobody reads while we write: a machine with small buffers must not keep us waiting for ever. */
static void a_small_socket_buffer_has_a_pace_too(void **state)
{
    struct kv_layout l;

    (void)state;
    kv_layout_init(&l, KV_F16, 22, 4, 64);
    alarm(20);
    for (sndbuf = 1 << 15; sndbuf; sndbuf = sndbuf > 4096 ? sndbuf / 2 : 0)
        assert_true(pace_measure(&l, l.type) > 0);
    alarm(0);
}

/* Where not even a head fits into a frame nothing can come in, and nothing need be paced. */
static void what_fits_no_frame_has_none(void **state)
{
    struct kv_layout l;

    (void)state;
    kv_layout_init(&l, KV_F32, 1, 1, 4096);
    assert_int_equal(pace_measure(&l, KV_F32), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layout_has_a_pace),
        cmocka_unit_test(a_small_socket_buffer_has_a_pace_too),
        cmocka_unit_test(what_fits_no_frame_has_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
