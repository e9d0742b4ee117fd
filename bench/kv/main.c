/* bench_kv: what moving KV from a prefill node to a decode node costs, beside what the machine moves
 * anyway, in the same run.
 * usage: tandem-bench-kv [pages] [rounds] [layers heads head_dim]
 *        tandem-bench-kv ttft PROGRAM MODEL [tokens] [rounds]
 *        tandem-bench-kv ingest PROGRAM MODEL [tokens] [rounds]
 * The first: the steps and the ways (path.h). The default is 64 MiB in the shape of a model of 8
 * billion parameters. Every round runs all cases in turn; the best round of a case counts, for other
 * work on the machine only ever makes one slower. The second: what shipping adds to the first token of
 * a prefill node, which is PROGRAM (ttft.h). The third: what KV that comes in adds to the steps of a decode
 * node (ingest.h).
 * Exit code 1 if KV arrived other than it was sent. */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "bench/kv/ingest.h"
#include "bench/kv/path.h"
#include "bench/kv/times.h"
#include "bench/kv/ttft.h"
#include "kv/kv_wire.h"
#include "net/msg.h"

#define CASES_MAX 40

struct result {
    char name[64];
    size_t bytes;
    struct times times; /* one a round */
};

struct table {
    struct result rows[CASES_MAX];
    size_t n, next; /* next: of this round */
    size_t failed;
};

/* The row of this round's next case. */
static void table_add(struct table *t, const char *name, size_t bytes, int64_t ns)
{
    struct result *r = &t->rows[t->next++];

    ASSERT(t->next <= CASES_MAX);
    if (t->next > t->n) {
        t->n = t->next;
        snprintf(r->name, sizeof(r->name), "%s", name);
        r->bytes = bytes;
    }
    times_add(&r->times, ns);
}

/* Of the best round. */
static double result_gb_s(struct result *r) { return (double)r->bytes / times_best(&r->times) / 1e6; }

static struct result *table_find(struct table *t, const char *name)
{
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->rows[i].name, name) == 0)
            return &t->rows[i];
    return NULL;
}

/* As many bytes as the KV has, frame by frame, from memory to memory that no cache holds. */
static void bench_memcpy(struct table *t, const struct path *p)
{
    size_t bytes = p->layout.page_bytes * p->n_pages;
    int64_t start = clock_now();

    for (size_t i = 0; i < bytes; i += MSG_BULK_MAX)
        memcpy(p->to + i, p->from + i, size_min(MSG_BULK_MAX, bytes - i));
    table_add(t, "memcpy, 256 KiB at a time", bytes, clock_now() - start);
}

struct raw {
    int fd;
    const uint8_t *from;
    size_t bytes;
};

static void *raw_sender(void *arg)
{
    struct raw *r = arg;

    for (size_t i = 0; i < r->bytes;) {
        ssize_t n = write(r->fd, r->from + i, size_min(MSG_BULK_MAX, r->bytes - i));

        if (n <= 0)
            break;
        i += (size_t)n;
    }
    return NULL;
}

/* A connected pair over loopback. */
static bool tcp_pair(int fd[2])
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    bool good;

    fd[0] = socket(AF_INET, SOCK_STREAM, 0);
    good = bind(s, (struct sockaddr *)&a, n) == 0 && listen(s, 1) == 0 &&
           getsockname(s, (struct sockaddr *)&a, &n) == 0 &&
           connect(fd[0], (struct sockaddr *)&a, n) == 0 && (fd[1] = accept(s, NULL, NULL)) >= 0;
    close(s);
    return good;
}

