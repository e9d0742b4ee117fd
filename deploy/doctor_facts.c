/* DESIGN: every reader takes the root, opens what it needs below it and leaves its fields alone where
 * there is nothing to read: the facts start as "unknown". */
#include "deploy/doctor_facts.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "config/ranges.h"
#include "host/cpu.h"
#include "host/share.h"
#include "model/gguf.h"

#define FACTS_FILE_MAX (4u << 20) /* /proc/net/tcp of a busy machine; what is behind is not read */
#define FACTS_PORT_LISTEN 0x0a    /* TCP_LISTEN in column `st` */

const char *const doctor_programs[DOCTOR_PROGRAMS] = {"tandem-router", "tandem-prefill",
                                                      "tandem-decode"};

/* The file's text, "" if it cannot be read; path is printf-like, below root. Owned, mem_free. */
static char *facts_text(const char *root, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static char *facts_text(const char *root, const char *fmt, ...)
{
    struct str path = {0}, text = {0};
    char block[4096];
    va_list ap;
    FILE *f;

    str_adds(&path, root);
    va_start(ap, fmt);
    str_addv(&path, fmt, ap);
    va_end(ap);
    f = fopen(str_text(&path), "re");
    str_fini(&path);
    for (size_t n; f && text.len < FACTS_FILE_MAX && (n = fread(block, 1, sizeof(block), f));)
        str_add(&text, block, n);
    if (f)
        fclose(f);
    str_addc(&text, '\0'); /* so that there is something to steal */
    return str_steal(&text);
}

/* What follows "KEY" at the start of a line, blanks skipped; NULL: no such line. */
static const char *facts_line(const char *text, const char *key)
{
    size_t n = strlen(key);

    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!strncmp(line, key, n))
            return line + n + strspn(line + n, " \t");
    }
    return NULL;
}

static uint64_t facts_kib(const char *text, const char *key)
{
    const char *at = facts_line(text, key);

    return at ? strtoull(at, NULL, 10) * 1024 : 0;
}

/* The first word into out[n]. */
static void facts_word(char *out, size_t n, const char *text)
{
    size_t len = size_min(strcspn(text, " \t\n"), n - 1);

    memcpy(out, text, len);
    out[len] = '\0';
}

static int facts_int(const char *root, const char *path, int unknown)
{
    char *text = facts_text(root, "%s", path);
    int v = isdigit((unsigned char)*text) ? (int)strtol(text, NULL, 10) : unknown;

    mem_free(text);
    return v;
}

/* A list like "0-3,8" behind key (NULL: the whole file). *list is owned. */
static void facts_list(uint32_t **list, uint32_t *n, const char *text, const char *key)
{
    const char *at = key ? facts_line(text, key) : text;
    char *line = at ? mem_strndup(at, strcspn(at, " \n")) : NULL;

    if (!line || ranges_parse(list, n, line, NULL)) {
        *list = NULL;
        *n = 0;
    }
    mem_free(line);
}

static void facts_cpus(struct doctor_facts *f, const char *root)
{
    char *status = facts_text(root, "/proc/self/status");
    char *online = facts_text(root, "/sys/devices/system/cpu/online");
    char *cpuinfo = facts_text(root, "/proc/cpuinfo");
    uint32_t *list;

    facts_list(&f->cpus, &f->n_cpus, status, "Cpus_allowed_list:");
    facts_list(&list, &f->n_online, online, NULL);
    mem_free(list);
    f->amx = strstr(cpuinfo, " amx_tile") && strstr(cpuinfo, " amx_bf16");
    f->amx_allowed = *root ? DOCTOR_UNKNOWN : cpu_amx_allow();
    for (uint32_t i = 0; i < f->n_cpus; i++) {
        char *governor = facts_text(root, "/sys/devices/system/cpu/cpu%u/cpufreq/scaling_governor",
                                    f->cpus[i]);

        if (*governor && strncmp(governor, "performance", 11) != 0 && !f->n_governed++)
            facts_word(f->governor, sizeof(f->governor), governor);
        mem_free(governor);
    }
    mem_free(status);
    mem_free(online);
    mem_free(cpuinfo);
}

/* Calls fn for the control group of a controller ("" in version 2) and each above it, innermost
 * first: folder is where its files are. */
