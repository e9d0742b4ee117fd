/* DESIGN. A chat is an item of the schedule: a call a turn, one after the other.
 *
 *   schedule --> ahead --due, place free--> flying --answered--> thinking --due--> flying ...
 *                                             +--last turn, or it failed--> record, gone
 *
 * Chats are prepared ahead, before the clock starts, so that making a prompt is in no start's way;
 * a schedule of more than AHEAD_MAX goes on with one at each start. A timerfd fires when the next chat or turn is due; all that are due are started. --max-concurrency
 * bounds the chats, thinking ones included; one that has to wait for a place in an open loop still
 * counts from when it was due. A 10 ms tick measures the loop's lag, gives up calls that are over their
 * time, cancels those that the schedule wants cancelled, and fires faults. */
#include "bench/run.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "bench/call.h"
#include "bench/energy.h"
#include "bench/figures.h"
#include "bench/process.h"
#include "bench/progress.h"
#include "bench/schedule.h"
#include "net/loop.h"

#define TICK_MS 10
#define START_BATCH 32 /* starts in one pass, so that outputs are timed in between */
#define SCAN_TICKS 10  /* calls are checked for their timeout every so many ticks */
#define AHEAD_MAX 4096
#define AHEAD_BYTES ((size_t)256 << 20) /* of prompts */
#define HOLD_MS 10     /* after a failure of a closed loop, so that a dead server is not hammered */

struct chat {
    struct planned plan;
    uint32_t turn;
    struct prompt prompt;
    int64_t due; /* of the next turn, while thinking */
    bool flying;
    uint32_t live; /* index in the list */
    struct call call;
};

struct phase {
    const struct run_setup *setup;
    const struct bench_options *options;
    struct result *result;
    struct loop *loop;
    struct transport *transport;
    struct schedule schedule;
    struct chat *ahead[AHEAD_MAX]; /* a ring of those prepared; empty: the schedule has ended */
    uint32_t ahead_first, n_ahead;
    size_t ahead_bytes;
    struct chat **live;
    uint32_t n_live, live_cap;
    int64_t start, hold_until, last_tick;
    int64_t free_at; /* when --max-concurrency last had a place again */
    uint64_t planned, missed; /* requests; missed: that did not keep the targets */
    uint32_t ticks;
    int timer;
    bool stopped;
    struct faults faults;
    struct progress progress;
    struct energy energy;
    int rc; /* why it cannot go on */
    struct err *e;
};

static void chat_free(struct chat *c)
{
    prompt_fini(&c->prompt);
    str_fini(&c->call.text);
    token_list_fini(&c->call.ids);
    record_fini(&c->call.record);
    mem_free(c);
}

static size_t chat_bytes(const struct chat *c)
{
    return c->prompt.n_texts > 0 ? c->prompt.texts[0].len : c->prompt.n_tokens * sizeof(uint32_t);
}

/* Prepares one more; false: the schedule has ended, or there are enough. */
static bool ahead_fill(struct phase *p)
{
    struct chat *c;

    if (p->rc != ERR_OK || p->stopped || p->n_ahead == AHEAD_MAX || p->ahead_bytes > AHEAD_BYTES)
        return false;
    c = mem_zalloc(sizeof(*c));
    if (!schedule_next(&p->schedule, &c->plan)) {
        mem_free(c);
        return false;
    }
    p->rc = workload_prompt(&c->prompt, p->setup->workload, c->plan.item, 0, p->e);
    if (p->rc != ERR_OK) { /* the run ends with this sentence */
        chat_free(c);
        p->stopped = true;
        return false;
    }
    record_init(&c->call.record);
    c->call.chat = c;
    p->ahead[(p->ahead_first + p->n_ahead++) % AHEAD_MAX] = c;
    p->ahead_bytes += chat_bytes(c);
    return true;
}

static struct chat *ahead_take(struct phase *p)
{
    struct chat *c = p->ahead[p->ahead_first];

    p->ahead_first = (p->ahead_first + 1) % AHEAD_MAX;
    p->n_ahead--;
    p->ahead_bytes -= chat_bytes(c);
    return c;
}

