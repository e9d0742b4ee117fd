/* msg: every message that tandem's processes exchange, as plain C.
 *
 * The state machines of router, prefill and decode speak in these structs and never see a socket;
 * net/codec turns them into protobuf frames and back, checking every field against the limits below.
 * The conversation (who sends what when) is proto/GRAMMAR.md. A msg owns its `tokens`, `text` and
 * `bulk`; msg_fini frees them. One thread. */
#ifndef TANDEM_NET_MSG_H
#define TANDEM_NET_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/traceparent.h"
#include "host/share.h"

#define MSG_PROTOCOL 6 /* refused at the handshake if it differs */

/* Limits: a peer that sends more is refused, so that no message decides how much memory we take. */
#define MSG_NAME_MAX 64          /* bytes, NUL included: node, cluster, model names */
#define MSG_ENDPOINT_MAX 160     /* a ZeroMQ endpoint, or host:port */
#define MSG_TEXT_MAX 512         /* a sentence about an error */
#define MSG_TOKENS_MAX (1u << 20) /* tokens of one prompt */
#define MSG_PROMPT_MAX (8u << 20) /* bytes of a prompt or a piece of text */
#define MSG_STOP_TOKENS_MAX 16
#define MSG_STOPS_MAX 8          /* stop strings of a native client */
#define MSG_STOP_BYTES_MAX 128
#define MSG_BULK_MAX (256u << 10) /* KV bytes in one frame (CURVE slows with frame size) */
#define MSG_PREFIX_MAX 4096      /* blocks in one PREFIX_REPORT, of each list */
#define MSG_UNITS_MAX 4096       /* numbers in KV_MISSING */
#define MSG_PRIORITY_MAX 7

enum msg_type {
    /* generate.proto: client <-> router */
    MSG_GENERATE = 1,
    MSG_GENERATE_TOKENS,
    MSG_GENERATE_DONE,
    MSG_GENERATE_CANCEL,
    /* cluster.proto: node <-> router */
    MSG_REGISTER = 16,
    MSG_REGISTERED,
    MSG_REFUSED,   /* router -> node, or decode -> prefill: go away, text says why */
    MSG_HEARTBEAT, /* both ways */
    MSG_DRAIN,     /* router -> node: finish what runs, take nothing new */
    MSG_BYE,       /* node -> router: leaving */
    MSG_ROLE,      /* router -> node: finish what runs, then serve in that role */
    MSG_PREFIX_REPORT, /* node -> router: blocks that its prefix cache gained and lost */
    MSG_ENDED,     /* a node's supervisor -> router: how the node's process ended */
    /* prefill.proto: router <-> prefill */
    MSG_PREFILL_JOB = 32,
    MSG_PREFILL_TOKEN,
    MSG_PREFILL_FAILED,
    /* decode.proto: router <-> decode */
    MSG_RESERVE = 48,
    MSG_RESERVED,
    MSG_RESERVE_REFUSED,
    MSG_TOKENS,
    MSG_DECODE_FAILED,
    MSG_CANCEL, /* router -> prefill or decode */
    /* kv.proto: prefill <-> decode */
    MSG_KV_HELLO = 64,
    MSG_KV_WELCOME,
    MSG_KV_CREDIT,
    MSG_KV_PAGE,
    MSG_KV_AGAIN,
    MSG_KV_END,
    MSG_KV_DONE,
    MSG_KV_ABORT,
    MSG_KV_RESUME,  /* prefill -> decode, on a new connection: what of this stream is missing? */
    MSG_KV_MISSING, /* decode -> prefill: this */
    MSG_KV_PLACE,   /* prefill -> decode: as KV_PAGE, but the bytes are to be read where they lie */
};

enum node_role { ROLE_PREFILL = 1, ROLE_DECODE = 2 };

/* Why a stream ended. */
enum finish { FINISH_NONE, FINISH_STOP, FINISH_LENGTH, FINISH_CANCELLED, FINISH_ERROR };

/* One attempt at one request. The router numbers requests and raises the epoch each time it starts
 * the request anew; anything of an older epoch is dropped. */
struct stream_id {
    uint64_t request;
    uint32_t epoch;
};