static void facts_groups(struct doctor_facts *f, const char *root, const char *controller,
                         void (*fn)(struct doctor_facts *f, const char *root, const char *folder))
{
    char *groups = facts_text(root, "/proc/self/cgroup"), *save = NULL;
    char folder[PATH_MAX];
    size_t base;

    for (char *line = strtok_r(groups, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;

        if (!path)
            continue;
        *path++ = '\0';
        if (strcmp(names + 1, controller) != 0)
            continue;
        base = (size_t)snprintf(folder, sizeof(folder), "/sys/fs/cgroup%s%s",
                                *controller ? "/" : "", controller);
        snprintf(folder + base, sizeof(folder) - base, "%s", strcmp(path, "/") != 0 ? path : "");
        for (;;) {
            fn(f, root, folder);
            if (strlen(folder) <= base)
                break;
            *strrchr(folder, '/') = '\0';
        }
    }
    mem_free(groups);
}

/* The smallest quota counts. */
static void facts_take_quota(struct doctor_facts *f, double quota, const char *folder,
                             const char *file)
{
    if (quota <= 0 || (f->quota > 0 && f->quota <= quota))
        return;
    f->quota = quota;
    snprintf(f->quota_file, sizeof(f->quota_file), "%.200s/%s", folder, file);
}

static void facts_quota2(struct doctor_facts *f, const char *root, const char *folder)
{
    char *max = facts_text(root, "%s/cpu.max", folder);
    double quota, period;

    if (sscanf(max, "%lf %lf", &quota, &period) == 2 && period > 0)
        facts_take_quota(f, quota / period, folder, "cpu.max");
    mem_free(max);
}

static void facts_quota1(struct doctor_facts *f, const char *root, const char *folder)
{
    char *quota = facts_text(root, "%s/cpu.cfs_quota_us", folder);
    char *period = facts_text(root, "%s/cpu.cfs_period_us", folder);

    if (*quota && atof(period) > 0)
        facts_take_quota(f, atof(quota) / atof(period), folder, "cpu.cfs_quota_us");
    mem_free(quota);
    mem_free(period);
}

static void facts_group_memory(struct doctor_facts *f, const char *root, const char *folder,
                               const char *limit_file, const char *usage_file)
{
    char *limit = facts_text(root, "%s/%s", folder, limit_file);
    char *usage = facts_text(root, "%s/%s", folder, usage_file);
    uint64_t bound = strtoull(limit, NULL, 10), used = strtoull(usage, NULL, 10), left;

    /* version 1 writes "no limit" as the largest number of pages, version 2 as "max" */
    if (isdigit((unsigned char)*limit) && bound < (uint64_t)1 << 62) {
        left = bound > used ? bound - used : 0;
        if (left < f->group_memory) {
            f->group_memory = left;
            snprintf(f->group_file, sizeof(f->group_file), "%.200s/%s", folder, limit_file);
        }
    }
    mem_free(limit);
    mem_free(usage);
}

static void facts_memory2(struct doctor_facts *f, const char *root, const char *folder)
{
    facts_group_memory(f, root, folder, "memory.max", "memory.current");
}

static void facts_memory1(struct doctor_facts *f, const char *root, const char *folder)
{
    facts_group_memory(f, root, folder, "memory.limit_in_bytes", "memory.usage_in_bytes");
}

/* What a domain could still give: free pages and the files that it would drop for us. */
static void facts_domains(struct doctor_facts *f, const char *root)
{
    char *online = facts_text(root, "/sys/devices/system/node/online");
    uint32_t *list, n;

    facts_list(&list, &n, online, NULL);
    for (uint32_t i = 0; i < n && f->n_domains < DOCTOR_DOMAINS_MAX; i++) {
        static const char *const parts[] = {"MemFree", "Active(file)", "Inactive(file)",
                                            "SReclaimable"};
        char *text = facts_text(root, "/sys/devices/system/node/node%u/meminfo", list[i]);
        struct doctor_domain *d = &f->domains[f->n_domains];

        d->os_index = list[i];
        for (size_t k = 0; k < ARRAY_LEN(parts); k++) {
            char key[64];

            snprintf(key, sizeof(key), "Node %u %s:", list[i], parts[k]);
            d->bytes += facts_kib(text, key);
        }
        f->n_domains += *text != '\0';
        mem_free(text);
    }
    mem_free(list);
    mem_free(online);
}

/* The chosen one of a switch's settings, "always [madvise] never". */
static void facts_chosen(char out[16], const char *root, const char *file)
{
    char *text = facts_text(root, "/sys/kernel/mm/transparent_hugepage/%s", file);
    const char *chosen = strchr(text, '[');

    if (chosen)
        memcpy(out, chosen + 1, size_min(strcspn(chosen + 1, "]"), 15));
    mem_free(text);
}

static void facts_memory(struct doctor_facts *f, const char *root)
{
    char *meminfo = facts_text(root, "/proc/meminfo");
    const char *free_pages = facts_line(meminfo, "HugePages_Free:");

    f->memory = facts_kib(meminfo, "MemAvailable:");
    if (free_pages)
        f->reserved_bytes = strtoull(free_pages, NULL, 10) * facts_kib(meminfo, "Hugepagesize:");
    facts_chosen(f->huge, root, "enabled");
    facts_chosen(f->shared_huge, root, "shmem_enabled");
    f->numa_balancing = facts_int(root, "/proc/sys/kernel/numa_balancing", DOCTOR_UNKNOWN);
    facts_domains(f, root);
    mem_free(meminfo);
}

/* Why a child cannot map what is offered, into why[256], a string; "" if it can. */
static void facts_try(char why[256], const struct share_offer *offer)
{
    struct share_map theirs;
    struct err e = {0};
    ssize_t n = 0;
    int fds[2];
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC))
        return;
    pid = fork();
    if (pid == 0)
        _exit(share_open(&theirs, offer, &e) && write(fds[1], e.text, strlen(e.text)) < 0);
    close(fds[1]);
    if (pid > 0) {
        n = read(fds[0], why, 255); /* one short line: one write */
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    close(fds[0]);
    why[n > 0 ? n : 0] = '\0';
}

