/* tandem inspect: what a GGUF file holds, and what serving it takes. Reads the header only, so it
 * is quick with files of any size and works for architectures and types that the engine does not
 * run. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "config/option.h"
#include "daemon/daemon.h"
#include "deploy/commands.h"
#include "kv/kv_layout.h"
#include "model/dtype.h"
#include "model/gguf.h"
#include "model/hparams.h"
#include "base/utf8.h"
#include "model/weights.h"

#define INSPECT_STR_BYTES 60 /* of a string, and ... */
#define INSPECT_VALUES 6     /* ... of an array are shown unless --full */

struct inspect_options {
    bool full;
};

static const struct option inspect_option_list[] = {
    OPTION(inspect_options, full, BOOL, .help = "long strings and arrays in full"),
};

static const struct option_table inspect_table = {
    .program = "tandem inspect",
    .usage = "FILE",
    .summary = "Prints a model's metadata, tensors and the memory it takes",
    .options = inspect_option_list,
    .n = ARRAY_LEN(inspect_option_list),
};

/* "5.9 MiB"; bytes below 1 KiB. */
static void add_bytes(struct str *out, uint64_t bytes)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
    double v = (double)bytes / 1024;
    size_t u = 0;

    if (bytes < 1024) {
        str_addf(out, "%" PRIu64 " bytes", bytes);
        return;
    }
    for (; v >= 1024 && u + 1 < ARRAY_LEN(units); u++)
        v /= 1024;
    str_addf(out, "%.*f %s", v < 10 ? 2 : v < 100 ? 1 : 0, v, units[u]);
}

/* In quotes, on one line, well-formed whatever the bytes are. */
static void add_quoted(struct str *out, const char *s, size_t n, bool full)
{
    size_t len, i;
    uint32_t cp;

    str_addc(out, '"');
    for (i = 0; i < n && (full || i < INSPECT_STR_BYTES); i += len) {
        bool whole = utf8_step(s + i, n - i, &len, &cp) == UTF8_OK;

        if (whole && cp == '\n')
            str_adds(out, "\\n");
        else if (whole && cp >= 0x20 && (cp < 0x7f || cp > 0x9f)) /* no C0, DEL, C1 */
            str_addf(out, "%s%.*s", cp == '"' || cp == '\\' ? "\\" : "", (int)len, s + i);
        else
            for (size_t k = 0; k < len; k++)
                str_addf(out, "\\x%02x", (uint8_t)s[i + k]);
    }
    str_addc(out, '"');
    if (i < n)
        str_addf(out, "... (%zu bytes)", n);
}

static void add_value(struct str *out, const struct gguf_array *a, uint64_t i, bool full)
{
    const char *s;
    size_t n;

    switch (a->type) {
    case GGUF_STR:
        gguf_array_str(a, i, &s, &n);
        add_quoted(out, s, n, full);
        break;
    case GGUF_F32:
        str_addf(out, "%.7g", gguf_array_f64(a, i));
        break;
    case GGUF_F64:
        str_addf(out, "%.15g", gguf_array_f64(a, i));
        break;
    case GGUF_BOOL:
        str_adds(out, gguf_array_i64(a, i) ? "true" : "false");
        break;
    case GGUF_U64:
        str_addf(out, "%" PRIu64, (uint64_t)gguf_array_i64(a, i));
        break;
    default:
        str_addf(out, "%" PRId64, gguf_array_i64(a, i));
    }
}

static void add_metadata(struct str *out, const struct gguf *g, bool full)
{
    str_addf(out, "\nmetadata, %" PRIu32 " keys\n", gguf_n_kv(g));
    for (uint32_t i = 0; i < gguf_n_kv(g); i++) {
        const struct gguf_kv *kv = gguf_kv_at(g, i);
        const struct gguf_array *a = &kv->values;
        char type[40];
        uint64_t k;

        if (kv->is_array)
            snprintf(type, sizeof(type), "%s[%" PRIu64 "]", gguf_type_name(a->type), a->n);
        else
            snprintf(type, sizeof(type), "%s", gguf_type_name(a->type));
        str_addf(out, "  %-42s %-14s ", kv->key, type);
        for (k = 0; k < a->n && (full || k < INSPECT_VALUES); k++) {
            str_adds(out, k ? ", " : "");
            add_value(out, a, k, full);
        }
        str_adds(out, k < a->n ? ", ...\n" : "\n");
    }
}

static void add_rope(struct str *out, const struct hparams *h, const struct weights *w)
{
    str_addf(out, "  RoPE       %" PRIu32 " of %" PRIu32 " values, base %g, ", h->n_rot,
             h->head_dim, (double)h->rope_base);
    if (h->rope_scaling == ROPE_YARN)
        str_addf(out, "YaRN %g over a context of %" PRIu32, (double)h->rope_factor,
                 h->rope_ctx_orig);
    else if (h->rope_scaling == ROPE_LINEAR)
        str_addf(out, "linear scaling %g", (double)h->rope_factor);
    else
        str_adds(out, "not scaled");
    str_adds(out, w->rope_freqs ? ", with factors of its own\n" : "\n");
}