/* temperature 0 is greedy. The token at index i (0 = first generated) is drawn with rng(seed, i). */
struct sampling {
    float temperature; /* 0 .. 100 */
    float top_p;       /* (0, 1]; 1 = off */
    uint32_t top_k;    /* 0 = off */
    uint64_t seed;
};

/* What must agree for KV of one process to be usable by another. */
struct kv_geometry {
    uint32_t n_layer, n_kv_head, head_dim, page_tokens;
    uint32_t wire_type; /* enum kv_type of the bytes on the wire */
};

struct msg_bulk {
    const void *data; /* NULL: none */
    size_t size;
    void (*release)(void *data, void *hint); /* called once when no longer needed; NULL: static */
    void *hint;
};

struct msg_generate {
    uint64_t tag;      /* the client's own number, echoed */
    uint32_t *tokens;  /* the prompt as token ids, or NULL and the text follows */
    uint32_t n_tokens;
    char *text;
    size_t text_bytes;
    uint32_t max_tokens;
    struct sampling sampling;
    bool has_seed;
    bool ignore_eos;
    uint32_t n_stops;
    char stops[MSG_STOPS_MAX][MSG_STOP_BYTES_MAX]; /* NUL-terminated */
    char tenant[MSG_NAME_MAX]; /* whose request it is: fairness, limits, prefix cache; "": nobody's */
    uint32_t priority;         /* band, 0 is served first; at most MSG_PRIORITY_MAX */
};
struct msg_generate_tokens { /* in order, no gap, no repeat */
    uint64_t tag;
    uint32_t index;   /* of tokens[0] */
    uint32_t *tokens;
    uint32_t n_tokens;
    char *text;       /* complete UTF-8 characters of these tokens (may be empty) */
    size_t text_bytes;
};
struct msg_generate_done {
    uint64_t tag;
    enum finish finish;
    int32_t status;   /* HTTP-like: 200, 400, 429, 503, ... */
    uint32_t prompt_tokens, output_tokens;
    char text[MSG_TEXT_MAX]; /* the error, if status is not 200 */
    /* Where the time went, as struct router_stats has it; 0 and "" of what there was not. */
    uint32_t cached_tokens, restarts;
    bool local;
    int64_t ttft_ns, wait_ns, queue_ns, prefill_ns, handoff_ns, decode_queue_ns, decode_ns;
    uint64_t kv_bytes;
    char prefill[MSG_NAME_MAX], decode[MSG_NAME_MAX];
};

struct msg_register {
    uint32_t protocol;
    enum node_role role;
    char cluster[MSG_NAME_MAX];
    char name[MSG_NAME_MAX];           /* unique in the cluster: "decode-1" */
    char tier[MSG_NAME_MAX];           /* kernel tier */
    char kv_endpoint[MSG_ENDPOINT_MAX]; /* decode: where prefill nodes connect */
    uint64_t boot;                     /* random, per process start */
    uint64_t model_hash;
    struct kv_geometry geometry;
    uint32_t ctx_max;      /* longest sequence, tokens */
    uint32_t slots;        /* decode: sequences at once; prefill: queue length */
    uint32_t pages_total;
    uint32_t cores, domain;
    int32_t pid;
    char host[MSG_NAME_MAX];  /* of the machine; "": unknown */
    bool change_role;         /* it can: takes MSG_ROLE */
    /* what a pass costs here and what the machine gives, to predict TTFT and TPOT; 0: unknown */
    uint64_t weight_bytes;    /* read by a decode step */
    uint64_t kv_token_bytes;  /* of one token, all layers, in the node's pages */
    uint64_t flops_token;     /* of one row, without attention */
    uint64_t read_bytes_s;    /* measured read bandwidth of the node's cores */
    uint64_t flops_s;         /* measured matmul rate at a full chunk */
    char metrics[MSG_ENDPOINT_MAX]; /* host:port of its /metrics; "": it has none */
    uint32_t kv_type; /* enum kv_type: of the node's pages */
};
struct msg_registered {
    uint32_t heartbeat_ms; /* how often to beat */
    uint32_t dead_ms;      /* silence after which the router gives the node up, and vice versa */
};
struct msg_heartbeat { /* router -> node: all zero */
    uint32_t queued, running;
    uint32_t pages_free, pages_total;
    uint64_t tokens;         /* computed since start: prompt tokens (prefill), output tokens (decode) */
    uint64_t steps;          /* forward passes since start */
    uint64_t kv_bytes;       /* shipped (prefill) or received (decode) since start */
    bool draining;
    uint64_t queued_tokens;  /* prompt tokens accepted and not yet computed */
    uint64_t busy_ns;        /* spent in forward passes since start */
    uint64_t step_ns;        /* decode: smoothed time of a step */
    uint64_t hit_tokens;     /* prompt tokens that a prefix cache saved, since start */
    uint64_t local_tokens;   /* decode: prompt tokens computed here, since start */
    uint64_t preempted;      /* decode: sequences set aside for want of pages, since start */
    uint32_t pages_cached;   /* of pages_free: held by the prefix cache alone, given up if needed */
    uint64_t flops, read_bytes; /* that the passes cost since start, at least: engine/cost.h */
    uint64_t pages_bad;      /* KV pages that came spoiled (decode) or were asked for again (prefill) */
    uint64_t leases_expired; /* streams given up since KV did not come, or was not taken */
    uint64_t resumed;        /* prefill: streams that went on on a new connection */
};
/* The router keeps an approximate index of who holds which prefix: a block is named by the low 32 bits
 * of its chain hash (kv/prefix.h). */
