#include "deploy/render.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "tests/lib/test.h"
#include "tests/lib/topo_make.h"
#include "tests/unit/deploy/demo_model.h"

/* A cluster, its plan, and what was rendered of them. */
struct fixture {
    struct cluster c;
    struct plan p;
    struct render r;
    struct err e;
};

/* The YAML with the model, on machines of two domains with two cores each. */
static void plan(struct fixture *f, const char *yaml)
{
    char *model = demo_model(), *xml = topo_make_xml("numa:2(memory=8GiB) core:2 pu:1");
    const char *xmls[] = {xml, xml};
    struct str text = {0};

    *f = (struct fixture){0};
    str_addf(&text, "model: \"%s\"\n%s", model, yaml);
    if (cluster_load_text(&f->c, str_text(&text), text.len, "c.yaml", NULL, &f->e) ||
        plan_init(&f->p, &f->c, xmls, &f->e))
        fail_msg("%s", f->e.text);
    str_fini(&text);
    mem_free(model);
    mem_free(xml);
}

static void drop(struct fixture *f)
{
    render_fini(&f->r);
    plan_fini(&f->p);
    cluster_fini(&f->c);
}

static const char *file(const struct fixture *f, const char *path)
{
    for (size_t i = 0; i < f->r.n; i++)
        if (!strcmp(f->r.files[i].path, path))
            return str_text(&f->r.files[i].text);
    fail_msg("no file %s", path);
    return NULL;
}

static void has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("no \"%s\" in:\n%s", part, text);
}

static void has_not(const char *text, const char *part)
{
    if (strstr(text, part))
        fail_msg("\"%s\" in:\n%s", part, text);
}

#define ONE "cluster: one\nprefill: {nodes: 1}\ndecode: {nodes: 1, slots: 7}\n"
#define TWO                                                                                        \
    "cluster: two\nrouter: {http: \"0.0.0.0:8000\"}\nhosts:\n"                                     \
    "  - {host: local, address: 10.0.0.1, programs: /opt/t/bin, model: /data/m.gguf}\n"            \
    "  - {host: alice@web2, address: 10.0.0.2, programs: /" "home/alice/t, model: /data/$m%.gguf}\n"

static void units_of_one_host_meet_over_sockets(void **state)
{
    struct fixture f;
    const char *unit;

    (void)state;
    plan(&f, ONE);
    assert_int_equal(render_systemd(&f.r, &f.c, &f.p, &f.e), 0);
    unit = file(&f, "tandem-one-decode-1.service");
    has(unit, "/tandem-decode \\\n    --cluster=one \\\n    --name=decode-1 \\\n");
    has(unit, "--slots=7");
    has(unit, "--router=ipc:///run/tandem/one/nodes.sock");
    has_not(unit, "--chunk_tokens"); /* the default */
    has(unit, "PartOf=tandem-one.target\n");
    has(unit, "/tandem drain --wait_s=55 http://127.0.0.1:8000 decode-1\n");
    has_not(file(&f, "tandem-one-router.service"), "ExecStop");
    has(file(&f, "tandem-one-router.service"), "LimitNOFILE=21504\n");
    has(file(&f, "tandem-one.target"), " tandem-one-prefill-1.service \\\n    tandem-one-decode-1.service\n");
    drop(&f);
}

static void units_of_several_hosts_are_in_folders(void **state)
{
    struct fixture f;
    const char *unit;

    (void)state;
    plan(&f, TWO);
    assert_int_equal(render_systemd(&f.r, &f.c, &f.p, &f.e), 0);
    unit = file(&f, "local/tandem-two-router.service");
    has(unit, "ExecStart=/opt/t/bin/tandem-router");
    has(unit, "--keys=/etc/tandem/two/keys \\\n");
    has(unit, "--nodes=tcp://10.0.0.1:5555");
    has(unit, "ProtectHome=yes\n");
    unit = file(&f, "alice-web2/tandem-two-decode-2.service");
    has(unit, "--keys=/etc/tandem/two/keys.node \\\n");
    has(unit, "--model=/data/$$m%%.gguf"); /* systemd expands $ and % */
    has(unit, "ProtectHome=read-only\n");
    has(unit, "drain --wait_s=55 http://10.0.0.1:8000 decode-2\n");
    has(file(&f, "local/tandem-two.target"), "tandem keys keys");
    has_not(file(&f, "local/tandem-two.target"), "decode-2");
    drop(&f);
}

static void a_job_names_machines_by_their_number(void **state)
{
    struct fixture f;
    const char *job;

    (void)state;
    plan(&f, TWO);
    assert_int_equal(render_slurm(&f.r, &f.c, &f.p, &f.e), 0);
    job = file(&f, "serve.sbatch");
    has(job, "#SBATCH --nodes=2\n");
    has(job, "\nstep router \"${machine[0]}\" 1 ");
    has(job, "\"--nodes=tcp://${address[0]}:5555\"");
    has(job, "\"--kv=tcp://${address[1]}:0\"");
    has(job, "\"--model=/data/\\$m%.gguf\"");
    has(job, "\"--keys=${keys}\"");
    has(job, "\"--keys=${keys}.node\"");
    has_not(job, "198.18");
    has_not(job, "10.0.0");
    has_not(job, "--cores");
    job = file(&f, "node.sbatch");
    has(job, "--keys=\"${keys:+$keys.node}\"");
    has_not(job, "--router=tcp");
    has_not(job, "${address["); /* it is on a machine of its own */
    drop(&f);
}

