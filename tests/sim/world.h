/* world: one simulated cluster: the production step machines of a router, prefill and decode nodes
 * in one process and one thread, on a clock of its own, with a network that fails and nodes that
 * crash, stop and come back. Everything is a function of the seed.
 *
 * What is real: router/core, prefill-node/core, decode-node/core, net/link, KV pools, and for a
 * share of the seeds net/codec. What is a model, and of what:
 *
 *   nodes.c    the shells: daemon/member (registering, beating, a new identity after silence), the
 *              outboxes, prefill.c and decode.c as far as they decide anything
 *   front.c    router.c: handles of peers, LOST when a send finds no peer; and the clients
 *   net.c      ZeroMQ: what a connection keeps in order, and what is lost with it
 *   compute.c  the engine: KV is a chain hash of the sequence in every layer, a token is a hash of
 *              all KV of its sequence, so any wrong, stale, missing or shared page changes tokens
 *
 * Not modelled: queues that are full (credit and limits keep them from it), time that the network
 * threads take, bytes that differ from what was sent but for the KV that a checksum guards. */
#ifndef TANDEM_SIM_WORLD_H
#define TANDEM_SIM_WORLD_H

#include "base/clock.h"
#include "base/map.h"
#include "decode-node/core.h"
#include "kv/kv_pool.h"
#include "net/link.h"
#include "prefill-node/core.h"
#include "router/core.h"
#include "tests/sim/heap.h"

#define ROUTER 0       /* the router's number among the processes; nodes follow */
#define PROCS_MAX 9
#define VOCAB 1000
#define STOP_TOKEN 2
#define POISON (VOCAB - 1) /* whoever computes it crashes */
#define PLANES_MAX 8   /* layers x parts of a layer in KV_PAGEs */
#define NO_LINK UINT32_MAX

enum event_kind {
    EV_START,        /* a process begins */
    EV_MSG,          /* data: struct packet */
    EV_CONNECT,      /* data: struct conn: its DEALER tries to connect */
    EV_NOTICE,       /* data: struct conn; arg: enum side: it finds the connection broken */
    EV_TICK,         /* of the step machine */
    EV_MEMBER,       /* of a node's membership */
    EV_COMPUTE,      /* the next layer, or the end, of what is computed. arg: which run */
    EV_FAULT,        /* the next of the schedule's faults */
    EV_CLIENT,       /* arg: client: it begins */
    EV_CANCEL,       /* arg: client: it goes */
    EV_TOLD,         /* how a node ended, from its supervisor. arg: node, crashed << 4, life << 5 */
};

enum side { DEALER_SIDE, ROUTER_SIDE };

/* A DEALER and its connection to a ROUTER, for as long as the DEALER's identity lives. */
struct conn {
    uint32_t id;             /* from 1: the identity */
    uint32_t dealer, dealer_life, link; /* link: of a prefill node; NO_LINK: its member's */
    uint32_t bound, bound_life;         /* the process that bound the ROUTER */
    char endpoint[MSG_ENDPOINT_MAX];
    bool open;               /* the DEALER has not been closed */
    bool up[2];              /* each side's belief */
    bool broke;              /* the DEALER noticed; what sock_broke tells, once */
    bool deaf;               /* the ROUTER still holds the identity's old connection */
    uint32_t gen;            /* TCP connections so far */
    uint32_t live;           /* the one that carries bytes; 0: none */
    uint32_t gen_of[2];      /* which connection each side believes in */
    uint32_t dead;           /* the last that broke; of it, what is numbered below cut arrives */
    uint32_t cut[2];
    uint32_t sent[2], seen[2]; /* packets towards each side */
    int64_t last_at[2];
    int64_t cut_until;       /* the path does not work before */
    bool known;              /* router.c has its handle */
};

struct packet {
    struct msg msg;
    struct conn *conn;
    enum side to;
    uint32_t gen, number;
    struct packet *next;
};

struct outbox_item {
    struct msg msg;
    struct outbox_item *next;
};
struct waiting { /* daemon/outbox */
    struct outbox_item *first, **last;
    uint32_t n;
};

struct member {
    enum { JOINING, UP, OVER } state;
    struct conn *conn;
    struct waiting waiting;
    struct link link;
    uint32_t registers;
    int64_t register_due;
};

/* One row or one span, as it was when it was submitted. */
struct work {
    uint8_t *const *pages;
    uint32_t first, count; /* tokens at these positions; their ids are in run_tokens */
    bool want;             /* sample after the last */
    uint64_t seed;
    uint32_t index;
};