static void live_del(struct phase *p, struct chat *c)
{
    struct chat *last = p->live[--p->n_live];

    if (p->n_live + 1 == p->options->max_concurrency)
        p->free_at = clock_now();
    last->live = c->live;
    p->live[c->live] = last;
}

static void stop_if_done(struct phase *p)
{
    if (p->n_live == 0 && (p->n_ahead == 0 || p->stopped))
        loop_stop(p->loop);
}

static bool missed(const struct phase *p, const struct record *r)
{
    double ms[METRIC_COUNT];

    record_metrics(r, ms);
    return r->outcome != OUTCOME_OK || !targets_hold(p->setup->stop, ms);
}

/* Keeps the record of a call that has ended. */
static void call_record(struct phase *p, struct call *call, enum outcome outcome, const char *why)
{
    struct record *r = &call->record;
    double ms[METRIC_COUNT];

    r->done = clock_now();
    r->outcome = outcome;
    r->segment = (uint32_t)p->result->n_segments;
    if (r->output_tokens == 0)
        r->output_tokens = r->outputs; /* a server without usage */
    if (p->setup->keep_answers) {
        str_add(&r->text, str_text(&call->text), call->text.len);
        r->ids = call->ids;
        call->ids = (struct token_list){0};
    }
    record_metrics(r, ms);
    progress_add(&p->progress, outcome == OUTCOME_OK, r->output_tokens, ms[METRIC_TTFT]);
    if (p->setup->stop && outcome != OUTCOME_CANCELLED)
        p->missed += missed(p, r);
    result_add(p->result, r, why);
    record_init(r);
}

/* The next turn: the answer and what the user says to it. */
static void chat_think(struct phase *p, struct chat *c)
{
    prompt_add(&c->prompt, str_text(&c->call.text), c->call.text.len);
    str_clear(&c->call.text);
    c->turn++;
    p->rc = workload_prompt(&c->prompt, p->setup->workload, c->plan.item, c->turn, p->e);
    c->prompt.n_tokens = 0; /* with the answer before it, nobody knows */
    c->due = clock_now() + (int64_t)(p->options->think_time * 1e9);
    if (p->rc != ERR_OK)
        p->stopped = true;
}

static void call_end(struct phase *p, struct call *call, enum outcome outcome, const char *why)
{
    struct chat *c = call->chat;

    c->flying = false;
    call_record(p, call, outcome, why);
    if (outcome != OUTCOME_OK && p->schedule.kind == SCHEDULE_ASAP)
        p->hold_until = clock_now() + HOLD_MS * CLOCK_MS;
    if (outcome == OUTCOME_OK && !p->stopped &&
        c->turn + 1 < workload_turns(p->setup->workload, c->plan.item)) {
        chat_think(p, c);
        return;
    }
    live_del(p, c);
    chat_free(c);
}

/* due: when it should have been sent, 0: now. A request that cannot be sent is a failed one. */
static void chat_start(struct phase *p, struct chat *c, int64_t due)
{
    struct call *call = &c->call;
    struct record *r = &call->record;
    uint64_t turn = (uint64_t)c->plan.item * 1000 + c->turn;
    struct err e = {0};

    r->item = c->plan.item;
    r->turn = c->turn;
    r->prompt_wanted = p->options->backend == BACKEND_CHAT ? 0 : c->prompt.n_tokens;
    r->output_wanted = call->output = workload_output(p->setup->workload, r->item, r->turn);
    call->prompt = &c->prompt;
    call->seed = rng_u64(p->options->seed, turn) >> 33;
    c->flying = true;
    r->sent = clock_now();
    r->start = due > 0 ? due : r->sent;
    if (due > 0)
        series_add(&p->result->start_lag_ms,
                   clock_ms(r->sent - (due > p->free_at ? due : p->free_at)));
    if (p->transport->start(p->transport, call, &e) != ERR_OK)
        call_end(p, call, e.code == ERR_NET ? OUTCOME_CONNECT : OUTCOME_MALFORMED, e.text);
}

