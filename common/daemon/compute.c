#include "daemon/compute.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/ring.h"
#include "engine/cost.h"

/* Events that may wait: a layer event a layer for a few jobs of the deepest model. */
#define COMPUTE_EVENTS_MAX 4096
/* How long the machine is measured at start: some 20 rounds. */
#define COMPUTE_ROOFLINE_NS (150 * CLOCK_MS)

struct compute {
    pthread_t thread;
    bool started;
    struct ring *jobs;   /* struct compute_job *; network -> compute */
    struct ring *events; /* struct compute_event; compute -> network */
    sem_t work;          /* posted once a job, and once to stop */
    sem_t ready;         /* posted when the engine is open or has failed */
    int fd;
    atomic_bool stop;
    uint32_t running; /* jobs whose DONE was not polled; the network thread's */
    const struct engine_options *options; /* valid until ready */
    struct engine *engine;
    struct roofline roofline;  /* written before ready */
    struct sample_item *items; /* [n_vocab] */
    int rc;
    struct err err;
};

static void compute_event(struct compute *c, struct compute_event ev)
{
    uint64_t one = 1;

    while (!ring_push(c->events, &ev)) {
        /* acquire: matches the release in compute_stop, after which nobody drains the ring */
        if (atomic_load_explicit(&c->stop, memory_order_acquire))
            return;
        sched_yield();
    }
    while (write(c->fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

struct compute_layer_ctx {
    struct compute *c;
    struct compute_job *job;
};

static void compute_layer(void *ctx, uint32_t layer)
{
    struct compute_layer_ctx *l = ctx;

    compute_event(l->c, (struct compute_event){COMPUTE_LAYER, l->job, layer});
}

static void compute_job_run(struct compute *c, struct compute_job *job)
{
    struct compute_layer_ctx lc = {c, job};
    struct batch b = {.rows = job->rows, .n = job->n};
    uint32_t n_vocab = engine_hparams(c->engine)->n_vocab;
    int64_t start = clock_now();
    const float *logits;

    if (job->layer_events) {
        b.layer_done = compute_layer;
        b.ctx = &lc;
    }
    logits = engine_forward(c->engine, &b);
    for (uint32_t r = 0; r < job->n; r++) {
        if (!job->rows[r].want_logits)
            continue;
        job->samples[r].token = sample_token(logits, n_vocab, &job->samples[r].params,
                                             job->samples[r].index, c->items);
        logits += n_vocab;
    }
    job->ns = clock_now() - start;
    compute_event(c, (struct compute_event){COMPUTE_DONE, job, 0});
}

static void *compute_main(void *arg)
{
    struct compute *c = arg;
    struct compute_job *job;

    c->rc = engine_open(&c->engine, c->options, &c->err);
    if (!c->rc) {
        c->items = mem_calloc(engine_hparams(c->engine)->n_vocab, sizeof(*c->items));
        cost_roofline(&c->roofline, c->engine, COMPUTE_ROOFLINE_NS);
    }
    sem_post(&c->ready);
    while (!c->rc) {
        while (sem_wait(&c->work) < 0 && errno == EINTR)
            ;
        /* acquire: matches the release in compute_stop */
        if (atomic_load_explicit(&c->stop, memory_order_acquire))
            break;
        if (ring_pop(c->jobs, &job))
            compute_job_run(c, job);
    }
    engine_close(&c->engine);
    return NULL;
}

int compute_start(struct compute **out, const struct engine_options *o, struct err *e)
{
    struct compute *c = mem_zalloc(sizeof(*c));
    int rc;

    *out = NULL;
    c->options = o;
    c->jobs = ring_new(sizeof(struct compute_job *), COMPUTE_JOBS_MAX);
    c->events = ring_new(sizeof(struct compute_event), COMPUTE_EVENTS_MAX);
    atomic_init(&c->stop, false);
    sem_init(&c->work, 0, 0);
    sem_init(&c->ready, 0, 0);
    c->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (c->fd < 0 || pthread_create(&c->thread, NULL, compute_main, c) != 0) {
        rc = err_set(e, ERR_MEMORY, "the system refuses another thread or file descriptor");
        goto fail;
    }
    c->started = true;
    while (sem_wait(&c->ready) < 0 && errno == EINTR)
        ;
    c->options = NULL;
    if ((rc = c->rc)) {
        if (e)
            *e = c->err;
        goto fail;
    }
    *out = c;
    return 0;
fail:
    compute_stop(&c);
    return rc;
}

void compute_stop(struct compute **compute)
{
    struct compute *c = *compute;

    if (!c)
        return;
    /* release: matches the acquires in compute_main and compute_event */
    atomic_store_explicit(&c->stop, true, memory_order_release);
    sem_post(&c->work);
    if (c->started)
        pthread_join(c->thread, NULL);
    if (c->fd >= 0)
        close(c->fd);
    sem_destroy(&c->work);
    sem_destroy(&c->ready);
    ring_free(&c->jobs);
    ring_free(&c->events);
    mem_free(c->items);
    mem_free(c);
    *compute = NULL;
}

void compute_wait(struct compute *c)
{
    struct compute_event ev;
    struct pollfd fd = {.fd = c->fd, .events = POLLIN};

    while (c->running) {
        while (compute_poll(c, &ev))
            ;
        if (c->running)
            poll(&fd, 1, -1);
    }
}

const struct engine *compute_engine(const struct compute *c) { return c->engine; }

const struct roofline *compute_roofline(const struct compute *c) { return &c->roofline; }

bool compute_submit(struct compute *c, struct compute_job *job)
{
    if (!ring_push(c->jobs, &job))
        return false;
    c->running++;
    sem_post(&c->work);
    return true;
}

int compute_fd(const struct compute *c) { return c->fd; }

static bool compute_pop(struct compute *c, struct compute_event *ev)
{
    if (!ring_pop(c->events, ev))
        return false;
    c->running -= ev->type == COMPUTE_DONE;
    return true;
}

bool compute_poll(struct compute *c, struct compute_event *ev)
{
    uint64_t count;

    if (compute_pop(c, ev))
        return true;
    /* Empty: clear the eventfd, then look once more, for an event pushed in between. */
    while (read(c->fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
    return compute_pop(c, ev);
}