/* As a decode node maps the KV of a prefill node. */
static void facts_shares(struct doctor_facts *f, const char *root)
{
    struct share_offer offer;
    struct mem_map m;
    struct err e = {0};
    int fd;

    f->shares = DOCTOR_UNKNOWN;
    if (*root)
        return;
    if (mem_map_open_shared(&m, &fd, 1, false, &e)) {
        snprintf(f->shares_not, sizeof(f->shares_not), "%.250s", e.text);
    } else {
        share_offer(&offer, fd);
        facts_try(f->shares_not, &offer);
        mem_map_close(&m);
        close(fd);
    }
    f->shares = !*f->shares_not;
}

static void facts_limits(struct doctor_facts *f, const char *root)
{
    char *limits = facts_text(root, "/proc/self/limits");
    const char *files = facts_line(limits, "Max open files");

    if (files)
        f->files = isdigit((unsigned char)*files) ? strtoull(files, NULL, 10) : UINT64_MAX;
    mem_free(limits);
}

static void facts_clock(struct doctor_facts *f, const char *root)
{
    char *source = facts_text(root, "/sys/devices/system/clocksource/clocksource0/current_clocksource");
    struct timex t = {0};

    facts_word(f->clocksource, sizeof(f->clocksource), source);
    f->synchronised = DOCTOR_UNKNOWN;
    if (!*root && adjtimex(&t) >= 0)
        f->synchronised = !(t.status & STA_UNSYNC);
    mem_free(source);
}

/* The inode of the socket that listens on the port, 0 for none, in the text of /proc/net/tcp[6]:
 *   sl  local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode */
static unsigned long facts_listener(const char *text, uint32_t port)
{
    for (const char *line = strchr(text, '\n'); line; line = strchr(line + 1, '\n')) {
        unsigned local, state;
        unsigned long inode;

        if (sscanf(line, " %*u: %*[0-9A-Fa-f]:%x %*s %x %*s %*s %*s %*s %*s %lu", &local, &state,
                   &inode) == 3 && state == FACTS_PORT_LISTEN && local == port)
            return inode;
    }
    return 0;
}

/* Whether the process has the socket open; those of other users do not show. */
static bool facts_holds(const char *root, const char *pid, unsigned long inode)
{
    char folder[PATH_MAX], want[64], link[PATH_MAX], found[64];
    const struct dirent *entry;
    bool holds = false;
    ssize_t n;
    DIR *d;

    snprintf(want, sizeof(want), "socket:[%lu]", inode);
    snprintf(folder, sizeof(folder), "%s/proc/%.20s/fd", root, pid);
    d = opendir(folder);
    while (d && !holds && (entry = readdir(d))) {
        if (snprintf(link, sizeof(link), "%s/%s", folder, entry->d_name) >= (int)sizeof(link))
            continue;
        n = readlink(link, found, sizeof(found) - 1);
        found[n > 0 ? n : 0] = '\0';
        holds = !strcmp(found, want);
    }
    if (d)
        closedir(d);
    return holds;
}

