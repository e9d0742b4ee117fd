#include "deploy/doctor.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "tests/lib/test.h"

/* A host as a folder, /tmp/tandem-doctor.XXXXXX. */
static char root[64];

static int tree_make(void **state)
{
    (void)state;
    snprintf(root, sizeof(root), "/tmp/tandem-doctor.XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int tree_remove(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof(command), "rm -r '%s'", root);
    return system(command); /* a folder that mkdtemp has named */
}

/* Its folders made as needed. */
static void tree_path(char path[512], const char *name)
{
    snprintf(path, 512, "%s/%s", root, name);
    for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
}

static void put(const char *name, const char *text)
{
    char path[512];
    FILE *f;

    tree_path(path, name);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* Two sockets of four processors, as Linux 6.1 shows them; all well. */
static void put_good_host(void)
{
    put("proc/sys/kernel/hostname", "web1\n");
    put("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu sse2 avx2 amx_bf16 amx_tile\n");
    put("proc/self/status", "Name:\tcat\nCpus_allowed:\tff\nCpus_allowed_list:\t0-7\nMems_allowed_list:\t0-1\n");
    put("proc/self/limits", "Limit                     Soft Limit           Hard Limit           Units     \n"
                            "Max cpu time              unlimited            unlimited            seconds   \n"
                            "Max open files            65536                1048576              files     \n");
    put("proc/self/cgroup", "0::/user.slice/a.scope\n");
    put("proc/meminfo", "MemTotal:       16777216 kB\nMemFree:         4194304 kB\nMemAvailable:    8388608 kB\n"
                        "HugePages_Total:       0\nHugePages_Free:        0\nHugepagesize:       2048 kB\n");
    put("proc/sys/kernel/numa_balancing", "0\n");
    put("proc/net/tcp", "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n");
    put("proc/net/tcp6", "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n");
    put("sys/devices/system/cpu/online", "0-7\n");
    put("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n");
    put("sys/devices/system/node/online", "0-1\n");
    put("sys/devices/system/node/node0/meminfo",
        "Node 0 MemTotal:        8388608 kB\nNode 0 MemFree:         1048576 kB\n"
        "Node 0 Active(file):    1048576 kB\nNode 0 Inactive(file):  1048576 kB\n"
        "Node 0 SReclaimable:    1048576 kB\n");
    put("sys/devices/system/node/node1/meminfo",
        "Node 1 MemTotal:        8388608 kB\nNode 1 MemFree:         4194304 kB\n");
    put("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
    put("sys/kernel/mm/transparent_hugepage/shmem_enabled", "always within_size [advise] never deny force\n");
    put("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n");
    put("sys/fs/cgroup/user.slice/a.scope/cpu.max", "max 100000\n");
    put("sys/fs/cgroup/user.slice/a.scope/memory.max", "max\n");
}

/* The finding of that check in the state, NULL if there is none. */
static const struct doctor_finding *find(const struct doctor_report *r, const char *check,
                                         enum doctor_state state)
{
    for (size_t i = 0; i < r->n; i++)
        if (!strcmp(r->findings[i].check, check) && r->findings[i].state == state)
            return &r->findings[i];
    return NULL;
}

static struct doctor_report report;

/* Reads and checks the tree for a want as JSON text. */
static void examine(const char *want)
{
    json_t *json = json_loads(want, 0, NULL);
    struct doctor_facts facts = {0};
    struct doctor_want w;

    assert_non_null(json);
    report = (struct doctor_report){0};
    doctor_want_read(&w, json);
    doctor_facts_read(&facts, root, &w);
    doctor_check(&report, &facts, &w);
    doctor_facts_fini(&facts);
    doctor_want_fini(&w);
    json_decref(json);
}

/* The check is in that state, with value and mend that contain the texts. */
static void expect(const char *check, enum doctor_state state, const char *value, const char *mend)
{
    const struct doctor_finding *f = find(&report, check, state);

    if (!f)
        fail_msg("no such finding of %s", check);
    if (!strstr(f->value, value) || !strstr(f->mend, mend))
        fail_msg("%s says \"%s\", \"%s\"", check, f->value, f->mend);
    assert_true((state == DOCTOR_OK) == !*f->mend); /* what is not well has a remedy */
}

#define WANT                                                                                       \
    "{\"ports\": [8000, 5555], \"domains\": [{\"domain\": 0, \"bytes\": 4294967296},"             \
    " {\"domain\": 1, \"bytes\": 1073741824}], \"cores\": [0, 1, 2, 3, 4, 5, 6, 7], \"files\": 21504"

static void a_good_host_has_nothing_to_mend(void **state)
{
    (void)state;
    put_good_host();
    examine(WANT "}");
    assert_true(report.n >= 8);
    for (size_t i = 0; i < report.n; i++)
        if (report.findings[i].state != DOCTOR_OK)
            fail_msg("%s: %s", report.findings[i].check, report.findings[i].value);
    expect("memory", DOCTOR_OK, "8.0 GiB available, the plan needs 5.0 GiB", "");
    expect("cores", DOCTOR_OK, "all 8", "");
}

static void a_taken_port_names_who_has_it(void **state)
{
    char path[512];

    (void)state;
    put_good_host();
    put("proc/net/tcp",
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1 0000 100 0 0 10 0\n"
        "   1: 0100007F:15B3 0100007F:1F40 01 00000000:00000000 00:00000000 00000000     0        0 78 1 0000 100 0 0 10 0\n");
    put("proc/4242/comm", "python3\n");
    tree_path(path, "proc/4242/fd/3");
    assert_int_equal(symlink("socket:[77]", path), 0);
    examine(WANT "}");
    expect("port", DOCTOR_WRONG, "8000 is taken by python3, process 4242", "kill 4242");
    expect("port", DOCTOR_OK, "5555 is free", ""); /* a connection from there is no listener */
    put("proc/4242/comm", "tandem-router\n");
    examine(WANT ", \"running\": true}");
    expect("port", DOCTOR_OK, "8000 is the running cluster's", "");
    assert_null(find(&report, "port", DOCTOR_WRONG));
    unlink(path);
    examine(WANT "}");
    expect("port", DOCTOR_WRONG, "8000 is taken by another user's process", "sport = :8000");
}

static void memory_is_what_system_group_and_domain_leave(void **state)
{
    (void)state;
    put_good_host();
    put("proc/meminfo", "MemAvailable:    5242879 kB\n");
    examine(WANT "}");
    expect("memory", DOCTOR_WRONG, "5.0 GiB available, the plan needs 5.0 GiB", "kv_pages");
    examine(WANT ", \"running\": true}");
    assert_null(find(&report, "memory", DOCTOR_WRONG));
    put_good_host();
    put("sys/fs/cgroup/user.slice/memory.max", "6442450944\n");
    put("sys/fs/cgroup/user.slice/memory.current", "2147483648\n");
    examine(WANT "}");
    expect("memory", DOCTOR_WRONG, "4.0 GiB available to the control group",
           "echo max | sudo tee /sys/fs/cgroup/user.slice/memory.max");
    put("sys/fs/cgroup/user.slice/memory.max", "max\n");
    put("sys/devices/system/node/node0/meminfo", "Node 0 MemFree:         1048576 kB\n");
    examine(WANT "}");
    expect("domain", DOCTOR_SLOW, "0 has 1.0 GiB available, the plan puts 4.0 GiB there", "numastat");
}

static void control_groups_limit_processors(void **state)
{
    (void)state;
    put_good_host();
    put("sys/fs/cgroup/user.slice/a.scope/cpu.max", "600000 100000\n");
    put("sys/fs/cgroup/user.slice/cpu.max", "250000 100000\n");
    examine(WANT "}");
    expect("quota", DOCTOR_SLOW, "2.5 processors to 8 threads", "tee /sys/fs/cgroup/user.slice/cpu.max");
    put("sys/fs/cgroup/user.slice/cpu.max", "max 100000\n");
    put("proc/self/cgroup", "4:memory:/box\n3:cpu,cpuacct:/box\n0::/\n");
    put("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "100000\n");
    put("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us", "100000\n");
    put("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "1073741824\n");
    put("sys/fs/cgroup/memory/box/memory.usage_in_bytes", "0\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    examine(WANT "}");
    expect("quota", DOCTOR_SLOW, "1.0 processors", "echo -1 | sudo tee /sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs");
    expect("memory", DOCTOR_WRONG, "1.0 GiB", "echo -1 | sudo tee /sys/fs/cgroup/memory/box/memory.limit");
}

static void a_cpuset_is_told_by_its_list(void **state)
{
    (void)state;
    put_good_host();
    put("proc/self/status", "Cpus_allowed_list:\t0-5,7\n");
    examine(WANT "}");
    expect("cores", DOCTOR_WRONG, "processor 6", "cores: \"0-5,7\"");
    examine("{}");
    expect("cores", DOCTOR_OK, "7 of 8: 0-5,7", "");
}

static void kernel_settings_cost_speed(void **state)
{
    (void)state;
    put_good_host();
    put("proc/sys/kernel/numa_balancing", "1\n");
    put("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
    put("proc/meminfo", "MemAvailable:   8388608 kB\nHugePages_Free:  512\nHugepagesize:    2048 kB\n");
    put("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n");
    put("sys/devices/system/cpu/cpu5/cpufreq/scaling_governor", "powersave\n");
    put("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n");
    put("proc/self/limits", "Max open files            1024                 1048576              files     \n");
    examine(WANT "}");
    expect("numa balancing", DOCTOR_SLOW, "on, 2 domains", "sysctl -w kernel.numa_balancing=0");
    expect("huge pages", DOCTOR_SLOW, "never", "echo madvise");
    expect("governor", DOCTOR_SLOW, "powersave on 2 of 8", "echo performance");
    expect("clocksource", DOCTOR_SLOW, "hpet", "echo tsc");
    expect("files", DOCTOR_SLOW, "1024 open at once, a process may need 21504", "ulimit -n 21504");
    assert_string_equal(report.findings[0].check, "port"); /* nothing was asked of programs or model */
    for (size_t i = 0; i < report.n; i++) /* the other finding of huge pages */
        if (strstr(report.findings[i].value, "1.0 GiB reserved and unused"))
            assert_non_null(strstr(report.findings[i].mend, "vm.nr_hugepages=0"));
    examine(WANT ", \"huge_pages\": true}");
    expect("huge pages", DOCTOR_WRONG, "never", "echo madvise");
    put("sys/devices/system/node/online", "0\n"); /* one domain: nothing to balance */
    examine(WANT "}");
    expect("numa balancing", DOCTOR_OK, "on, 1 domain", "");
}

static void shared_memory_has_a_switch_of_its_own(void **state)
{
    (void)state;
    put_good_host();
    put("sys/kernel/mm/transparent_hugepage/shmem_enabled", "always within_size advise [never] deny force\n");
    examine(WANT "}");
    expect("huge pages", DOCTOR_SLOW, "of shared memory: never, so that KV that nodes of this host share has pages of 4 KiB",
           "echo advise | sudo tee /sys/kernel/mm/transparent_hugepage/shmem_enabled");
    examine(WANT ", \"huge_pages\": true}");
    expect("huge pages", DOCTOR_SLOW, "with huge_pages: on no KV is shared", "echo advise");
    assert_null(find(&report, "kv", DOCTOR_OK)); /* no folder tells that */
}

static void what_nodes_can_share_is_said(void **state)
{
    struct doctor_facts f = {.shares = true};
    struct doctor_want none;

    (void)state;
    doctor_want_read(&none, NULL);
    report = (struct doctor_report){0};
    doctor_check(&report, &f, &none);
    expect("kv", DOCTOR_OK, "nodes of this host can share it", "");
    f = (struct doctor_facts){.shares_not = "the system makes no memfd: EPERM"};
    report = (struct doctor_report){0};
    doctor_check(&report, &f, &none);
    expect("kv", DOCTOR_SLOW, "through sockets: the system makes no memfd: EPERM", "memfd_create");
    doctor_want_fini(&none);
}

static void an_empty_tree_is_no_finding(void **state)
{
    (void)state;
    examine("{\"ports\": [8000, -1, 70000, \"x\"], \"domains\": [{}, 3], \"cores\": {}, \"files\": -1}");
    assert_int_equal(report.n, 1);
    expect("port", DOCTOR_OK, "8000 is free", "");
}

static void programs_and_model_are_looked_at(void **state)
{
    struct doctor_want w = {.model = "/nowhere/m.gguf", .programs = "/opt/t"};
    struct doctor_facts f = {.model_wrong = "m.gguf: No such file or directory"};

    (void)state;
    report = (struct doctor_report){0};
    doctor_check(&report, &f, &w);
    expect("programs", DOCTOR_WRONG, "/opt/t/tandem-router is not there", "programs:");
    expect("model", DOCTOR_WRONG, "No such file", "ls -lL /nowhere/m.gguf");
    for (size_t i = 0; i < DOCTOR_PROGRAMS; i++)
        strcpy(f.versions[i], TANDEM_VERSION);
    strcpy(f.versions[2], "0.0.1");
    report = (struct doctor_report){0};
    doctor_check(&report, &f, &w);
    expect("programs", DOCTOR_WRONG, "tandem-decode is 0.0.1, tandem is " TANDEM_VERSION, "make install");
    strcpy(f.versions[2], TANDEM_VERSION);
    report = (struct doctor_report){0};
    doctor_check(&report, &f, &w);
    expect("programs", DOCTOR_OK, "in /opt/t", "");
}

static void a_reply_is_json_whatever_the_names(void **state)
{
    json_t *want = json_object(), *reply, *hostile;
    struct str text = {0};

    (void)state;
    put("proc/sys/kernel/hostname", "b\xff" "d\n");
    put("proc/self/status", "Cpus_allowed_list:\t0-7\n");
    json_object_set_new(want, "cores", json_pack("[i]", 9));
    reply = doctor_run(root, want);
    assert_string_equal(json_string_value(json_object_get(reply, "hostname")), "b?d");
    assert_false(doctor_print(reply, &text));
    assert_non_null(strstr(str_text(&text), "  wrong  cores           processor 9 is in the plan"));
    assert_non_null(strstr(str_text(&text), "  ->  cores: \"0-7\""));
    json_decref(reply);
    json_decref(want);
    str_clear(&text);
    hostile = json_pack("{s:[i, {s:i}, {s:s}]}", "findings", 3, "state", 7, "state", "slow");
    assert_true(doctor_print(hostile, &text));
    json_decref(hostile);
    str_fini(&text);
}

static void clocks_apart_are_told(void **state)
{
    json_t *reply = json_pack("{s:[]}", "findings");
    struct str text = {0};

    (void)state;
    doctor_compare_clock(reply, -0.04, 0.001);
    doctor_compare_clock(reply, 0.2, 0.18); /* a slow way there and back proves nothing */
    doctor_compare_clock(reply, 75.25, 0.1);
    assert_true(doctor_print(reply, &text)); /* it costs sense, not service */
    assert_string_equal(str_text(&text),
                        "  ok     clock           0.040 s behind this machine's\n"
                        "  ok     clock           0.200 s ahead of this machine's\n"
                        "  slow   clock           75.2 s ahead of this machine's: times in logs and traces "
                        "of the hosts do not line up  ->  sudo timedatectl set-ntp true, or chronyc makestep\n");
    str_fini(&text);
    json_decref(reply);
}

/* A router and two nodes on domain 3 of host 1, one on domain 0 of host 0. */
static void wants_are_summed_by_host_and_domain(void **state)
{
    uint32_t pus[] = {4, 5};
    struct place_node places[] = {{.kind = PLACE_ROUTER}, {.n_pus = 1, .pus = pus},
                                  {.n_pus = 2, .pus = pus}, {.n_pus = 1, .pus = pus}};
    struct topo_domain domains[] = {{.os_index = 0}, {.os_index = 3}};
    struct plan_node nodes[] = {
        {.place = &places[0], .domain = &domains[0]},
        {.place = &places[1], .domain = &domains[0], .weight_bytes = 7},
        {.place = &places[2], .domain = &domains[1], .host = 1, .weight_bytes = 10, .kv_bytes = 1},
        {.place = &places[3], .domain = &domains[1], .host = 1, .weight_bytes = 10, .kv_bytes = 2},
    };
    struct plan p = {.nodes = nodes, .n = 4};
    struct cluster_host hosts[] = {{.host = (char *)"local", .model = (char *)"/m", .programs = (char *)"/p"},
                                   {.host = (char *)"b", .model = (char *)"/m2", .programs = (char *)"/p2"}};
    struct cluster c = {.hosts = hosts, .n_hosts = 2,
                        .router = {.http = (char *)"127.0.0.1:8000", .nodes = (char *)"", .clients = (char *)"ipc://x:1"}};
    struct doctor_want w;
    json_t *json = doctor_want_json(&c, &p, 1, false);

    (void)state;
    doctor_want_read(&w, json);
    assert_string_equal(w.model, "/m2");
    assert_string_equal(w.programs, "/p2");
    assert_int_equal(w.n_ports, 0); /* the router is elsewhere */
    assert_int_equal(w.n_domains, 1);
    assert_int_equal(w.domains[0].os_index, 3);
    assert_int_equal(w.domains[0].bytes, 23);
    assert_int_equal(w.n_cores, 3);
    doctor_want_fini(&w);
    json_decref(json);
    json = doctor_want_json(&c, NULL, 0, true);
    doctor_want_read(&w, json);
    assert_int_equal(w.n_ports, 2);
    assert_int_equal(w.ports[0], 8000);
    assert_int_equal(w.ports[1], 5555);
    assert_int_equal(w.n_domains + w.n_cores, 0); /* no plan */
    assert_true(w.running);
    doctor_want_fini(&w);
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_good_host_has_nothing_to_mend, tree_make, tree_remove),
        cmocka_unit_test_setup_teardown(a_taken_port_names_who_has_it, tree_make, tree_remove),
        cmocka_unit_test_setup_teardown(memory_is_what_system_group_and_domain_leave, tree_make,
                                        tree_remove),
        cmocka_unit_test_setup_teardown(control_groups_limit_processors, tree_make, tree_remove),
        cmocka_unit_test_setup_teardown(a_cpuset_is_told_by_its_list, tree_make, tree_remove),
        cmocka_unit_test_setup_teardown(kernel_settings_cost_speed, tree_make, tree_remove),
        cmocka_unit_test_setup_teardown(shared_memory_has_a_switch_of_its_own, tree_make, tree_remove),
        cmocka_unit_test_setup_teardown(what_nodes_can_share_is_said, tree_make, tree_remove),
        cmocka_unit_test_setup_teardown(an_empty_tree_is_no_finding, tree_make, tree_remove),
        cmocka_unit_test(clocks_apart_are_told),
        cmocka_unit_test(wants_are_summed_by_host_and_domain),
        cmocka_unit_test(programs_and_model_are_looked_at),
        cmocka_unit_test_setup_teardown(a_reply_is_json_whatever_the_names, tree_make, tree_remove),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
