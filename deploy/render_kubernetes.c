/* Objects of Kubernetes. A pod is a node: it is told its name and address by its own pod, and the
 * router's by a Service. Options of cluster.yaml are in a ConfigMap, a file a role. Nodes reach the
 * router through a Service that does not wait for its readiness, for it is ready when they are there. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "deploy/paths.h"
#include "deploy/render.h"

#define KUBERNETES_NAME_MAX 40 /* of 63, with "tandem-", a role, and the number of a pod */
#define KUBERNETES_KV 8102     /* ports of a node: KV; probes and metrics */
#define KUBERNETES_METRICS "8103"
#define KUBERNETES_DRAIN_S 540
#define KUBERNETES_GRACE_S 600
#define KUBERNETES_UID 65532 /* nobody in particular */
#define KUBERNETES_NODES_MAX_FACTOR 4 /* of the plan's decode nodes, that the autoscaler may start */

/* What all objects are written from. */
struct kubernetes {
    const struct cluster *c;
    const struct plan *p;
    const struct launch *l;
    const char *image;
    const char *http_port, *nodes_port;
    struct str *out;
};

static bool kubernetes_named(const char *name)
{
    size_t n = strlen(name);

    return n && n <= KUBERNETES_NAME_MAX && !name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-")] &&
           name[0] != '-' && name[n - 1] != '-';
}

/* A scalar in double quotes. */
static void yaml_text(struct str *out, const char *text)
{
    str_addc(out, '"');
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20)
            str_addf(out, "\\x%02x", (unsigned char)*text);
        else if (*text == '"' || *text == '\\')
            str_addf(out, "\\%c", *text);
        else
            str_addc(out, *text);
    }
    str_addc(out, '"');
}

/* "---", kind, name and labels; role NULL: of the whole cluster. */
static void object_head(const struct kubernetes *k, const char *version, const char *kind,
                        const char *suffix, const char *role)
{
    str_addf(k->out,
             "---\n"
             "apiVersion: %s\n"
             "kind: %s\n"
             "metadata:\n"
             "  name: tandem-%s%s\n"
             "  labels:\n"
             "    app.kubernetes.io/name: tandem\n"
             "    app.kubernetes.io/instance: %s\n",
             version, kind, k->c->cluster, suffix, k->c->cluster);
    if (role)
        str_addf(k->out, "    app.kubernetes.io/component: %s\n", role);
}

/* The labels of a role's pods, at an indentation. */
static void pod_labels(const struct kubernetes *k, int indent, const char *role)
{
    str_addf(k->out,
             "%*sapp.kubernetes.io/name: tandem\n"
             "%*sapp.kubernetes.io/instance: %s\n"
             "%*sapp.kubernetes.io/component: %s\n",
             indent, "", indent, "", k->c->cluster, indent, "", role);
}

/* A line of a role's file. What a pod is told otherwise stays out. */
static void config_option(void *ctx, const char *key, const char *value)
{
    static const char *const told[] = {"cluster", "name", "model", "keys", "http",  "nodes",  "clients",
                                       "router", "kv",  "cores", "domain", "metrics", "api_keys"};
    const struct kubernetes *k = ctx;

    for (size_t i = 0; i < ARRAY_LEN(told); i++)
        if (!strcmp(key, told[i]))
            return;
    str_addf(k->out, "    %s: ", key);
    yaml_text(k->out, value);
    str_addc(k->out, '\n');
}

/* The first process of the role, -1: the plan has none. */
static int role_first(const struct kubernetes *k, enum place_kind role)
{
    for (size_t i = 0; i < k->p->n; i++)
        if (k->p->nodes[i].place->kind == role)
            return (int)i;
    return -1;
}

static uint32_t role_count(const struct kubernetes *k, enum place_kind role)
{
    uint32_t n = 0;

    for (size_t i = 0; i < k->p->n; i++)
        n += k->p->nodes[i].place->kind == role;
    return n;
}

