/* tandem eval: the engine alone, for comparison with an outside oracle. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "config/option.h"
#include "daemon/daemon.h"
#include "daemon/options.h"
#include "deploy/commands.h"
#include "engine/eval.h"
#include "model/vocab.h"

struct eval_options {
    char *model, *tokens, *logits, *cpu;
    uint32_t greedy, threads, chunk_tokens;
    bool perplexity;
    int kv_type;
};

static const struct option eval_option_list[] = {
    OPTION(eval_options, model, STR, .unit = "FILE", .help = "the model, a GGUF"),
    OPTION(eval_options, tokens, STR, .unit = "FILE", .help = "a list of token ids a line"),
    OPTION(eval_options, logits, STR, .unit = "OUT",
           .help = "write f32 logits of every position, [tokens][vocab] for each line"),
    OPTION(eval_options, greedy, U32, .max = 1 << 20, .help = "print the N ids that follow each line"),
    OPTION(eval_options, perplexity, BOOL, .help = "print that of all lines, each a text of its own"),
    OPTION(eval_options, cpu, STR, .def = "auto", .unit = "TIER",
           .help = "kernel tier: " OPTIONS_CPU_TIERS),
    OPTION(eval_options, threads, U32, .def = "1", .min = 1, .max = 1024, .help = "threads, not pinned"),
    OPTION(eval_options, kv_type, ENUM, .def = "auto", .names = options_kv_types, .help = "type of the KV pages; auto: bf16 with amx, else f16"),
    OPTION(eval_options, chunk_tokens, U32, .def = "256", .min = 1, .max = 8192,
           .help = "rows of a forward pass over the prompt"),
};

static const struct option_table eval_option_table = {
    .program = "tandem eval",
    .summary = "Runs token lists through one engine in one process: logits, continuations, perplexity",
    .options = eval_option_list,
    .n = ARRAY_LEN(eval_option_list),
};

/* The ids of one line; ERR_FORMAT names file, line and word. */
static int line_parse(struct token_list *out, char *line, const char *file, size_t number, struct err *e)
{
    out->n = 0;
    for (char *w = strtok(line, " \t\r\n"); w; w = strtok(NULL, " \t\r\n")) {
        char *end;
        unsigned long id = strtoul(w, &end, 10);

        if (*end || *w == '-' || id > UINT32_MAX)
            return err_set(e, ERR_FORMAT, "%s:%zu: \"%.32s\" is not a token id", file, number, w);
        token_list_add(out, (uint32_t)id);
    }
    return 0;
}

/* What all lines give together. */
struct eval_out {
    FILE *f; /* for logits, or NULL */
    uint32_t n_vocab;
    bool failed;
    double nll; /* of so many foretold tokens */
    uint64_t foretold;
};

static void logits_write(void *ctx, uint32_t pos, const float *logits)
{
    struct eval_out *o = ctx;

    (void)pos;
    if (fwrite(logits, sizeof(float), o->n_vocab, o->f) != o->n_vocab)
        o->failed = true;
}

static int line_eval(struct eval *ev, const struct token_list *t, const struct eval_options *o,
                     struct eval_out *out, struct err *e)
{
    struct sample_params greedy = {.top_p = 1};
    double nll;
    uint32_t *ids;
    int rc = 0;

    if (out->f && (rc = eval_logits(ev, t->ids, (uint32_t)t->n, 0, logits_write, out, e)))
        return rc;
    if (o->perplexity) {
        if ((rc = eval_nll(ev, t->ids, (uint32_t)t->n, &nll, e)))
            return rc;
        out->nll += nll;
        out->foretold += t->n - 1;
    }
    if (!o->greedy)
        return 0;
    ids = mem_calloc(o->greedy, sizeof(*ids));
    rc = eval_generate(ev, t->ids, (uint32_t)t->n, &greedy, ids, o->greedy, e);
    for (uint32_t i = 0; !rc && i < o->greedy; i++)
        printf("%" PRIu32 "%c", ids[i], i + 1 < o->greedy ? ' ' : '\n');
    mem_free(ids);
    return rc;
}

static int file_eval(struct eval *ev, const struct eval_options *o, struct err *e)
{
    struct eval_out out = {.n_vocab = engine_hparams(eval_engine(ev))->n_vocab};
    struct token_list t = {0};
    char *line = NULL;
    size_t cap = 0, number = 0;
    FILE *in = fopen(o->tokens, "r");
    int rc = 0;

    if (!in)
        return err_set(e, ERR_IO, "cannot read %s: %s", o->tokens, strerror(errno));
    if (*o->logits && !(out.f = fopen(o->logits, "wb")))
        rc = err_set(e, ERR_IO, "cannot write %s: %s", o->logits, strerror(errno));
    while (!rc && getline(&line, &cap, in) >= 0) {
        number++;
        if ((rc = line_parse(&t, line, o->tokens, number, e)))
            break;
        if ((rc = line_eval(ev, &t, o, &out, e)))
            err_wrap(e, "%s:%zu", o->tokens, number);
    }
    if (out.f && (fclose(out.f) != 0 || out.failed) && !rc)
        rc = err_set(e, ERR_IO, "cannot write %s: %s", o->logits, strerror(errno));
    if (!rc && out.foretold)
        printf("perplexity %.4f over %" PRIu64 " tokens\n", exp(out.nll / (double)out.foretold),
               out.foretold);
    fclose(in);
    free(line); /* getline's own */
    token_list_fini(&t);
    return rc;
}

static int eval_run(const struct eval_options *o, struct err *e)
{
    struct engine_options eo = {.model = o->model,
                                .n_threads = o->threads,
                                .rows_max = o->chunk_tokens,
                                .kv_type = (enum kv_type)o->kv_type};
    struct eval *ev;
    int rc;

    if (!*o->model || !*o->tokens)
        return err_set(e, ERR_ARG, "--model and --tokens are needed");
    if (!*o->logits && !o->greedy && !o->perplexity)
        return err_set(e, ERR_ARG, "nothing to do: give --logits OUT, --greedy N or --perplexity");
    if ((rc = cpu_tier_choose(&eo.tier, o->cpu, e)) || (rc = eval_open(&ev, &eo, e)))
        return rc;
    rc = file_eval(ev, o, e);
    eval_close(&ev);
    return rc;
}

int cmd_eval(int argc, char **argv)
{
    struct eval_options o = {0};
    enum option_action action;
    struct err e = {0};
    int rc = option_main(&eval_option_table, &o, argc, argv, NULL, &action, &e);

    if (rc) {
        fprintf(stderr, "tandem eval: %s\n", e.text);
        rc = EXIT_USAGE;
    } else if (action == OPTION_RUN && eval_run(&o, &e)) {
        fprintf(stderr, "tandem eval: %s\n", e.text);
        rc = e.code == ERR_ARG ? EXIT_USAGE : EXIT_FAILED;
    }
    option_free(&eval_option_table, &o);
    return rc;
}
