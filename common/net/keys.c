#include "net/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/secret_file.h"
#include "net/sock_curve.h"

#define KEYS_WORDS 4
#define KEYS_WORD_MAX 64 /* bytes of the longest: a name */

const char *const keys_role_names[KEYS_ROLE_COUNT] = {"router", "node", "client"};

struct keys_line {
    char words[KEYS_WORDS][KEYS_WORD_MAX];
    size_t n;
};

/* Cuts [s, end) into words. */
static int keys_split(struct keys_line *l, const char *s, const char *end, struct err *e)
{
    l->n = 0;
    while (s < end) {
        size_t len = 0;

        while (s + len < end && !strchr(" \t\r", s[len]))
            len++;
        if (len && l->n == 0 && *s == '#') /* later on it is a character of Z85 */
            break;
        if (len && l->n == KEYS_WORDS)
            return err_set(e, ERR_FORMAT, "more than ROLE NAME PUBLIC SECRET");
        if (len >= KEYS_WORD_MAX)
            return err_set(e, ERR_FORMAT, "a word of %zu bytes, at most %d have a meaning", len,
                           KEYS_WORD_MAX - 1);
        if (len) {
            memcpy(l->words[l->n], s, len);
            l->words[l->n++][len] = '\0';
        }
        s += len + 1;
    }
    return 0;
}

