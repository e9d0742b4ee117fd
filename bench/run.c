/* DESIGN. Two phases, warm-up and measurement, each a turn of the loop until all its requests ended.
 *   closed loop   starts a request whenever fewer than `concurrency` are under way
 *   open loop     a timerfd fires when the next arrival is due; all that are due are started
 * A 10 ms tick measures the loop's lag, gives up calls that are over their time, and starts the
 * closed loop's next request after a failure, so that a dead server is not hammered. */
#include "bench/run.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "bench/arrivals.h"
#include "net/loop.h"

#define TICK_MS 10
#define START_BATCH 32    /* late requests sent in one pass, so that outputs are timed in between */
#define TIMEOUTS_TICKS 10 /* calls are checked for their timeout every so many ticks */

struct phase {
    const struct bench_options *options;
    const struct workload *workload;
    struct result *result; /* NULL: warm-up, nothing is kept */
    struct loop *loop;
    struct transport *transport;
    struct call **live;
    uint32_t n_live, live_cap;
    uint64_t first;          /* index of the phase's first request: warm-up takes prompts of its own */
    uint64_t started, limit; /* requests */
    int64_t end;             /* no start after that; INT64_MAX: no limit */
    bool stopped;            /* by a signal */
    bool open;               /* open loop */
    struct arrivals arrivals;
    int64_t due; /* the next arrival */
    int timer;   /* timerfd of the open loop; -1 */
    int64_t last_tick;
    uint32_t ticks;
};

void result_fini(struct result *r)
{
    mem_free(r->records);
    series_fini(&r->itl_ms);
    series_fini(&r->loop_lag_ms);
    series_fini(&r->start_lag_ms);
    memset(r, 0, sizeof(*r));
}

static void result_add(struct result *r, const struct call *call, const char *why)
{
    const struct record *record = &call->record;

    if (r->n == r->cap) {
        r->cap = r->cap ? 2 * r->cap : 256;
        r->records = mem_realloc(r->records, r->cap * sizeof(*r->records));
    }
    r->records[r->n++] = *record;
    if (r->failures[record->outcome].count++ == 0)
        snprintf(r->failures[record->outcome].first, sizeof(r->failures[0].first), "%s", why);
    if (record->outcome == OUTCOME_OK && call->prompt->n_tokens > 0 &&
        record->prompt_tokens != call->prompt->n_tokens)
        r->prompt_mismatches++;
}

static bool more_to_start(const struct phase *p, int64_t now)
{
    return !p->stopped && p->started < p->limit && now < p->end;
}

static void stop_if_done(struct phase *p)
{
    int64_t now = p->open ? p->due : clock_now();

    if (p->n_live == 0 && !more_to_start(p, now))
        loop_stop(p->loop);
}

/* Takes the call off the list, keeps its record, frees it. */
static void call_end(struct phase *p, struct call *call, enum outcome outcome, const char *why)
{
    struct call *last = p->live[--p->n_live];

    last->live = call->live;
    p->live[call->live] = last;
    call->record.done = clock_now();
    call->record.outcome = outcome;
    if (call->record.output_tokens == 0)
        call->record.output_tokens = call->record.outputs; /* a server without usage */
    if (p->result)
        result_add(p->result, call, why);
    mem_free(call);
}

/* due: 0 in a closed loop. A request that cannot be sent is a failed one. */
static bool call_start(struct phase *p, int64_t due)
{
    struct call *call = mem_zalloc(sizeof(*call));
    struct err e = {0};

    if (p->n_live == p->live_cap) {
        p->live_cap = p->live_cap ? 2 * p->live_cap : 64;
        p->live = mem_realloc(p->live, p->live_cap * sizeof(struct call *));
    }
    call->index = p->first + p->started++;
    call->prompt = workload_prompt(p->workload, call->index);
    call->live = p->n_live;
    p->live[p->n_live++] = call;
    call->record.sent = clock_now();
    call->record.start = due ? due : call->record.sent;
    if (due && p->result)
        series_add(&p->result->start_lag_ms, clock_ms(call->record.sent - due));
    if (p->transport->start(p->transport, call, &e) == ERR_OK)
        return true;
    call_end(p, call, e.code == ERR_NET ? OUTCOME_CONNECT : OUTCOME_MALFORMED, e.text);
    return false;
}

static void closed_fill(struct phase *p)
{
    while (p->n_live < p->options->concurrency && more_to_start(p, clock_now()))
        if (!call_start(p, 0))
            break; /* the next tick goes on */
    stop_if_done(p);
}

static void timer_set(struct phase *p)
{
    struct itimerspec when = {.it_value = {.tv_sec = p->due / CLOCK_S, .tv_nsec = p->due % CLOCK_S}};

    if (timerfd_settime(p->timer, TFD_TIMER_ABSTIME, &when, NULL) != 0)
        UNREACHABLE(); /* a time after boot is always valid */
}

static void open_due(void *ctx)
{
    struct phase *p = ctx;
    uint64_t expired;

    if (read(p->timer, &expired, sizeof(expired)) < 0 && errno != EAGAIN)
        UNREACHABLE();
    for (int i = 0; i < START_BATCH && p->due <= clock_now() && more_to_start(p, p->due); i++) {
        call_start(p, p->due);
        p->due = arrivals_next(&p->arrivals);
    }
    if (more_to_start(p, p->due))
        timer_set(p);
    stop_if_done(p);
}

