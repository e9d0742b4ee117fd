#include "base/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/utf8.h"

#define LOG_LINE_MAX 1024 /* bytes of a text line, or of what a JSON line says; longer ones are cut */
#define LOG_JSON_MAX 8192 /* that, each byte escaped by six, with keys and quotes */
#define LOG_KEYS_MAX 32
#define LOG_DIGITS_MAX 15 /* any more may not survive a reader that has doubles */

const char *const log_level_names[LOG_LEVEL_COUNT] = {"error", "warn", "info", "debug"};
const char *const log_format_names[LOG_FORMAT_COUNT] = {"text", "json"};
enum log_level log_level_max = LOG_INFO;
static char log_role[32] = "-";
static enum log_format log_as = LOG_TEXT;

void log_init(const char *role, enum log_level level)
{
    snprintf(log_role, sizeof(log_role), "%s", role);
    log_level_max = level;
}

void log_set_format(enum log_format format) { log_as = format; }

/* Puts "2026-01-31T12:00:00.000Z" into out and returns its length. */
static size_t log_time(char *out, size_t room)
{
    struct timespec ts;
    struct tm tm;
    size_t n;
    int k;

    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    n = strftime(out, room, "%Y-%m-%dT%H:%M:%S", &tm);
    k = snprintf(out + n, room - n, ".%03ldZ", ts.tv_nsec / 1000000);
    return n + (k > 0 ? (size_t)k : 0);
}

static void log_out(char *line, size_t n)
{
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, n) < 0)
        return; /* nowhere left to say it */
}

static void log_write_text(enum log_level level, const char *module, const char *text)
{
    char line[LOG_LINE_MAX];
    size_t room = sizeof(line) - 1, n = log_time(line, room); /* one byte kept for the newline */
    int k = snprintf(line + n, room - n, " %s %s %s %s", log_level_names[level], log_role, module,
                     text);

    n += k > 0 ? (size_t)k : 0;
    if (n >= room)
        n = room - 1;
    for (size_t i = 0; i < n; i++) { /* values come from files and peers: none may start a line */
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    }
    log_out(line, n);
}

struct log_json {
    char data[LOG_JSON_MAX];
    size_t n;
};

static void json_put(struct log_json *j, const char *s, size_t n)
{
    ASSERT(j->n + n < sizeof(j->data)); /* LOG_JSON_MAX is enough for anything */
    memcpy(j->data + j->n, s, n);
    j->n += n;
}

/* s[n] inside of quotes: escaped, and made UTF-8. */
static void json_text(struct log_json *j, const char *s, size_t n)
{
    char escape[8];
    uint32_t point;

    for (size_t i = 0, used; i < n; i += used) {
        unsigned char c = (unsigned char)s[i];

        if (utf8_step(s + i, n - i, &used, &point) != UTF8_OK) {
            json_put(j, UTF8_REPLACEMENT, 3);
        } else if (c == '"' || c == '\\') {
            escape[0] = '\\';
            escape[1] = (char)c;
            json_put(j, escape, 2);
        } else if (c < 0x20 || c == 0x7f) {
            snprintf(escape, sizeof(escape), "\\u%04x", c);
            json_put(j, escape, 6);
        } else {
            json_put(j, s + i, used);
        }
    }
}

static void json_member(struct log_json *j, const char *key, size_t key_n, const char *value,
                        size_t n)
{
    json_put(j, ",\"", 2);
    json_put(j, key, key_n);
    json_put(j, "\":\"", 3);
    json_text(j, value, n);
    json_put(j, "\"", 1);
}

/* JSON's grammar of a number, without an exponent, and short enough to be exact. */
static bool json_is_number(const char *s, size_t n)
{
    size_t i = n && s[0] == '-', first = i, digits = 0;

    for (; i < n && s[i] >= '0' && s[i] <= '9'; i++)
        digits++;
    if (!digits || (digits > 1 && s[first] == '0'))
        return false;
    if (i < n && s[i] == '.') {
        size_t fraction = ++i;

        for (; i < n && s[i] >= '0' && s[i] <= '9'; i++)
            digits++;
        if (i == fraction)
            return false;
    }
    return i == n && digits <= LOG_DIGITS_MAX;
}

struct log_keys {
    struct {
        const char *s;
        size_t n;
    } seen[LOG_KEYS_MAX];
    size_t n;
};

/* False: it is one of ours or was there, or there are too many. */
static bool log_key_is_new(struct log_keys *keys, const char *s, size_t n)
{
    static const char *const ours[] = {"time", "level", "process", "module", "msg"};

    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
        if (strlen(ours[i]) == n && !memcmp(ours[i], s, n))
            return false;
    }
    for (size_t i = 0; i < keys->n; i++) {
        if (keys->seen[i].n == n && !memcmp(keys->seen[i].s, s, n))
            return false;
    }
    if (keys->n == LOG_KEYS_MAX)
        return false;
    keys->seen[keys->n].s = s;
    keys->seen[keys->n++].n = n;
    return true;
}

/* The key=value words at the start of text as members; returns what is left. A colon that ends a value
 * ends them, and is dropped. */
static const char *log_members(struct log_json *j, const char *text)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz_0123456789";
    struct log_keys keys = {.n = 0};
    bool more = true;

    while (more) {
        size_t key = strspn(text, letters), n;
        const char *value = text + key + 1;

        if (!key || text[key] != '=')
            break;
        n = strcspn(value, " ");
        if (!n || value[0] == '"' || !log_key_is_new(&keys, text, key))
            break;
        more = value[n] == ' ';
        text = value + n + more;
        if (value[n - 1] == ':')
            n--, more = false;
        if (json_is_number(value, n)) {
            json_put(j, ",\"", 2);
            json_put(j, keys.seen[keys.n - 1].s, key);
            json_put(j, "\":", 2);
            json_put(j, value, n);
        } else {
            json_member(j, keys.seen[keys.n - 1].s, key, value, n);
        }
    }
    return text;
}

static void log_write_json(enum log_level level, const char *module, const char *text)
{
    struct log_json j = {.n = 0};
    char time[40];
    size_t n = log_time(time, sizeof(time));

    json_put(&j, "{\"time\":\"", 9);
    json_put(&j, time, n);
    json_put(&j, "\"", 1);
    json_member(&j, "level", 5, log_level_names[level], strlen(log_level_names[level]));
    json_member(&j, "process", 7, log_role, strlen(log_role));
    json_member(&j, "module", 6, module, strnlen(module, 64));
    text = log_members(&j, text);
    if (*text)
        json_member(&j, "msg", 3, text, strlen(text));
    json_put(&j, "}", 1);
    log_out(j.data, j.n);
}

void log_write(enum log_level level, const char *module, const char *fmt, ...)
{
    char text[LOG_LINE_MAX];
    va_list ap;

    va_start(ap, fmt);
    if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
        text[0] = '\0';
    va_end(ap);
    if (log_as == LOG_JSON)
        log_write_json(level, module, text);
    else
        log_write_text(level, module, text);
}
