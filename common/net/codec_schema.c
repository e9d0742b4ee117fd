#include "net/codec_schema.h"

#include <float.h>

#include "base/check.h"
#include "cluster.pb-c.h"
#include "decode.pb-c.h"
#include "generate.pb-c.h"
#include "kv.pb-c.h"
#include "kv/kv_layout.h"
#include "prefill.pb-c.h"

#define MSG_AT(m) offsetof(struct msg, u.m)
#define MSG_SIZE(m) sizeof(((struct msg *)0)->u.m)
#define PB_SIZE(t, f) sizeof(((t *)0)->f)
/* 0, or an error of the compiler if a and b differ: a row that couples fields of unequal width. */
#define SAME(a, b) (0 * sizeof(char[(a) == (b) ? 1 : -1]))

/* NOLINTBEGIN(bugprone-macro-parentheses): the arguments are types, members and initializers. */

/* T: the generated struct; f: its member; m: the member of struct msg's union. */
#define NUM(k, f, m, lo, hi)                                                                       \
    {.name = #f,                                                                                   \
     .kind = k,                                                                                    \
     .pb_at = offsetof(T, f) + SAME(PB_SIZE(T, f), MSG_SIZE(m)),                                   \
     .at = MSG_AT(m),                                                                              \
     .min = (lo),                                                                                  \
     .max = (hi)}
