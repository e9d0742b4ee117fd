/* render: a cluster as the files of systemd, Slurm or Kubernetes. Pure: from cluster.yaml and its plan
 * to texts; render_write puts them into a folder. One thread. */
#ifndef TANDEM_DEPLOY_RENDER_H
#define TANDEM_DEPLOY_RENDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "deploy/cluster.h"
#include "deploy/launch.h"
#include "deploy/plan.h"

struct render_file {
    char *path;      /* below the folder */
    unsigned mode;   /* 0644; 0755 of scripts */
    struct str text;
};

/* A zeroed struct has no files. */
struct render {
    struct render_file *files; /* owned */
    size_t n;
};

/* Units, a folder a host if there are several: a service a process, a target, a sysusers.d file. */
int render_systemd(struct render *out, const struct cluster *c, const struct plan *p, struct err *e);

/* serve.sbatch: the cluster as one job on as many machines as cluster.yaml has hosts, whatever their
 * names; node.sbatch: one more node of a cluster that runs. */
int render_slurm(struct render *out, const struct cluster *c, const struct plan *p, struct err *e);

/* tandem.yaml: a StatefulSet a role, Services, ConfigMap, HorizontalPodAutoscaler, disruption budgets.
 * The pods' size is that of the plan's largest node of the role. image: with tandem's programs on its
 * PATH and a shell. */
int render_kubernetes(struct render *out, const struct cluster *c, const struct plan *p,
                      const char *image, struct err *e);

/* What a process asks of a machine: cores and memory, with a margin for what is not weights and KV. */
struct render_size {
    uint32_t cpus;
    uint64_t mib;
};
struct render_size render_size(const struct cluster *c, const struct plan_node *n);

/* A new file, whose text the caller appends to before the next call; path is printf-like. */
struct str *render_add(struct render *r, unsigned mode, const char *path, ...)
    __attribute__((format(printf, 3, 4)));

/* Calls fn for each --key=value of the command line that is not the program's default, and for the
 * name: what is written for people to read. */
void render_each(const struct launch_process *p, void (*fn)(void *ctx, const char *key, const char *value),
                 void *ctx);

/* Writes them below dir, which is made if need be. ERR_IO. */
int render_write(const struct render *r, const char *dir, struct err *e);

void render_fini(struct render *r);

#endif