static void config_map(const struct kubernetes *k)
{
    object_head(k, "v1", "ConfigMap", "", NULL);
    str_adds(k->out, "data:\n");
    for (int role = PLACE_ROUTER; role <= PLACE_DECODE; role++) {
        int i = role_first(k, (enum place_kind)role);

        if (i < 0)
            continue;
        str_addf(k->out, "  %s.yaml: |\n    cluster: \"%s\"\n", place_kind_name(role), k->c->cluster);
        render_each(&k->l->processes[i], config_option, (void *)k);
    }
}

/* Clients come to the first, once it is ready; nodes to the second, which makes it so. */
static void router_services(const struct kubernetes *k)
{
    object_head(k, "v1", "Service", "", "router");
    str_adds(k->out, "spec:\n  selector:\n");
    pod_labels(k, 4, "router");
    str_addf(k->out, "  ports:\n    - {name: http, port: %s, targetPort: http}\n", k->http_port);
    object_head(k, "v1", "Service", "-router", "router");
    str_adds(k->out, "spec:\n  clusterIP: None\n  publishNotReadyAddresses: true\n  selector:\n");
    pod_labels(k, 4, "router");
    str_addf(k->out,
             "  ports:\n    - {name: http, port: %s, targetPort: http}\n"
             "    - {name: nodes, port: %s, targetPort: nodes}\n",
             k->http_port, k->nodes_port);
}

static void node_service(const struct kubernetes *k, const char *role)
{
    struct str suffix = {0};

    str_addf(&suffix, "-%s", role);
    object_head(k, "v1", "Service", str_text(&suffix), role);
    str_adds(k->out, "spec:\n  clusterIP: None\n  publishNotReadyAddresses: true\n  selector:\n");
    pod_labels(k, 4, role);
    str_addf(k->out,
             "  ports:\n    - {name: kv, port: %d, targetPort: kv}\n"
             "    - {name: metrics, port: " KUBERNETES_METRICS ", targetPort: metrics}\n",
             KUBERNETES_KV);
    str_fini(&suffix);
}

static bool has_keys(const struct kubernetes *k) { return !k->c->insecure; }
static bool has_api_keys(const struct kubernetes *k) { return *k->c->router.api_keys; }

static void pod_args(const struct kubernetes *k, enum place_kind role)
{
    const char *slash = strrchr(k->c->model, '/');
    struct str model = {0};

    str_addf(&model, "--model=/models/%s", slash ? slash + 1 : k->c->model);
    str_addf(k->out, "          args:\n            - --config=/etc/tandem/%s.yaml\n            - ",
             place_kind_name(role));
    yaml_text(k->out, str_text(&model));
    str_addf(k->out, "\n            - --keys=%s\n", has_keys(k) ? "/run/tandem/keys" : "");
    if (role == PLACE_ROUTER)
        str_addf(k->out,
                 "            - --name=router\n"
                 "            - --http=0.0.0.0:%s\n"
                 "            - --nodes=tcp://0.0.0.0:%s\n"
                 "            - --clients=ipc:///run/tandem/clients.sock\n"
                 "            - --api_keys=%s\n",
                 k->http_port, k->nodes_port, has_api_keys(k) ? "/run/tandem/api-keys" : "");
    else
        str_addf(k->out,
                 "            - --name=$(POD_NAME)\n"
                 "            - --router=tcp://tandem-%s-router:%s\n"
                 "            - --kv=tcp://$(POD_IP):%d\n"
                 "            - --metrics=0.0.0.0:" KUBERNETES_METRICS "\n"
                 "          env:\n"
                 "            - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}\n"
                 "            - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}\n",
                 k->c->cluster, k->nodes_port, KUBERNETES_KV);
    if (role != PLACE_ROUTER && has_api_keys(k)) /* draining is for administrators */
        str_addf(k->out,
                 "            - name: TANDEM_API_KEY\n"
                 "              valueFrom: {secretKeyRef: {name: tandem-%s-keys, key: admin}}\n",
                 k->c->cluster);
    str_fini(&model);
}

