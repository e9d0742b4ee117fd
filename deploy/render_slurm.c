/* A batch job of Slurm. Which machines it gets is known when it runs: until then host i of cluster.yaml
 * is an address of the net for benchmarks (RFC 2544), which the script's words replace by
 * ${address[i]}. Slurm chooses the cores, so nodes are told none: they take what their step has. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "deploy/render.h"

#define SLURM_NET "198.18."
#define SLURM_HTTP "127.0.0.1:8000" /* the default of http: */
#define SLURM_HTTP_JOB SLURM_NET "0.0:8000"
#define SLURM_RUN "${run}"   /* what the script's variables stand for in command lines */
#define SLURM_KEYS "${keys}"

/* How many bytes of text are an address of host *i; 0: it does not start with one. */
static size_t slurm_address(const char *text, unsigned *i)
{
    unsigned high, low;
    int n = 0;

    if (sscanf(text, SLURM_NET "%3u.%3u%n", &high, &low, &n) != 2 || high > 255 || low > 255)
        return 0;
    *i = high * 256 + low;
    return (size_t)n;
}

/* A word of the script in double quotes. */
static void slurm_word(struct str *out, const char *text)
{
    str_addc(out, '"');
    while (*text) {
        size_t own = !strncmp(text, SLURM_RUN, strlen(SLURM_RUN))     ? strlen(SLURM_RUN)
                     : !strncmp(text, SLURM_KEYS, strlen(SLURM_KEYS)) ? strlen(SLURM_KEYS)
                                                                      : 0;
        unsigned host;
        size_t address = slurm_address(text, &host);

        if (address)
            str_addf(out, "${address[%u]}", host);
        else if (own)
            str_add(out, text, own);
        else if (strchr("\"\\$`", *text))
            str_addf(out, "\\%c", *text);
        else
            str_addc(out, *text);
        text += address ? address : own ? own : 1;
    }
    str_addc(out, '"');
}

/* A command line being written. */
struct slurm_line {
    struct str *out;
    bool router, more; /* more: of a node that joins, whose script says what differs */
};

static void slurm_option(void *ctx, const char *key, const char *value)
{
    static const char *const own[] = {"name", "kv", "router", "keys", "metrics"};
    struct slurm_line *line = ctx;
    struct str word = {0};

    if (!strcmp(key, "cores") || !strcmp(key, "domain"))
        return;
    for (size_t i = 0; i < ARRAY_LEN(own) && line->more; i++)
        if (!strcmp(key, own[i]))
            return;
    str_addf(&word, "--%s=%s%s", key, value, !strcmp(key, "keys") && !line->router ? ".node" : "");
    str_adds(line->out, " \\\n    ");
    slurm_word(line->out, str_text(&word));
    str_fini(&word);
}

/* What one machine must have for the fullest host. */
static struct render_size slurm_machine(const struct cluster *c, const struct plan *p)
{
    struct render_size most = {0};

    for (uint32_t h = 0; h < c->n_hosts; h++) {
        struct render_size sum = {0};

        for (size_t i = 0; i < p->n; i++) {
            struct render_size s = render_size(c, &p->nodes[i]);

            if (p->nodes[i].host != h)
                continue;
            sum.cpus += s.cpus;
            sum.mib += s.mib;
        }
        most.cpus = u32_max(most.cpus, sum.cpus);
        most.mib = most.mib > sum.mib ? most.mib : sum.mib;
    }
    return most;
}

/* The names of machines in the job, and how they reach each other. */
static const char slurm_functions[] =
    "# address_of MACHINE: where the others reach it\n"
    "address_of() {\n"
    "    local name\n"
    "    name=$(scontrol show node \"$1\" | sed -n 's/.*NodeAddr=\\([^ ]*\\).*/\\1/p')\n"
    "    getent ahosts \"${name:-$1}\" | awk '{ print $1; exit }'\n"
    "}\n";

static void slurm_head(struct str *s, const struct cluster *c, const char *job, uint32_t machines,
                       const struct render_size *each)
{
    str_addf(s,
             "#SBATCH --job-name=%s\n"
             "#SBATCH --nodes=%u\n"
             "#SBATCH --ntasks-per-node=1\n"
             "#SBATCH --cpus-per-task=%u\n"
             "#SBATCH --mem=%luM\n"
             "#SBATCH --output=%%x-%%j.out\n"
             "set -u\n"
             "programs=",
             job, machines, each->cpus, (unsigned long)each->mib);
    slurm_word(s, c->hosts[0].programs);
    str_addc(s, '\n');
    str_adds(s, slurm_functions);
}