struct msg_prefix {
    bool reset; /* forget what this node reported before */
    uint32_t *added, *removed;
    uint32_t n_added, n_removed;
};
/* Which process, as it registered, and whether it ended by a fault of its own: a signal like SIGSEGV, an
 * exit code; or from outside: SIGKILL, SIGTERM. */
struct msg_ended {
    char cluster[MSG_NAME_MAX], name[MSG_NAME_MAX], host[MSG_NAME_MAX];
    int32_t pid;
    bool crashed;
    char text[MSG_TEXT_MAX]; /* "signal 11 (Segmentation fault)" */
};
struct msg_text { /* REFUSED, BYE, DRAIN */
    char text[MSG_TEXT_MAX];
};

struct msg_prefill_job {
    struct stream_id id;
    uint32_t *tokens; /* the prompt, and on a restart the tokens delivered so far */
    uint32_t n_tokens;
    uint32_t first_index; /* index of the token to sample: how many were delivered before */
    uint32_t max_new;     /* tokens still wanted, >= 1 */
    uint32_t skip_tokens; /* prefix that the decode node holds: not shipped */
    struct sampling sampling;
    uint32_t n_stop_tokens;
    uint32_t stop_tokens[MSG_STOP_TOKENS_MAX]; /* a sampled one of these ends the stream */
    char decode_name[MSG_NAME_MAX];
    char kv_endpoint[MSG_ENDPOINT_MAX];
    uint64_t salt;     /* of the prefix cache: the tenant's */
    uint32_t priority; /* band, 0 first */
    struct traceparent trace; /* the router's span; RESERVE likewise */
};
struct msg_prefill_token { /* the first token, before its KV has been shipped */
    struct stream_id id;
    uint32_t index, token;
    enum finish finish; /* NONE: the decode node goes on */
    int64_t queue_ns, compute_ns;
    uint32_t hit_tokens; /* leading tokens whose KV was in the node's prefix cache */
};
struct msg_failed { /* PREFILL_FAILED, DECODE_FAILED, RESERVE_REFUSED, KV_ABORT */
    struct stream_id id;
    bool retry; /* another node, or this one later, may succeed */
    char text[MSG_TEXT_MAX];
    bool room; /* DECODE_FAILED: nothing was wrong, its pages went to others, who go on */
};