#define U32(f, m, lo, hi) NUM(CODEC_U32, f, m, lo, hi)
#define U32_ANY(f, m) U32(f, m, 0, UINT32_MAX)
#define U64(f, m) NUM(CODEC_U64, f, m, 0, UINT64_MAX)
#define I32(f, m, lo, hi) NUM(CODEC_I32, f, m, lo, hi)
#define I64(f, m) NUM(CODEC_I64, f, m, 0, INT64_MAX)
#define ENUM(f, m, lo, hi) NUM(CODEC_ENUM, f, m, lo, hi)
#define BOOL(f, m) {.name = #f, .kind = CODEC_BOOL, .pb_at = offsetof(T, f), .at = MSG_AT(m)}
#define F32(f, m, l, h)                                                                            \
    {.name = #f, .kind = CODEC_F32, .pb_at = offsetof(T, f), .at = MSG_AT(m), .lo = l, .hi = h}
#define CHARS(k, f, m, lo)                                                                         \
    {.name = #f, .kind = k, .pb_at = offsetof(T, f), .at = MSG_AT(m), .min = (lo),                 \
     .max = MSG_SIZE(m) - 1}
#define NAME(f, m) CHARS(CODEC_NAME, f, m, 1)
#define NAME_OR_NONE(f, m) CHARS(CODEC_NAME, f, m, 0)
#define TEXT(f, m) CHARS(CODEC_TEXT, f, m, 0)
#define COUNTED(k, f, m, n, lo, hi)                                                                \
    {.name = #f,                                                                                   \
     .kind = k,                                                                                    \
     .pb_at = offsetof(T, f),                                                                      \
     .pb_count_at = offsetof(T, n_##f),                                                            \
     .at = MSG_AT(m),                                                                              \
     .count_at = MSG_AT(n),                                                                        \
     .min = (lo),                                                                                  \
     .max = (hi)}
#define LIST(f, m, n, lo) COUNTED(CODEC_LIST, f, m, n, lo, MSG_TOKENS_MAX)
#define ARRAY(f, m, n) COUNTED(CODEC_ARRAY, f, m, n, 0, ARRAY_LEN(((struct msg *)0)->u.m))
#define STRINGS(f, m, n) COUNTED(CODEC_STRINGS, f, m, n, 0, ARRAY_LEN(((struct msg *)0)->u.m))
#define BYTES(f, m, n)                                                                             \
    {.name = #f, .kind = CODEC_BYTES, .pb_at = offsetof(T, f), .at = MSG_AT(m),                    \
     .count_at = MSG_AT(n), .max = MSG_PROMPT_MAX}

#define STREAM(m) U64(request, m.request), U32_ANY(epoch, m.epoch)
#define SAMPLING(m)                                                                                \
    F32(temperature, m.temperature, 0, 100), F32(top_p, m.top_p, FLT_MIN, 1),                      \
        U32_ANY(top_k, m.top_k), U64(seed, m.seed)
#define TRACE(m)                                                                                   \
    U64(trace_hi, m.id[0]), U64(trace_lo, m.id[1]), U64(span, m.span),                             \
        U32(trace_flags, m.flags, 0, 255)
#define GEOMETRY(m)                                                                                \
    U32(n_layer, m.n_layer, 1, CODEC_LAYERS_MAX), U32(n_kv_head, m.n_kv_head, 1, CODEC_HEADS_MAX), \
        U32(head_dim, m.head_dim, 1, CODEC_HEAD_DIM_MAX),                                          \
        U32(page_tokens, m.page_tokens, 1, CODEC_PAGE_TOKENS_MAX),                                 \
        U32(wire_type, m.wire_type, 0, KV_TYPE_COUNT - 1)

/* Rows stand in the order of the field numbers; codec.c asserts that names agree. */
#define T Tandem__Generate
static const struct codec_field generate[] = {
    U64(tag, generate.tag),
    LIST(tokens, generate.tokens, generate.n_tokens, 0),
    BYTES(text, generate.text, generate.text_bytes),
    U32(max_tokens, generate.max_tokens, 0, MSG_TOKENS_MAX),
    SAMPLING(generate.sampling),
    BOOL(has_seed, generate.has_seed),
    BOOL(ignore_eos, generate.ignore_eos),
    STRINGS(stops, generate.stops, generate.n_stops),
    NAME_OR_NONE(tenant, generate.tenant),
    U32(priority, generate.priority, 0, MSG_PRIORITY_MAX),
};
#undef T
#define T Tandem__GenerateTokens
static const struct codec_field generate_tokens[] = {
    U64(tag, generate_tokens.tag),
    U32_ANY(index, generate_tokens.index),
    LIST(tokens, generate_tokens.tokens, generate_tokens.n_tokens, 0),
    BYTES(text, generate_tokens.text, generate_tokens.text_bytes),
};
#undef T
#define T Tandem__GenerateDone
static const struct codec_field generate_done[] = {
    U64(tag, generate_done.tag),
    ENUM(finish, generate_done.finish, FINISH_NONE, FINISH_ERROR),
    I32(status, generate_done.status, 100, 599),
    U32_ANY(prompt_tokens, generate_done.prompt_tokens),
    U32_ANY(output_tokens, generate_done.output_tokens),
    TEXT(text, generate_done.text),
    U32_ANY(cached_tokens, generate_done.cached_tokens),
    U32_ANY(restarts, generate_done.restarts),
    BOOL(local, generate_done.local),
    I64(ttft_ns, generate_done.ttft_ns),
    I64(wait_ns, generate_done.wait_ns),
    I64(queue_ns, generate_done.queue_ns),
    I64(prefill_ns, generate_done.prefill_ns),
    I64(handoff_ns, generate_done.handoff_ns),
    I64(decode_queue_ns, generate_done.decode_queue_ns),
    I64(decode_ns, generate_done.decode_ns),
    U64(kv_bytes, generate_done.kv_bytes),
    NAME_OR_NONE(prefill, generate_done.prefill),
    NAME_OR_NONE(decode, generate_done.decode),
};
#undef T
#define T Tandem__GenerateCancel
static const struct codec_field generate_cancel[] = {U64(tag, generate_cancel)};
#undef T

#define T Tandem__Register
static const struct codec_field reg[] = {
    U32_ANY(protocol, reg.protocol),
    ENUM(role, reg.role, ROLE_PREFILL, ROLE_DECODE),
    NAME(cluster, reg.cluster),
    NAME(name, reg.name),
    NAME(tier, reg.tier),
    NAME_OR_NONE(kv_endpoint, reg.kv_endpoint),
    U64(boot, reg.boot),
    U64(model_hash, reg.model_hash),
    GEOMETRY(reg.geometry),
    U32(ctx_max, reg.ctx_max, 1, MSG_TOKENS_MAX),
    U32(slots, reg.slots, 1, CODEC_SLOTS_MAX),
    U32_ANY(pages_total, reg.pages_total),
    U32(cores, reg.cores, 0, CODEC_CORES_MAX),
    U32_ANY(domain, reg.domain),
    I32(pid, reg.pid, 0, INT32_MAX),
    NAME_OR_NONE(host, reg.host),
    U64(weight_bytes, reg.weight_bytes),
    U64(kv_token_bytes, reg.kv_token_bytes),
    U64(flops_token, reg.flops_token),
    U64(read_bytes_s, reg.read_bytes_s),
    U64(flops_s, reg.flops_s),
    BOOL(change_role, reg.change_role),
    NAME_OR_NONE(metrics, reg.metrics),
    U32(kv_type, reg.kv_type, 0, KV_TYPE_COUNT - 1),
};
#undef T
#define T Tandem__Registered
static const struct codec_field registered[] = {
    U32(heartbeat_ms, registered.heartbeat_ms, CODEC_BEAT_MS_MIN, CODEC_DEAD_MS_MAX),
    U32(dead_ms, registered.dead_ms, CODEC_BEAT_MS_MIN, CODEC_DEAD_MS_MAX),
};
#undef T
#define T Tandem__Refused
static const struct codec_field refused[] = {TEXT(text, text.text)};
#undef T
#define T Tandem__Drain
static const struct codec_field drain[] = {TEXT(text, text.text)};
#undef T
#define T Tandem__Bye
static const struct codec_field bye[] = {TEXT(text, text.text)};
#undef T
#define T Tandem__Heartbeat
static const struct codec_field heartbeat[] = {
    U32_ANY(queued, heartbeat.queued),
    U32_ANY(running, heartbeat.running),
    U32_ANY(pages_free, heartbeat.pages_free),
    U32_ANY(pages_total, heartbeat.pages_total),
    U64(tokens, heartbeat.tokens),
    U64(steps, heartbeat.steps),
    U64(kv_bytes, heartbeat.kv_bytes),
    BOOL(draining, heartbeat.draining),
    U64(queued_tokens, heartbeat.queued_tokens),
    U64(busy_ns, heartbeat.busy_ns),
    U64(step_ns, heartbeat.step_ns),
    U64(hit_tokens, heartbeat.hit_tokens),
    U64(local_tokens, heartbeat.local_tokens),
    U64(preempted, heartbeat.preempted),
    U32_ANY(pages_cached, heartbeat.pages_cached),
    U64(flops, heartbeat.flops),
    U64(read_bytes, heartbeat.read_bytes),
    U64(pages_bad, heartbeat.pages_bad),
    U64(leases_expired, heartbeat.leases_expired),
    U64(resumed, heartbeat.resumed),
};
#undef T
#define T Tandem__Role
static const struct codec_field role[] = {ENUM(role, role, ROLE_PREFILL, ROLE_DECODE)};
#undef T
#define T Tandem__PrefixReport
static const struct codec_field prefix_report[] = {
    BOOL(reset, prefix.reset),
    COUNTED(CODEC_LIST, added, prefix.added, prefix.n_added, 0, MSG_PREFIX_MAX),
    COUNTED(CODEC_LIST, removed, prefix.removed, prefix.n_removed, 0, MSG_PREFIX_MAX),
};
#undef T
#define T Tandem__Ended
static const struct codec_field ended[] = {
    NAME(cluster, ended.cluster),
    NAME(name, ended.name),
    NAME_OR_NONE(host, ended.host),
    I32(pid, ended.pid, 1, INT32_MAX),
    BOOL(crashed, ended.crashed),
    TEXT(text, ended.text),
};
#undef T

#define T Tandem__PrefillJob
static const struct codec_field job[] = {
    STREAM(job.id),
    LIST(tokens, job.tokens, job.n_tokens, 1),
    U32(first_index, job.first_index, 0, MSG_TOKENS_MAX),
    U32(max_new, job.max_new, 1, MSG_TOKENS_MAX),
    U32(skip_tokens, job.skip_tokens, 0, MSG_TOKENS_MAX),
    SAMPLING(job.sampling),
    ARRAY(stop_tokens, job.stop_tokens, job.n_stop_tokens),
    NAME(decode_name, job.decode_name),
    NAME(kv_endpoint, job.kv_endpoint),
    U64(salt, job.salt),
    U32(priority, job.priority, 0, MSG_PRIORITY_MAX),
    TRACE(job.trace),
};
#undef T
#define T Tandem__PrefillToken
static const struct codec_field prefill_token[] = {
    STREAM(first.id),
    U32(index, first.index, 0, MSG_TOKENS_MAX),
    U32_ANY(token, first.token),
    ENUM(finish, first.finish, FINISH_NONE, FINISH_ERROR),
    I64(queue_ns, first.queue_ns),
    I64(compute_ns, first.compute_ns),
    U32(hit_tokens, first.hit_tokens, 0, MSG_TOKENS_MAX),
};
#undef T
#define FAILED_FIELDS STREAM(failed.id), BOOL(retry, failed.retry), TEXT(text, failed.text)
#define FAILED {FAILED_FIELDS}
#define T Tandem__PrefillFailed
static const struct codec_field prefill_failed[] = FAILED;
#undef T
#define T Tandem__ReserveRefused
static const struct codec_field reserve_refused[] = FAILED;
#undef T
#define T Tandem__DecodeFailed
static const struct codec_field decode_failed[] = {FAILED_FIELDS, BOOL(room, failed.room)};
#undef T
#define T Tandem__KvAbort
static const struct codec_field kv_abort[] = FAILED;
#undef T

#define T Tandem__Reserve
static const struct codec_field reserve[] = {
    STREAM(reserve.id),
    LIST(tokens, reserve.tokens, reserve.n_tokens, 1),
    U32(first_index, reserve.first_index, 0, MSG_TOKENS_MAX),
    U32(max_new, reserve.max_new, 1, MSG_TOKENS_MAX),
    SAMPLING(reserve.sampling),
    ARRAY(stop_tokens, reserve.stop_tokens, reserve.n_stop_tokens),
    U64(salt, reserve.salt),
    U32(priority, reserve.priority, 0, MSG_PRIORITY_MAX),
    BOOL(local, reserve.local),
    TRACE(reserve.trace),
};
#undef T
#define T Tandem__Reserved
static const struct codec_field reserved[] = {
    STREAM(reserved.id),
    U32(held_tokens, reserved.held_tokens, 0, MSG_TOKENS_MAX),
};
#undef T
#define T Tandem__Tokens
static const struct codec_field tokens[] = {
    STREAM(tokens.id),
    U32(index, tokens.index, 0, MSG_TOKENS_MAX),
    ARRAY(tokens, tokens.tokens, tokens.n_tokens),
    ENUM(finish, tokens.finish, FINISH_NONE, FINISH_ERROR),
    U64(kv_bytes, tokens.kv_bytes),
    I64(queue_ns, tokens.queue_ns),
    I64(compute_ns, tokens.compute_ns),
    I64(step_ns, tokens.step_ns),
    U32(hit_tokens, tokens.hit_tokens, 0, MSG_TOKENS_MAX),
};
#undef T
#define T Tandem__Cancel
static const struct codec_field cancel[] = {STREAM(cancel.id)};
#undef T

#define T Tandem__KvHello
static const struct codec_field kv_hello[] = {
    U32_ANY(protocol, hello.protocol), NAME(cluster, hello.cluster),
    NAME(name, hello.name),             U64(model_hash, hello.model_hash),
    GEOMETRY(hello.geometry),           U64(share_host, hello.offer.host),
    U32(share_pid, hello.offer.pid, 0, INT32_MAX), U32(share_fd, hello.offer.fd, 0, INT32_MAX),
    U64(share_dev, hello.offer.dev),    U64(share_ino, hello.offer.ino),
    U64(share_size, hello.offer.size),
};
#undef T
#define T Tandem__KvWelcome
static const struct codec_field kv_welcome[] = {U64(bytes, credit.bytes), BOOL(places, credit.places)};
#undef T
#define T Tandem__KvCredit
static const struct codec_field kv_credit[] = {U64(bytes, credit.bytes)};
#undef T
#define PAGE                                                                                       \
    STREAM(page.id), U32(layer, page.layer, 0, CODEC_LAYERS_MAX - 1),                              \
        U32(page, page.page, 0, MSG_TOKENS_MAX - 1),                                               \
        U32(head_first, page.head_first, 0, CODEC_HEADS_MAX - 1),                                  \
        U32(head_count, page.head_count, 1, CODEC_HEADS_MAX),                                      \
        U32(n_tokens, page.n_tokens, 1, CODEC_PAGE_TOKENS_MAX), U64(checksum, page.checksum)
#define T Tandem__KvPage
static const struct codec_field kv_page[] = {PAGE};
#undef T
#define T Tandem__KvAgain
static const struct codec_field kv_again[] = {PAGE};
#undef T
#define T Tandem__KvPlace
static const struct codec_field kv_place[] = {
    PAGE,
    NUM(CODEC_U64, bytes, page.bulk.size, 1, MSG_BULK_MAX),
    U64(place, page.place),
};
#undef T
#define T Tandem__KvEnd
static const struct codec_field kv_end[] = {
    STREAM(end.id),
    U32(n_tokens, end.n_tokens, 1, MSG_TOKENS_MAX),
    U32(index, end.index, 0, MSG_TOKENS_MAX),
    U32_ANY(token, end.token),
};
#undef T
#define T Tandem__KvDone
static const struct codec_field kv_done[] = {STREAM(cancel.id)};
#undef T
#define T Tandem__KvResume
static const struct codec_field kv_resume[] = {STREAM(cancel.id)};
#undef T
#define T Tandem__KvMissing
static const struct codec_field kv_missing[] = {
    STREAM(missing.id),
    COUNTED(CODEC_LIST, units, missing.units, missing.n_units, 0, MSG_UNITS_MAX),
};
#undef T

static int check_generate(const struct msg *m, struct err *e)
{
    const struct msg_generate *g = &m->u.generate;

    if ((g->n_tokens > 0) == (g->text_bytes > 0))
        return err_set(e, ERR_FORMAT, "GENERATE has %u tokens and %zu bytes of text, not one of both",
                       g->n_tokens, g->text_bytes);
    return 0;
}

static int check_registered(const struct msg *m, struct err *e)
{
    const struct msg_registered *r = &m->u.registered;

    if (r->heartbeat_ms >= r->dead_ms)
        return err_set(e, ERR_FORMAT, "REGISTERED.heartbeat_ms is %u, not below dead_ms, %u",
                       r->heartbeat_ms, r->dead_ms);
    return 0;
}

/* A trace has a span, and a span a trace. */
static int check_trace(const struct traceparent *t, const char *message, struct err *e)
{
    if (traceparent_is(t) == (t->span != 0))
        return 0;
    return err_set(e, ERR_FORMAT, "%s.span is without a trace, or the trace without a span", message);
}

static int check_job(const struct msg *m, struct err *e)
{
    const struct msg_prefill_job *j = &m->u.job;

    if (j->skip_tokens >= j->n_tokens)
        return err_set(e, ERR_FORMAT, "PREFILL_JOB.skip_tokens is %u of %u, nothing left to compute",
                       j->skip_tokens, j->n_tokens);
    return check_trace(&j->trace, "PREFILL_JOB", e);
}

static int check_reserve(const struct msg *m, struct err *e)
{
    return check_trace(&m->u.reserve.trace, "RESERVE", e);
}

static int check_tokens(const struct msg *m, struct err *e)
{
    if (m->u.tokens.n_tokens == 0 && m->u.tokens.finish == FINISH_NONE)
        return err_set(e, ERR_FORMAT, "TOKENS has no tokens and no finish");
    return 0;
}

static int check_missing(const struct msg *m, struct err *e)
{
    if (m->u.missing.n_units % 2)
        return err_set(e, ERR_FORMAT, "KV_MISSING has %u numbers, not pairs",
                       m->u.missing.n_units);
    return 0;
}

#define MESSAGE(t, name, rows, f)                                                                  \
    {.type = MSG_##t,                                                                              \
     .pb = &tandem__##name##__descriptor,                                                          \
     .fields = rows,                                                                               \
     .n_fields = ARRAY_LEN(rows),                                                                  \
     .check = f}

const struct codec_message codec_messages[] = {
    MESSAGE(GENERATE, generate, generate, check_generate),
    MESSAGE(GENERATE_TOKENS, generate_tokens, generate_tokens, NULL),
    MESSAGE(GENERATE_DONE, generate_done, generate_done, NULL),
    MESSAGE(GENERATE_CANCEL, generate_cancel, generate_cancel, NULL),
    MESSAGE(REGISTER, register, reg, NULL),
    MESSAGE(REGISTERED, registered, registered, check_registered),
    MESSAGE(REFUSED, refused, refused, NULL),
    MESSAGE(HEARTBEAT, heartbeat, heartbeat, NULL),
    MESSAGE(DRAIN, drain, drain, NULL),
    MESSAGE(BYE, bye, bye, NULL),
    MESSAGE(ROLE, role, role, NULL),
    MESSAGE(PREFIX_REPORT, prefix_report, prefix_report, NULL),
    MESSAGE(ENDED, ended, ended, NULL),
    MESSAGE(PREFILL_JOB, prefill_job, job, check_job),
    MESSAGE(PREFILL_TOKEN, prefill_token, prefill_token, NULL),
    MESSAGE(PREFILL_FAILED, prefill_failed, prefill_failed, NULL),
    MESSAGE(RESERVE, reserve, reserve, check_reserve),
    MESSAGE(RESERVED, reserved, reserved, NULL),
    MESSAGE(RESERVE_REFUSED, reserve_refused, reserve_refused, NULL),
    MESSAGE(TOKENS, tokens, tokens, check_tokens),
    MESSAGE(DECODE_FAILED, decode_failed, decode_failed, NULL),
    MESSAGE(CANCEL, cancel, cancel, NULL),
    MESSAGE(KV_HELLO, kv_hello, kv_hello, NULL),
    MESSAGE(KV_WELCOME, kv_welcome, kv_welcome, NULL),
    MESSAGE(KV_CREDIT, kv_credit, kv_credit, NULL),
    MESSAGE(KV_PAGE, kv_page, kv_page, NULL),
    MESSAGE(KV_AGAIN, kv_again, kv_again, NULL),
    MESSAGE(KV_END, kv_end, kv_end, NULL),
    MESSAGE(KV_DONE, kv_done, kv_done, NULL),
    MESSAGE(KV_ABORT, kv_abort, kv_abort, NULL),
    MESSAGE(KV_RESUME, kv_resume, kv_resume, NULL),
    MESSAGE(KV_MISSING, kv_missing, kv_missing, check_missing),
    MESSAGE(KV_PLACE, kv_place, kv_place, NULL),
};
const size_t codec_n_messages = ARRAY_LEN(codec_messages);
/* NOLINTEND(bugprone-macro-parentheses) */