/* /health: it lives; /ready: it takes work. A node is up before it has loaded its model, and says so. */
static void pod_probes(const struct kubernetes *k, enum place_kind role)
{
    const char *port = role == PLACE_ROUTER ? "http" : "metrics";

    if (role == PLACE_ROUTER)
        str_addf(k->out,
                 "          ports:\n"
                 "            - {name: http, containerPort: %s}\n"
                 "            - {name: nodes, containerPort: %s}\n", k->http_port, k->nodes_port);
    else
        str_addf(k->out,
                 "          ports:\n"
                 "            - {name: kv, containerPort: %d}\n"
                 "            - {name: metrics, containerPort: " KUBERNETES_METRICS "}\n",
                 KUBERNETES_KV);
    str_addf(k->out,
             "          startupProbe: {httpGet: {path: /health, port: %s}, periodSeconds: 2, failureThreshold: 300}\n"
             "          livenessProbe: {httpGet: {path: /health, port: %s}, periodSeconds: 5, timeoutSeconds: 5}\n"
             "          readinessProbe: {httpGet: {path: /ready, port: %s}, periodSeconds: 2}\n",
             port, port, port);
    if (role != PLACE_ROUTER) /* it finishes its streams before it is told to end */
        str_addf(k->out,
                 "          lifecycle:\n"
                 "            preStop:\n"
                 "              exec:\n"
                 "                command:\n"
                 "                  - sh\n"
                 "                  - -c\n"
                 "                  - exec tandem drain --wait_s=%d http://tandem-%s-router:%s \"$POD_NAME\"\n",
                 KUBERNETES_DRAIN_S, k->c->cluster, k->http_port);
}

/* The same bounds as requests: such a pod gets cores of its own from a static CPU manager. */
static void pod_resources(const struct kubernetes *k, enum place_kind role)
{
    struct render_size most = {0};

    for (size_t i = 0; i < k->p->n; i++) {
        struct render_size s = render_size(k->c, &k->p->nodes[i]);

        if (k->p->nodes[i].place->kind != role)
            continue;
        most.cpus = u32_max(most.cpus, s.cpus);
        most.mib = most.mib > s.mib ? most.mib : s.mib;
    }
    str_addf(k->out,
             "          resources:\n"
             "            requests: {cpu: %u, memory: %luMi}\n"
             "            limits: {cpu: %u, memory: %luMi}\n",
             most.cpus, (unsigned long)most.mib, most.cpus, (unsigned long)most.mib);
}

static const char pod_confined[] =
    "          securityContext:\n"
    "            allowPrivilegeEscalation: false\n"
    "            readOnlyRootFilesystem: true\n"
    "            capabilities: {drop: [ALL]}\n";

static bool has_secret(const struct kubernetes *k, enum place_kind role)
{
    return has_keys(k) || (has_api_keys(k) && role == PLACE_ROUTER);
}

/* A key file is its owner's alone, or it is refused; a Secret's files are the pod's group's. */
static void pod_keys(const struct kubernetes *k, enum place_kind role)
{
    bool router = role == PLACE_ROUTER;

    str_adds(k->out, "      initContainers:\n        - name: keys\n          image: ");
    yaml_text(k->out, k->image);
    str_adds(k->out, "\n          command:\n            - sh\n            - -c\n            - umask 077");
    if (has_keys(k))
        str_addf(k->out, "; cat /keys/%s >/run/tandem/keys", router ? "keys" : "keys.node");
    if (has_api_keys(k) && router)
        str_adds(k->out, "; cat /keys/api-keys >/run/tandem/api-keys");
    str_addf(k->out,
             "\n"
             "%s"
             "          resources:\n"
             "            requests: {cpu: 1, memory: 32Mi}\n"
             "            limits: {cpu: 1, memory: 32Mi}\n"
             "          volumeMounts:\n"
             "            - {name: keys, mountPath: /keys, readOnly: true}\n"
             "            - {name: run, mountPath: /run/tandem}\n",
             pod_confined);
}

