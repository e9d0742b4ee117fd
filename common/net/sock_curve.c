#include "net/sock_curve.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/secret_file.h"

#define ZAP_ENDPOINT "inproc://zeromq.zap.01"
#define ZAP_FRAME_MAX 256 /* identity: up to 255 bytes */
#define ZAP_KEY_BYTES 32
#define REFUSED_LOG_NS CLOCK_S /* a line of the log per refused connection would be its flood */

struct sock_curve {
    struct keys_pair own;
    char router[KEYS_TEXT];
    enum keys_role role;
    char *file;
    /* the guard's own, from its start on */
    pthread_t thread;
    void *zap; /* REP */
    struct keys keys;
    struct stat read; /* the file, when it was read */
    int64_t refused_at;
    uint32_t refused_unsaid;
};

/* A question: version, request id, domain, address, identity, mechanism, credentials. */
enum zap_frame { ZAP_VERSION, ZAP_REQUEST, ZAP_DOMAIN, ZAP_ADDRESS, ZAP_IDENTITY, ZAP_MECHANISM, ZAP_KEY, ZAP_FRAMES };

struct zap_question {
    char frames[ZAP_FRAMES][ZAP_FRAME_MAX + 1]; /* NUL-terminated */
    size_t size[ZAP_FRAMES];
    size_t n;
};

static void curve_read_again(struct sock_curve *c)
{
    const struct keys_entry *own;
    struct keys fresh = {0};
    struct err e = {0};

    if (!secret_file_changed(&c->read, c->file))
        return;
    if (keys_read(&fresh, c->file, &e)) {
        log_warn("keys", "%s; the keys of before stay in force", e.text);
        keys_fini(&fresh);
        return;
    }
    own = keys_own(&fresh, c->role);
    if (!own || strcmp(own->pair.public_key, c->own.public_key) != 0)
        log_warn("keys", "%s: our own key is another now; that needs a restart", c->file);
    log_info("keys", "%s: read again, keys=%u", c->file, fresh.n);
    keys_fini(&c->keys);
    c->keys = fresh;
}

static void curve_refused(struct sock_curve *c, const struct zap_question *q, const char *key,
                          const struct keys_entry *x)
{
    int64_t now = clock_now();
    char others[48] = "";

    if (c->refused_at && now - c->refused_at < REFUSED_LOG_NS) {
        c->refused_unsaid++;
        return;
    }
    if (c->refused_unsaid)
        snprintf(others, sizeof(others), "; %u others unsaid", c->refused_unsaid);
    c->refused_at = now;
    c->refused_unsaid = 0;
    if (x)
        log_warn("keys", "connection from %s refused: its key is that of %s %s, which may not come in "
                 "here%s", q->frames[ZAP_ADDRESS], keys_role_names[x->role], x->name, others);
    else
        log_warn("keys", "connection from %s refused: its key %s is not in %s%s",
                 q->frames[ZAP_ADDRESS], key, c->file, others);
}

/* The line whose key may come in; NULL: none. */
static const struct keys_entry *curve_judge(struct sock_curve *c, const struct zap_question *q)
{
    unsigned roles = (unsigned)strtoul(q->frames[ZAP_DOMAIN], NULL, 10);
    const struct keys_entry *x;
    char key[KEYS_TEXT];

    if (q->n != ZAP_FRAMES || strcmp(q->frames[ZAP_VERSION], "1.0") != 0 ||
        strcmp(q->frames[ZAP_MECHANISM], "CURVE") != 0 || q->size[ZAP_KEY] != ZAP_KEY_BYTES)
        return NULL;
    curve_read_again(c);
    zmq_z85_encode(key, (const uint8_t *)q->frames[ZAP_KEY], ZAP_KEY_BYTES);
    x = keys_find(&c->keys, key);
    if (x && (roles & KEYS_BIT(x->role)))
        return x;
    curve_refused(c, q, key, x);
    return NULL;
}

/* False: the context ends. */
static bool zap_recv(void *zap, struct zap_question *q)
{
    int more = 1;
    size_t n = sizeof(more);

    *q = (struct zap_question){.n = 0};
    while (more) {
        char spare[ZAP_FRAME_MAX], *to = q->n < ZAP_FRAMES ? q->frames[q->n] : spare;
        int size = zmq_recv(zap, to, ZAP_FRAME_MAX, 0);

        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            return false;
        if (q->n < ZAP_FRAMES)
            q->size[q->n] = (size_t)size;
        q->n++;
        ASSERT(zmq_getsockopt(zap, ZMQ_RCVMORE, &more, &n) == 0);
    }
    return true;
}

static void zap_answer(void *zap, const struct zap_question *q, const struct keys_entry *x)
{
    const char *frames[] = {"1.0", q->frames[ZAP_REQUEST], x ? "200" : "400", "", x ? x->name : "", ""};

    for (size_t i = 0; i < ARRAY_LEN(frames); i++) {
        size_t n = i == 1 ? size_min(q->size[ZAP_REQUEST], ZAP_FRAME_MAX) : strlen(frames[i]);

        while (zmq_send(zap, frames[i], n, i + 1 < ARRAY_LEN(frames) ? ZMQ_SNDMORE : 0) < 0)
            if (errno != EINTR)
                return; /* the context ends */
    }
}