static void live_add(struct phase *p, struct chat *c)
{
    if (p->n_live == p->live_cap) {
        p->live_cap = p->live_cap ? 2 * p->live_cap : 64;
        p->live = mem_realloc(p->live, p->live_cap * sizeof(struct chat *));
    }
    c->live = p->n_live;
    p->live[p->n_live++] = c;
}

static bool place_free(const struct phase *p)
{
    return p->options->max_concurrency == 0 || p->n_live < p->options->max_concurrency;
}

/* When the next chat may start: INT64_MAX if none, or while there is no place. */
static int64_t next_at(const struct phase *p)
{
    if (p->n_ahead == 0 || p->stopped || !place_free(p))
        return INT64_MAX;
    if (p->schedule.kind != SCHEDULE_ASAP)
        return p->start + p->ahead[p->ahead_first]->plan.due_ns;
    return p->hold_until;
}

/* The thinking chat whose turn is due first, NULL if none. */
static struct chat *thinking_first(const struct phase *p)
{
    struct chat *first = NULL;

    if (p->options->turns == 1)
        return NULL;
    for (uint32_t i = 0; i < p->n_live; i++)
        if (!p->live[i]->flying && (!first || p->live[i]->due < first->due))
            first = p->live[i];
    return first;
}

static void timer_set(struct phase *p, int64_t at)
{
    int64_t when = at > 0 ? at : 1; /* 0 would disarm it */
    struct itimerspec spec = {.it_value = {.tv_sec = when / CLOCK_S, .tv_nsec = when % CLOCK_S}};

    if (timerfd_settime(p->timer, TFD_TIMER_ABSTIME, &spec, NULL) != 0)
        UNREACHABLE(); /* a time after boot is always valid */
}

static void next_start(struct phase *p)
{
    struct chat *c = ahead_take(p);
    bool open = p->schedule.kind != SCHEDULE_ASAP;

    live_add(p, c);
    chat_start(p, c, open ? p->start + c->plan.due_ns : 0);
    ahead_fill(p);
}

/* A closed loop's schedule has no times: it ends when the duration has passed. */
static void closed_end_check(struct phase *p, int64_t now)
{
    double duration = p->options->duration;

    if (p->schedule.kind != SCHEDULE_ASAP || duration <= 0 || clock_s(now - p->start) < duration)
        return;
    p->schedule.count = p->schedule.next;
    while (p->n_ahead > 0)
        chat_free(ahead_take(p));
}

/* Starts what is due, and sets the timer for what is not. */
static void pump(struct phase *p)
{
    for (int i = 0; !p->stopped; i++) {
        struct chat *turn = thinking_first(p);
        int64_t now = clock_now(), at;

        closed_end_check(p, now);
        at = next_at(p);
        if (i == START_BATCH || (at > now && (!turn || turn->due > now))) {
            at = turn && turn->due < at ? turn->due : at;
            if (at < INT64_MAX)
                timer_set(p, at);
            break;
        }
        if (turn && turn->due <= now)
            chat_start(p, turn, 0);
        else
            next_start(p);
    }
    stop_if_done(p);
}

static void on_timer(void *ctx)
{
    struct phase *p = ctx;
    uint64_t expired;

    if (read(p->timer, &expired, sizeof(expired)) < 0 && errno != EAGAIN)
        UNREACHABLE();
    pump(p);
}

static void gap_add(struct record *r, double ms)
{
    uint32_t n = r->outputs - 1; /* gaps so far, whose room is a power of two */

    if ((n & (n - 1)) == 0)
        r->gaps_ms = mem_realloc(r->gaps_ms, (n ? 2 * (size_t)n : 1) * sizeof(*r->gaps_ms));
    r->gaps_ms[n] = (float)ms;
}

static void on_output(void *ctx, struct call *call)
{
    struct record *r = &call->record;
    int64_t now = clock_now();

    (void)ctx;
    if (r->outputs == 0)
        r->first = now;
    else
        gap_add(r, clock_ms(now - r->last));
    if (r->outputs == 1)
        r->second = now;
    r->outputs++;
    r->last = now;
}

static void on_done(void *ctx, struct call *call, enum outcome outcome, const char *why)
{
    struct phase *p = ctx;

    call_end(p, call, outcome, why);
    pump(p);
}