/* The same bytes through a socket, another thread at the other end; no message, no checksum. */
static void bench_raw(struct table *t, const char *name, const struct path *p, const int fd[2])
{
    struct raw r = {fd[0], p->from, p->layout.page_bytes * p->n_pages};
    int64_t start = clock_now();
    pthread_t thread;

    if (pthread_create(&thread, NULL, raw_sender, &r) != 0)
        return;
    for (size_t i = 0; i < r.bytes;) {
        ssize_t n = read(fd[1], p->to + i, size_min(MSG_BULK_MAX, r.bytes - i));

        if (n <= 0)
            break;
        i += (size_t)n;
    }
    table_add(t, name, r.bytes, clock_now() - start);
    pthread_join(thread, NULL);
    t->failed += memcmp(p->from, p->to, r.bytes) != 0;
}

/* The steps alone, on this thread, a unit after the other as on the way: export, checksum, import. */
static void bench_steps(struct table *t, const struct path *p)
{
    uint8_t *frame = mem_aligned(MSG_BULK_MAX, 64);
    size_t n = kv_cut_count(&p->cut, p->n_pages * KV_PAGE_TOKENS), bytes = path_bytes(p);
    int64_t ns[3] = {0};
    uint64_t sum = 0;
    char name[64];

    for (size_t i = 0; i < n; i++) {
        struct kv_unit u = kv_cut_unit(&p->cut, i, p->n_pages * KV_PAGE_TOKENS);
        size_t at = u.page * p->layout.page_bytes;
        int64_t a = clock_now(), b, c;

        kv_wire_export(frame, p->layout.type, &p->layout, p->from + at, u.layer, u.head_first,
                       u.head_count, u.n_tokens);
        b = clock_now();
        sum ^= hash64(frame, kv_wire_bytes(&p->layout, p->layout.type, u.head_count, u.n_tokens), 0);
        c = clock_now();
        kv_wire_import(p->to + at, &p->layout, frame, p->layout.type, u.layer, u.head_first,
                       u.head_count, u.n_tokens);
        ns[0] += b - a;
        ns[1] += c - b;
        ns[2] += clock_now() - c;
    }
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof(name), "%s, %s", (const char *[]){"export", "checksum", "import"}[i],
                 kv_type_name(p->layout.type));
        table_add(t, name, bytes, ns[i]);
    }
    t->failed += path_differences(p) + (sum == 0);
    mem_free(frame);
}

static void bench_ways(struct table *t, struct path *p, bool convert)
{
    p->convert = convert;
    for (int way = 0; way < PATH_WAY_COUNT; way++) {
        struct err e;
        int64_t ns;
        char name[64];

        if (way == PATH_MAPPED && !kv_wire_whole(&p->layout, p->layout.type))
            continue; /* what must be converted has no place of its own */
        memset(p->to, 0, p->layout.page_bytes * p->n_pages);
        if (path_run(p, (enum path_way)way, &ns, &e)) {
            fprintf(stderr, "bench-kv: %s: %s\n", path_way_names[way], e.text);
            t->failed++;
            ns = INT64_MAX;
        }
        snprintf(name, sizeof(name), "%s, %s %s", path_way_names[way],
                 convert ? "all steps," : "frames only,", kv_type_name(p->layout.type));
        table_add(t, name, path_bytes(p), ns);
        if (convert)
            t->failed += path_differences(p);
    }
}

static void bench_round(struct table *t, struct path *paths, size_t n)
{
    int fd[2];

    t->next = 0;
    bench_memcpy(t, &paths[0]);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0) {
        bench_raw(t, "raw unix socket", &paths[0], fd);
        close(fd[0]);
        close(fd[1]);
    }
    if (tcp_pair(fd)) {
        bench_raw(t, "raw tcp socket, loopback", &paths[0], fd);
        close(fd[0]);
        close(fd[1]);
    }
    bench_ways(t, &paths[0], false);
    for (size_t i = 0; i < n; i++) {
        bench_steps(t, &paths[i]);
        bench_ways(t, &paths[i], true);
    }
}

static struct result *table_way(struct table *t, enum path_way way, enum kv_type type)
{
    char name[64];

    snprintf(name, sizeof(name), "%s, all steps, %s", path_way_names[way], kv_type_name(type));
    return table_find(t, name);
}