static void *curve_guard(void *arg)
{
    struct sock_curve *c = arg;
    struct zap_question q;

    while (zap_recv(c->zap, &q))
        zap_answer(c->zap, &q, curve_judge(c, &q));
    zmq_close(c->zap);
    return NULL;
}

/* The guard takes no signal: the network thread waits for them. */
static int curve_start(struct sock_curve *c, struct err *e)
{
    sigset_t all, before;
    int rc;

    sigfillset(&all);
    ASSERT(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    rc = pthread_create(&c->thread, NULL, curve_guard, c);
    ASSERT(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    return rc ? err_set(e, ERR_MEMORY, "cannot start a thread: %s", strerror(rc)) : 0;
}

static int curve_load(struct sock_curve *c, struct err *e)
{
    const struct keys_entry *own, *router;
    int rc;

    secret_file_changed(&c->read, c->file);
    if ((rc = keys_read(&c->keys, c->file, e)))
        return rc;
    own = keys_own(&c->keys, c->role);
    router = keys_router(&c->keys);
    if (!own)
        return err_set(e, ERR_CONFIG, "%s: has no secret of a %s", c->file, keys_role_names[c->role]);
    if (!router)
        return err_set(e, ERR_CONFIG, "%s: has no line of the router", c->file);
    c->own = own->pair;
    memcpy(c->router, router->pair.public_key, sizeof(c->router));
    return 0;
}

int sock_curve_open(struct sock_curve **out, void *zmq, const char *file, enum keys_role role,
                    struct err *e)
{
    struct sock_curve *c = mem_zalloc(sizeof(*c));
    int rc;

    *out = NULL;
    c->role = role;
    c->file = mem_strdup(file);
    if ((rc = curve_load(c, e)))
        goto fail;
    c->zap = zmq_socket(zmq, ZMQ_REP);
    if (!c->zap || zmq_bind(c->zap, ZAP_ENDPOINT) < 0) {
        rc = err_set(e, ERR_NET, "cannot bind " ZAP_ENDPOINT ": %s", zmq_strerror(errno));
        goto fail;
    }
    if ((rc = curve_start(c, e)))
        goto fail;
    *out = c;
    return 0;
fail:
    if (c->zap)
        zmq_close(c->zap);
    keys_fini(&c->keys);
    mem_free(c->file);
    explicit_bzero(c, sizeof(*c));
    mem_free(c);
    return rc;
}

void sock_curve_close(struct sock_curve **curve)
{
    struct sock_curve *c = *curve;

    if (!c)
        return;
    ASSERT(pthread_join(c->thread, NULL) == 0);
    keys_fini(&c->keys);
    mem_free(c->file);
    explicit_bzero(c, sizeof(*c));
    mem_free(c);
    *curve = NULL;
}

static void curve_set(void *socket, int option, const void *value, size_t n)
{
    ASSERT(zmq_setsockopt(socket, option, value, n) == 0);
}

void sock_curve_server(const struct sock_curve *c, void *socket, unsigned roles)
{
    const int yes = 1;
    char domain[16];

    snprintf(domain, sizeof(domain), "%u", roles);
    curve_set(socket, ZMQ_CURVE_SERVER, &yes, sizeof(yes));
    curve_set(socket, ZMQ_CURVE_SECRETKEY, c->own.secret, KEYS_TEXT);
    curve_set(socket, ZMQ_ZAP_DOMAIN, domain, strlen(domain));
}

int sock_curve_client(const struct sock_curve *c, void *socket, const char *server_key, struct err *e)
{
    const char *key = server_key ? server_key : c->router;
    uint8_t raw[ZAP_KEY_BYTES];

    if (strlen(key) != KEYS_TEXT - 1 || !zmq_z85_decode(raw, key))
        return err_set(e, ERR_FORMAT, "\"%.60s\" is no key", key);
    curve_set(socket, ZMQ_CURVE_SERVERKEY, key, KEYS_TEXT);
    curve_set(socket, ZMQ_CURVE_PUBLICKEY, c->own.public_key, KEYS_TEXT);
    curve_set(socket, ZMQ_CURVE_SECRETKEY, c->own.secret, KEYS_TEXT);
    return 0;
}

const char *sock_curve_own(const struct sock_curve *c) { return c->own.public_key; }

int sock_curve_pair(struct keys_pair *out, struct err *e)
{
    if (zmq_curve_keypair(out->public_key, out->secret) != 0)
        return err_set(e, ERR_UNSUPPORTED, "libzmq has no CURVE here: %s", zmq_strerror(errno));
    return 0;
}

void sock_curve_public(char public_key[KEYS_TEXT], const char *secret)
{
    char copy[KEYS_TEXT];

    snprintf(copy, sizeof(copy), "%s", secret);
    if (zmq_curve_public(public_key, copy) != 0)
        public_key[0] = '\0';
    explicit_bzero(copy, sizeof(copy));
}