/* Ends all that is under way. */
static void phase_stop(struct phase *p, const char *why)
{
    p->stopped = true;
    while (p->n_live > 0) {
        struct chat *c = p->live[p->n_live - 1];

        if (c->flying) {
            p->transport->cancel(p->transport, &c->call);
            call_end(p, &c->call, OUTCOME_CANCELLED, why);
        } else {
            live_del(p, c);
            chat_free(c);
        }
    }
    loop_stop(p->loop);
}

/* Calls over their time, and those whose clients leave. */
static void scan(struct phase *p, int64_t now)
{
    int64_t limit = (int64_t)(p->options->timeout * 1e9);

    for (uint32_t i = 0; i < p->n_live;) {
        struct chat *c = p->live[i];
        int64_t age = now - c->call.record.sent;
        bool leaves = c->plan.cancel_ns > 0 && age >= c->plan.cancel_ns;
        char why[64] = "as scheduled";
        uint32_t n = p->n_live;

        if (!c->flying || (age < limit && !leaves)) {
            i++;
            continue;
        }
        if (!leaves)
            snprintf(why, sizeof(why), "not complete after %g s", p->options->timeout);
        p->transport->cancel(p->transport, &c->call);
        call_end(p, &c->call, leaves ? OUTCOME_LEFT : OUTCOME_TIMEOUT, why);
        i += p->n_live == n; /* otherwise another one is at i now */
    }
}

/* Whether so many have missed the targets, or must, that even if all others kept them the share would
 * surely (at 95 %) be below what is wanted. */
static bool out_of_reach(const struct phase *p, int64_t now)
{
    double ttft = p->setup->stop->ms[METRIC_TTFT], e2el = p->setup->stop->ms[METRIC_E2EL];
    double low, high;
    uint64_t n = p->missed;

    for (uint32_t i = 0; i < p->n_live; i++) {
        const struct record *r = &p->live[i]->call.record;
        double age = clock_ms(now - r->start);

        n += p->live[i]->flying && ((ttft > 0 && r->first == 0 && age > ttft) ||
                                    (e2el > 0 && age > e2el));
    }
    figures_wilson(&low, &high, n < p->planned ? p->planned - n : 0, p->planned);
    return high < p->options->goodput_share;
}

/* end: the run is over, and what was stopped goes on. */
static void faults_check(struct phase *p, int64_t now, bool end)
{
    for (uint32_t i = 0; i < p->faults.n; i++) {
        struct fault *f = &p->faults.list[i];
        struct err e = {0};

        if (f->done || (end ? f->signal != SIGCONT : now - p->start < f->at_ns))
            continue;
        f->done = true;
        if (fault_fire(&p->faults, i, p->options->base_url, &e) != ERR_OK) {
            p->result->faults_failed++;
            fprintf(stderr, "\rtandem-bench: %s\033[K\n", e.text);
        }
    }
}

static void on_tick(void *ctx)
{
    struct phase *p = ctx;
    int64_t now = clock_now();
    int64_t late = now - p->last_tick - TICK_MS * CLOCK_MS;
    bool tenth = p->ticks++ % SCAN_TICKS == 0;

    series_add(&p->result->loop_lag_ms, late > 0 ? clock_ms(late) : 0);
    p->last_tick = now;
    faults_check(p, now, false);
    if (tenth || p->schedule.cancels)
        scan(p, now);
    if (tenth)
        energy_update(&p->energy);
    if (tenth && p->setup->stop && out_of_reach(p, now)) {
        p->result->saturated = true;
        phase_stop(p, "the targets are out of reach");
        return;
    }
    if (p->rc != ERR_OK) {
        phase_stop(p, "the run ended early");
        return;
    }
    progress_show(&p->progress, p->n_live, now);
    pump(p);
}

/* Ctrl-C: what is under way is cancelled, what has ended is reported. */
static void on_signal(void *ctx)
{
    struct phase *p = ctx;

    p->result->interrupted = true;
    phase_stop(p, "interrupted");
}

