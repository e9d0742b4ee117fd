/* log: one line an event to stderr, for people or for programs.
 *
 *   text   time level role module key=value... words
 *   json   {"time":..., "level":..., "process": role, "module":..., key: value..., "msg": words}
 *
 * error: an operator must act; warn: we coped; info: life of nodes and one line a request; debug:
 * the rest. The level is tested before the arguments are evaluated. Any thread may log; a line is
 * written with one write(2), so lines of several threads or processes do not mix. A text line has its
 * control bytes as '?'. A JSON line is always a valid object: the key=value words that the text begins
 * with are its members, numbers of up to 15 digits as numbers; from the first word that is none, or
 * whose key was there already, the rest is "msg", and bytes that are no UTF-8 are U+FFFD. */
#ifndef TANDEM_BASE_LOG_H
#define TANDEM_BASE_LOG_H

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_LEVEL_COUNT };
enum log_format { LOG_TEXT, LOG_JSON, LOG_FORMAT_COUNT };

extern const char *const log_level_names[LOG_LEVEL_COUNT];
extern const char *const log_format_names[LOG_FORMAT_COUNT];
extern enum log_level log_level_max; /* set at start, before threads; read by the macros */

/* role: "router", "prefill-1", ...; copied, cut at 31 bytes. Call before other threads start. */
void log_init(const char *role, enum log_level level);
/* LOG_TEXT unless said otherwise. Likewise before other threads start. */
void log_set_format(enum log_format format);

/* Writes one line. Use the macros. */
void log_write(enum log_level level, const char *module, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define log_at(level, ...) ((level) <= log_level_max ? log_write((level), __VA_ARGS__) : (void)0)
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

#endif