struct proc {
    enum node_role role;
    char name[MSG_NAME_MAX], endpoint[MSG_ENDPOINT_MAX];
    uint32_t life;         /* processes of this name so far */
    bool alive;
    int64_t stopped_until; /* SIGSTOP; 0: runs */
    int64_t stop_at;       /* SIGTERM came; 0: not */
    uint32_t slowness;     /* its compute takes so many times longer */
    uint64_t boot;
    struct kv_pool *pool;
    struct kv_pool *swap;  /* NULL: sequences are not set aside */
    struct prefix *prefix;
    uint64_t preempted, returned;
    bool prefix_reset;
    struct prefill_core *prefill;
    struct prefill_actions prefill_out;
    struct decode_core *decode;
    struct decode_actions decode_out;
    struct member member;
    /* compute */
    bool busy;
    uint32_t run, layer;   /* EV_COMPUTE of another run is void */
    struct work *work;
    uint32_t n_work, cap_work;
    uint32_t *run_tokens, cap_tokens;
    /* prefill: sockets of links; decode: peers by handle */
    struct conn *conns[PREFILL_LINKS_MAX];
    struct waiting waiting[PREFILL_LINKS_MAX];
    uint32_t n_conns;      /* places ever used */
};

struct client {
    int64_t at;
    uint32_t *prompt, n_prompt, max_new;
    uint32_t *want, n_want;
    enum finish want_finish;
    uint64_t seed;
    uint32_t tenant, priority;
    uint32_t got;
    enum { CLIENT_NEW, CLIENT_RUNS, CLIENT_OVER } state;
    bool gone;             /* it disconnected */
    bool poisoned;         /* it has POISON: no token, and an error */
    bool probe;            /* began after the last fault: must succeed */
    int64_t ended;
    int64_t last_token, gap; /* longest */
};

/* What a seed makes of the cluster. */
struct setup {
    uint32_t prefills, decodes, clients, slots, chunk, queue;
    enum router_mode mode;
    uint32_t model, pool;  /* indices into the models and pool sizes of world.c */
    uint32_t heartbeat_ms, dead_ms;
    int64_t active_ns;     /* faults and clients stop then */
    int64_t lease_ns, hello_ns;
    int64_t delay_ns, tail_ns; /* of a packet: usual, and one in tail_in up to this */
    uint32_t tail_in;
    int64_t step_ns;       /* a layer or a decode step, about */
    uint32_t spoil_in;     /* one KV_PAGE in so many is spoiled; 0: none */
    uint32_t cancel_in;    /* one client in so many disconnects; 0: none */
    int64_t cancel_ns;     /* within so long */
    uint32_t faults;       /* how many */
    uint32_t kinds;        /* bits of enum fault */
    uint32_t prompt_max, new_max;
    uint32_t prefix_pages; /* that the caches may hold alone; 0: none */
    bool swap;
    bool crowded;          /* many long answers at once in small pools: sequences are set aside */
    enum { WORDS_NONE, WORDS_PROMPT, WORDS_LATE } words; /* of supervisors */
    bool poison;           /* a client is poisoned */
    bool targets;          /* the router has them, for TTFT and TPOT */
    bool places;           /* decode nodes can read the memory of prefill nodes */
    bool fixed_endpoints;  /* a decode node comes back where it was */
    bool codec;
};

enum fault { FAULT_KILL, FAULT_STOP, FAULT_CUT, FAULT_TERM, FAULT_SLOW, FAULT_ROUTER, FAULT_DRAIN,
             FAULT_KINDS };

struct world {
    uint64_t seed, rng;
    struct setup setup;
    int64_t now;
    struct heap heap;
    struct kv_layout layout;
    struct kv_cut cut;
    uint32_t planes;
    struct proc procs[PROCS_MAX];
    uint32_t n_procs;
    struct conn **conns;
    uint32_t n_conns, cap_conns;
    uint32_t n_notices;    /* breaks that a side has yet to find out about */
    struct packet *free_packets;
    struct router_core *router;
    struct router_actions router_out;
    struct { enum router_event_type type; uint64_t handle; } pending[64];
    uint32_t n_pending;
    struct client *clients;
    uint32_t n_clients, cap_clients, n_over;
    bool calm;             /* no fault happens any more */
    bool trace;
    char broken[512];      /* the invariant that broke; "": none */
    struct tally {
        uint64_t events, packets, lost, faults[FAULT_KINDS], spoiled, placed, unread;
        uint64_t finished, failed, gone;
        uint64_t restarts, stale, tokens, refused, preempted, returned, crashes, quarantined, seconds;
        int64_t gap_max;
    } tally;
};