static void phase_loop(struct phase *p)
{
    struct loop_event *tick = loop_add_timer(p->loop, TICK_MS, on_tick, p);
    struct loop_event *interrupt = loop_add_signal(p->loop, SIGINT, on_signal, p);
    struct loop_event *terminate = loop_add_signal(p->loop, SIGTERM, on_signal, p);
    struct loop_event *timer = loop_add_fd(p->loop, p->timer, on_timer, p);

    p->start = p->last_tick = clock_now();
    if (p->n_ahead > 0 && !p->stopped) {
        timer_set(p, p->start);
        loop_run(p->loop);
    }
    loop_del_event(&timer);
    loop_del_event(&terminate);
    loop_del_event(&interrupt);
    loop_del_event(&tick);
    while (p->n_ahead > 0)
        chat_free(ahead_take(p));
}

/* How many requests there will be, as far as known before. */
static uint64_t planned_requests(const struct phase *p)
{
    const struct bench_options *o = p->options;
    double by_time = o->duration * p->setup->rate;
    uint64_t n = 0;

    for (uint32_t i = 0; o->turns > 1 && i < p->schedule.count && p->schedule.count < UINT32_MAX;
         i++)
        n += workload_turns(p->setup->workload, p->schedule.first + i);
    if (n > 0)
        return n;
    if (o->duration > 0 && isfinite(p->setup->rate) && by_time < p->schedule.count)
        return (uint64_t)by_time;
    return p->schedule.count;
}

static void result_head(struct result *r, const struct phase *p)
{
    time_t wall = time(NULL);
    struct tm tm;

    r->planned += (uint32_t)p->planned;
    if (r->n_segments > 0)
        return;
    snprintf(r->url, sizeof(r->url), "%s", p->setup->url);
    snprintf(r->model, sizeof(r->model), "%s", p->transport->model);
    strftime(r->started, sizeof(r->started), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&wall, &tm));
    r->open = p->schedule.kind != SCHEDULE_ASAP;
    r->rate = p->setup->rate;
}

static void measure(struct phase *p, struct result *out)
{
    const struct run_setup *s = p->setup;
    struct monitor *monitor;
    double cpu;
    bool on = p->options->progress == PROGRESS_ON ||
              (p->options->progress == PROGRESS_AUTO && isatty(STDERR_FILENO));

    schedule_init(&p->schedule, p->options, s->workload, s->rate, s->first, s->count);
    if (s->asap)
        p->schedule.kind = SCHEDULE_ASAP;
    p->planned = planned_requests(p);
    result_head(out, p);
    monitor = monitor_open(&out->nodes, p->loop, s->native ? p->options->base_url : s->url);
    energy_open(&p->energy, "/sys/class/powercap");
    progress_begin(&p->progress, on, s->label, p->planned, clock_now());
    while (ahead_fill(p))
        continue;
    cpu = process_cpu_s();
    process_realtime(true);
    phase_loop(p);
    process_realtime(false);
    faults_check(p, clock_now(), true);
    out->cpu_s += process_cpu_s() - cpu;
    energy_update(&p->energy);
    out->joules = p->energy.n > 0 ? out->joules + p->energy.joules : -1;
    progress_end(&p->progress);
    result_segment(out, p->start, clock_now());
    monitor_close(&monitor);
}

int run(struct result *out, const struct run_setup *setup, struct err *e)
{
    struct phase *p = mem_zalloc(sizeof(*p));
    struct call_events events = {on_output, on_done, p};
    struct transport_setup to = {setup->options, setup->url, setup->keep_answers};
    int rc;

    p->setup = setup;
    p->options = setup->options;
    p->result = out;
    p->e = e;
    if (setup->faults)
        p->faults = *setup->faults;
    p->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (p->timer < 0) {
        mem_free(p);
        return err_set(e, ERR_IO, "timerfd: %s", strerror(errno));
    }
    p->loop = loop_new();
    rc = setup->native ? transport_native_open(&p->transport, p->loop, &to, &events, e)
                       : transport_openai_open(&p->transport, p->loop, &to, &events, e);
    if (rc == ERR_OK) {
        measure(p, out);
        p->transport->close(p->transport);
        rc = p->rc;
    }
    mem_free(p->live);
    loop_free(&p->loop);
    close(p->timer);
    mem_free(p);
    return rc;
}
