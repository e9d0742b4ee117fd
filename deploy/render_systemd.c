/* Units of systemd (247 or later). A process has its command line from launch, as under `tandem up`,
 * and a sandbox: it needs its model, its run directory, sockets, and calls of @system-service. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "deploy/render.h"

#define SYSTEMD_STOP_S 60       /* to drain in; a stream may last longer: it goes on elsewhere */

/* What a service may not do. MemoryDenyWriteExecute: nothing here writes code. AF_NETLINK: ZeroMQ
 * lists the network's interfaces when it binds. */
static const char systemd_sandbox[] =
    "NoNewPrivileges=yes\n"
    "CapabilityBoundingSet=\n"
    "AmbientCapabilities=\n"
    "ProtectSystem=strict\n"
    "PrivateTmp=yes\n"
    "PrivateDevices=yes\n"
    "PrivateUsers=yes\n"
    "ProtectClock=yes\n"
    "ProtectControlGroups=yes\n"
    "ProtectHostname=yes\n"
    "ProtectKernelLogs=yes\n"
    "ProtectKernelModules=yes\n"
    "ProtectKernelTunables=yes\n"
    "ProtectProc=invisible\n"
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\n"
    "RestrictNamespaces=yes\n"
    "RestrictRealtime=yes\n"
    "RestrictSUIDSGID=yes\n"
    "LockPersonality=yes\n"
    "MemoryDenyWriteExecute=yes\n"
    "RemoveIPC=yes\n"
    "SystemCallArchitectures=native\n"
    "SystemCallFilter=@system-service\n"
    "SystemCallFilter=~@privileged\n"
    "SystemCallErrorNumber=EPERM\n"
    "UMask=0077\n";

/* A command line being written. */
struct systemd_line {
    struct str *out;
    bool router;
};

/* A word of ExecStart: in quotes if need be, with what systemd would expand doubled. */
static void systemd_word(struct str *out, const char *text)
{
    bool plain = text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                   "_@+=:,./-%[]*")] == '\0';

    if (!plain)
        str_addc(out, '"');
    for (; *text; text++) {
        if (*text == '%' || *text == '$')
            str_addc(out, *text);
        if (*text == '"' || *text == '\\')
            str_addc(out, '\\');
        str_addc(out, *text);
    }
    if (!plain)
        str_addc(out, '"');
}

/* An option, on a line of its own. A node's keys are in the file beside the router's: as `tandem keys`
 * makes the two. */
static void systemd_option(void *ctx, const char *key, const char *value)
{
    struct systemd_line *line = ctx;
    struct str word = {0};

    str_addf(&word, "--%s=%s%s", key, value, !strcmp(key, "keys") && !line->router ? ".node" : "");
    str_adds(line->out, " \\\n    ");
    systemd_word(line->out, str_text(&word));
    str_fini(&word);
}

/* The folder of a host's files, with its '/'; "" if there is one host. */
static void systemd_folder(struct str *out, const struct cluster *c, uint32_t host)
{
    if (c->n_hosts == 1)
        return;
    for (const char *name = c->hosts[host].host; *name; name++)
        str_addc(out, strchr("/@: ", *name) ? '-' : *name);
    str_addc(out, '/');
}

/* Homes are hidden, unless something of ours is in one. */
static bool systemd_in_home(const char *path)
{
    size_t n = *path == '/' ? strcspn(path + 1, "/") : 0;

    return n == 4 && (!strncmp(path + 1, "home", n) || !strncmp(path + 1, "root", n));
}

/* A node finishes its streams before it is stopped. Where the router listens on loopback only, other
 * hosts cannot ask it to: there, streams go on elsewhere. */
static void systemd_drain(struct str *out, const struct cluster *c, const struct launch_process *p)
{
    const char *http = c->router.http, *port = strrchr(http, ':');
    bool all = !strncmp(http, "0.0.0.0:", 8) || !strncmp(http, "[::]:", 5);
    bool loopback = !strncmp(http, "127.", 4) || !strncmp(http, "localhost:", 10) ||
                    !strncmp(http, "[::1]:", 6);
    struct str url = {0}, program = {0};

    if (!strcmp(p->name, "router") || (loopback && p->host != 0))
        return;
    if (all)
        str_addf(&url, "http://%s%s", p->host && *c->hosts[0].address ? c->hosts[0].address : "127.0.0.1",
                 port);
    else
        str_addf(&url, "http://%s", http);
    str_addf(&program, "%s/tandem", c->hosts[p->host].programs);
    str_adds(out, "ExecStop=-"); /* '-': that it has left already is no failure */
    systemd_word(out, str_text(&program));
    str_addf(out, " drain --wait_s=%d ", SYSTEMD_STOP_S - 5);
    systemd_word(out, str_text(&url));
    str_addf(out, " %s\n", p->name);
    if (*c->router.api_keys) /* draining is for administrators */
        str_addf(out, "EnvironmentFile=-/etc/tandem/%s/environment\n", c->cluster);
    str_fini(&url);
    str_fini(&program);
}