static void facts_holder(struct doctor_port *p, const char *root, unsigned long inode)
{
    char folder[PATH_MAX];
    const struct dirent *entry;
    DIR *d;

    p->taken = true;
    p->pid = DOCTOR_UNKNOWN;
    snprintf(folder, sizeof(folder), "%s/proc", root);
    d = opendir(folder);
    while (d && p->pid < 0 && (entry = readdir(d))) {
        if (!isdigit((unsigned char)*entry->d_name) || !facts_holds(root, entry->d_name, inode))
            continue;
        char *name = facts_text(root, "/proc/%s/comm", entry->d_name);

        p->pid = strtol(entry->d_name, NULL, 10);
        facts_word(p->program, sizeof(p->program), name);
        mem_free(name);
    }
    if (d)
        closedir(d);
}

static void facts_ports(struct doctor_facts *f, const char *root, const struct doctor_want *w)
{
    char *tcp = facts_text(root, "/proc/net/tcp"), *tcp6 = facts_text(root, "/proc/net/tcp6");

    for (uint32_t i = 0; i < w->n_ports; i++) {
        struct doctor_port *p = &f->ports[f->n_ports++];
        unsigned long inode = facts_listener(tcp, w->ports[i]);

        p->port = w->ports[i];
        if (!inode)
            inode = facts_listener(tcp6, w->ports[i]);
        if (inode)
            facts_holder(p, root, inode);
    }
    mem_free(tcp);
    mem_free(tcp6);
}

/* The last word of the first line of `PROGRAM --version`, "tandem-router 0.1.0". */
static void facts_version(char out[32], const char *folder, const char *program)
{
    char path[PATH_MAX], line[128] = "";
    const char *word;
    ssize_t n = 0;
    int fds[2];
    pid_t pid;

    if (snprintf(path, sizeof(path), "%s/%s", folder, program) >= (int)sizeof(path) ||
        pipe2(fds, O_CLOEXEC))
        return;
    pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDOUT_FILENO);
        execl(path, program, "--version", (char *)NULL);
        _exit(127);
    }
    close(fds[1]);
    if (pid > 0) {
        n = read(fds[0], line, sizeof(line) - 1); /* one short line: one write */
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    close(fds[0]);
    line[n > 0 ? n : 0] = '\0';
    line[strcspn(line, "\n")] = '\0';
    word = strrchr(line, ' ');
    if (word)
        facts_word(out, 32, word + 1);
}

static void facts_files(struct doctor_facts *f, const char *root, const struct doctor_want *w)
{
    struct gguf *g = NULL;
    struct err e = {0};

    for (size_t i = 0; i < DOCTOR_PROGRAMS && *w->programs && !*root; i++)
        facts_version(f->versions[i], w->programs, doctor_programs[i]);
    if (!*w->model)
        return;
    if (gguf_open(&g, w->model, &e))
        snprintf(f->model_wrong, sizeof(f->model_wrong), "%.250s", e.text);
    else
        f->model_bytes = gguf_file_bytes(g);
    gguf_close(&g);
}

void doctor_facts_read(struct doctor_facts *f, const char *root, const struct doctor_want *w)
{
    char *name = facts_text(root, "/proc/sys/kernel/hostname");

    facts_word(f->hostname, sizeof(f->hostname), name);
    mem_free(name);
    f->group_memory = UINT64_MAX;
    facts_cpus(f, root);
    facts_memory(f, root);
    facts_shares(f, root);
    facts_groups(f, root, "", facts_quota2);
    facts_groups(f, root, "", facts_memory2);
    facts_groups(f, root, "cpu", facts_quota1);
    facts_groups(f, root, "cpu,cpuacct", facts_quota1);
    facts_groups(f, root, "memory", facts_memory1);
    facts_limits(f, root);
    facts_clock(f, root);
    facts_ports(f, root, w);
    facts_files(f, root, w);
}

void doctor_facts_fini(struct doctor_facts *f)
{
    mem_free(f->cpus);
    *f = (struct doctor_facts){0};
}
