#include "daemon/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "config/ranges.h"
#include "daemon/end.h"
#include "host/cpu.h"

const char *const options_log_levels[] = {"error", "warn", "info", "debug", NULL};
const char *const options_log_formats[] = {"text", "json", NULL};
const char *const options_kv_types[] = {"f16", "f32", "bf16", "q8", "auto", NULL};
const char *const options_kv_paths[] = {"auto", "frames", NULL};
const char *const options_huge_pages[] = {"auto", "on", "off", NULL};
const char *const options_off_on[] = {"off", "on", NULL};

const char *const options_router_modes[] = {"auto", "disaggregated", "aggregated", NULL};

const char *options_name_wrong(const char *value)
{
    static const char good[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

    if (!*value || strlen(value) > OPTIONS_NAME_MAX || value[strspn(value, good)] ||
        *value == '.' || *value == '-')
        return "is not a name: 1 to 63 letters, digits, '.', '_' or '-', not starting with '.' "
               "or '-'";
    return NULL;
}

/* "host:port"; the host may be an IPv6 address in brackets. */
static bool options_is_address(const char *value)
{
    const char *colon = strrchr(value, ':');
    unsigned long port;
    char *end;

    if (!colon || colon == value || strlen(value) > 128 || strpbrk(value, " /,"))
        return false;
    if (memchr(value, ':', (size_t)(colon - value)) && !(value[0] == '[' && colon[-1] == ']'))
        return false;
    if (colon[1] < '0' || colon[1] > '9')
        return false;
    port = strtoul(colon + 1, &end, 10);
    return !*end && port <= 65535;
}

const char *options_address_wrong(const char *value)
{
    return options_is_address(value) ? NULL : "is not an address, host:port, port 0..65535";
}

const char *options_metrics_wrong(const char *value)
{
    return *value ? options_address_wrong(value) : NULL;
}

void options_model_name(char *out, size_t n, const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t length = strlen(name);

    if (length > 5 && !strcmp(name + length - 5, ".gguf"))
        length -= 5;
    snprintf(out, n, "%.*s", (int)length, name);
}

const char *options_endpoint_wrong(const char *value)
{
    if (!strncmp(value, "ipc://", 6)) {
        if (!value[6])
            return "names no socket file behind ipc://";
        return strlen(value + 6) <= OPTIONS_IPC_MAX ? NULL
                                                    : "is a socket path of more than 107 bytes";
    }
    if (!strncmp(value, "tcp://", 6) && options_is_address(value + 6))
        return NULL;
    return "is not an endpoint, tcp://host:port or ipc://path";
}

const char *options_cores_wrong(const char *value)
{
    uint32_t *list, n;

    if (ranges_parse(&list, &n, value, NULL))
        return "is not a list of different processor numbers like 0,2-5";
    mem_free(list);
    return NULL;
}

const char *options_cpu_wrong(const char *value)
{
    enum cpu_tier tier;

    switch (cpu_tier_choose(&tier, value, NULL)) {
    case ERR_OK:
        return NULL;
    case ERR_UNSUPPORTED:
        return "is a kernel tier that this machine cannot run";
    default:
        return "is not a kernel tier: " OPTIONS_CPU_TIERS;
    }
}

int options_check(const struct daemon_options *o, struct err *e)
{
    if (!*o->model)
        return err_set(e, ERR_CONFIG, "model: none was given, use --model=FILE");
    return 0;
}

/* The rows of struct node_options, but for the daemon's own. */
#define OPTIONS_NODE(s)                                                                            \
    OPTION(s, router, STR, .def = "tcp://127.0.0.1:8100", .wrong = options_endpoint_wrong,         \
           .unit = "ENDPOINT", .help = "the router's --nodes endpoint"),                           \
    OPTION(s, cores, STR, .wrong = options_cores_wrong, .unit = "LIST",                            \
           .help = "processors to bind threads to, as 0,2-5"),                                     \
    OPTION(s, domain, I32, .def = "-1", .min = -1, .max = 4095,                                    \
           .help = "NUMA domain to keep memory on, -1 for any"),                                   \
    OPTION(s, kv_pages, U32, .def = "0", .min = 0, .max = OPTIONS_KV_PAGES_MAX,                    \
           .help = "KV pages of 32 tokens, 0 to size from the model"),                             \
    OPTION(s, kv_type, ENUM, .def = "auto", .names = options_kv_types,                             \
           .help = "type of KV values; auto: bf16 with cpu amx, which alone has it, and a "        \
                   "router on this machine, else f16; q8 takes half the memory"),                  \
    OPTION(s, kv_wire, ENUM, .def = "auto", .names = options_kv_types,                             \
           .help = "type that KV travels as; auto: kv_type; or f32, for tiers whose types differ"), \
    OPTION(s, kv_path, ENUM, .def = "auto", .names = options_kv_paths,                             \
           .help = "how KV travels; auto: on one machine the decode node maps the prefill node's " \
                   "pages if the system lets it; frames: through the socket"),                     \
    OPTION(s, huge_pages, ENUM, .def = "auto", .names = options_huge_pages,                        \
           .help = "weights and KV in transparent huge pages; on: refuse to start without"),       \
    OPTION(s, prefix_cache, ENUM, .def = "on", .names = options_off_on,                            \
           .help = "keep KV for later prompts that begin alike, while nobody needs its pages"),    \
    OPTION(s, prefix_pages, U32, .def = "0", .min = 0, .max = OPTIONS_KV_PAGES_MAX,                \
           .help = "KV pages that the prefix cache may know, 0 for all of them"),                  \
    OPTION(s, change_role, ENUM, .def = "off", .names = options_off_on,                            \
           .help = "become the other kind of node when the router asks, keeping weights and KV"),  \
    OPTION(s, tell_end, STR, .wrong = end_wrong, .unit = "PID,HOW,TEXT",                           \
           .help = "only tell the router how the node's process PID ended, crashed or killed"),    \
    OPTION(s, chunk_tokens, U32, .def = "256", .min = 32, .max = 8192, .multiple = 32,             \
           .help = "as a prefill node: prompt tokens computed in one pass"),                       \
    OPTION(s, queue_max, U32, .def = "256", .min = 1, .max = 65536,                                \
           .help = "as a prefill node: jobs that may wait"),                                       \
    OPTION(s, kv, STR, .def = "tcp://127.0.0.1:8102", .wrong = options_endpoint_wrong,             \
           .unit = "ENDPOINT", .help = "as a decode node: where prefill nodes send KV"),           \
    OPTION(s, slots, U32, .def = "16", .min = 1, .max = 4096,                                      \
           .help = "as a decode node: sequences at once"),                                         \
    /* No less than two KV_PAGE messages of MSG_BULK_MAX, one on its way and one to be sent. */    \
    OPTION(s, credit_bytes, BYTES, .def = "2MiB", .min = 512 << 10, .max = 1 << 30,                \
           .unit = "SIZE", .help = "as a decode node: KV bytes a prefill node may have on the way"), \
    OPTION(s, swap, BYTES, .def = "1GiB", .min = 0, .max = (int64_t)1 << 40, .unit = "SIZE",       \
           .help = "as a decode node: memory for sequences set aside while KV pages are short"),   \
    OPTION(s, local_tokens, U32, .def = "0", .min = 0, .max = 4096,                                \
           .help = "as a decode node: tokens of local prompts in a step with others, 0 for what "  \
                   "doubles its time"),                                                            \
    OPTION(s, metrics, STR, .def = OPTIONS_METRICS, .wrong = options_metrics_wrong,                  \
           .unit = "HOST:PORT", .help = "where /metrics, /health and /ready listen, port 0 for a " \
                                        "free one (GET /v1/cluster of the router has it); empty: " \
                                        "nowhere")

static const struct option router_rows[] = {
    OPTIONS_DAEMON(router_options, "router"),
    OPTION(router_options, http, STR, .def = "127.0.0.1:8000", .wrong = options_address_wrong,
           .unit = "HOST:PORT", .help = "where HTTP listens"),
    OPTION(router_options, nodes, STR, .def = "tcp://127.0.0.1:8100",
           .wrong = options_endpoint_wrong, .unit = "ENDPOINT", .help = "where nodes connect"),
    OPTION(router_options, clients, STR, .def = "tcp://127.0.0.1:8101",
           .wrong = options_endpoint_wrong, .unit = "ENDPOINT",
           .help = "where native clients connect"),
    OPTION(router_options, queue_max, U32, .def = "256", .min = 1, .max = 65536,
           .help = "requests that may wait; more are refused with 503 and Retry-After"),
    OPTION(router_options, queue_deadline_ms, U32, .def = "30000", .min = 1, .max = 3600000,
           .unit = "MS", .help = "a request that waited longer is refused"),
    OPTION(router_options, queue_prefill_ms, U32, .def = "0", .min = 0, .max = 3600000, .unit = "MS",
           .help = "while waiting prompts take longer to compute, as predicted, more are refused with "
                   "503 and Retry-After; 0: queue_deadline_ms"),
    OPTION(router_options, queue_kv, BYTES, .def = "0", .min = 0, .max = (int64_t)1 << 50, .unit = "SIZE",
           .help = "likewise while waiting requests may come to need more KV; 0: 8 times the pools"),
    OPTION(router_options, heartbeat_ms, U32, .def = "250", .min = 10, .max = 60000, .unit = "MS",
           .help = "how often nodes say that they live"),
    OPTION(router_options, dead_ms, U32, .def = "1500", .min = 50, .max = 600000, .unit = "MS",
           .help = "silence after which a node is given up"),
    OPTION(router_options, chat_template, STR, .def = "auto", .unit = "auto|NAME|FILE",
           .help = "how messages become a prompt"),
    OPTION(router_options, mode, ENUM, .def = "auto", .names = options_router_modes,
           .help = "where prompts are computed: aggregated is on the decode nodes"),
    OPTION(router_options, move_roles, ENUM, .def = "off", .names = options_off_on,
           .help = "have nodes with change_role prefill or decode as the requests' lengths ask for"),
    OPTION(router_options, priority_age_ms, U32, .def = "5000", .min = 0, .max = 3600000,
           .unit = "MS", .help = "a priority that waited so long counts as one higher, 0 for never"),
    OPTION(router_options, tenant_concurrent, U32, .def = "0", .min = 0, .max = 65536,
           .help = "requests of one API key or user at a time, else 429; 0 for no limit"),
    OPTION(router_options, tenant_tokens_minute, U32, .def = "0", .min = 0, .max = 1000000000,
           .help = "tokens of one API key or user a minute, else 429; 0 for no limit"),
    OPTION(router_options, api_keys, STR, .unit = "FILE",
           .help = "lines of `NAME KEY [concurrent=N] [tokens_minute=N] [priority=N] [admin]`: HTTP "
                   "without one of them is refused"),
    OPTION(router_options, slo_ttft_ms, U32, .def = "0", .min = 0, .max = 3600000, .unit = "MS",
           .help = "target of the first token; what cannot meet it is refused with 503, 0 for none"),
    OPTION(router_options, slo_tpot_ms, U32, .def = "0", .min = 0, .max = 3600000, .unit = "MS",
           .help = "target of each other token; likewise"),
};

static const struct option prefill_rows[] = {
    OPTIONS_DAEMON(node_options, "prefill-1"),
    OPTIONS_NODE(node_options),
};

static const struct option decode_rows[] = {
    OPTIONS_DAEMON(node_options, "decode-1"),
    OPTIONS_NODE(node_options),
};

static int router_check(const void *cfg, struct err *e)
{
    const struct router_options *o = cfg;

    /* One lost beat must not look like a death. */
    if (o->dead_ms < 2 * o->heartbeat_ms)
        return err_set(e, ERR_CONFIG, "dead_ms: %u is less than twice heartbeat_ms, %u", o->dead_ms,
                       o->heartbeat_ms);
    if (*o->api_keys && !strncmp(o->clients, "tcp://", 6) && !*o->common.keys)
        return err_set(e, ERR_CONFIG, "clients: %s lets native clients in without an API key; use ipc:// "
                       "or a key file (keys)", o->clients);
    return options_check(&o->common, e);
}

static int node_check(const void *cfg, struct err *e)
{
    return options_check(&((const struct node_options *)cfg)->common, e);
}

const struct option_table router_option_table = {
    .program = "tandem-router",
    .summary = "Takes requests over HTTP and ZeroMQ and has the nodes of a cluster answer them",
    .options = router_rows,
    .n = ARRAY_LEN(router_rows),
    .environment = true,
    .file = true,
    .check = router_check,
};

const struct option_table prefill_option_table = {
    .program = "tandem-prefill",
    .summary = "Computes the KV of prompts, ships it to decode nodes, and samples the first token",
    .options = prefill_rows,
    .n = ARRAY_LEN(prefill_rows),
    .environment = true,
    .file = true,
    .check = node_check,
};

const struct option_table decode_option_table = {
    .program = "tandem-decode",
    .summary = "Receives the KV of prompts and generates the rest of each stream",
    .options = decode_rows,
    .n = ARRAY_LEN(decode_rows),
    .environment = true,
    .file = true,
    .check = node_check,
};