static void slurm_serve(struct str *s, const struct cluster *c, const struct plan *p,
                        const struct launch *l, bool keys)
{
    struct render_size machine = slurm_machine(c, p);
    struct str job = {0};

    str_addf(&job, "tandem-%s", c->cluster);
    str_addf(s,
             "#!/bin/bash\n"
             "# Cluster %s as one job, by `tandem render slurm` " TANDEM_VERSION ":\n"
             "#   sbatch serve.sbatch; where it serves is in %s-JOB.out\n"
             "#   sbatch node.sbatch, sbatch --array=1-4 node.sbatch: more decode nodes\n"
             "# The machines share the folder it is submitted from%s. Slurm binds the\n"
             "# steps to their cores: TaskPlugin=task/affinity or task/cgroup.\n",
             c->cluster, str_text(&job), keys ? ", where the keys are" : "");
    slurm_head(s, c, str_text(&job), (uint32_t)c->n_hosts, &machine);
    str_addf(s,
             "# step NAME MACHINE CPUS MIB COMMAND...: a process, started again when it fails\n"
             "step() {\n"
             "    local name=$1 machine=$2 cpus=$3 mib=$4\n"
             "    shift 4\n"
             "    until srun --job-name=\"$name\" --nodes=1 --ntasks=1 --nodelist=\"$machine\" --exact \\\n"
             "        --cpus-per-task=\"$cpus\" --mem=\"${mib}M\" \"$@\"; do\n"
             "        sleep 1\n"
             "    done\n"
             "}\n\n"
             "mapfile -t machine < <(scontrol show hostnames \"$SLURM_JOB_NODELIST\")\n"
             "for m in \"${machine[@]}\"; do address+=(\"$(address_of \"$m\")\"); done\n"
             "run=$(mktemp -d \"/tmp/%s-XXXXXX\") || exit 1 # the router's socket for native clients\n"
             "trap 'rm -rf \"$run\"' EXIT\n",
             str_text(&job));
    if (keys)
        str_addf(s,
                 "keys=$PWD/%s-$SLURM_JOB_ID.keys\n"
                 "\"$programs/tandem\" keys \"$keys\" || exit 1\n", str_text(&job));
    else
        str_adds(s, "keys=\n");
    str_addf(s, "printf 'router=%%s\\nkeys=%%s\\n' \"tcp://${address[0]}:%s\" \"$keys\" >%s.router\n",
             cluster_nodes_port(c), str_text(&job));
    str_adds(s, "echo serves at http://");
    slurm_word(s, c->router.http);
    str_adds(s, " on \"${machine[0]}\"\n");
    for (size_t i = 0; i < l->n; i++) {
        const struct launch_process *process = &l->processes[i];
        struct render_size step = render_size(c, &p->nodes[i]);

        str_addf(s, "\nstep %s \"${machine[%u]}\" %u %lu ", process->name, process->host, step.cpus,
                 (unsigned long)step.mib);
        slurm_word(s, process->argv[0]);
        render_each(process, slurm_option, &(struct slurm_line){.out = s, .router = i == 0});
        str_adds(s, " &\n");
    }
    str_adds(s, "\nwait\n");
    str_fini(&job);
}

/* As the last decode node, on any machine. */
static void slurm_more(struct str *s, const struct cluster *c, const struct plan *p,
                       const struct launch *l)
{
    struct render_size step = render_size(c, &p->nodes[l->n - 1]);
    struct str job = {0};

    str_addf(&job, "tandem-%s-node", c->cluster);
    str_addf(s,
             "#!/bin/bash\n"
             "# One more node of cluster %s, which runs: sbatch node.sbatch from the folder that serve.sbatch\n"
             "# was submitted from. A prefill node: sbatch --export=ALL,TANDEM_ROLE=prefill node.sbatch. It\n"
             "# leaves with scancel: its streams go on on other nodes.\n", c->cluster);
    slurm_head(s, c, str_text(&job), 1, &step);
    str_addf(s,
             "role=${TANDEM_ROLE:-decode}\n"
             ". \"./tandem-%s.router\" || exit 1 # router, keys\n"
             "here=$(address_of \"$SLURMD_NODENAME\")\n"
             "srun --cpus-per-task=%u \"$programs/tandem-$role\"",
             c->cluster, step.cpus);
    render_each(&l->processes[l->n - 1], slurm_option, &(struct slurm_line){.out = s, .more = true});
    str_adds(s, " \\\n    --name=\"$role-job-$SLURM_JOB_ID\" --router=\"$router\" --keys=\"${keys:+$keys.node}\" \\\n"
                "    --kv=\"tcp://$here:0\" --metrics=\"$here:0\"\n");
    str_fini(&job);
}

/* The cluster's hosts under names and addresses that nobody has. */
static struct cluster_host *slurm_hosts(const struct cluster *c)
{
    struct cluster_host *hosts = mem_dup(c->hosts, c->n_hosts * sizeof(*hosts));

    for (size_t h = 0; h < c->n_hosts; h++) {
        struct str s = {0};

        str_addf(&s, SLURM_NET "%zu.%zu", h / 256, h % 256);
        hosts[h].host = hosts[h].address = str_steal(&s);
    }
    return hosts;
}

int render_slurm(struct render *out, const struct cluster *c, const struct plan *p, struct err *e)
{
    struct cluster job = *c; /* borrows all but hosts */
    struct launch_place *places = mem_calloc(c->n_hosts, sizeof(*places));
    struct launch l = {0};
    int rc;

    job.hosts = slurm_hosts(c);
    if (!strcmp(c->router.http, SLURM_HTTP)) /* nobody sits at that machine */
        job.router.http = SLURM_HTTP_JOB;
    for (size_t h = 0; h < c->n_hosts; h++)
        places[h] = (struct launch_place){.program_dir = c->hosts[h].programs,
                                          .unchecked = true, /* to be installed, perhaps */
                                          .run_dir = SLURM_RUN,
                                          .keys = c->insecure ? "" : SLURM_KEYS};
    rc = launch_init(&l, &job, p, places, e);
    if (!rc) {
        slurm_serve(render_add(out, 0755, "serve.sbatch"), &job, p, &l, !c->insecure);
        slurm_more(render_add(out, 0755, "node.sbatch"), &job, p, &l);
    }
    launch_fini(&l);
    for (size_t h = 0; h < c->n_hosts; h++)
        mem_free(job.hosts[h].host);
    mem_free(job.hosts);
    mem_free(places);
    return rc;
}