static void a_job_asks_for_what_its_fullest_machine_needs(void **state)
{
    struct fixture f;
    const char *job;
    char want[64];
    uint64_t mib = 0;

    (void)state;
    plan(&f, ONE "kv_type: f16\nhosts: [{host: local, address: 10.0.0.1}]\ninsecure: true\n");
    assert_int_equal(render_slurm(&f.r, &f.c, &f.p, &f.e), 0);
    for (size_t i = 0; i < f.p.n; i++)
        mib += ((512 << 20) + f.p.nodes[i].weight_bytes + f.p.nodes[i].kv_bytes +
                (i == 2 ? f.c.decode.options.swap : 0)) >> 20;
    snprintf(want, sizeof(want), "#SBATCH --mem=%luM\n", (unsigned long)mib);
    job = file(&f, "serve.sbatch");
    has(job, want);
    has(job, "\nkeys=\n"); /* insecure */
    has_not(job, "tandem\" keys");
    has(job, "\"--http=${address[0]}:8000\""); /* the default, loopback, would be of no use there */
    drop(&f);
}

static void pods_are_told_what_their_pod_knows(void **state)
{
    struct fixture f;
    const char *yaml;

    (void)state;
    plan(&f, ONE "kv_type: q8\n");
    assert_int_equal(render_kubernetes(&f.r, &f.c, &f.p, "a\"b", &f.e), 0);
    yaml = file(&f, "tandem.yaml");
    has(yaml, "  decode.yaml: |\n    cluster: \"one\"\n");
    has(yaml, "    slots: \"7\"\n");
    has(yaml, "    kv_type: \"q8\"\n");
    has(yaml, "--router=tcp://tandem-one-router:5555\n");
    has(yaml, "image: \"a\\\"b\"\n");
    has(yaml, "--keys=/run/tandem/keys\n");
    has_not(yaml, "cores:"); /* a machine's */
    has_not(yaml, "ipc:///run/tandem/nodes");
    f.c.cluster[0] = 'O';
    assert_int_equal(render_kubernetes(&f.r, &f.c, &f.p, "i", &f.e), ERR_CONFIG);
    assert_non_null(strstr(f.e.text, "\"One\" is no name for Kubernetes"));
    drop(&f);
}

static void api_keys_let_nodes_be_drained(void **state)
{
    struct fixture f;
    const char *text;

    (void)state;
    plan(&f, ONE "router: {api_keys: /etc/tandem/api.txt}\n");
    assert_int_equal(render_systemd(&f.r, &f.c, &f.p, &f.e), 0);
    assert_int_equal(render_kubernetes(&f.r, &f.c, &f.p, "i", &f.e), 0);
    has(file(&f, "tandem-one-router.service"), "--api_keys=/etc/tandem/api.txt");
    has_not(file(&f, "tandem-one-router.service"), "EnvironmentFile");
    has(file(&f, "tandem-one-decode-1.service"), "EnvironmentFile=-/etc/tandem/one/environment\n");
    has(file(&f, "tandem-one.target"), "TANDEM_API_KEY=KEY");
    text = file(&f, "tandem.yaml");
    has(text, "--api_keys=/run/tandem/api-keys\n");
    has(text, "; cat /keys/keys >/run/tandem/keys; cat /keys/api-keys >/run/tandem/api-keys\n");
    has(text, "- umask 077; cat /keys/keys.node >/run/tandem/keys\n");
    has(text, "secretKeyRef: {name: tandem-one-keys, key: admin}");
    has(text, "--from-file=keys.node --from-file=api-keys --from-file=admin;\n");
    has_not(text, "/etc/tandem/api.txt");
    drop(&f);
}

static void a_role_without_nodes_has_no_objects(void **state)
{
    struct fixture f;
    const char *yaml;

    (void)state;
    plan(&f, "cluster: agg\nrouter: {mode: aggregated}\ndecode: {nodes: 3}\ninsecure: true\n"
             "hosts: [{host: local, address: 10.0.0.1}]\n");
    assert_int_equal(render_kubernetes(&f.r, &f.c, &f.p, "i", &f.e), 0);
    yaml = file(&f, "tandem.yaml");
    has_not(yaml, "agg-prefill");
    has_not(yaml, "secret");
    has(yaml, "--keys=\n");
    has(yaml, "    insecure: \"true\"\n");
    has(yaml, "  minReplicas: 3\n  maxReplicas: 12\n");
    drop(&f);
}

static void files_are_written_with_their_folders(void **state)
{
    char dir[] = "/tmp/tandem-render.XXXXXX", path[128], text[16] = "";
    struct render r = {0};
    struct err e = {0};
    FILE *f;

    (void)state;
    assert_non_null(mkdtemp(dir));
    str_adds(render_add(&r, 0755, "a/b/%s", "c"), "hello\n");
    str_adds(render_add(&r, 0644, "d"), "");
    snprintf(path, sizeof(path), "%s/new", dir);
    assert_int_equal(render_write(&r, path, &e), 0);
    snprintf(path, sizeof(path), "%s/new/a/b/c", dir);
    assert_int_equal(access(path, X_OK), 0);
    f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(text, sizeof(text), f));
    fclose(f);
    assert_string_equal(text, "hello\n");
    assert_int_equal(render_write(&r, path, &e), ERR_IO); /* a file is no folder */
    snprintf(path, sizeof(path), "rm -r '%s'", dir);
    assert_int_equal(system(path), 0); /* a folder that mkdtemp has named */
    render_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units_of_one_host_meet_over_sockets),
        cmocka_unit_test(units_of_several_hosts_are_in_folders),
        cmocka_unit_test(a_job_names_machines_by_their_number),
        cmocka_unit_test(a_job_asks_for_what_its_fullest_machine_needs),
        cmocka_unit_test(pods_are_told_what_their_pod_knows),
        cmocka_unit_test(api_keys_let_nodes_be_drained),
        cmocka_unit_test(a_role_without_nodes_has_no_objects),
        cmocka_unit_test(files_are_written_with_their_folders),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
