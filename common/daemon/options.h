/* options: what the three daemons can be told, as structs and the tables that fill them.
 *
 * They live here, below the daemons, so that `tandem up` checks the router:, prefill: and decode:
 * maps of cluster.yaml by the very tables that the daemons read their flags with. Defaults and bounds
 * are in the tables, options.c.
 * Plain data: a daemon fills one at start and only reads it afterwards. */
#ifndef TANDEM_DAEMON_OPTIONS_H
#define TANDEM_DAEMON_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "config/option.h"

/* What every daemon has, the first member of each struct below. */
struct daemon_options {
    char *cluster; /* nodes of another cluster are refused */
    char *name;    /* unique in the cluster */
    char *model;   /* GGUF file */
    char *cpu;     /* kernel tier, or "auto" */
    char *keys;     /* key file (net/keys.h); "": none */
    bool insecure;  /* without keys: tcp beyond this machine all the same */
    int log_level;  /* enum log_level */
    int log_format; /* enum log_format */
};

/* Where prompts are computed. */
enum router_mode {
    ROUTER_AUTO,          /* on a prefill node, or on the decode node where that is better */
    ROUTER_DISAGGREGATED, /* on prefill nodes */
    ROUTER_AGGREGATED,    /* on decode nodes */
};

struct router_options {
    struct daemon_options common;
    char *http;    /* host:port that HTTP listens on */
    char *nodes;   /* ZeroMQ endpoint to bind, for prefill and decode nodes */
    char *clients; /* ZeroMQ endpoint to bind, for native clients */
    uint32_t queue_max;
    uint32_t queue_deadline_ms;
    uint32_t queue_prefill_ms; /* of prompts that wait, as predicted; 0: queue_deadline_ms */
    uint64_t queue_kv;         /* bytes that waiting requests may come to need; 0: from the pools */
    uint32_t heartbeat_ms, dead_ms;
    char *chat_template; /* "auto", a family's name, or a file */
    int mode;            /* enum router_mode */
    int move_roles;      /* 0: nodes keep theirs */
    uint32_t priority_age_ms, slo_ttft_ms, slo_tpot_ms;
    uint32_t tenant_concurrent, tenant_tokens_minute;
    char *api_keys; /* file of API keys (router/api_keys.h); "": everybody is let in */
};

/* How KV comes from a prefill node to a decode node. */
enum kv_path {
    KV_PATH_AUTO,   /* read in memory that both map where that can be done, or else in frames */
    KV_PATH_FRAMES, /* through the socket */
};

/* A prefill or decode node. Both have all of it: a node may change its role while it serves. */
struct node_options {
    struct daemon_options common;
    char *router;      /* ZeroMQ endpoint to connect to */
    char *cores;       /* ranges.h: os processor numbers; "" leaves threads where they are */
    int32_t domain;    /* NUMA domain by os number; -1: any */
    uint32_t kv_pages; /* 0: sized from the model */
    int kv_type, kv_wire;  /* enum kv_type */
    int kv_path;           /* enum kv_path */
    int huge_pages;        /* enum mem_huge */
    int prefix_cache;      /* 0: off */
    uint32_t prefix_pages; /* it may know; 0: the whole pool */
    int change_role;       /* 0: it does not */
    char *tell_end;        /* end.h; "": be a node */
    /* of a prefill node */
    uint32_t chunk_tokens, queue_max;
    /* of a decode node */
    char *kv;              /* ZeroMQ endpoint to bind, where prefill nodes send KV */
    uint32_t slots;        /* sequences at once */
    uint64_t credit_bytes;
    uint64_t swap;         /* bytes for sequences set aside */
    uint32_t local_tokens; /* of prompts computed here, in a step with others; 0: as measured */
    char *metrics;         /* host:port of /metrics; port 0: any; "": none */
};

extern const struct option_table router_option_table;
extern const struct option_table prefill_option_table; /* of struct node_options, and so */
extern const struct option_table decode_option_table;

/* For option.wrong. A name: 1 to 63 letters, digits, '.', '_', '-'. An endpoint: tcp://host:port or
 * ipc://path (OPTIONS_IPC_MAX). The address of HTTP: host:port. Cores: see config/ranges.h. */
const char *options_name_wrong(const char *value);
const char *options_endpoint_wrong(const char *value);
const char *options_address_wrong(const char *value);
const char *options_metrics_wrong(const char *value); /* an address, or nothing */
const char *options_cores_wrong(const char *value);
const char *options_cpu_wrong(const char *value); /* also a tier that this machine cannot run */

#define OPTIONS_CPU_TIERS                                                                   \
    "auto, ref, avx2, avx512vnni, amx, neon-dotprod, neon-i8mm" /* as host/cpu.h names them */
#define OPTIONS_METRICS "127.0.0.1:0" /* on every process, at a port that is free */
#define OPTIONS_NAME_MAX 63 /* MSG_NAME_MAX without the NUL */
#define OPTIONS_KV_PAGES_MAX (1u << 24)
#define OPTIONS_IPC_MAX 107 /* sun_path holds 108 bytes with its NUL */

/* The rows of struct daemon_options, first in each table. */
#define OPTIONS_DAEMON(s, default_name)                                                            \
    OPTION_IN(s, common, cluster, STR, .def = "tandem", .wrong = options_name_wrong,               \
              .unit = "NAME", .help = "the cluster this process belongs to"),                      \
    OPTION_IN(s, common, name, STR, .def = (default_name), .wrong = options_name_wrong,            \
              .unit = "NAME", .help = "its name, unique in the cluster"),                          \
    OPTION_IN(s, common, model, STR, .unit = "FILE", .help = "the model, a GGUF file"),            \
    OPTION_IN(s, common, cpu, STR, .def = "auto", .wrong = options_cpu_wrong, .unit = "TIER",      \
              .help = "kernel tier: " OPTIONS_CPU_TIERS),                                          \
    OPTION_IN(s, common, keys, STR, .unit = "FILE",                                                \
              .help = "key file of encrypted tcp; `tandem keys` makes one"),                       \
    OPTION_IN(s, common, insecure, BOOL, .help = "without keys: tcp beyond this machine, unprotected"), \
    OPTION_IN(s, common, log_level, ENUM, .def = "info", .names = options_log_levels,              \
              .help = "how much goes to stderr"),                                                  \
    OPTION_IN(s, common, log_format, ENUM, .def = "text", .names = options_log_formats,            \
              .help = "lines for people, or a JSON object each")

extern const char *const options_log_levels[]; /* NULL-terminated, in the order of enum log_level */
extern const char *const options_log_formats[]; /* of enum log_format */
extern const char *const options_kv_types[];   /* of enum kv_type */
extern const char *const options_kv_paths[];   /* of enum kv_path */
extern const char *const options_huge_pages[]; /* of enum mem_huge */
extern const char *const options_off_on[];
extern const char *const options_router_modes[];

/* What a model is called to clients: its file's name without folder and ".gguf", cut at n. */
void options_model_name(char *out, size_t n, const char *path);

/* What each table.check begins with: a model was named. */
int options_check(const struct daemon_options *o, struct err *e);

#endif