static void on_output(void *ctx, struct call *call)
{
    struct phase *p = ctx;
    struct record *r = &call->record;
    int64_t now = clock_now();

    if (r->outputs++ == 0)
        r->first = now;
    else if (p->result)
        series_add(&p->result->itl_ms, clock_ms(now - r->last));
    r->last = now;
}

static void on_done(void *ctx, struct call *call, enum outcome outcome, const char *why)
{
    struct phase *p = ctx;

    call_end(p, call, outcome, why);
    if (!p->open && outcome == OUTCOME_OK)
        closed_fill(p);
    else
        stop_if_done(p);
}

static void timeouts_check(struct phase *p, int64_t now)
{
    int64_t limit = (int64_t)(p->options->timeout * 1e9);

    for (uint32_t i = 0; i < p->n_live;) {
        struct call *call = p->live[i];
        char why[64];

        if (now - call->record.sent < limit) {
            i++;
            continue;
        }
        snprintf(why, sizeof(why), "not complete after %g s", p->options->timeout);
        p->transport->cancel(p->transport, call);
        call_end(p, call, OUTCOME_TIMEOUT, why); /* puts another one at i */
    }
}

static void on_tick(void *ctx)
{
    struct phase *p = ctx;
    int64_t now = clock_now();
    int64_t late = now - p->last_tick - TICK_MS * CLOCK_MS;

    if (p->result)
        series_add(&p->result->loop_lag_ms, late > 0 ? clock_ms(late) : 0);
    p->last_tick = now;
    if (p->ticks++ % TIMEOUTS_TICKS == 0)
        timeouts_check(p, now);
    if (p->open)
        stop_if_done(p);
    else
        closed_fill(p);
}

/* Ctrl-C: what is under way is cancelled, what has ended is reported. */
static void on_signal(void *ctx)
{
    struct phase *p = ctx;

    p->stopped = true;
    while (p->n_live > 0) {
        struct call *call = p->live[0];

        p->transport->cancel(p->transport, call);
        call_end(p, call, OUTCOME_CANCELLED, "interrupted");
    }
    loop_stop(p->loop);
}

static void phase_loop(struct phase *p)
{
    struct loop_event *tick = loop_add_timer(p->loop, TICK_MS, on_tick, p);
    struct loop_event *interrupt = loop_add_signal(p->loop, SIGINT, on_signal, p);
    struct loop_event *terminate = loop_add_signal(p->loop, SIGTERM, on_signal, p);
    struct loop_event *arrival = NULL;

    p->last_tick = clock_now();
    if (p->open) {
        arrival = loop_add_fd(p->loop, p->timer, open_due, p);
        timer_set(p);
    } else {
        closed_fill(p);
    }
    if (p->n_live > 0 || p->open || more_to_start(p, clock_now()))
        loop_run(p->loop);
    loop_del_event(&arrival);
    loop_del_event(&terminate);
    loop_del_event(&interrupt);
    loop_del_event(&tick);
}

static void warm_up(struct phase *p)
{
    p->limit = p->options->warmup;
    p->end = INT64_MAX;
    phase_loop(p);
}

static int measure(struct phase *p, struct result *out, struct err *e)
{
    const struct bench_options *o = p->options;
    int64_t start = clock_now();
    time_t wall = time(NULL);

    p->result = out;
    p->first = p->started;
    p->started = 0;
    p->limit = bench_requests(o);
    p->end = o->duration > 0 ? start + (int64_t)(o->duration * 1e9) : INT64_MAX;
    p->open = o->rate > 0;
    strftime(out->started, sizeof(out->started), "%Y-%m-%dT%H:%M:%SZ", gmtime(&wall));
    if (p->open) {
        p->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        if (p->timer < 0)
            return err_set(e, ERR_IO, "timerfd: %s", strerror(errno));
        arrivals_init(&p->arrivals, o->seed, o->rate, start);
        p->due = arrivals_next(&p->arrivals);
    }
    phase_loop(p);
    if (p->timer >= 0)
        close(p->timer);
    return ERR_OK;
}

int run(struct result *out, const struct bench_options *o, const struct workload *w, struct err *e)
{
    struct phase p = {.options = o, .workload = w, .loop = loop_new(), .timer = -1};
    struct call_events events = {on_output, on_done, &p};
    int rc;

    memset(out, 0, sizeof(*out));
    rc = *o->native ? transport_native_open(&p.transport, p.loop, o, &events, e)
                    : transport_openai_open(&p.transport, p.loop, o, &events, e);
    if (rc == ERR_OK) {
        snprintf(out->model, sizeof(out->model), "%s", p.transport->model);
        if (o->warmup > 0)
            warm_up(&p);
        if (!p.stopped)
            rc = measure(&p, out, e);
        out->interrupted = p.stopped;
        p.transport->close(p.transport);
    }
    mem_free(p.live);
    loop_free(&p.loop);
    return rc;
}
