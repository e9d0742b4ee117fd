/* cluster: what cluster.yaml asks for, checked, with defaults filled in.
 *
 * The keys of the router:, prefill: and decode: maps are the daemons' own options, read by the
 * daemons' own tables (daemon/options.h); what `tandem up` decides itself (names, cores, endpoints)
 * is refused there. Plain data, filled once. It looks at no model and starts nothing. */
#ifndef TANDEM_DEPLOY_CLUSTER_H
#define TANDEM_DEPLOY_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "config/option.h"
#include "daemon/options.h"
#include "deploy/cluster_host.h"

#define CLUSTER_NODES_MAX 4096 /* of each kind */
#define CLUSTER_RATIO_MAX 1024 /* each side of P:D */
#define CLUSTER_PORT "5555"    /* of the router's endpoint for nodes on several hosts */

struct cluster_nodes {
    struct node_options options; /* first: the daemon's table is applied here */
    uint32_t nodes;              /* 0: from the ratio */
    bool none;                   /* "nodes: 0" was said, of prefill: decode nodes compute prompts */
};

/* What is expected of requests, for `ratio: auto`. */
struct cluster_workload {
    uint32_t prompt_tokens, output_tokens;
};

struct cluster {
    char *file;          /* what it was read from, for messages */
    char *cluster;       /* its name */
    char *model;         /* absolute path of a GGUF file */
    char *ratio;         /* "auto" or "P:D" */
    char *cpu;           /* of all processes whose map does not say otherwise; so the next five */
    int log_level, log_format;
    int kv_type, kv_wire;
    char *chat_template; /* "auto", a family, or the absolute path of a file */
    uint32_t ratio_prefill, ratio_decode; /* 0, 0: auto */
    struct cluster_workload workload;
    struct router_options router; /* .nodes and .clients are "" unless given: `up` fills them */
    struct cluster_nodes prefill, decode;
    char *ssh;                    /* the command that HOST and a command there follow; words */
    bool insecure;                /* TCP beyond loopback without keys is meant */
    struct cluster_host *hosts;   /* the router runs on the first */
    size_t n_hosts;               /* >= 1 after a load that succeeded */
};

/* What may be said on the command line for this time only; "" where nothing was. The options of
 * `tandem up` and `tandem plan` are these. */
struct cluster_override {
    char *cluster, *model, *ratio, *mode, *cpu, *log_level, *log_format, *http;
};

/* The rows of struct cluster_override as the first member of struct s. */
#define CLUSTER_OVERRIDES(s)                                                                       \
    OPTION_IN(s, override, cluster, STR, .unit = "NAME", .help = "another name for the cluster"),  \
    OPTION_IN(s, override, model, STR, .unit = "FILE", .help = "another model"),                   \
    OPTION_IN(s, override, ratio, STR, .unit = "P:D", .help = "prefill to decode, or auto"),       \
    OPTION_IN(s, override, mode, STR, .unit = "MODE",                                              \
              .help = "where prompts are computed: auto, disaggregated, aggregated"),              \
    OPTION_IN(s, override, cpu, STR, .unit = "TIER", .help = "kernel tier of every process"),      \
    OPTION_IN(s, override, log_level, STR, .unit = "LEVEL", .help = "log level of every process"), \
    OPTION_IN(s, override, log_format, STR, .unit = "text|json",                                   \
              .help = "log lines of every process"),                                               \
    OPTION_IN(s, override, http, STR, .unit = "HOST:PORT", .help = "where HTTP listens")

/* Reads the file, then the environment (TANDEM_*), then the overrides (NULL: none) into a zeroed
 * struct; cluster_fini it in any case. Relative paths in the file start at the file's folder. */
int cluster_load(struct cluster *c, const char *path, const struct cluster_override *override,
                 struct err *e);

/* The same of a text; path is what it would be called. */
int cluster_load_text(struct cluster *c, const char *text, size_t n, const char *path,
                      const struct cluster_override *override, struct err *e);

void cluster_fini(struct cluster *c);

/* Whether any of its hosts is not this machine. */
bool cluster_is_remote(const struct cluster *c);

/* Whether its processes meet over TCP: there are other hosts, or `nodes` of the router is such an
 * endpoint, for nodes started by hand elsewhere. And whether they need key files for that, as they do
 * beyond loopback unless `insecure`. */
bool cluster_uses_tcp(const struct cluster *c);
bool cluster_needs_keys(const struct cluster *c);

/* The port of the router's endpoint for nodes, where they meet over TCP. Borrowed. */
const char *cluster_nodes_port(const struct cluster *c);

/* Records ERR_CONFIG with `file:line:column: `, as yaml_fail does, for what is found out about a host
 * after the file was read. Returns ERR_CONFIG. */
int cluster_fail(const struct cluster *c, struct yaml_mark at, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