static int keys_check_key(const char *key, const char *what, struct err *e)
{
    static const char z85[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                              ".-:+=^!/*?&<>()[]{}@%$#";
    size_t n = strlen(key), good = strspn(key, z85);

    if (n != KEYS_TEXT - 1)
        return err_set(e, ERR_FORMAT, "the %s key has %zu characters, not %d", what, n,
                       KEYS_TEXT - 1);
    if (good != n)
        return err_set(e, ERR_FORMAT, "character %zu of the %s key is none of Z85", good + 1, what);
    /* five digits of base 85 make four bytes, and some are too much for that */
    for (size_t i = 0; i < n; i += 5) {
        uint64_t value = 0;

        for (size_t k = i; k < i + 5; k++)
            value = value * 85 + (uint64_t)(strchr(z85, key[k]) - z85);
        if (value > UINT32_MAX)
            return err_set(e, ERR_FORMAT, "characters %zu to %zu of the %s key are over 4 bytes", i + 1,
                           i + 5, what);
    }
    return 0;
}

static int keys_check_name(const char *name, struct err *e)
{
    static const char good[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

    if (name[strspn(name, good)])
        return err_set(e, ERR_FORMAT, "the name \"%s\" has other than letters, digits, '.', '_', '-'",
                       name);
    return 0;
}

static int keys_check_role(enum keys_role *role, const char *word, struct err *e)
{
    for (unsigned r = 0; r < KEYS_ROLE_COUNT; r++)
        if (!strcmp(word, keys_role_names[r])) {
            *role = (enum keys_role)r;
            return 0;
        }
    return err_set(e, ERR_FORMAT, "the role \"%s\" is none of router, node and client", word);
}

static int keys_check_secret(const struct keys_pair *pair, struct err *e)
{
    char public_key[KEYS_TEXT];

    sock_curve_public(public_key, pair->secret);
    if (strcmp(public_key, pair->public_key) != 0)
        return err_set(e, ERR_FORMAT, "the secret key is not that of the public key");
    return 0;
}

/* Against the lines before it. */
static int keys_check_others(const struct keys *k, const struct keys_entry *x, struct err *e)
{
    const struct keys_entry *same = keys_find(k, x->pair.public_key);

    if (same)
        return err_set(e, ERR_FORMAT, "the public key is that of %s %s too",
                       keys_role_names[same->role], same->name);
    if (x->role == KEYS_ROUTER && keys_router(k))
        return err_set(e, ERR_FORMAT, "a second router, a cluster has one");
    if (*x->pair.secret && keys_own(k, x->role))
        return err_set(e, ERR_FORMAT, "a second secret of a %s, a process has one",
                       keys_role_names[x->role]);
    return 0;
}

static int keys_add(struct keys *k, const struct keys_line *l, struct err *e)
{
    struct keys_entry *x = &k->entries[k->n];
    int rc;

    if (l->n < 3)
        return err_set(e, ERR_FORMAT, "%zu words where ROLE NAME PUBLIC are wanted", l->n);
    if (k->n == KEYS_MAX)
        return err_set(e, ERR_LIMIT, "more than %d keys", KEYS_MAX);
    *x = (struct keys_entry){0};
    memcpy(x->name, l->words[1], sizeof(x->name));
    if ((rc = keys_check_role(&x->role, l->words[0], e)) ||
        (rc = keys_check_name(l->words[1], e)) ||
        (rc = keys_check_key(l->words[2], "public", e)) ||
        (rc = l->n < 4 ? 0 : keys_check_key(l->words[3], "secret", e)))
        return rc;
    memcpy(x->pair.public_key, l->words[2], KEYS_TEXT);
    if (l->n == 4)
        memcpy(x->pair.secret, l->words[3], KEYS_TEXT);
    if ((rc = l->n < 4 ? 0 : keys_check_secret(&x->pair, e)) || (rc = keys_check_others(k, x, e))) {
        explicit_bzero(x, sizeof(*x));
        return rc;
    }
    k->n++;
    return 0;
}

int keys_parse(struct keys *k, const char *text, size_t n, const char *path, struct err *e)
{
    const char *end = text + n;
    struct keys_line line;
    unsigned number = 1;
    int rc = 0;

    if (memchr(text, '\0', n))
        return err_set(e, ERR_FORMAT, "%s: has a NUL byte", path);
    k->entries = mem_calloc(KEYS_MAX + 1, sizeof(*k->entries)); /* never moved: they are secrets */
    for (const char *s = text; s < end && !rc; number++) {
        const char *eol = memchr(s, '\n', (size_t)(end - s));

        if (!eol)
            eol = end;
        rc = keys_split(&line, s, eol, e);
        if (!rc && line.n)
            rc = keys_add(k, &line, e);
        if (rc)
            err_wrap(e, "%s:%u", path, number);
        s = eol + 1;
    }
    explicit_bzero(&line, sizeof(line));
    return rc;
}

int keys_read(struct keys *k, const char *path, struct err *e)
{
    char *text;
    size_t n;
    int rc = secret_file_read(&text, &n, path, e);

    if (!rc)
        rc = keys_parse(k, text, n, path, e);
    secret_file_free(&text);
    return rc;
}

void keys_fini(struct keys *k)
{
    if (k->entries)
        explicit_bzero(k->entries, k->n * sizeof(*k->entries));
    mem_free(k->entries);
    *k = (struct keys){0};
}

const struct keys_entry *keys_own(const struct keys *k, enum keys_role role)
{
    for (uint32_t i = 0; i < k->n; i++)
        if (k->entries[i].role == role && *k->entries[i].pair.secret)
            return &k->entries[i];
    return NULL;
}

const struct keys_entry *keys_find(const struct keys *k, const char *public_key)
{
    for (uint32_t i = 0; i < k->n; i++)
        if (!strcmp(k->entries[i].pair.public_key, public_key))
            return &k->entries[i];
    return NULL;
}

const struct keys_entry *keys_router(const struct keys *k)
{
    for (uint32_t i = 0; i < k->n; i++)
        if (k->entries[i].role == KEYS_ROUTER)
            return &k->entries[i];
    return NULL;
}

int keys_pair_make(struct keys_pair *out, struct err *e) { return sock_curve_pair(out, e); }

int keys_make(struct keys_set *out, struct err *e)
{
    int rc = keys_pair_make(&out->router, e);

    return rc ? rc : keys_pair_make(&out->node, e);
}

bool keys_set_of(struct keys_set *out, const struct keys *k)
{
    const struct keys_entry *router = keys_own(k, KEYS_ROUTER), *node = keys_own(k, KEYS_NODE);

    if (!router || !node)
        return false;
    *out = (struct keys_set){router->pair, node->pair};
    return true;
}

void keys_line(enum keys_role role, const char *name, const struct keys_pair *pair, struct str *out)
{
    str_addf(out, "%s %s %s%s%s\n", keys_role_names[role], name, pair->public_key,
             *pair->secret ? " " : "", pair->secret);
}

void keys_text(const struct keys_set *s, unsigned roles, struct str *out)
{
    const struct keys_pair *pairs[] = {[KEYS_ROUTER] = &s->router, [KEYS_NODE] = &s->node};

    str_adds(out, "# ROLE NAME PUBLIC [SECRET]\n");
    for (unsigned r = 0; r < ARRAY_LEN(pairs); r++) {
        struct keys_pair pair = *pairs[r];

        if (!(roles & KEYS_BIT(r)))
            explicit_bzero(pair.secret, sizeof(pair.secret));
        keys_line((enum keys_role)r, keys_role_names[r], &pair, out);
        explicit_bzero(&pair, sizeof(pair));
    }
}

int keys_write(const char *path, const struct str *text, struct err *e)
{
    struct str temp = {0};
    bool good;
    int fd;

    str_addf(&temp, "%s.%d.part", path, (int)getpid());
    unlink(temp.data); /* of a process of this number that died */
    fd = open(temp.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    good = fd >= 0 && write(fd, str_text(text), text->len) == (ssize_t)text->len &&
           fsync(fd) == 0 && rename(temp.data, path) == 0;
    if (!good)
        err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    if (!good && fd >= 0)
        unlink(temp.data);
    str_fini(&temp);
    return good ? 0 : ERR_IO;
}