static void systemd_service(struct render *out, const struct cluster *c, const struct launch_process *p)
{
    const struct cluster_host *host = &c->hosts[p->host];
    bool router = !strcmp(p->name, "router");
    struct str folder = {0}, *s;

    systemd_folder(&folder, c, p->host);
    s = render_add(out, 0644, "%standem-%s-%s.service", str_text(&folder), c->cluster, p->name);
    str_fini(&folder);
    str_addf(s,
             "[Unit]\n"
             "Description=tandem %s: %s\n"
             "PartOf=tandem-%s.target\n"
             "Wants=network-online.target\n"
             "After=network-online.target%s%s%s\n"
             "StartLimitIntervalSec=0\n\n",
             c->cluster, p->name, c->cluster, router || p->host ? "" : " tandem-",
             router || p->host ? "" : c->cluster, router || p->host ? "" : "-router.service");
    str_adds(s, "[Service]\nType=exec\nUser=tandem\nExecStart=");
    systemd_word(s, p->argv[0]);
    render_each(p, systemd_option, &(struct systemd_line){.out = s, .router = router});
    str_addc(s, '\n');
    systemd_drain(s, c, p);
    str_addf(s,
             "Restart=on-failure\n"
             "RestartSec=1\n"
             "TimeoutStopSec=%d\n"
             "RuntimeDirectory=tandem/%s\n"
             "RuntimeDirectoryMode=0700\n"
             "RuntimeDirectoryPreserve=yes\n"
             "LimitNOFILE=%d\n"
             "%s"
             "ProtectHome=%s\n",
             SYSTEMD_STOP_S, c->cluster, router ? LAUNCH_ROUTER_FILES : 4096, systemd_sandbox,
             systemd_in_home(host->model) || systemd_in_home(host->programs) ||
                     (router && systemd_in_home(c->router.api_keys))
                 ? "read-only"
                 : "yes");
}

/* What is started and stopped as one on a host. */
static void systemd_target(struct render *out, const struct cluster *c, const struct launch *l,
                           uint32_t host)
{
    struct str folder = {0}, *s;

    systemd_folder(&folder, c, host);
    s = render_add(out, 0644, "%ssysusers.conf", str_text(&folder));
    str_adds(s, "u tandem - \"tandem: serving of language models\"\n");
    s = render_add(out, 0644, "%standem-%s.target", str_text(&folder), c->cluster);
    str_fini(&folder);
    str_addf(s,
             "# Cluster %s on host %s, by `tandem render systemd` " TANDEM_VERSION ". There, as root:\n"
             "#   systemd-sysusers ./sysusers.conf\n"
             "#   cp *.service *.target /etc/systemd/system/ && systemctl daemon-reload\n"
             "#   systemctl enable --now tandem-%s.target\n",
             c->cluster, c->hosts[host].host, c->cluster);
    if (cluster_needs_keys(c))
        str_addf(s,
                 "# Before, once for all hosts: `tandem keys keys`. The file keys.node belongs into\n"
                 "# /etc/tandem/%s/ of each host, keys into that of %s, mode 0600, owner tandem.\n",
                 c->cluster, c->hosts[0].host);
    if (*c->router.api_keys)
        str_addf(s,
                 "# TANDEM_API_KEY=KEY, of an administrator, in /etc/tandem/%s/environment, mode 0600: with it a node\n"
                 "# that is stopped is drained before. The router's file of keys has owner tandem.\n",
                 c->cluster);
    str_addf(s, "[Unit]\nDescription=tandem %s\nWants=", c->cluster);
    for (size_t i = 0; i < l->n; i++)
        if (l->processes[i].host == host)
            str_addf(s, " \\\n    tandem-%s-%s.service", c->cluster, l->processes[i].name);
    str_adds(s, "\n\n[Install]\nWantedBy=multi-user.target\n");
}

int render_systemd(struct render *out, const struct cluster *c, const struct plan *p, struct err *e)
{
    struct launch_place *places = mem_calloc(c->n_hosts, sizeof(*places));
    struct str run_dir = {0}, keys = {0};
    struct launch l = {0};
    int rc;

    str_addf(&run_dir, "/run/tandem/%s", c->cluster);
    if (cluster_needs_keys(c))
        str_addf(&keys, "/etc/tandem/%s/keys", c->cluster);
    for (size_t h = 0; h < c->n_hosts; h++)
        places[h] = (struct launch_place){.program_dir = c->hosts[h].programs,
                                          .unchecked = true, /* to be installed, perhaps */
                                          .run_dir = str_text(&run_dir),
                                          .keys = str_text(&keys)};
    rc = launch_init(&l, c, p, places, e);
    for (uint32_t h = 0; h < c->n_hosts && !rc; h++)
        systemd_target(out, c, &l, h);
    for (size_t i = 0; i < l.n && !rc; i++)
        systemd_service(out, c, &l.processes[i]);
    launch_fini(&l);
    mem_free(places);
    str_fini(&run_dir);
    str_fini(&keys);
    return rc;
}
