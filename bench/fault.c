#include "bench/fault.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "net/http.h"

#define CLUSTER_TIMEOUT_MS 2000
#define STOP_DEFAULT_S 5.0

/* "30s", "1.5", "200ms"; *end: what follows. Negative: none of these. */
static double seconds_read(const char *text, char **end)
{
    double x = strtod(text, end);

    if (*end == text || !(x >= 0 && x <= 1e6))
        return -1;
    if (strncmp(*end, "ms", 2) == 0) {
        *end += 2;
        return x / 1000;
    }
    *end += **end == 's';
    return x;
}

static int fault_bad(struct err *e, const char *text, size_t n, bool stop)
{
    return err_set(e, ERR_CONFIG, "\"%.*s\" is not ROLE:NUMBER@TIME%s, like decode:3@30s%s", (int)n,
                   text, stop ? "+LENGTH" : "", stop ? "+5s" : "");
}

static int fault_add(struct faults *out, const char *text, size_t n, bool stop, struct err *e)
{
    struct fault *f = &out->list[out->n];
    double at, length = STOP_DEFAULT_S;
    unsigned number;
    char role[12], *end;
    int used = 0;

    if (out->n + 2 > FAULTS_MAX)
        return err_set(e, ERR_CONFIG, "more than %d faults", FAULTS_MAX / 2);
    if (sscanf(text, "%11[a-z]:%u@%n", role, &number, &used) != 2 || used == 0 ||
        (strcmp(role, "prefill") != 0 && strcmp(role, "decode") != 0))
        return fault_bad(e, text, n, stop);
    at = seconds_read(text + used, &end);
    if (stop && at >= 0 && *end == '+')
        length = seconds_read(end + 1, &end);
    if (at < 0 || length < 0 || end != text + n)
        return fault_bad(e, text, n, stop);
    snprintf(f->node, sizeof(f->node), "%s-%u", role, number);
    f->signal = stop ? SIGSTOP : SIGKILL;
    f->at_ns = (int64_t)(at * 1e9);
    out->n++;
    if (stop) {
        f[1] = f[0];
        f[1].signal = SIGCONT;
        f[1].at_ns += (int64_t)(length * 1e9);
        out->n++;
    }
    return ERR_OK;
}

static int list_parse(struct faults *out, const char *text, bool stop, struct err *e)
{
    while (*text) {
        size_t n = strcspn(text, ",");
        int rc = fault_add(out, text, n, stop, e);

        if (rc != ERR_OK)
            return rc;
        text += n + (text[n] == ',');
    }
    return ERR_OK;
}

int faults_parse(struct faults *out, const char *kill, const char *stop, struct err *e)
{
    int rc;

    memset(out, 0, sizeof(*out));
    rc = list_parse(out, kill, false, e);
    return rc == ERR_OK ? list_parse(out, stop, true, e) : rc;
}

/* A pid comes over the network: it is believed only if that process is a node of tandem. */
static bool is_node(long pid)
{
    char path[64], name[32] = "";
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%ld/comm", pid);
    f = pid > 1 ? fopen(path, "r") : NULL;
    if (!f)
        return false;
    if (!fgets(name, sizeof(name), f))
        *name = '\0';
    fclose(f);
    return strncmp(name, "tandem-prefill", 14) == 0 || strncmp(name, "tandem-decode", 13) == 0;
}

static long pid_find(const json_t *reply, const char *node)
{
    const json_t *nodes = json_object_get(reply, "nodes");

    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const json_t *n = json_array_get(nodes, i);
        const char *name = json_string_value(json_object_get(n, "name"));

        if (name && strcmp(name, node) == 0)
            return (long)json_integer_value(json_object_get(n, "pid"));
    }
    return -1;
}

/* The process that a router's GET /v1/cluster gives for the node. */
static int node_pid(long *pid, const char *node, const char *url, struct err *e)
{
    struct str reply = {0};
    json_t *root = NULL;
    int status = 0;
    int rc = http_fetch(&status, &reply, "GET", url, "/v1/cluster", NULL, CLUSTER_TIMEOUT_MS, e);

    if (rc == ERR_OK)
        root = json_loadb(str_text(&reply), reply.len, 0, NULL);
    *pid = pid_find(root, node);
    if (rc == ERR_OK && *pid < 0)
        rc = err_set(e, ERR_NOT_FOUND, "%s/v1/cluster names no node %s", url, node);
    if (rc == ERR_OK && !is_node(*pid))
        rc = err_set(e, ERR_NOT_FOUND,
                     "%s is process %ld, which is no node of tandem on this machine", node, *pid);
    json_decref(root);
    str_fini(&reply);
    return rc;
}

int fault_fire(struct faults *faults, uint32_t i, const char *url, struct err *e)
{
    struct fault *f = &faults->list[i];
    int rc;

    if (f->signal == SIGCONT) { /* the row before stopped it */
        f->pid = f[-1].pid;
        if (f->pid > 0)
            kill((pid_t)f->pid, SIGCONT); /* it may have been killed meanwhile */
        return ERR_OK;
    }
    rc = node_pid(&f->pid, f->node, url, e);
    if (rc == ERR_OK && kill((pid_t)f->pid, f->signal) != 0)
        rc = err_set(e, ERR_IO, "cannot signal %s, process %ld: %s", f->node, f->pid,
                     strerror(errno));
    if (rc != ERR_OK)
        f->pid = 0;
    return rc;
}
