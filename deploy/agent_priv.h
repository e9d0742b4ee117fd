/* agent_priv: what the files of the agent share. See agent.h. */
#ifndef TANDEM_DEPLOY_AGENT_PRIV_H
#define TANDEM_DEPLOY_AGENT_PRIV_H

#include <jansson.h>

#include "base/err.h"
#include "deploy/agent.h"
#include "deploy/model_file.h"
#include "deploy/rundir.h"
#include "deploy/supervisor.h"
#include "deploy/wire.h"

#define AGENT_OUTPUT_MAX (1u << 20) /* unsent bytes beyond which nothing is added to them */

/* A file that comes in. */
struct agent_receive {
    char *path, *part; /* owned */
    char hash[MODEL_HASH_TEXT];
    int fd;            /* of the part; -1: none comes in */
    uint64_t size, done;
};

/* A log that is being told. */
struct agent_tail {
    int fd;
    char *name;      /* owned: of the process */
    struct str line; /* the beginning of one */
};

struct agent {
    struct wire in;
    struct str out;
    bool ended;
    int relay_fd;
    char op[16]; /* of the request that is being answered */
    /* start .. detach */
    bool attached, told_failed;
    bool heard;       /* something came since heard_at was set */
    int64_t heard_at;
    struct supervisor supervisor;
    struct rundir dir;
    int64_t progress_at;
    char *progress; /* the last that was told, owned */
    /* model, and the end of receive */
    struct model_file *hashing;
    int64_t told_at;
    struct agent_receive receive;
    struct agent_tail *tails; /* [n_tails] */
    size_t n_tails;
    bool following;
    int64_t look_at;
};

/* Answers the request under way. Takes fields. */
void agent_reply(struct agent *a, json_t *fields);
void agent_fail(struct agent *a, const struct err *e);

/* Takes event. */
void agent_event(struct agent *a, json_t *event);

/* The run directory of the request's cluster; a reply was given if it fails. */
bool agent_cluster(struct agent *a, struct rundir *d, const json_t *request);

/* The operations, by file. */
void agent_op_start(struct agent *a, const json_t *request);
void agent_op_detach(struct agent *a, const json_t *request);
void agent_op_write(struct agent *a, const json_t *request);
void agent_op_stop(struct agent *a, const json_t *request);
int64_t agent_watch(struct agent *a, int64_t now); /* over what was started */
void agent_leave(struct agent *a);                 /* ends it */

void agent_op_model(struct agent *a, const json_t *request);
void agent_op_receive(struct agent *a, const json_t *request);
void agent_received(struct agent *a, const void *bytes, size_t n);
bool agent_hash(struct agent *a, int64_t now); /* goes on with it; true: there is more */
void agent_receive_end(struct agent *a);

void agent_op_tail(struct agent *a, const json_t *request);
int64_t agent_tail_on(struct agent *a, int64_t now);
void agent_tail_end(struct agent *a);

#endif
