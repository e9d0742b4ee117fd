#include "bench/record.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

const char *outcome_name(enum outcome o)
{
    static const char *const names[] = {
#define X(name, text) text,
        OUTCOMES(X)
#undef X
    };

    return (unsigned)o < OUTCOME_COUNT ? names[o] : "?";
}

const char *stage_name(enum stage s)
{
    static const char *const names[] = {
#define X(name, text) text,
        STAGES(X)
#undef X
    };

    return (unsigned)s < STAGE_COUNT ? names[s] : "?";
}

enum outcome outcome_of_status(int status)
{
    if (status == 429)
        return OUTCOME_BUSY;
    if (status == 503)
        return OUTCOME_UNAVAILABLE;
    if (status >= 400 && status < 500)
        return OUTCOME_CLIENT_ERROR;
    return status >= 500 ? OUTCOME_SERVER_ERROR : OUTCOME_MALFORMED;
}

void record_init(struct record *r)
{
    memset(r, 0, sizeof(*r));
    r->server.ttft = r->server.router_queue = r->server.prefill_queue = -1;
    r->server.prefill = r->server.transfer = r->server.decode_queue = -1;
}

void record_fini(struct record *r)
{
    mem_free(r->gaps_ms);
    str_fini(&r->text);
    token_list_fini(&r->ids);
}

int record_by_start(const void *a, const void *b)
{
    const struct record *x = *(const struct record *const *)a,
                        *y = *(const struct record *const *)b;

    return x->start < y->start ? -1 : x->start > y->start;
}

void record_metrics(const struct record *r, double ms[METRIC_COUNT])
{
    for (int i = 0; i < METRIC_COUNT; i++)
        ms[i] = -1;
    if (r->done > 0)
        ms[METRIC_E2EL] = clock_ms(r->done - r->start);
    if (r->outputs > 0)
        ms[METRIC_TTFT] = clock_ms(r->first - r->start);
    if (r->outputs < 2)
        return;
    ms[METRIC_TTST] = clock_ms(r->second - r->first);
    ms[METRIC_ITL] = 0;
    for (uint32_t i = 0; i + 1 < r->outputs; i++)
        ms[METRIC_ITL] += (double)r->gaps_ms[i] / (r->outputs - 1);
    if (r->output_tokens > 1)
        ms[METRIC_TPOT] = clock_ms(r->last - r->first) / (r->output_tokens - 1);
}

/* Clocks of two machines and rounding may leave a little below nothing. */
static double positive(double x) { return x > 0 ? x : 0; }

static double known(double x) { return x >= 0 ? x : 0; }

void record_stages(const struct record *r, double ms[STAGE_COUNT])
{
    const struct server_times *s = &r->server;
    double after = r->second > 0 ? clock_ms(r->second - r->first) : -1;
    double rest = r->second > 0 ? clock_ms(r->last - r->second) : -1;
    double step = r->outputs > 2 ? rest / (r->outputs - 2) : 0;

    for (int i = 0; i < STAGE_COUNT; i++)
        ms[i] = -1;
    if (r->first == 0)
        return;
    ms[STAGE_CLIENT] = clock_ms(r->sent - r->start);
    ms[STAGE_PREFILL] = s->prefill;
    ms[STAGE_PREFILL_QUEUE] = s->prefill_queue;
    ms[STAGE_ROUTER] = s->router_queue;
    if (s->ttft >= 0) {
        ms[STAGE_NETWORK] = positive(clock_ms(r->first - r->sent) - s->ttft);
        if (s->router_queue >= 0 && s->prefill >= 0) /* the ways between processes are network, too */
            ms[STAGE_NETWORK] = positive(clock_ms(r->first - r->sent) - s->router_queue -
                                         known(s->prefill_queue) - s->prefill);
        else if (s->prefill >= 0)
            ms[STAGE_ROUTER] = positive(s->ttft - known(s->prefill_queue) - s->prefill);
    } else if (s->prefill >= 0 && s->prefill_queue < 0) {
        ms[STAGE_PREFILL_QUEUE] = positive(clock_ms(r->first - r->sent) - s->prefill);
    }
    if (after < 0)
        return;
    ms[STAGE_TRANSFER] = s->transfer;
    ms[STAGE_DECODE_QUEUE] = s->decode_queue;
    if (*s->decode_node && s->transfer < 0) /* one step of decoding belongs to the decode stage */
        ms[STAGE_TRANSFER] = positive(after - step - known(s->decode_queue));
    ms[STAGE_DECODE] = positive(after + rest - known(ms[STAGE_TRANSFER]) - known(s->decode_queue));
}

void record_spans(const struct record *r, double at[STAGE_COUNT], double ms[STAGE_COUNT])
{
    double t = 0;

    record_stages(r, ms);
    for (int i = 0; i < STAGE_COUNT; i++) {
        if (i == STAGE_TRANSFER && r->first > 0)
            t = clock_ms(r->first - r->start);
        at[i] = t;
        t += known(ms[i]);
    }
}