/* world.c */
/* Nothing but a poisoned request goes wrong here, and supervisors speak at once: blame is exact. */
bool world_is_tidy(const struct world *w);
uint64_t draw64(struct world *w);
uint32_t draw(struct world *w, uint32_t below); /* 0 if below is 0 */
void world_at(struct world *w, int64_t at, enum event_kind kind, uint32_t proc, uint32_t arg,
              void *data);
/* Remembers the first broken invariant. */
void world_broken(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void world_trace(const struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define TRACE(w, ...) ((w)->trace ? world_trace((w), __VA_ARGS__) : (void)0)
/* Plays a whole schedule. Pools are kept from schedule to schedule, by model and size. */
#define MODELS 3
#define POOL_SIZES 5
struct pools {
    struct kv_pool *items[MODELS][POOL_SIZES][PROCS_MAX];
    struct kv_pool *swaps[MODELS][PROCS_MAX];
};
void world_play(struct world *w, uint64_t seed, struct pools *pools, bool trace);
/* So many clients, of which more than half disconnect before they have their tokens, no other fault, and
 * DISCONNECT_WITNESSES that stay and must get theirs; all pages are free 1 s after the last. */
#define DISCONNECT_WITNESSES 50
void world_play_disconnects(struct world *w, uint64_t seed, struct pools *pools, uint32_t clients);
void world_fini(struct world *w);
void pools_close(struct pools *pools);

/* net.c */
struct conn *net_open(struct world *w, uint32_t dealer, uint32_t link, const char *endpoint);
/* The DEALER is closed. flush: what it sent still gets out, and it says goodbye. */
void net_close(struct world *w, struct conn *c, bool flush);
void net_connect(struct world *w, struct conn *c);
void net_notice(struct world *w, struct conn *c, enum side side);
/* The path breaks; each side notices after so long. */
void net_break(struct world *w, struct conn *c, int64_t dealer_notices, int64_t router_notices);
/* The process is gone, with its sockets. */
void net_dead(struct world *w, uint32_t proc);
/* Takes m and returns true, or false: there is no connection, as that side sees it. */
bool net_send(struct world *w, struct conn *c, enum side to, struct msg *m);
/* True if the packet arrives: its connection lives, or had delivered it before it broke. */
bool net_arrives(struct world *w, struct packet *p);
void net_packet_free(struct world *w, struct packet *p);

/* compute.c */
void compute_want(struct client *c, uint32_t planes);
bool compute_is_poisoned(const struct proc *p); /* what it computes now */
void compute_layer(struct world *w, struct proc *p, uint32_t layer); /* writes KV of that layer */
void compute_sample(struct world *w, struct proc *p, uint32_t *tokens); /* one a work item */
size_t compute_export(const struct world *w, uint64_t *out, const uint8_t *page,
                      const struct kv_unit *u);
void compute_import(const struct world *w, uint8_t *page, const uint64_t *in,
                    const struct kv_unit *u);
void compute_scrub(const struct world *w, struct kv_pool *pool);

/* nodes.c, for a node */
void node_start(struct world *w, struct proc *p);
void node_message(struct world *w, struct proc *p, struct packet *m);
void node_tick(struct world *w, struct proc *p);
void node_member_tick(struct world *w, struct proc *p);
void node_computed(struct world *w, struct proc *p);
void node_term(struct world *w, struct proc *p);
/* EXITS: its last words get out. Otherwise its supervisor tells. Checks that its pages come back. */
enum death { EXITS, KILLED, CRASHES };
void node_die(struct world *w, struct proc *p, enum death how);
/* Nothing runs, and all pages are free but for those that only the cache holds. */
bool node_idle(const struct proc *p);
uint32_t node_pages_free(const struct proc *p);
bool node_pages_back(const struct proc *p);

/* front.c: the router and its clients */
void front_start(struct world *w);
void front_die(struct world *w);
void front_message(struct world *w, struct packet *m);
void front_tick(struct world *w);
void front_client(struct world *w, uint32_t client);
void front_cancel(struct world *w, uint32_t client);
void front_drain(struct world *w, struct proc *p);
void front_told(struct world *w, uint32_t arg); /* EV_TOLD */
/* Nothing is charged to any node, nothing waits. */
bool front_idle(const struct world *w);

#endif