struct msg_reserve {
    struct stream_id id;
    uint32_t *tokens;     /* as in the job: to find what the prefix cache holds, or to prefill here */
    uint32_t n_tokens;
    uint32_t first_index; /* as in the job */
    uint32_t max_new;
    struct sampling sampling;
    uint32_t n_stop_tokens;
    uint32_t stop_tokens[MSG_STOP_TOKENS_MAX];
    uint64_t salt;     /* of the prefix cache: the tenant's */
    uint32_t priority; /* band, 0 first */
    bool local;        /* no prefill node: compute the prompt here; TOKENS start at first_index */
    struct traceparent trace;
};
struct msg_reserved {
    struct stream_id id;
    uint32_t held_tokens; /* leading tokens whose KV is here already (0 without a prefix cache) */
};
#define MSG_TOKENS_BATCH_MAX 64
struct msg_tokens {
    struct stream_id id;
    uint32_t index; /* of tokens[0] */
    uint32_t n_tokens;
    uint32_t tokens[MSG_TOKENS_BATCH_MAX];
    enum finish finish; /* with the last tokens of the stream */
    uint64_t kv_bytes;  /* received for this stream; with the last message */
    /* in the first message of a stream */
    int64_t queue_ns;    /* from RESERVE (local) or from the last page to the stream's first row */
    int64_t compute_ns;  /* local: computing the prompt */
    int64_t step_ns;     /* the step that gave tokens[0] */
    uint32_t hit_tokens; /* leading tokens whose KV was in the node's prefix cache */
};
struct msg_cancel {
    struct stream_id id;
};

struct msg_kv_hello {
    uint32_t protocol;
    char cluster[MSG_NAME_MAX];
    char name[MSG_NAME_MAX]; /* of the prefill node */
    uint64_t model_hash;
    struct kv_geometry geometry;
    struct share_offer offer; /* to map the KV where it lies */
};
struct msg_kv_credit { /* KV_WELCOME and KV_CREDIT: bulk bytes the sender may send beyond those so far */
    uint64_t bytes;
    bool places; /* KV_WELCOME: what was offered is mapped */
};
/* Page `page` (tokens 32 * page ...) of one layer, heads head_first .. +head_count: a unit in
 * the form that it travels in (kv/kv_wire.h). The bytes are `bulk`; of KV_PLACE they lie in the sender's memory,
 * and bulk has their size alone. KV_AGAIN: the same fields, no bulk: send it once more. */
struct msg_kv_page {
    struct stream_id id;
    uint32_t layer, page, head_first, head_count;
    uint32_t n_tokens;  /* 32, or less in the last page */
    uint64_t checksum;  /* hash64(bulk, seed 0) */
    uint64_t place;     /* KV_PLACE: where in the memory of the offer */
    struct msg_bulk bulk;
};
struct msg_kv_end { /* every page was sent; the stream goes on from this token */
    struct stream_id id;
    uint32_t n_tokens; /* of KV */
    uint32_t index, token;
};

/* KV_MISSING: runs of units (kv/kv_unit.h) as pairs of first and count, ascending; the first runs if
 * there are more. None: everything is here. KV_RESUME has only the id, in msg_cancel. */
struct msg_kv_missing {
    struct stream_id id;
    uint32_t *units;
    uint32_t n_units; /* even */
};

struct msg {
    enum msg_type type;
    union {
        struct msg_generate generate;
        struct msg_generate_tokens generate_tokens;
        struct msg_generate_done generate_done;
        uint64_t generate_cancel; /* the tag */
        struct msg_register reg;
        struct msg_registered registered;
        struct msg_heartbeat heartbeat;
        struct msg_text text;
        enum node_role role; /* ROLE */
        struct msg_prefix prefix;
        struct msg_ended ended;
        struct msg_prefill_job job;
        struct msg_prefill_token first;
        struct msg_failed failed;
        struct msg_reserve reserve;
        struct msg_reserved reserved;
        struct msg_tokens tokens;
        struct msg_cancel cancel;      /* also KV_RESUME, and KV_DONE: the sender may free the pages */
        struct msg_kv_hello hello;
        struct msg_kv_credit credit;
        struct msg_kv_page page;
        struct msg_kv_end end;
        struct msg_kv_missing missing;
    } u;
};

const char *msg_type_name(enum msg_type type); /* "PREFILL_JOB"; "?" for a number that is none */
const char *node_role_name(enum node_role role); /* "prefill", "decode" */

/* Frees what the message owns and clears it; releases the bulk. */
void msg_fini(struct msg *m);

#endif