/* The model in words. */
static void add_model(struct str *out, const struct hparams *h, const struct weights *w)
{
    str_addf(out, "\nmodel, %s", h->arch);
    if (h->name[0])
        str_addf(out, " \"%s\"", h->name);
    str_addf(out,
             "\n  shape      %" PRIu32 " layers of %" PRIu32 " values, vocabulary %" PRIu32
             ", context %" PRIu32 "\n",
             h->n_layer, h->n_embd, h->n_vocab, h->n_ctx);
    str_addf(out,
             "  attention  %" PRIu32 " heads of %" PRIu32 " values over %" PRIu32 " KV heads\n",
             h->n_head, h->head_dim, h->n_head_kv);
    add_rope(out, h, w);
    str_addf(out, "  FFN        SwiGLU of %" PRIu32 " values", h->n_ff);
    if (h->n_expert)
        str_addf(out, ", %" PRIu32 " of %" PRIu32 " experts a token", h->n_expert_used,
                 h->n_expert);
    str_addf(out, "\n  norm       RMS, epsilon %g\n", (double)h->rms_eps);
    str_addf(out, "  output     %s\n",
             w->output == w->token_embd ? "tied to the embeddings" : "a matrix of its own");
}

static void add_shape(char *out, size_t size, const struct gguf_tensor *t)
{
    size_t n = 0;

    for (uint32_t i = 0; i < t->n_dims && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%" PRIu64, i ? " x " : "", t->ne[i]);
}

static void add_tensors(struct str *out, const struct gguf *g)
{
    str_addf(out, "\ntensors, %" PRIu32 "\n", gguf_n_tensors(g));
    for (uint32_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        char shape[96];

        add_shape(shape, sizeof(shape), t);
        str_addf(out, "  %-32s %-8s %-20s %14zu\n", t->name, dtype_info(t->type)->name, shape,
                 t->bytes);
    }
}

/* Tensors, elements and bytes by type, and all. */
static void add_totals(struct str *out, const struct gguf *g)
{
    struct total {
        uint64_t tensors, elements, bytes;
    } by_type[DTYPE_LIMIT] = {0}, all = {0};

    for (uint32_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        uint64_t elements = t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];

        by_type[t->type].tensors++;
        by_type[t->type].elements += elements;
        by_type[t->type].bytes += t->bytes;
        all.tensors++;
        all.elements += elements;
        all.bytes += t->bytes;
    }
    str_adds(out, "\ntotals\n");
    for (uint32_t type = 0; type <= DTYPE_LIMIT; type++) {
        const struct total *t = type < DTYPE_LIMIT ? &by_type[type] : &all;

        if (type < DTYPE_LIMIT && !t->tensors)
            continue;
        str_addf(out, "  %-8s %6" PRIu64 " tensors %14" PRIu64 " weights   ",
                 type < DTYPE_LIMIT ? dtype_info(type)->name : "all", t->tensors, t->elements);
        add_bytes(out, t->bytes);
        str_addc(out, '\n');
    }
}

/* What a node has to hold beside the weights above. */
static void add_memory(struct str *out, const struct hparams *h)
{
    static const struct {
        const char *name;
        enum kv_type type;
    } kinds[] = {{"f16", KV_F16}, {"bf16", KV_BF16}, {"f32", KV_F32}, {"q8", KV_Q8}};

    str_adds(out, "\nKV memory\n");
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct kv_layout l;

        kv_layout_init(&l, kinds[i].type, h->n_layer, h->n_head_kv, h->head_dim);
        str_addf(out, "  %-11s", kinds[i].name);
        add_bytes(out, l.page_bytes);
        str_addf(out, " a page of %d tokens, ", KV_PAGE_TOKENS);
        add_bytes(out, (uint64_t)l.page_bytes * kv_layout_pages(h->n_ctx));
        str_addf(out, " for a context of %" PRIu32 "\n", h->n_ctx);
    }
}

static void inspect_add(struct str *out, const struct gguf *g, bool full)
{
    struct hparams h;
    struct weights w = {0};
    struct err e;
    int rc = hparams_load(&h, g, &e);

    if (!rc)
        rc = weights_load(&w, g, &h, &e);
    str_addf(out, "%s: GGUF version %" PRIu32 ", ", gguf_name(g), gguf_version(g));
    add_bytes(out, gguf_file_bytes(g));
    str_addf(out, ", alignment %" PRIu32 ", hash %016" PRIx64 "\n", gguf_alignment(g),
             gguf_hash(g));
    add_metadata(out, g, full);
    if (rc) /* the sentence starts with the file's name, which is above already */
        str_addf(out, "\nmodel\n  this build cannot run it: %s\n",
                 e.text + strlen(gguf_name(g)) + strlen(": "));
    else
        add_model(out, &h, &w);
    add_tensors(out, g);
    add_totals(out, g);
    if (!rc)
        add_memory(out, &h);
    weights_fini(&w);
}

static int inspect_run(const struct inspect_options *o, const struct option_args *rest,
                       struct err *e)
{
    struct str text = {0};
    struct gguf *g;
    int rc;

    if (rest->n != 1)
        return err_set(e, ERR_ARG, "%d files, one is needed", rest->n);
    rc = gguf_open(&g, rest->argv[0], e);
    if (rc)
        return rc;
    inspect_add(&text, g, o->full);
    fwrite(str_text(&text), 1, text.len, stdout);
    str_fini(&text);
    gguf_close(&g);
    return 0;
}

int cmd_inspect(int argc, char **argv)
{
    struct inspect_options o = {0};
    struct option_args rest;
    enum option_action action;
    struct err e = {0};
    int rc = option_main(&inspect_table, &o, argc, argv, &rest, &action, &e);

    if (!rc && action == OPTION_RUN)
        rc = inspect_run(&o, &rest, &e);
    option_free(&inspect_table, &o);
    if (!rc)
        return EXIT_OK;
    fprintf(stderr, "%s: %s\n", inspect_table.program, e.text);
    return rc == ERR_ARG || rc == ERR_CONFIG ? EXIT_USAGE : EXIT_FAILED;
}
