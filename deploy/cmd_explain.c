/* tandem explain: why a request went to the nodes that it went to. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "deploy/api.h"
#include "deploy/command.h"
#include "deploy/commands.h"

struct explain_options {
    bool json;
};

static const struct option explain_rows[] = {
    OPTION(explain_options, json, BOOL, .help = "print what the router says, as JSON"),
};

static const struct option_table explain_option_table = {
    .program = "tandem explain",
    .usage = "[FILE|CLUSTER|URL] REQUEST_ID",
    .summary = "Shows the candidates for a request with their predicted times, and the one chosen",
    .options = explain_rows,
    .n = ARRAY_LEN(explain_rows),
};

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static void explain_candidate(const json_t *c, bool chosen)
{
    printf("%c %-12s %-12s %7.0f %7.0f %9.2f %9.2f %9.2f %9.2f %9.2f %9.2f %10.2f%s%s\n",
           chosen ? '*' : ' ', json_is_true(json_object_get(c, "local")) ? "-" : api_text(c, "prefill"),
           api_text(c, "decode"), number(c, "cached_prefill"), number(c, "cached_decode"),
           number(c, "queue_ms"), number(c, "prefill_ms"), number(c, "ship_ms"),
           number(c, "ttft_ms"), number(c, "tpot_ms"), number(c, "others_ms"),
           number(c, "score_ms"),
           json_is_false(json_object_get(c, "meets_slo")) ? "  misses the SLO" : "",
           json_is_true(json_object_get(c, "failed_before")) ? "  failed before" : "");
}

static void explain_print(const json_t *x)
{
    const json_t *list = json_object_get(x, "candidates"), *seen = json_object_get(x, "observed");

    printf("request %s, %s: %" JSON_INTEGER_FORMAT
           " prompt tokens, at most %" JSON_INTEGER_FORMAT " to generate, attempt %"
           JSON_INTEGER_FORMAT "\nplaced after %.2f ms: %s\n",
           api_text(x, "request"), api_text(x, "state"), api_number(x, "prompt_tokens"),
           api_number(x, "max_tokens"), api_number(x, "attempt"), number(x, "placed_after_ms"),
           api_text(x, "reason"));
    if (*api_text(x, "error"))
        printf("failed with %" JSON_INTEGER_FORMAT ": %s\n", api_number(x, "status"),
               api_text(x, "error"));
    printf("\npredicted, ms; the best %zu of %" JSON_INTEGER_FORMAT " candidates\n"
           "  %-12s %-12s %7s %7s %9s %9s %9s %9s %9s %9s %10s\n",
           json_array_size(list), api_number(x, "considered"), "prefill", "decode", "cached",
           "held", "queue", "prefill", "ship", "TTFT", "TPOT", "others", "score");
    for (size_t i = 0; i < json_array_size(list); i++)
        explain_candidate(json_array_get(list, i), i == 0);
    printf("\nobserved, ms: router queue %.2f, prefill queue %.2f, prefill %.2f, handoff %.2f, "
           "decode queue %.2f, decode %.2f; %.0f prompt tokens cached, %.0f generated\n",
           number(seen, "router_queue_ms"), number(seen, "prefill_queue_ms"),
           number(seen, "prefill_ms"), number(seen, "handoff_ms"), number(seen, "decode_queue_ms"),
           number(seen, "decode_ms"), number(seen, "cached_tokens"), number(seen, "output_tokens"));
}

/* As it can stand in a URL; ids that tandem makes are letters, digits and '-'. */
static int explain_check_id(const char *id, struct err *e)
{
    if (!*id)
        return err_set(e, ERR_ARG, "the id of the request is empty; give a response's id or its x-request-id");
    for (const char *s = id; *s; s++)
        if (*s <= ' ' || *s > '~' || strchr("/?#%", *s))
            return err_set(e, ERR_ARG, "the id of the request has a character at %zu that is not printable "
                           "ASCII or is one of / ? # %%", (size_t)(s - id) + 1);
    return 0;
}

static int explain_run(const void *options, const struct option_args *args, struct err *e)
{
    const struct explain_options *o = options;
    struct target t = {0};
    json_t *reply = NULL;
    struct str path = {0};
    int rc;

    if (args->n < 1 || args->n > 2)
        return err_set(e, ERR_ARG, "one request at a time, got %d arguments", args->n);
    rc = target_reach(&t, args->n == 2 ? args->argv[0] : NULL, e);
    if (!rc)
        rc = explain_check_id(args->argv[args->n - 1], e);
    str_addf(&path, "/tandem/explain/%s", args->argv[args->n - 1]);
    if (!rc)
        rc = api_call(&reply, t.url, "GET", str_text(&path), NULL, e);
    if (!rc && o->json) {
        json_dumpf(reply, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
        putchar('\n');
    } else if (!rc) {
        explain_print(reply);
    }
    json_decref(reply);
    str_fini(&path);
    target_fini(&t);
    return rc;
}

int cmd_explain(int argc, char **argv)
{
    struct explain_options o = {0};

    return command_main(&explain_option_table, &o, argc, argv, explain_run);
}
