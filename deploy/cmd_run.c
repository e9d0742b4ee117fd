/* tandem run: one prompt from the shell, streamed to it; -i holds a conversation. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "deploy/api.h"
#include "deploy/command.h"
#include "deploy/commands.h"
#include "deploy/stream.h"

#define RUN_STDIN_MAX ((size_t)8 << 20) /* bytes of a prompt, as MSG_PROMPT_MAX */

struct run_options {
    bool interactive, quiet;
    uint32_t max_tokens, top_k;
    double temperature, top_p;
    char *seed, *system;
};

static const char *run_seed_wrong(const char *value)
{
    return strlen(value) > 18 || value[strspn(value, "0123456789")]
               ? "is not a whole number of at most 18 digits"
               : NULL;
}

static const struct option run_rows[] = {
    OPTION(run_options, interactive, BOOL, .letter = 'i',
           .help = "chat: a message a line, until end of input; Ctrl-C ends an answer, or the chat"),
    OPTION(run_options, max_tokens, U32, .def = "128", .min = 1, .max = 1 << 20, .letter = 'n',
           .help = "tokens to generate at most"),
    OPTION(run_options, temperature, F64, .def = "0.8", .min = 0, .max = 2,
           .help = "0 takes the likeliest token each time"),
    OPTION(run_options, top_p, F64, .def = "1", .min = 0.001, .max = 1,
           .help = "of the likeliest tokens that together have this probability"),
    OPTION(run_options, top_k, U32, .max = 1 << 20, .help = "of the K likeliest tokens; 0 for all"),
    OPTION(run_options, seed, STR, .wrong = run_seed_wrong, .help = "for the same answer again"),
    OPTION(run_options, system, STR, .unit = "TEXT", .help = "with -i, the first message's instructions"),
    OPTION(run_options, quiet, BOOL, .letter = 'q', .help = "no figures on stderr"),
};

static const struct option_table run_option_table = {
    .program = "tandem run",
    .usage = "[FILE|CLUSTER|URL] PROMPT",
    .summary = "Sends a prompt (- reads it from stdin) to a running cluster and streams the answer",
    .options = run_rows,
    .n = ARRAY_LEN(run_rows),
};

/* The conversation, and what is known for all of it. */
struct run {
    const struct run_options *options;
    struct target target;
    struct str answer; /* the last one */
    int unread;        /* errno of stdout: nobody reads us any more */
};

static bool run_flush(struct run *r)
{
    if (fflush(stdout) != 0 && !r->unread)
        r->unread = errno;
    return !r->unread;
}

static int run_unread(const struct run *r, struct err *e)
{
    return err_set(e, ERR_IO, "the answer is cut short: stdout: %s", strerror(r->unread));
}

static bool run_text(void *ctx, const char *piece, size_t n)
{
    struct run *r = ctx;

    str_add(&r->answer, piece, n);
    fwrite(piece, 1, n, stdout);
    return run_flush(r);
}

static json_t *run_request(const struct run *r)
{
    const struct run_options *o = r->options;
    json_t *request = json_pack("{s:b, s:{s:b}, s:I, s:f, s:f, s:I}", "stream", 1, "stream_options",
                                "include_usage", 1, "max_tokens", (json_int_t)o->max_tokens,
                                "temperature", o->temperature, "top_p", o->top_p, "top_k",
                                (json_int_t)o->top_k);

    ASSERT(request);
    if (*o->seed)
        json_object_set_new(request, "seed", json_integer(strtoll(o->seed, NULL, 10)));
    return request;
}

/* Takes request. */
static int run_stream(struct run *r, const char *path, json_t *request, struct err *e)
{
    struct stream_figures figures;
    struct str report = {0};
    int rc;

    str_clear(&r->answer);
    rc = stream_run(&figures, r->target.url, path, request, run_text, r,
                    r->options->interactive, e);
    json_decref(request);
    if (r->answer.len && r->answer.data[r->answer.len - 1] != '\n')
        putchar('\n');
    if (!run_flush(r))
        return run_unread(r, e);
    if (!rc && !r->options->quiet) {
        stream_report(&figures, &report);
        fputs(str_text(&report), stderr);
        str_fini(&report);
    }
    return rc;
}

