#include "daemon/node.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "config/ranges.h"
#include "host/topo.h"
#include "kv/kv_wire.h"
#include "net/endpoint.h"

#define POOL_MEMORY_SHARE 4 /* a pool sized by us takes at most this fraction of the machine */

uint32_t node_pool_pages(const struct kv_layout *l, uint32_t sequences, uint32_t ctx_max,
                         uint64_t memory)
{
    uint64_t one = kv_layout_pages(ctx_max), n = one * sequences;

    if (n > memory / l->page_bytes)
        n = memory / l->page_bytes;
    if (n < one)
        n = one;
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

int node_wire(enum kv_type *wire, int asked, enum kv_type pool, struct err *e)
{
    *wire = asked == KV_AUTO ? pool : (enum kv_type)asked;
    if (kv_wire_exact(*wire, pool))
        return 0;
    return err_set(e, ERR_CONFIG, "kv_wire: %s does not carry a kv_type of %s bit for bit, and a stream "
                   "that starts again would get other tokens; use kv_wire: auto%s",
                   kv_type_name(*wire), kv_type_name(pool),
                   *wire == KV_Q8 ? " or kv_type: q8" : "");
}

enum kv_type node_kv_type(int asked, const char *router)
{
    bool far = endpoint_is_tcp(router) && !endpoint_is_loopback(router);

    return asked == KV_AUTO && far ? KV_F16 : (enum kv_type)asked;
}

/* Opens the pool where other processes can map it; where they cannot, with the reason in the log, as any
 * memory. Whoever insists on huge pages gets those rather. */
static int node_pool_open_shared(struct node *n, const struct node_options *o, uint32_t pages, struct err *e)
{
    struct err why;

    if (o->huge_pages == MEM_HUGE_ON && !mem_shared_huge())
        err_set(&why, ERR_UNSUPPORTED, "huge_pages: on, and /sys/kernel/mm/transparent_hugepage/shmem_enabled "
                "lets shared memory have none");
    else if (!kv_pool_open_shared(&n->pool, &n->layout, pages, &why))
        return 0;
    log_warn("node", "KV is not shared with processes of this machine: %s", why.text);
    return kv_pool_open(&n->pool, &n->layout, pages, e);
}

static int node_pool_open(struct node *n, const struct node_options *o, uint32_t sequences, bool ships,
                          struct err *e)
{
    uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    uint32_t pages = o->kv_pages;
    struct err why;
    size_t bytes;
    void *data;
    int rc;

    if (!pages)
        pages = node_pool_pages(&n->layout, sequences, n->ctx_max, memory / POOL_MEMORY_SHARE);
    if (ships && o->kv_path != KV_PATH_FRAMES && kv_wire_whole(&n->layout, n->wire))
        rc = node_pool_open_shared(n, o, pages, e);
    else
        rc = kv_pool_open(&n->pool, &n->layout, pages, e);
    if (rc)
        return rc;
    n->prefix = prefix_new(n->pool, !o->prefix_cache  ? 0
                                    : o->prefix_pages ? o->prefix_pages
                                                      : pages);
    data = kv_pool_memory(n->pool, &bytes);
    rc = mem_map_huge(data, bytes, (enum mem_huge)o->huge_pages, e);
    if (rc)
        return rc;
    if (o->domain >= 0 && topo_bind_memory(data, bytes, (uint32_t)o->domain, &why))
        log_warn("node", "KV is not bound to domain %d: %s", o->domain, why.text);
    return 0;
}

/* A line of a load that takes long, at most one a second. */
static void node_on_progress(void *ctx, uint32_t percent)
{
    int64_t *told = ctx, now = clock_now();

    if (now - *told < CLOCK_S)
        return;
    *told = now;
    log_info("node", "weights packed=%u%%", percent);
}

static int node_compute_open(struct node *n, const struct node_options *o, uint32_t rows_max,
                             struct err *e)
{
    int64_t told = clock_now();
    struct engine_options eo = {.model = o->common.model, .rows_max = rows_max,
                                .kv_type = node_kv_type(o->kv_type, o->router),
                                .huge_pages = (enum mem_huge)o->huge_pages,
                                .progress = node_on_progress, .progress_ctx = &told};
    uint32_t *pus = NULL, n_pus = 0;
    int rc = ranges_parse(&pus, &n_pus, o->cores, e);

    if (!rc)
        rc = cpu_tier_choose(&n->tier, o->common.cpu, e);
    if (!rc) {
        eo.tier = n->tier;
        eo.pus = pus;
        eo.n_threads = n->n_threads = n_pus ? n_pus : topo_allowed_pus();
        cpu_amx_allow(); /* before the team's threads start; whether it may is asked again */
        rc = compute_start(&n->compute, &eo, e);
    }
    mem_free(pus);
    return rc;
}

static void node_log_roofline(const struct node *n)
{
    const struct roofline *r = compute_roofline(n->compute);
    struct str text = {0};

    roofline_text(&text, r);
    log_info("node", "roofline rounds=%u best/median: %s", r->rounds, str_text(&text));
    str_fini(&text);
}

int node_open(struct node *n, const struct node_options *o, uint32_t rows_max, uint32_t sequences,
              bool ships, struct err *e)
{
    int64_t start = clock_now();
    const struct engine *en;
    int rc;

    memset(n, 0, sizeof(*n));
    rc = node_compute_open(n, o, rows_max, e);
    if (rc)
        goto fail;
    en = compute_engine(n->compute);
    n->layout = *engine_kv_layout(en);
    n->n_vocab = engine_hparams(en)->n_vocab;
    n->ctx_max = engine_ctx_max(en);
    n->model_hash = engine_model_hash(en);
    rc = node_wire(&n->wire, o->kv_wire, n->layout.type, e);
    if (!rc)
        rc = node_pool_open(n, o, sequences, ships, e);
    if (rc)
        goto fail;
    log_info("node", "model=%s hash=%016" PRIx64 " tier=%s threads=%u weights=%.1fMiB ctx=%u "
             "kv_type=%s kv_wire=%s kv_pages=%u kv=%.1fMiB loaded in %.1f s", o->common.model, n->model_hash,
             cpu_tier_name(n->tier), n->n_threads, (double)engine_weight_bytes(en) / 0x1p20,
             n->ctx_max, kv_type_name(n->layout.type), kv_type_name(n->wire), kv_pool_total(n->pool),
             (double)kv_pool_total(n->pool) * (double)n->layout.page_bytes / 0x1p20,
             clock_s(clock_now() - start));
    node_log_roofline(n);
    n->opened_at = clock_now();
    return 0;
fail:
    node_close(n);
    return rc;
}

void node_close(struct node *n)
{
    compute_stop(&n->compute);
    prefix_free(&n->prefix);
    kv_pool_close(&n->pool);
}

/* What a pass costs here and what the machine gives; medians, since the best rarely lasts. */
static void node_register_rates(const struct node *n, struct msg_register *reg)
{
    const struct engine *en = compute_engine(n->compute);
    const struct roofline *r = compute_roofline(n->compute);
    enum roof roof = cost_roof(en);
    struct cost row;

    /* what tiles reach while they are fed, not on registers */
    if (roof == ROOF_AMX_BF16 || roof == ROOF_AMX_INT8)
        roof = roof == ROOF_AMX_BF16 ? ROOF_AMX_BF16_L1 : ROOF_AMX_INT8_L1;
    cost_row(&row, en);
    reg->weight_bytes = (uint64_t)row.bytes;
    reg->flops_token = (uint64_t)row.flops;
    reg->kv_token_bytes = n->layout.page_bytes / KV_PAGE_TOKENS;
    reg->read_bytes_s = (uint64_t)r->rate[ROOF_READ].median;
    reg->flops_s = (uint64_t)r->rate[roof].median;
}

void node_register(const struct node *n, const struct node_options *o, struct msg_register *reg)
{
    reg->protocol = MSG_PROTOCOL;
    snprintf(reg->cluster, sizeof(reg->cluster), "%s", o->common.cluster);
    snprintf(reg->name, sizeof(reg->name), "%s", o->common.name);
    snprintf(reg->tier, sizeof(reg->tier), "%s", cpu_tier_name(n->tier));
    reg->model_hash = n->model_hash;
    reg->geometry = (struct kv_geometry){n->layout.n_layer, n->layout.n_kv_head,
                                         n->layout.head_dim, KV_PAGE_TOKENS,
                                         (uint32_t)n->wire};
    reg->ctx_max = n->ctx_max;
    reg->pages_total = kv_pool_total(n->pool);
    reg->kv_type = n->layout.type;
    reg->cores = n->n_threads;
    reg->domain = o->domain < 0 ? 0 : (uint32_t)o->domain;
    reg->pid = (int32_t)getpid();
    reg->change_role = o->change_role;
    if (gethostname(reg->host, sizeof(reg->host)))
        reg->host[0] = '\0';
    reg->host[sizeof(reg->host) - 1] = '\0'; /* a long name may come without an end */
    node_register_rates(n, reg);
}

void node_joined(struct node *n)
{
    prefix_changes_reset(n->prefix);
    n->prefix_reset = true;
}

bool node_prefix_report(struct node *n, struct msg *report)
{
    struct msg_prefix r = {
        .reset = n->prefix_reset,
        .added = mem_calloc(MSG_PREFIX_MAX, sizeof(uint32_t)),
        .removed = mem_calloc(MSG_PREFIX_MAX, sizeof(uint32_t)),
    };

    prefix_changes(n->prefix, r.added, &r.n_added, r.removed, &r.n_removed, MSG_PREFIX_MAX);
    *report = (struct msg){.type = MSG_PREFIX_REPORT, .u.prefix = r};
    if (!r.n_added && !r.n_removed) { /* after a reset too: the router begins with nothing */
        msg_fini(report);
        return false;
    }
    n->prefix_reset = false;
    return true;
}

void node_run(struct node *n, struct compute_job *job)
{
    const struct batch b = {.rows = job->rows, .n = job->n};

    ASSERT(compute_submit(n->compute, job));
    cost_add(&n->spent, compute_engine(n->compute), &b); /* rows are only read, there and here */
}

void node_ran(struct node *n, const struct compute_job *job)
{
    hist_add(&n->passes, job->ns);
    hist_add(&n->pass_rows, job->n);
    for (uint32_t i = 0; i < job->n; i++)
        n->sampled += job->rows[i].want_logits;
}

struct sample_params node_sampling(const struct sampling *s)
{
    return (struct sample_params){s->temperature, s->top_p, s->top_k, s->seed};
}