/* Before the times are sorted. */
static void table_print_ratios(struct table *t)
{
    printf("all steps, mapped beside ipc, median of the rounds:");
    for (int type = 0; type < KV_TYPE_COUNT; type++) {
        const struct result *ipc = table_way(t, PATH_IPC, (enum kv_type)type);
        const struct result *mapped = table_way(t, PATH_MAPPED, (enum kv_type)type);

        if (ipc && mapped)
            printf(" %s %.2f", kv_type_name((enum kv_type)type), times_ratio(&ipc->times, &mapped->times));
    }
    printf("\n");
}

static void table_print(struct table *t)
{
    struct result *copy = table_find(t, "memcpy, 256 KiB at a time");
    struct result *mapped = table_way(t, PATH_MAPPED, KV_F16), *value;

    printf("%-34s %8s %10s %10s\n", "case", "GB/s", "of memcpy", "ms");
    for (size_t i = 0; i < t->n; i++)
        printf("%-34s %8.2f %9.0f%% %10.2f\n", t->rows[i].name, result_gb_s(&t->rows[i]),
               100 * result_gb_s(&t->rows[i]) / result_gb_s(copy), times_best(&t->rows[i].times));
    value = mapped ? mapped : table_way(t, PATH_IPC, KV_F16); /* what nodes of one host use */
    printf("bench-kv: value %.2f GB/s %s, %zu failed\n", result_gb_s(value), mapped ? "mapped" : "over ipc",
           t->failed);
}

/* With a node as a process. */
static int node_main(int argc, char **argv, int (*run)(const char *, const char *, uint32_t, uint32_t, struct err *))
{
    struct err e;

    if (argc < 4) {
        fprintf(stderr, "usage: tandem-bench-kv %s PROGRAM MODEL [tokens] [rounds]\n", argv[1]);
        return 2;
    }
    if (run(argv[2], argv[3], argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 512,
            argc > 5 ? (uint32_t)strtoul(argv[5], NULL, 10) : 8, &e) == 0)
        return 0;
    fprintf(stderr, "bench-kv: %s\n", e.text);
    return 1;
}

int main(int argc, char **argv)
{
    static const enum kv_type types[] = {KV_F16, KV_BF16, KV_Q8};
    uint32_t arg[5] = {16, 3, 32, 8, 128};
    struct path paths[ARRAY_LEN(types)];
    static struct table t;
    struct err e;

    if (argc > 1 && strcmp(argv[1], "ttft") == 0)
        return node_main(argc, argv, ttft_run);
    if (argc > 1 && strcmp(argv[1], "ingest") == 0)
        return node_main(argc, argv, ingest_run);
    for (int i = 1; i < argc && i <= 5; i++)
        arg[i - 1] = (uint32_t)strtoul(argv[i], NULL, 10);
    for (int i = 0; i < 5; i++)
        if (!arg[i] || arg[i] > 4096) {
            fprintf(stderr, "bench-kv: each of pages, rounds, layers, heads, head_dim is 1..4096\n");
            return 2;
        }
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (path_open(&paths[i], types[i], arg[2], arg[3], arg[4], arg[0], &e)) {
            fprintf(stderr, "bench-kv: %s\n", e.text);
            return 2;
        }
    printf("%u pages of 32 tokens, %u layers, %u KV heads of %u: %.1f MiB as f16, %zu KiB a frame\n",
           arg[0], arg[2], arg[3], arg[4], (double)path_bytes(&paths[0]) / 0x1p20,
           kv_wire_bytes(&paths[0].layout, KV_F16, paths[0].cut.heads, KV_PAGE_TOKENS) >> 10);
    for (uint32_t r = 0; r < arg[1]; r++)
        bench_round(&t, paths, ARRAY_LEN(types));
    table_print_ratios(&t);
    table_print(&t);
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        path_close(&paths[i]);
    return t.failed != 0;
}