static void pod_volumes(const struct kubernetes *k, enum place_kind role)
{
    char *dir = paths_dir(k->c->model);

    str_adds(k->out, "          volumeMounts:\n"
                     "            - {name: options, mountPath: /etc/tandem, readOnly: true}\n"
                     "            - {name: models, mountPath: /models, readOnly: true}\n"
                     "            - {name: run, mountPath: /run/tandem}\n"
                     "      volumes:\n");
    str_addf(k->out, "        - {name: options, configMap: {name: tandem-%s}}\n", k->c->cluster);
    if (has_secret(k, role))
        /* 288 is 0440, which YAML 1.2 would read as 440 */
        str_addf(k->out, "        - {name: keys, secret: {secretName: tandem-%s-keys, defaultMode: 288}}\n",
                 k->c->cluster);
    str_adds(k->out, "        - {name: run, emptyDir: {medium: Memory}}\n"
                     "        - name: models\n          hostPath: {type: Directory, path: ");
    yaml_text(k->out, dir);
    str_adds(k->out, "}\n");
    mem_free(dir);
}

static void stateful_set(const struct kubernetes *k, enum place_kind role)
{
    const char *name = place_kind_name(role);
    struct str suffix = {0};

    str_addf(&suffix, "-%s", name);
    object_head(k, "apps/v1", "StatefulSet", str_text(&suffix), name);
    str_addf(k->out, "spec:\n  serviceName: tandem-%s-%s\n  podManagementPolicy: Parallel\n",
             k->c->cluster, name);
    if (role != PLACE_DECODE) /* the autoscaler counts those */
        str_addf(k->out, "  replicas: %u\n", role_count(k, role));
    str_adds(k->out, "  selector:\n    matchLabels:\n");
    pod_labels(k, 6, name);
    str_adds(k->out, "  template:\n    metadata:\n      labels:\n");
    pod_labels(k, 8, name);
    str_addf(k->out,
             "      annotations: {prometheus.io/scrape: \"true\", prometheus.io/port: \"%s\"}\n"
             "    spec:\n"
             "      terminationGracePeriodSeconds: %d\n"
             "      automountServiceAccountToken: false\n"
             "      securityContext:\n"
             "        runAsNonRoot: true\n"
             "        runAsUser: %d\n"
             "        runAsGroup: %d\n"
             "        fsGroup: %d\n"
             "        seccompProfile: {type: RuntimeDefault}\n",
             role == PLACE_ROUTER ? k->http_port : KUBERNETES_METRICS,
             role == PLACE_ROUTER ? 30 : KUBERNETES_GRACE_S, KUBERNETES_UID, KUBERNETES_UID,
             KUBERNETES_UID);
    if (has_secret(k, role))
        pod_keys(k, role);
    str_addf(k->out, "      containers:\n        - name: %s\n          image: ", name);
    yaml_text(k->out, k->image);
    str_addf(k->out, "\n          command: [tandem-%s]\n", name);
    pod_args(k, role);
    pod_probes(k, role);
    pod_resources(k, role);
    str_adds(k->out, pod_confined);
    pod_volumes(k, role);
    str_fini(&suffix);
}

/* One at a time may be taken away for a machine's sake. */
static void disruption(const struct kubernetes *k, const char *role)
{
    struct str suffix = {0};

    str_addf(&suffix, "-%s", role);
    object_head(k, "policy/v1", "PodDisruptionBudget", str_text(&suffix), role);
    str_adds(k->out, "spec:\n  maxUnavailable: 1\n  selector:\n    matchLabels:\n");
    pod_labels(k, 6, role);
    str_fini(&suffix);
}

/* Metrics by the names of /metrics: of the router, requests that wait for a pair of nodes, divided
 * among the decode nodes; of each of them, how full its KV is. */
