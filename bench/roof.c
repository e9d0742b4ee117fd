#include "bench/roof.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "model/gguf.h"

/* A matrix that each token passes: the embedding is looked up, unless it is the output matrix, too. */
static bool is_matrix(const struct gguf_tensor *t, bool tied)
{
    return t->n_dims >= 2 && (tied || strncmp(t->name, "token_embd", 10) != 0);
}

static int weights_load(struct roof *r, const char *path, struct err *e)
{
    struct gguf *g = NULL;
    int rc = gguf_open(&g, path, e);
    bool tied;

    if (rc != ERR_OK)
        return rc;
    tied = gguf_tensor(g, "output.weight") == NULL;
    for (uint32_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);

        if (!is_matrix(t, tied))
            continue;
        r->weights += (double)t->ne[0] * (double)t->ne[1] * (double)t->ne[2] * (double)t->ne[3];
        r->weight_bytes += (double)t->bytes;
    }
    gguf_close(&g);
    return ERR_OK;
}

static double positive(const json_t *o, const char *key)
{
    double x = json_number_value(json_object_get(o, key));

    return x > 0 ? x : 0;
}

/* A test of the engine: its rate, and the bytes that its share of the read rate makes. */
static void test_take(struct roof *r, const json_t *test)
{
    struct roof_point *p = &r->points[r->n];
    double peak = positive(test, "peak_gflop_s") * 1e9, read = positive(test, "read_gb_s") * 1e9;
    const char *name = json_string_value(json_object_get(test, "test"));

    r->peak_flops = peak > r->peak_flops ? peak : r->peak_flops;
    r->peak_bytes = read > r->peak_bytes ? read : r->peak_bytes;
    *p = (struct roof_point){.flops = positive(test, "gflop_s") * 1e9,
                             .bytes = positive(test, "mbu") * read};
    snprintf(p->name, sizeof(p->name), "%s x%d", name ? name : "?",
             (int)json_integer_value(json_object_get(test, "threads")));
    r->n += p->flops > 0 && p->bytes > 0;
}

static int engine_load(struct roof *r, const char *path, struct err *e)
{
    json_error_t why;
    json_t *root = json_load_file(path, 0, &why), *list = json_object_get(root, "results");
    int rc = ERR_OK;

    if (!root && why.line <= 0) /* not opened: the text names the file */
        return err_set(e, ERR_IO, "%s", why.text);
    if (!root)
        return err_set(e, ERR_FORMAT, "%s:%d: %s", path, why.line, why.text);
    for (size_t i = 0; i < json_array_size(list) && r->n < ROOF_POINTS_MAX; i++)
        test_take(r, json_array_get(list, i));
    if (r->peak_flops <= 0 || r->peak_bytes <= 0)
        rc = err_set(e, ERR_FORMAT, "%s: holds no peaks; tandem-bench engine --json writes them",
                     path);
    json_decref(root);
    return rc;
}

int roof_load(struct roof *r, const char *engine_json, const char *gguf, struct err *e)
{
    int rc = ERR_OK;

    memset(r, 0, sizeof(*r));
    if (*gguf)
        rc = weights_load(r, gguf, e);
    if (rc == ERR_OK && *engine_json)
        rc = engine_load(r, engine_json, e);
    return rc;
}

/* Ceilings of unlike nodes: the highest, under which all are. */
static void peaks_take(struct roof *r, const struct monitor_nodes *m)
{
    for (uint32_t i = 0; i < m->n; i++) {
        const struct monitor_peaks *p = &m->list[i].peaks;

        r->peak_flops = p->flops > r->peak_flops ? p->flops : r->peak_flops;
        r->peak_bytes = p->bytes > r->peak_bytes ? p->bytes : r->peak_bytes;
    }
    if (r->peak_flops <= 0 || r->peak_bytes <= 0)
        r->peak_flops = r->peak_bytes = 0;
}

void roof_nodes(struct roof *r, const struct monitor_nodes *m)
{
    if (r->peak_flops <= 0)
        peaks_take(r, m);
    for (uint32_t i = 0; i < m->n && r->n < ROOF_POINTS_MAX && m->seconds > 0; i++) {
        const struct monitor_node *n = &m->list[i];
        bool told = n->last[MONITOR_FLOPS] > 0 && n->last[MONITOR_READ] > 0;
        struct roof_point *p = &r->points[r->n];

        *p = (struct roof_point){
            .flops = (told ? n->total[MONITOR_FLOPS] : 2 * r->weights * n->total[MONITOR_TOKENS]) / m->seconds,
            .bytes = (told ? n->total[MONITOR_READ] : r->weight_bytes * n->total[MONITOR_STEPS]) / m->seconds,
            .node = true};
        snprintf(p->name, sizeof(p->name), "%s", n->name);
        r->n += p->flops > 0 && p->bytes > 0;
    }
}
