/* DESIGN: a rule a subject; each adds one finding, or none where nothing is known or wanted. */
#include "deploy/doctor.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "config/ranges.h"
#include "deploy/api.h"
#include "deploy/command.h"

#define DOCTOR_CLOCK_S 0.05   /* of two hosts apart: what NTP keeps easily */
#define DOCTOR_FILES_MIN 1024 /* below that even a small cluster's router runs out */

static const char *const doctor_states[] = {"ok", "slow", "wrong"};

/* Adds a finding; mend is set by doctor_mend. */
static void doctor_find(struct doctor_report *out, const char *check, enum doctor_state state,
                        const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static void doctor_find(struct doctor_report *out, const char *check, enum doctor_state state,
                        const char *fmt, ...)
{
    struct doctor_finding *f = &out->findings[out->n];
    va_list ap;

    ASSERT(out->n < DOCTOR_FINDINGS_MAX);
    out->n++;
    *f = (struct doctor_finding){.check = check, .state = state};
    va_start(ap, fmt);
    vsnprintf(f->value, sizeof(f->value), fmt, ap);
    va_end(ap);
}

/* Says what mends the finding just added. */
static void doctor_mend(struct doctor_report *out, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static void doctor_mend(struct doctor_report *out, const char *fmt, ...)
{
    struct doctor_finding *f = &out->findings[out->n - 1];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(f->mend, sizeof(f->mend), fmt, ap);
    va_end(ap);
}

/* "5.4 GiB" in one of four buffers that take turns. */
static const char *doctor_size(uint64_t bytes)
{
    static char text[4][32];
    static unsigned turn;
    char *out = text[turn++ % ARRAY_LEN(text)];
    struct str s = {0};

    size_text(&s, bytes);
    snprintf(out, sizeof(text[0]), "%s", str_text(&s));
    str_fini(&s);
    return out;
}

/* A port is free, or the running cluster's router has it. */
static void rule_ports(struct doctor_report *out, const struct doctor_facts *f,
                       const struct doctor_want *w)
{
    for (uint32_t i = 0; i < f->n_ports; i++) {
        const struct doctor_port *p = &f->ports[i];
        /* a name has 15 bytes in the kernel */
        bool ours = w->running && !strncmp(p->program, doctor_programs[0], 15);

        if (!p->taken || ours) {
            doctor_find(out, "port", DOCTOR_OK, "%u is %s", p->port,
                        ours ? "the running cluster's" : "free");
        } else if (p->pid < 0) {
            doctor_find(out, "port", DOCTOR_WRONG, "%u is taken by another user's process", p->port);
            doctor_mend(out, "sudo ss -ltnp 'sport = :%u' names it; or another port in router:",
                        p->port);
        } else {
            doctor_find(out, "port", DOCTOR_WRONG, "%u is taken by %s, process %ld", p->port,
                        p->program, p->pid);
            doctor_mend(out, "kill %ld; or another port in router:", p->pid);
        }
    }
}

static void rule_clock(struct doctor_report *out, const struct doctor_facts *f)
{
    bool tsc = !*f->clocksource || !strcmp(f->clocksource, "tsc") ||
               !strcmp(f->clocksource, "kvm-clock") || !strcmp(f->clocksource, "arch_sys_counter");

    if (f->synchronised != DOCTOR_UNKNOWN) {
        doctor_find(out, "clock", f->synchronised ? DOCTOR_OK : DOCTOR_SLOW,
                    f->synchronised ? "synchronised with a time server"
                                    : "not synchronised: logs of hosts will not line up");
        if (!f->synchronised)
            doctor_mend(out, "sudo timedatectl set-ntp true");
    }
    if (!*f->clocksource)
        return;
    doctor_find(out, "clocksource", tsc ? DOCTOR_OK : DOCTOR_SLOW, "%s%s", f->clocksource,
                tsc ? "" : ", which costs a microsecond a look");
    if (!tsc)
        doctor_mend(out, "echo tsc | sudo tee "
                         "/sys/devices/system/clocksource/clocksource0/current_clocksource");
}

static void rule_memory(struct doctor_report *out, const struct doctor_facts *f,
                        const struct doctor_want *w)
{
    uint64_t need = 0, have = f->memory < f->group_memory ? f->memory : f->group_memory;

    for (uint32_t i = 0; i < w->n_domains; i++)
        need += w->domains[i].bytes;
    if (!f->memory)
        return;
    if (w->running || need <= have) {
        doctor_find(out, "memory", DOCTOR_OK, "%s available%s%s", doctor_size(have),
                    need ? ", the plan needs " : "", need ? doctor_size(need) : "");
        return;
    }
    doctor_find(out, "memory", DOCTOR_WRONG, "%s available%s, the plan needs %s", doctor_size(have),
                f->group_memory < f->memory ? " to the control group" : "", doctor_size(need));
    if (f->group_memory < f->memory)
        doctor_mend(out, "echo %s | sudo tee %s",
                    strstr(f->group_file, "limit_in_bytes") ? "-1" : "max", f->group_file);
    else
        doctor_mend(out, "ps -eo rss,pid,comm --sort=-rss | head -5; or a smaller kv_pages");
}

/* The sum may fit where a domain does not: nodes then read across the link between sockets. */
static void rule_domains(struct doctor_report *out, const struct doctor_facts *f,
                         const struct doctor_want *w)
{
    for (uint32_t i = 0; i < w->n_domains && !w->running; i++) {
        const struct doctor_domain *want = &w->domains[i], *have = NULL;

        for (uint32_t k = 0; k < f->n_domains; k++)
            if (f->domains[k].os_index == want->os_index)
                have = &f->domains[k];
        if (!have || f->n_domains < 2 || have->bytes >= want->bytes)
            continue;
        doctor_find(out, "domain", DOCTOR_SLOW, "%u has %s available, the plan puts %s there",
                    want->os_index, doctor_size(have->bytes), doctor_size(want->bytes));
        doctor_mend(out, "numastat -m shows what has it; or a smaller kv_pages");
    }
}

static void rule_huge(struct doctor_report *out, const struct doctor_facts *f,
                      const struct doctor_want *w)
{
    bool never = !strcmp(f->huge, "never");

    if (*f->huge) {
        doctor_find(out, "huge pages", !never ? DOCTOR_OK : w->huge_pages ? DOCTOR_WRONG : DOCTOR_SLOW,
                    "transparent huge pages: %s%s", f->huge,
                    !never          ? ""
                    : w->huge_pages ? ", and huge_pages: on asks for them"
                                    : ", so that weights and KV take more of the TLB");
        if (never)
            doctor_mend(out, "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled");
    }
    if (!never && (!strcmp(f->shared_huge, "never") || !strcmp(f->shared_huge, "deny"))) {
        doctor_find(out, "huge pages", DOCTOR_SLOW, "of shared memory: %s, so that %s", f->shared_huge,
                    w->huge_pages ? "with huge_pages: on no KV is shared"
                                  : "KV that nodes of this host share has pages of 4 KiB");
        doctor_mend(out, "echo advise | sudo tee /sys/kernel/mm/transparent_hugepage/shmem_enabled");
    }
    if (f->reserved_bytes) {
        doctor_find(out, "huge pages", DOCTOR_SLOW, "%s reserved and unused, of no use to tandem",
                    doctor_size(f->reserved_bytes));
        doctor_mend(out, "sudo sysctl -w vm.nr_hugepages=0");
    }
}

static void rule_shares(struct doctor_report *out, const struct doctor_facts *f)
{
    if (f->shares == DOCTOR_UNKNOWN)
        return;
    doctor_find(out, "kv", f->shares ? DOCTOR_OK : DOCTOR_SLOW, "nodes of this host %s%s",
                f->shares ? "can share it" : "send it through sockets: ", f->shares_not);
    if (!f->shares)
        doctor_mend(out, "a /proc where they see each other, and a system that lets them use memfd_create");
}

static bool doctor_has(const uint32_t *list, uint32_t n, uint32_t value)
{
    for (uint32_t i = 0; i < n; i++)
        if (list[i] == value)
            return true;
    return false;
}

static void rule_cores(struct doctor_report *out, const struct doctor_facts *f,
                       const struct doctor_want *w)
{
    struct str allowed = {0};

    if (!f->n_cpus)
        return;
    ranges_format(&allowed, f->cpus, f->n_cpus);
    for (uint32_t i = 0; i < w->n_cores; i++) {
        if (doctor_has(f->cpus, f->n_cpus, w->cores[i]))
            continue;
        doctor_find(out, "cores", DOCTOR_WRONG, "processor %u is in the plan, the cpuset allows %.200s",
                    w->cores[i], str_text(&allowed));
        doctor_mend(out, "cores: \"%.200s\" for this host in cluster.yaml", str_text(&allowed));
        str_fini(&allowed);
        return;
    }
    if (f->n_online > f->n_cpus)
        doctor_find(out, "cores", DOCTOR_OK, "the cpuset allows %u of %u: %.200s", f->n_cpus,
                    f->n_online, str_text(&allowed));
    else
        doctor_find(out, "cores", DOCTOR_OK, "all %u may be used", f->n_cpus);
    str_fini(&allowed);
}

/* A team that is throttled stands still at each barrier until the next period. */
static void rule_quota(struct doctor_report *out, const struct doctor_facts *f,
                       const struct doctor_want *w)
{
    uint32_t threads = w->n_cores ? w->n_cores : f->n_cpus;

    if (f->quota <= 0)
        return;
    if (f->quota >= threads) {
        doctor_find(out, "quota", DOCTOR_OK, "%.1f processors for %u threads", f->quota, threads);
        return;
    }
    doctor_find(out, "quota", DOCTOR_SLOW,
                "the control group gives %.1f processors to %u threads, which wait for each other",
                f->quota, threads);
    doctor_mend(out, "echo %s | sudo tee %s", strstr(f->quota_file, "quota_us") ? "-1" : "max",
                f->quota_file);
}

static void rule_balancing(struct doctor_report *out, const struct doctor_facts *f)
{
    bool moves = f->numa_balancing > 0 && f->n_domains > 1;

    if (f->numa_balancing == DOCTOR_UNKNOWN || !f->n_domains)
        return;
    doctor_find(out, "numa balancing", moves ? DOCTOR_SLOW : DOCTOR_OK, "%s, %u domain%s%s",
                f->numa_balancing ? "on" : "off", f->n_domains, f->n_domains == 1 ? "" : "s",
                moves ? ": the kernel unmaps weights to see who reads them" : "");
    if (moves)
        doctor_mend(out, "sudo sysctl -w kernel.numa_balancing=0");
}

static void rule_governor(struct doctor_report *out, const struct doctor_facts *f)
{
    if (!f->n_governed)
        return;
    doctor_find(out, "governor", DOCTOR_SLOW, "%s on %u of %u processors", f->governor,
                f->n_governed, f->n_cpus);
    doctor_mend(out, "echo performance | sudo tee "
                     "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor");
}

static void rule_files(struct doctor_report *out, const struct doctor_facts *f,
                       const struct doctor_want *w)
{
    enum doctor_state state = f->files < DOCTOR_FILES_MIN ? DOCTOR_WRONG
                              : f->files < w->files       ? DOCTOR_SLOW
                                                          : DOCTOR_OK;

    if (!f->files)
        return;
    if (f->files == UINT64_MAX)
        doctor_find(out, "files", DOCTOR_OK, "no limit on open files");
    else if (w->files)
        doctor_find(out, "files", state, "%" PRIu64 " open at once, a process may need %u", f->files,
                    w->files);
    else
        doctor_find(out, "files", state, "%" PRIu64 " open at once", f->files);
    if (state != DOCTOR_OK)
        doctor_mend(out, "ulimit -n %u before `tandem up`; for good in /etc/security/limits.conf",
                    u32_max(w->files, DOCTOR_FILES_MIN));
}

static void rule_amx(struct doctor_report *out, const struct doctor_facts *f)
{
    if (!f->amx || f->amx_allowed == DOCTOR_UNKNOWN)
        return;
    doctor_find(out, "amx", f->amx_allowed ? DOCTOR_OK : DOCTOR_SLOW, "%s",
                f->amx_allowed ? "may be used"
                               : "the processor has it, the system does not let us use it");
    if (!f->amx_allowed)
        doctor_mend(out, "a kernel of 5.16 or later, and no seccomp profile that refuses arch_prctl");
}

static void rule_programs(struct doctor_report *out, const struct doctor_facts *f,
                          const struct doctor_want *w)
{
    for (size_t i = 0; i < DOCTOR_PROGRAMS && *w->programs; i++) {
        if (!strcmp(f->versions[i], TANDEM_VERSION))
            continue;
        if (!*f->versions[i])
            doctor_find(out, "programs", DOCTOR_WRONG, "%s/%s is not there or does not run",
                        w->programs, doctor_programs[i]);
        else
            doctor_find(out, "programs", DOCTOR_WRONG, "%s is %s, tandem is " TANDEM_VERSION,
                        doctor_programs[i], f->versions[i]);
        doctor_mend(out, "make install of " TANDEM_VERSION " there; or programs: another folder");
        return;
    }
    if (*w->programs)
        doctor_find(out, "programs", DOCTOR_OK, TANDEM_VERSION " in %s", w->programs);
}

static void rule_model(struct doctor_report *out, const struct doctor_facts *f,
                       const struct doctor_want *w)
{
    if (!*w->model)
        return;
    if (!*f->model_wrong) {
        doctor_find(out, "model", DOCTOR_OK, "%s, %s", w->model, doctor_size(f->model_bytes));
        return;
    }
    doctor_find(out, "model", DOCTOR_WRONG, "%s", f->model_wrong);
    doctor_mend(out, "ls -lL %.120s; `tandem up --sync` copies it to hosts that have not got it", w->model);
}

void doctor_check(struct doctor_report *out, const struct doctor_facts *f,
                  const struct doctor_want *w)
{
    rule_programs(out, f, w);
    rule_model(out, f, w);
    rule_ports(out, f, w);
    rule_memory(out, f, w);
    rule_domains(out, f, w);
    rule_cores(out, f, w);
    rule_quota(out, f, w);
    rule_files(out, f, w);
    rule_huge(out, f, w);
    rule_shares(out, f);
    rule_balancing(out, f);
    rule_governor(out, f);
    rule_amx(out, f);
    rule_clock(out, f);
}

/* A file's name need not be UTF-8, JSON is. */
static json_t *doctor_text(const char *text)
{
    json_t *value = json_string(text);
    char plain[sizeof(((struct doctor_finding *)0)->value)];
    size_t i = 0;

    if (value)
        return value;
    for (; text[i] && i + 1 < sizeof(plain); i++)
        plain[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
    plain[i] = '\0';
    return json_string(plain);
}

double doctor_wall_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

json_t *doctor_run(const char *root, const json_t *want)
{
    struct doctor_report report = {0};
    struct doctor_facts facts = {0};
    struct doctor_want w;
    json_t *list = json_array(), *reply;

    doctor_want_read(&w, want);
    doctor_facts_read(&facts, root, &w);
    doctor_check(&report, &facts, &w);
    for (size_t i = 0; i < report.n; i++) {
        const struct doctor_finding *f = &report.findings[i];

        json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:o}", "check", f->check, "state",
                                              doctor_states[f->state], "value",
                                              doctor_text(f->value), "mend", doctor_text(f->mend)));
    }
    reply = json_pack("{s:o, s:s, s:f, s:o}", "hostname", doctor_text(facts.hostname), "version",
                      TANDEM_VERSION, "time_s", doctor_wall_s(),
                      "findings", list);
    doctor_facts_fini(&facts);
    doctor_want_fini(&w);
    return reply;
}

