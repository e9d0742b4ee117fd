/* err: how an operation that may fail for outside reasons (file, peer, config, limit) says so.
 *
 * Convention, stated once: a function that takes a `struct err *` returns 0 (ERR_OK) or one of the
 * negative codes below, and on failure has written one sentence with the value and the bound. The
 * caller either handles the error or passes it up; nobody does both. A NULL err is allowed: the
 * sentence is dropped, the code still returned. Not thread-safe: one err, one thread. */
#ifndef TANDEM_BASE_ERR_H
#define TANDEM_BASE_ERR_H

/* code, value, text of the kind */
#define ERR_CODES(X)                                                                               \
    X(ERR_OK, 0, "ok")                                                                             \
    X(ERR_ARG, -1, "bad argument")                                                                 \
    X(ERR_CONFIG, -2, "bad configuration")                                                         \
    X(ERR_IO, -3, "input or output failed")                                                        \
    X(ERR_FORMAT, -4, "malformed data")                                                            \
    X(ERR_UNSUPPORTED, -5, "not supported")                                                        \
    X(ERR_LIMIT, -6, "over a limit")                                                               \
    X(ERR_MEMORY, -7, "not enough memory")                                                         \
    X(ERR_NET, -8, "network failure")                                                              \
    X(ERR_PEER, -9, "refused by a peer")                                                           \
    X(ERR_NOT_FOUND, -10, "not found")                                                             \
    X(ERR_BUSY, -11, "busy")                                                                       \
    X(ERR_TIMEOUT, -12, "timed out")                                                               \
    X(ERR_CANCELLED, -13, "cancelled")

enum err_code {
#define X(name, value, text) name = (value),
    ERR_CODES(X)
#undef X
};

struct err {
    int code;       /* one of enum err_code; 0 while nothing has failed */
    char text[512]; /* one sentence, no newline, no final full stop */
};

/* Records code and the printf-formatted sentence (cut at the buffer's end). Returns code. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the sentence e holds, to add where it happened. Returns e's code. */
int err_wrap(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
