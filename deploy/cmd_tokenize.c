/* tandem tokenize, tandem detokenize: a model's vocabulary from the shell. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "config/option.h"
#include "daemon/daemon.h"
#include "deploy/commands.h"
#include "model/detok.h"
#include "model/gguf.h"
#include "base/utf8.h"
#include "model/vocab.h"

struct tokenize_options {
    char *model;
    bool no_special, parse_special, pieces;
};

static const struct option tokenize_option_list[] = {
    OPTION(tokenize_options, model, STR, .unit = "FILE", .help = "the model, a GGUF"),
    OPTION(tokenize_options, no_special, BOOL,
           .help = "without the BOS and EOS that the model asks for"),
    OPTION(tokenize_options, parse_special, BOOL,
           .help = "names of control tokens in the text stand for the tokens"),
    OPTION(tokenize_options, pieces, BOOL, .help = "an id and its text a line"),
};

static const struct option_table tokenize_table = {
    .program = "tandem tokenize",
    .usage = "[TEXT|-]",
    .summary = "Prints the token ids of a text, of standard input if none is given",
    .options = tokenize_option_list,
    .n = ARRAY_LEN(tokenize_option_list),
};

struct detokenize_options {
    char *model;
    bool special;
};

static const struct option detokenize_option_list[] = {
    OPTION(detokenize_options, model, STR, .unit = "FILE", .help = "the model, a GGUF"),
    OPTION(detokenize_options, special, BOOL, .help = "control tokens as their names"),
};

static const struct option_table detokenize_table = {
    .program = "tandem detokenize",
    .usage = "ID...",
    .summary = "Prints the text of a list of token ids",
    .options = detokenize_option_list,
    .n = ARRAY_LEN(detokenize_option_list),
};

static int model_vocab(struct vocab **out, const char *model, struct err *e)
{
    struct gguf *g;
    int rc;

    if (!*model)
        return err_set(e, ERR_ARG, "--model is needed");
    if ((rc = gguf_open(&g, model, e)))
        return rc;
    if ((rc = vocab_load(out, g, e)))
        err_wrap(e, "%s", gguf_name(g));
    gguf_close(&g);
    return rc;
}

static int read_stdin(struct str *out, struct err *e)
{
    char buf[1 << 16];
    size_t n;

    while ((n = fread(buf, 1, sizeof(buf), stdin)) > 0) {
        if (out->len + n > VOCAB_TEXT_BYTES_MAX)
            return err_set(e, ERR_LIMIT, "standard input has more than %u bytes",
                           VOCAB_TEXT_BYTES_MAX);
        str_add(out, buf, n);
    }
    if (ferror(stdin))
        return err_set(e, ERR_IO, "cannot read standard input: %s", strerror(errno));
    return 0;
}

/* A piece in quotes, on one line and well-formed whatever its bytes are. */
static void print_piece(const struct vocab *v, uint32_t id)
{
    struct str piece = {0};
    size_t len;
    uint32_t cp;

    vocab_piece(v, id, &piece);
    printf("%" PRIu32 " \"", id);
    for (size_t i = 0; i < piece.len; i += len) {
        const char *s = piece.data + i;

        if (utf8_step(s, piece.len - i, &len, &cp) == UTF8_OK && cp >= ' ' && cp != 0x7F)
            printf("%s%.*s", cp == '"' || cp == '\\' ? "\\" : "", (int)len, s);
        else
            for (size_t k = 0; k < len; k++)
                printf("\\x%02X", (uint8_t)s[k]);
    }
    printf("\"\n");
    str_fini(&piece);
}

static int tokenize_run(const struct tokenize_options *o, const struct option_args *rest,
                        struct err *e)
{
    struct vocab *v = NULL;
    struct token_list ids = {0};
    struct str text = {0};
    int rc;

    if (rest->n > 1)
        return err_set(e, ERR_ARG, "%d texts, at most one is understood; put it in quotes",
                       rest->n);
    if ((rc = model_vocab(&v, o->model, e)))
        return rc;
    if (rest->n == 0 || strcmp(rest->argv[0], "-") == 0)
        rc = read_stdin(&text, e);
    else
        str_adds(&text, rest->argv[0]);
    if (!rc)
        rc =
            vocab_tokenize(v, &ids, str_text(&text), text.len, !o->no_special, o->parse_special, e);
    for (size_t i = 0; !rc && i < ids.n; i++) {
        if (o->pieces)
            print_piece(v, ids.ids[i]);
        else
            printf("%s%" PRIu32, i ? " " : "", ids.ids[i]);
    }
    if (!rc && !o->pieces)
        putchar('\n');
    str_fini(&text);
    token_list_fini(&ids);
    vocab_free(&v);
    return rc;
}

static int detokenize_run(const struct detokenize_options *o, const struct option_args *rest,
                          struct err *e)
{
    struct vocab *v = NULL;
    struct str text = {0};
    struct detok d;
    int rc = model_vocab(&v, o->model, e);

    if (rc)
        return rc;
    detok_init(&d, v, DETOK_WHOLE | (o->special ? DETOK_SPECIAL : 0));
    for (int i = 0; i < rest->n && !rc; i++) {
        const char *arg = rest->argv[i];
        char *end;
        unsigned long id;

        errno = 0;
        id = strtoul(arg, &end, 10);
        if (*arg < '0' || *arg > '9' || *end || errno)
            rc = err_set(e, ERR_ARG, "\"%.64s\" is not a token id", arg);
        else if (id >= vocab_size(v))
            rc = err_set(e, ERR_ARG, "token %lu is out of range, the model has %u tokens", id,
                         vocab_size(v));
        else
            detok_add(&d, (uint32_t)id, &text);
    }
    detok_finish(&d, &text);
    if (!rc) {
        fwrite(str_text(&text), 1, text.len, stdout);
        putchar('\n');
    }
    str_fini(&text);
    vocab_free(&v);
    return rc;
}

/* The sentence and the exit code of rc, 0 for success. */
static int finish(const char *program, int rc, const struct err *e)
{
    if (!rc)
        return EXIT_SUCCESS;
    fprintf(stderr, "%s: %s\n", program, e->text);
    return rc == ERR_ARG || rc == ERR_CONFIG ? EXIT_USAGE : EXIT_FAILED;
}

int cmd_tokenize(int argc, char **argv)
{
    struct tokenize_options o = {0};
    struct option_args rest;
    enum option_action action;
    struct err e = {0};
    int rc = option_main(&tokenize_table, &o, argc, argv, &rest, &action, &e);

    if (!rc && action == OPTION_RUN)
        rc = tokenize_run(&o, &rest, &e);
    option_free(&tokenize_table, &o);
    return finish(tokenize_table.program, rc, &e);
}

int cmd_detokenize(int argc, char **argv)
{
    struct detokenize_options o = {0};
    struct option_args rest;
    enum option_action action;
    struct err e = {0};
    int rc = option_main(&detokenize_table, &o, argc, argv, &rest, &action, &e);

    if (!rc && action == OPTION_RUN)
        rc = detokenize_run(&o, &rest, &e);
    option_free(&detokenize_table, &o);
    return finish(detokenize_table.program, rc, &e);
}
