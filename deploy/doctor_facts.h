/* doctor_facts: a snapshot of a host, as /proc, /sys and the files that a cluster needs tell it.
 * Reads and changes nothing. Plain data, one thread. */
#ifndef TANDEM_DEPLOY_DOCTOR_FACTS_H
#define TANDEM_DEPLOY_DOCTOR_FACTS_H

#include <stdbool.h>
#include <stdint.h>

#include "deploy/doctor_want.h"

#define DOCTOR_UNKNOWN (-1)
#define DOCTOR_PROGRAMS 3

/* A port that the cluster wants. */
struct doctor_port {
    uint32_t port;
    bool taken;
    long pid;         /* of who listens there; DOCTOR_UNKNOWN: a process of another user */
    char program[32]; /* its name, "" if unknown */
};

/* Numbers that the system does not tell are 0, or DOCTOR_UNKNOWN where 0 means something. */
struct doctor_facts {
    char hostname[64];
    uint32_t *cpus, n_cpus; /* that we may use; owned */
    uint32_t n_online;
    double quota;           /* processors that the control group gives at most; 0: no limit */
    char quota_file[256];   /* that says so */
    char governor[32];      /* of the first of our processors whose governor is not performance */
    uint32_t n_governed;    /* such processors */
    bool amx;               /* the processors have tiles */
    int amx_allowed;        /* to this process */
    uint64_t memory;        /* available */
    uint64_t group_memory;  /* left of the control group's limit; UINT64_MAX: no limit */
    char group_file[256];
    struct doctor_domain domains[DOCTOR_DOMAINS_MAX]; /* available */
    uint32_t n_domains;
    char huge[16];           /* transparent huge pages: always, madvise or never */
    char shared_huge[16];    /* the same of shared memory: also within_size, advise, deny, force */
    int shares;              /* processes can map each other's memory, as nodes do with KV */
    char shares_not[256];    /* why, if they cannot */
    uint64_t reserved_bytes; /* pages of the hugetlb pool that nobody uses, nor can tandem */
    int numa_balancing;
    uint64_t files;          /* open at once; 0 unknown, UINT64_MAX: no limit */
    int synchronised;        /* the clock, with a time server */
    char clocksource[32];
    struct doctor_port ports[DOCTOR_PORTS_MAX]; /* as the want's */
    uint32_t n_ports;
    char versions[DOCTOR_PROGRAMS][32]; /* "": not there, or it does not run */
    uint64_t model_bytes;
    char model_wrong[256]; /* why it cannot be used, "" if it can */
};

extern const char *const doctor_programs[DOCTOR_PROGRAMS];

/* root: "", or a folder with proc and sys as recorded; what only calls tell (clock, AMX) is unknown
 * there. f is zeroed; doctor_facts_fini it. */
void doctor_facts_read(struct doctor_facts *f, const char *root, const struct doctor_want *w);
void doctor_facts_fini(struct doctor_facts *f);

#endif
