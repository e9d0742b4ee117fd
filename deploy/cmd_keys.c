/* tandem keys: the key files of a cluster whose processes are started by hand, and of clients. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "config/option.h"
#include "daemon/options.h"
#include "deploy/command.h"
#include "deploy/commands.h"
#include "net/keys.h"

struct keys_options {
    char *client;
};

static const struct option keys_rows[] = {
    OPTION(keys_options, client, STR, .unit = "NAME",
           .help = "let a client in: its key file is FILE.NAME; without its line in FILE it is out"),
};

static const struct option_table keys_option_table = {
    .program = "tandem keys",
    .usage = "FILE",
    .summary = "Makes the router's key file, FILE, and FILE.node for nodes, unless they are there",
    .options = keys_rows,
    .n = ARRAY_LEN(keys_rows),
};

/* Key files are not written over: with them a cluster would lose its peers. */
static int keys_put(const char *path, const struct str *text, const char *what, struct err *e)
{
    int rc;

    if (access(path, F_OK) == 0)
        return err_set(e, ERR_CONFIG, "%s exists already", path);
    rc = keys_write(path, text, e);
    if (!rc)
        printf("%s: %s\n", path, what);
    return rc;
}

static int keys_make_cluster(const char *file, const char *node_file, struct err *e)
{
    struct keys_set set;
    struct str text = {0};
    int rc = keys_make(&set, e);

    if (rc)
        return rc;
    keys_text(&set, KEYS_BIT(KEYS_NODE), &text);
    rc = keys_put(node_file, &text, "for --keys of prefill and decode nodes", e);
    explicit_bzero(text.data, text.len);
    str_clear(&text);
    keys_text(&set, KEYS_BIT(KEYS_ROUTER), &text);
    if (!rc)
        rc = keys_put(file, &text, "for --keys of the router; who may connect is in it", e);
    explicit_bzero(text.data, text.len);
    explicit_bzero(&set, sizeof(set));
    str_fini(&text);
    return rc;
}

/* The file as it is, with its comments. */
static int keys_file_text(struct str *out, const char *path, struct err *e)
{
    char buffer[4096];
    FILE *f = fopen(path, "re");
    size_t n;

    if (!f)
        return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    while ((n = fread(buffer, 1, sizeof(buffer), f)) > 0)
        str_add(out, buffer, n);
    fclose(f);
    explicit_bzero(buffer, sizeof(buffer));
    if (out->len && out->data[out->len - 1] != '\n')
        str_addc(out, '\n');
    return 0;
}

static int keys_client_check(const struct keys *k, const char *file, const char *name, struct err *e)
{
    if (!keys_router(k))
        return err_set(e, ERR_CONFIG, "%s: has no line of the router", file);
    for (uint32_t i = 0; i < k->n; i++)
        if (!strcmp(k->entries[i].name, name))
            return err_set(e, ERR_CONFIG, "%s: has a key named %s already", file, name);
    return 0;
}

/* The client's own file first: the router lets nobody in whose key is lost. */
static int keys_add_client(const char *file, const char *client_file, const char *name, struct err *e)
{
    struct keys_pair pair = {{0}, {0}}, router = {{0}, {0}};
    struct str own = {0}, text = {0};
    struct keys k = {0};
    int rc;

    if ((rc = keys_read(&k, file, e)) || (rc = keys_client_check(&k, file, name, e)) ||
        (rc = keys_pair_make(&pair, e)) || (rc = keys_file_text(&text, file, e)))
        goto out;
    memcpy(router.public_key, keys_router(&k)->pair.public_key, KEYS_TEXT);
    keys_line(KEYS_ROUTER, "router", &router, &own);
    keys_line(KEYS_CLIENT, name, &pair, &own);
    explicit_bzero(pair.secret, sizeof(pair.secret));
    keys_line(KEYS_CLIENT, name, &pair, &text);
    rc = keys_put(client_file, &own, "for --keys of the client", e);
    if (!rc)
        rc = keys_write(file, &text, e);
out:
    if (own.data)
        explicit_bzero(own.data, own.len);
    if (text.data)
        explicit_bzero(text.data, text.len);
    str_fini(&own);
    str_fini(&text);
    keys_fini(&k);
    return rc;
}

static int keys_run(const void *options, const struct option_args *args, struct err *e)
{
    const struct keys_options *o = options;
    const char *wrong = *o->client ? options_name_wrong(o->client) : NULL;
    struct str path = {0};
    int rc = 0;

    if (args->n != 1)
        return err_set(e, ERR_ARG, "%d files named, not one", args->n);
    if (wrong)
        return err_set(e, ERR_ARG, "--client: \"%.80s\" %s", o->client, wrong);
    str_addf(&path, "%s.node", args->argv[0]);
    if (!*o->client || access(args->argv[0], F_OK) != 0)
        rc = keys_make_cluster(args->argv[0], path.data, e);
    str_clear(&path);
    str_addf(&path, "%s.%s", args->argv[0], o->client);
    if (!rc && *o->client)
        rc = keys_add_client(args->argv[0], path.data, o->client, e);
    str_fini(&path);
    return rc;
}

int cmd_keys(int argc, char **argv)
{
    struct keys_options options = {0};

    return command_main(&keys_option_table, &options, argc, argv, keys_run);
}