void doctor_compare_clock(json_t *reply, double offset_s, double slack_s)
{
    bool apart = fabs(offset_s) > DOCTOR_CLOCK_S + slack_s;
    char value[160];

    snprintf(value, sizeof(value), "%.*f s %s this machine's%s", fabs(offset_s) < 1 ? 3 : 1,
             fabs(offset_s), offset_s < 0 ? "behind" : "ahead of",
             apart ? ": times in logs and traces of the hosts do not line up" : "");
    json_array_append_new(json_object_get(reply, "findings"),
                          json_pack("{s:s, s:s, s:s, s:s}", "check", "clock", "state",
                                    doctor_states[apart ? DOCTOR_SLOW : DOCTOR_OK], "value", value,
                                    "mend", apart ? "sudo timedatectl set-ntp true, or chronyc makestep" : ""));
}

bool doctor_print(const json_t *reply, struct str *out)
{
    const json_t *findings = json_object_get(reply, "findings");
    bool well = true;

    for (size_t i = 0; i < json_array_size(findings); i++) {
        const json_t *f = json_array_get(findings, i);
        const char *state = api_text(f, "state"), *mend = api_text(f, "mend");

        str_addf(out, "  %-5.8s  %-14.32s  %.400s%s%.400s\n", state, api_text(f, "check"),
                 api_text(f, "value"), *mend ? "  ->  " : "", mend);
        well &= strcmp(state, doctor_states[DOCTOR_WRONG]) != 0;
    }
    return well;
}