static void autoscaler(const struct kubernetes *k)
{
    uint32_t n = role_count(k, PLACE_DECODE);

    object_head(k, "autoscaling/v2", "HorizontalPodAutoscaler", "-decode", "decode");
    str_addf(k->out,
             "spec:\n"
             "  scaleTargetRef: {apiVersion: apps/v1, kind: StatefulSet, name: tandem-%s-decode}\n"
             "  minReplicas: %u\n"
             "  maxReplicas: %u\n"
             "  metrics:\n"
             "    - type: Object\n"
             "      object:\n"
             "        describedObject: {apiVersion: v1, kind: Service, name: tandem-%s}\n"
             "        metric: {name: tandem_queue_depth}\n"
             "        target: {type: AverageValue, averageValue: \"2\"}\n"
             "    - type: Pods\n"
             "      pods:\n"
             "        metric: {name: \"vllm:kv_cache_usage_perc\"}\n"
             "        target: {type: AverageValue, averageValue: 800m}\n"
             "  behavior:\n"
             "    scaleUp: {stabilizationWindowSeconds: 30}\n"
             "    scaleDown:\n"
             "      stabilizationWindowSeconds: 300\n"
             "      policies: [{type: Pods, value: 1, periodSeconds: 60}]\n",
             k->c->cluster, n, n * KUBERNETES_NODES_MAX_FACTOR, k->c->cluster);
}

static void notes(const struct kubernetes *k)
{
    str_addf(k->out,
             "# Cluster %s, by `tandem render kubernetes` " TANDEM_VERSION ". kubectl apply -f tandem.yaml, after\n"
             "# - an image with tandem's programs on its PATH, sh and cat, named below;\n"
             "# - the model's folder on each machine, or another volume called models;\n",
             k->c->cluster);
    if (has_keys(k))
        str_adds(k->out, "# - keys: tandem keys keys makes the files keys and keys.node;\n");
    if (has_api_keys(k))
        str_adds(k->out, "# - the file api-keys of api_keys:, and a file admin with an administrator's key, no newline;\n");
    if (has_secret(k, PLACE_ROUTER))
        str_addf(k->out, "#   kubectl create secret generic tandem-%s-keys%s%s;\n", k->c->cluster,
                 has_keys(k) ? " --from-file=keys --from-file=keys.node" : "",
                 has_api_keys(k) ? " --from-file=api-keys --from-file=admin" : "");
    str_adds(k->out,
             "# - kubelets with cpuManagerPolicy: static, so that a node has cores of its own;\n"
             "# - for the autoscaler, an adapter that serves Prometheus' series as custom metrics.\n");
}

static void objects(const struct kubernetes *k)
{
    notes(k);
    config_map(k);
    router_services(k);
    stateful_set(k, PLACE_ROUTER);
    for (int role = PLACE_PREFILL; role <= PLACE_DECODE; role++) {
        if (role_first(k, (enum place_kind)role) < 0)
            continue;
        node_service(k, place_kind_name(role));
        stateful_set(k, (enum place_kind)role);
        disruption(k, place_kind_name(role));
    }
    autoscaler(k);
}

int render_kubernetes(struct render *out, const struct cluster *c, const struct plan *p,
                      const char *image, struct err *e)
{
    struct launch_place *places = mem_calloc(c->n_hosts, sizeof(*places));
    struct launch l = {0};
    int rc = kubernetes_named(c->cluster)
                 ? 0
                 : err_set(e, ERR_CONFIG, "cluster: \"%s\" is no name for Kubernetes: lower-case letters, "
                                          "digits and '-', at most %d", c->cluster, KUBERNETES_NAME_MAX);

    for (size_t h = 0; h < c->n_hosts; h++)
        places[h] = (struct launch_place){.program_dir = "", .run_dir = "/run/tandem", .unchecked = true};
    if (!rc)
        rc = launch_init(&l, c, p, places, e);
    if (!rc)
        objects(&(struct kubernetes){
            .c = c,
            .p = p,
            .l = &l,
            .image = image,
            .http_port = strrchr(c->router.http, ':') + 1,
            .nodes_port = cluster_nodes_port(c),
            .out = render_add(out, 0644, "tandem.yaml"),
        });
    launch_fini(&l);
    mem_free(places);
    return rc;
}
