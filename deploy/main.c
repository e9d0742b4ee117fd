/* tandem: starts, looks at and ends clusters, and looks at models. `tandem NAME ...` calls cmd_NAME. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "config/nearest.h"
#include "daemon/daemon.h"
#include "deploy/commands.h"

static int cmd_version(int argc, char **argv);
static int cmd_help(int argc, char **argv);

static const struct subcommand {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *usage, *help;
} subcommands[] = {
    {"up", cmd_up, "FILE", "start the cluster that FILE describes, or change it"},
    {"down", cmd_down, "[FILE|CLUSTER]", "end it, leaving nothing behind"},
    {"status", cmd_status, "[FILE|CLUSTER]", "show its nodes and what they do"},
    {"top", cmd_top, "[FILE|CLUSTER]", "the same, refreshed, with rates"},
    {"logs", cmd_logs, "[FILE|CLUSTER] [NODE]", "show what its processes logged; -f goes on"},
    {"drain", cmd_drain, "[FILE|CLUSTER] NODE", "let a node finish its streams and leave"},
    {"explain", cmd_explain, "[FILE|CLUSTER] ID", "show why a request went where it went"},
    {"run", cmd_run, "[FILE|CLUSTER] PROMPT", "send one prompt and stream the answer; -i to chat"},
    {"scale", cmd_scale, "[FILE|CLUSTER] KIND=N", "add or drain nodes while it serves"},
    {"role", cmd_role, "[FILE|CLUSTER] NODE ROLE", "have a node prefill or decode from now on"},
    {"plan", cmd_plan, "FILE", "show what `up` would start, and where"},
    {"render", cmd_render, "KIND FILE", "write it for systemd, slurm or kubernetes"},
    {"doctor", cmd_doctor, "[FILE]", "show what is wrong on the hosts, and what mends it"},
    {"keys", cmd_keys, "FILE", "make the keys of a cluster's tcp, or with --client a client's"},
    {"tokenize", cmd_tokenize, "TEXT", "show the tokens of a text"},
    {"detokenize", cmd_detokenize, "ID...", "show the text of tokens"},
    {"inspect", cmd_inspect, "MODEL.gguf", "show what a model file holds"},
    {"eval", cmd_eval, "", "run token lists through one engine, without a cluster"},
    {"agent", cmd_agent, NULL, NULL}, /* for ourselves: the far end of the others */
    {"version", cmd_version, "", "print the version"},
    {"help", cmd_help, "", "print this"},
};

static void usage(FILE *out)
{
    fputs("usage: tandem COMMAND [options]\n"
          "Serves language models on clusters of CPU machines.\n\n",
          out);
    for (size_t i = 0; i < ARRAY_LEN(subcommands); i++)
        if (subcommands[i].help)
            fprintf(out, "  %-10s %-25s %s\n", subcommands[i].name, subcommands[i].usage,
                    subcommands[i].help);
    fputs("\nWhat only asks takes http://HOST:PORT of a router for a cluster, too.\n"
          "`tandem COMMAND --help` explains a command.\n",
          out);
}

static int cmd_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    puts("tandem " TANDEM_VERSION);
    return EXIT_OK;
}

static int cmd_help(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    usage(stdout);
    return EXIT_OK;
}

static int unknown(const char *name)
{
    struct nearest near;

    nearest_init(&near, name);
    for (size_t i = 0; i < ARRAY_LEN(subcommands); i++)
        nearest_try(&near, subcommands[i].name);
    if (near.best)
        fprintf(stderr, "tandem: unknown command \"%.40s\"; did you mean \"%s\"?\n", name, near.best);
    else
        fprintf(stderr, "tandem: unknown command \"%.40s\"; `tandem help` lists them\n", name);
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : NULL;

    signal(SIGPIPE, SIG_IGN);
    if (!name) {
        usage(stderr);
        return EXIT_USAGE;
    }
    if (!strcmp(name, "--help") || !strcmp(name, "-h"))
        name = "help";
    if (!strcmp(name, "--version"))
        name = "version";
    for (size_t i = 0; i < ARRAY_LEN(subcommands); i++)
        if (!strcmp(name, subcommands[i].name))
            return subcommands[i].run(argc - 1, argv + 1);
    return unknown(name);
}