static int run_read_stdin(struct str *out, struct err *e)
{
    char buffer[4096];
    size_t n;

    while ((n = fread(buffer, 1, sizeof(buffer), stdin)) > 0 && out->len <= RUN_STDIN_MAX)
        str_add(out, buffer, n);
    if (out->len > RUN_STDIN_MAX)
        return err_set(e, ERR_LIMIT, "the prompt on stdin is longer than %zu bytes", RUN_STDIN_MAX);
    return 0;
}

static int run_prompt(struct run *r, const char *prompt, struct err *e)
{
    json_t *text, *request;
    struct str input = {0};
    int rc = strcmp(prompt, "-") == 0 ? run_read_stdin(&input, e) : 0;

    if (rc) {
        str_fini(&input);
        return rc;
    }
    text = input.data ? json_stringn(input.data, input.len) : json_string(prompt);
    str_fini(&input);
    if (!text)
        return err_set(e, ERR_ARG, "the prompt is not UTF-8");
    request = run_request(r);
    json_object_set_new(request, "prompt", text);
    return run_stream(r, "/v1/completions", request, e);
}

static void run_add_message(json_t *messages, const char *role, const char *text, size_t n)
{
    json_array_append_new(messages, json_pack("{s:s, s:o?}", "role", role, "content",
                                              json_stringn(text, n)));
}

/* One line and its answer. A refusal (too long by now, a busy cluster) is shown, and forgotten. */
static void run_turn(struct run *r, json_t *messages, const char *line, size_t n)
{
    size_t before = json_array_size(messages);
    struct err e = {0};
    json_t *request;

    run_add_message(messages, "user", line, n);
    request = run_request(r);
    json_object_set(request, "messages", messages);
    if (run_stream(r, "/v1/chat/completions", request, &e) && !r->unread)
        fprintf(stderr, "tandem run: %s\n", e.text);
    if (e.code || !r->answer.len) { /* none: interrupted before it began */
        json_array_remove(messages, before);
        return;
    }
    run_add_message(messages, "assistant", str_text(&r->answer), r->answer.len);
}

static int run_chat(struct run *r, const char *first, struct err *e)
{
    bool terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    json_t *messages = json_array();
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;

    if (*r->options->system)
        run_add_message(messages, "system", r->options->system, strlen(r->options->system));
    if (first)
        run_turn(r, messages, first, strlen(first));
    while (!r->unread) {
        if (terminal) {
            fputs("> ", stdout);
            fflush(stdout);
        }
        n = getline(&line, &cap, stdin);
        if (n < 0)
            break;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            n--;
        if (n > 0)
            run_turn(r, messages, line, (size_t)n);
    }
    if (terminal)
        putchar('\n');
    free(line); /* getline's own */
    json_decref(messages);
    return r->unread ? run_unread(r, e) : 0;
}

/* One argument is the prompt, two are cluster and prompt; with -i one is the cluster. */
static int run_run(const void *options, const struct option_args *args, struct err *e)
{
    const struct run_options *o = options;
    const char *cluster = NULL, *prompt = NULL;
    struct run r = {.options = o};
    int rc;

    if (args->n > 2 || (args->n == 0 && !o->interactive))
        return err_set(e, ERR_ARG, "a prompt is needed, and before it at most a cluster; got %d "
                       "arguments", args->n);
    if (args->n == 2 || o->interactive)
        cluster = args->n ? args->argv[0] : NULL;
    if (args->n == 2 || !o->interactive)
        prompt = args->argv[args->n - 1];
    rc = target_reach(&r.target, cluster, e);
    if (!rc)
        rc = o->interactive || !prompt ? run_chat(&r, prompt, e) : run_prompt(&r, prompt, e);
    str_fini(&r.answer);
    target_fini(&r.target);
    return rc;
}

int cmd_run(int argc, char **argv)
{
    struct run_options o = {0};

    return command_main(&run_option_table, &o, argc, argv, run_run);
}
