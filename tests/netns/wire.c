/* wire: a piece of Ethernet between two interfaces that is slow in getting there: every frame goes out at
 * the other end DELAY ms later, or with a chance of LOSS % never. For kernels without netem.
 * usage: tandem-wire IFACE IFACE DELAY_MS [LOSS_PERCENT]
 * Raw packet sockets with the kernel's own header of what is left to do for a frame (checksums,
 * segmentation), so that veth's large frames pass as they are. Ends when it is killed. One thread. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"

#define FRAME_MAX (66u << 10) /* a segment of 64 KiB that veth did not cut, and headers */
#define QUEUE_MAX 8192        /* frames under way in one direction; more are lost, as in any queue */

struct frame {
    int64_t due;
    size_t n;
    uint8_t *bytes; /* owned */
};

/* One direction. */
struct lane {
    int from, to;
    struct frame queue[QUEUE_MAX];
    size_t head, n;
};

static int64_t delay_ns;
static double loss;
static struct lane lanes[2];

static int fail(const char *what)
{
    fprintf(stderr, "tandem-wire: %s: %s\n", what, strerror(errno));
    return 1;
}

/* Every frame that comes in there, and only those: ours go out. */
static int iface_open(const char *name)
{
    struct sockaddr_ll a = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL),
                            .sll_ifindex = (int)if_nametoindex(name)};
    struct packet_mreq all = {.mr_ifindex = a.sll_ifindex, .mr_type = PACKET_MR_PROMISC};
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), yes = 1, buffer = 8 << 20;

    if (fd < 0 || !a.sll_ifindex ||
        setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &yes, sizeof(yes)) != 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof(yes)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof(buffer)) != 0 ||
        bind(fd, (struct sockaddr *)&a, sizeof(a)) != 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof(all)) != 0)
        return -1;
    return fd;
}

static void lane_take(struct lane *l, int64_t now)
{
    static uint8_t bytes[FRAME_MAX];
    static uint64_t seen;

    for (;;) {
        ssize_t n = recv(l->from, bytes, sizeof(bytes), MSG_DONTWAIT);

        if (n <= 0)
            return;
        if (rng_f64(1, seen++) < loss || l->n == QUEUE_MAX)
            continue;
        l->queue[(l->head + l->n++) % QUEUE_MAX] =
            (struct frame){now + delay_ns, (size_t)n, mem_dup(bytes, (size_t)n)};
    }
}

/* Sends what is due; the time of what comes next, or INT64_MAX. */
static int64_t lane_give(struct lane *l, int64_t now)
{
    while (l->n && l->queue[l->head].due <= now) {
        struct frame *f = &l->queue[l->head];

        if (send(l->to, f->bytes, f->n, 0) < 0 && errno == EINTR)
            continue; /* any other failure is the loss of a frame */
        mem_free(f->bytes);
        l->head = (l->head + 1) % QUEUE_MAX;
        l->n--;
    }
    return l->n ? l->queue[l->head].due : INT64_MAX;
}

int main(int argc, char **argv)
{
    struct pollfd p[2];
    int64_t next, now;

    if (argc != 4 && argc != 5) {
        fputs("usage: tandem-wire IFACE IFACE DELAY_MS [LOSS_PERCENT]\n", stderr);
        return 2;
    }
    delay_ns = (int64_t)(atof(argv[3]) * CLOCK_MS);
    loss = argc == 5 ? atof(argv[4]) / 100 : 0;
    for (int i = 0; i < 2; i++) {
        int fd = iface_open(argv[1 + i]);

        if (fd < 0)
            return fail(argv[1 + i]);
        p[i] = (struct pollfd){.fd = fd, .events = POLLIN};
        lanes[i].from = fd;
        lanes[1 - i].to = fd;
    }
    for (;;) {
        now = clock_now();
        next = INT64_MAX;
        for (int i = 0; i < 2; i++) {
            int64_t due;

            lane_take(&lanes[i], now);
            due = lane_give(&lanes[i], now);
            next = due < next ? due : next;
        }
        /* whole milliseconds, rounded up: a frame is late by less than one */
        if (poll(p, 2, next == INT64_MAX ? -1 : (int)((next - now + CLOCK_MS - 1) / CLOCK_MS)) < 0 &&
            errno != EINTR)
            return fail("poll");
    }
}
