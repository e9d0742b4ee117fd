#include "router/api_keys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/secret_file.h"
#include "daemon/options.h"

#define WORDS_MAX 8 /* in a line */

struct api_keys {
    char *path;
    struct tenant_limits limits;
    struct api_key *items;
    size_t n;
    struct stat seen; /* the file, when it was read */
};

/* Where in the file we are. */
struct line {
    const char *path;
    unsigned number;
};

static bool keys_sum(uint8_t sum[SHA256_BYTES], const char *hex)
{
    if (strlen(hex) != 2 * SHA256_BYTES || strspn(hex, "0123456789abcdefABCDEF") != 2 * SHA256_BYTES)
        return false;
    for (size_t i = 0; i < SHA256_BYTES; i++) {
        const char digits[] = {hex[2 * i], hex[2 * i + 1], '\0'};

        sum[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return true;
}

static int keys_secret(struct api_key *key, const char *word, const struct line *at, struct err *e)
{
    size_t n = strlen(word);

    if (!strncmp(word, "sha256:", 7)) {
        if (keys_sum(key->sum, word + 7))
            return 0;
        return err_set(e, ERR_FORMAT, "%s:%u: sha256: is followed by %zu characters, not by 64 of hex",
                       at->path, at->number, n - 7);
    }
    if (n < API_KEY_MIN || n > API_KEY_MAX)
        return err_set(e, ERR_FORMAT, "%s:%u: the key has %zu characters, not %d to %d", at->path,
                       at->number, n, API_KEY_MIN, API_KEY_MAX);
    for (size_t i = 0; i < n; i++)
        if (word[i] <= ' ' || word[i] > '~')
            return err_set(e, ERR_FORMAT, "%s:%u: the key has a character that is not printable ASCII",
                           at->path, at->number);
    sha256(key->sum, word, n);
    return 0;
}

/* `concurrent=8`: true if word begins with it and a number up to max follows. */
static bool keys_number(uint32_t *out, const char *word, const char *name, unsigned long max)
{
    size_t n = strlen(name);
    unsigned long value;
    char *end;

    if (strncmp(word, name, n) != 0 || word[n] < '0' || word[n] > '9')
        return false;
    errno = 0;
    value = strtoul(word + n, &end, 10);
    *out = (uint32_t)value;
    return !errno && !*end && value <= max;
}

static int keys_line(struct api_keys *k, char *const *words, size_t n, const struct line *at,
                     struct err *e)
{
    struct api_key key = {.limits = k->limits};
    const char *wrong = options_name_wrong(words[0]);

    if (wrong)
        return err_set(e, ERR_FORMAT, "%s:%u: the name '%.63s' %s", at->path, at->number, words[0], wrong);
    if (n < 2)
        return err_set(e, ERR_FORMAT, "%s:%u: %s has no key", at->path, at->number, words[0]);
    snprintf(key.name, sizeof(key.name), "%s", words[0]);
    if (keys_secret(&key, words[1], at, e))
        return e ? e->code : ERR_FORMAT;
    for (size_t i = 2; i < n; i++) {
        if (!strcmp(words[i], "admin"))
            key.admin = true;
        else if (!keys_number(&key.limits.concurrent_max, words[i], "concurrent=", 65536) &&
                 !keys_number(&key.limits.tokens_minute, words[i], "tokens_minute=", 1000000000) &&
                 !keys_number(&key.priority, words[i], "priority=", MSG_PRIORITY_MAX))
            return err_set(e, ERR_FORMAT, "%s:%u: word %zu is none of concurrent=0..65536, "
                           "tokens_minute=0..1000000000, priority=0..%d, admin", at->path, at->number,
                           i + 1, MSG_PRIORITY_MAX);
    }
    for (size_t i = 0; i < k->n; i++)
        if (!memcmp(k->items[i].sum, key.sum, sizeof(key.sum)))
            return err_set(e, ERR_FORMAT, "%s:%u: %s and %s have the same key", at->path, at->number,
                           k->items[i].name, key.name);
    if (k->n == API_KEYS_MAX)
        return err_set(e, ERR_LIMIT, "%s:%u: more than %d keys", at->path, at->number, API_KEYS_MAX);
    k->items = mem_realloc(k->items, (k->n + 1) * sizeof(*k->items));
    k->items[k->n++] = key;
    return 0;
}

static int keys_parse(struct api_keys *k, char *text, struct err *e)
{
    struct line at = {.path = k->path};
    char *rest = text, *line;
    int rc = 0;

    while (!rc && (line = strsep(&rest, "\n"))) {
        char *words[WORDS_MAX], *save = NULL;
        size_t n = 0;

        at.number++;
        for (char *w = strtok_r(line, " \t\r", &save); w && *w != '#'; w = strtok_r(NULL, " \t\r", &save)) {
            if (n == WORDS_MAX)
                return err_set(e, ERR_FORMAT, "%s:%u: more than %d words", at.path, at.number, WORDS_MAX);
            words[n++] = w;
        }
        if (n)
            rc = keys_line(k, words, n, &at, e);
    }
    return rc;
}

static int keys_load(struct api_keys *k, struct err *e)
{
    struct api_keys fresh = {.path = k->path, .limits = k->limits};
    char *text;
    size_t n;
    int rc = secret_file_read(&text, &n, k->path, e);

    if (!rc)
        rc = memchr(text, 0, n) ? err_set(e, ERR_FORMAT, "%s: has a NUL byte", k->path)
                                : keys_parse(&fresh, text, e);
    secret_file_free(&text);
    if (rc) {
        mem_free(fresh.items);
        return rc;
    }
    mem_free(k->items);
    k->items = fresh.items;
    k->n = fresh.n;
    return 0;
}

int api_keys_open(struct api_keys **out, const char *path, const struct tenant_limits *limits,
                  struct err *e)
{
    struct api_keys *k = mem_zalloc(sizeof(*k));
    int rc;

    k->path = mem_strdup(path);
    k->limits = *limits;
    secret_file_changed(&k->seen, path);
    rc = keys_load(k, e);
    if (rc)
        api_keys_close(&k);
    *out = k;
    return rc;
}

void api_keys_close(struct api_keys **keys)
{
    struct api_keys *k = *keys;

    if (!k)
        return;
    mem_free(k->items);
    mem_free(k->path);
    mem_free(k);
    *keys = NULL;
}

int api_keys_refresh(struct api_keys *k, struct err *e)
{
    int rc;

    if (!secret_file_changed(&k->seen, k->path))
        return 0;
    rc = keys_load(k, e);
    return rc ? rc : 1;
}

/* Takes as long for a key that is nearly right. */
static bool keys_equal(const uint8_t *a, const uint8_t *b)
{
    uint8_t differ = 0;

    for (size_t i = 0; i < SHA256_BYTES; i++)
        differ |= a[i] ^ b[i];
    return !differ;
}

const struct api_key *api_keys_find(const struct api_keys *k, const char *secret, size_t n)
{
    const struct api_key *found = NULL;
    uint8_t sum[SHA256_BYTES];

    if (n > API_KEY_MAX)
        return NULL;
    sha256(sum, secret, n);
    for (size_t i = 0; i < k->n; i++)
        if (keys_equal(sum, k->items[i].sum))
            found = &k->items[i];
    return found;
}
