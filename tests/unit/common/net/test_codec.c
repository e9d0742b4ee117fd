/* Every message survives the wire with every field at its bounds; nothing outside them gets in. */
#include "kv/kv_layout.h"
#include "net/codec.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "cluster.pb-c.h"
#include "decode.pb-c.h"
#include "generate.pb-c.h"
#include "kv.pb-c.h"
#include "net/codec_schema.h"
#include "prefill.pb-c.h"
#include "tests/lib/test.h"

/* An encoder of our own, so that what the codec would refuse to send can be put on the wire. */

static void put_varint(struct str *w, uint64_t v)
{
    while (v >= 0x80) {
        str_addc(w, (char)(v | 0x80));
        v >>= 7;
    }
    str_addc(w, (char)v);
}

static void put_le(struct str *w, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        str_addc(w, (char)(v >> (8 * i)));
}

static void put_blob(struct str *w, uint32_t id, const void *p, size_t n)
{
    put_varint(w, id << 3 | 2);
    put_varint(w, n);
    str_add(w, p, n);
}

static void put_filled(struct str *w, uint32_t id, char c, size_t n)
{
    char *p = mem_alloc(n);

    memset(p, c, n);
    put_blob(w, id, p, n);
    mem_free(p);
}

/* A number (or, for lengths, that many bytes or items) as field f of the protobuf descriptor d. */
static void put_value(struct str *w, const struct codec_field *f,
                      const ProtobufCFieldDescriptor *d, uint64_t v)
{
    switch (f->kind) {
    case CODEC_F32: {
        float x = v > 1 ? f->hi : v ? f->lo : 1.0f;
        uint32_t bits;

        memcpy(&bits, &x, 4);
        put_varint(w, d->id << 3 | 5);
        put_le(w, bits, 4);
        return;
    }
    case CODEC_NAME:
    case CODEC_TEXT:
    case CODEC_BYTES:
        if (v > 0)
            put_filled(w, d->id, 'a', v);
        return;
    case CODEC_LIST:
    case CODEC_ARRAY:
        if (v > 0)
            put_filled(w, d->id, 1, 4 * v);
        return;
    case CODEC_STRINGS:
        for (uint64_t i = 0; i < v; i++)
            put_filled(w, d->id, 'a', MSG_STOP_BYTES_MAX - 1);
        return;
    default:
        if (d->type == PROTOBUF_C_TYPE_FIXED64) {
            put_varint(w, d->id << 3 | 1);
            put_le(w, v, 8);
        } else {
            put_varint(w, d->id << 3);
            put_varint(w, v);
        }
    }
}

static bool is_length(enum codec_kind k)
{
    return k == CODEC_NAME || k == CODEC_TEXT || k == CODEC_BYTES || k == CODEC_LIST ||
           k == CODEC_ARRAY || k == CODEC_STRINGS;
}

/* A value that the row allows and that satisfies the relations between fields. */
static uint64_t good_value(const struct codec_message *cm, const struct codec_field *f)
{
    if (cm->type == MSG_REGISTERED && strcmp(f->name, "dead_ms") == 0)
        return 3000;
    if (cm->type == MSG_GENERATE && strcmp(f->name, "text") == 0)
        return 0;
    if (cm->type == MSG_PREFILL_JOB && strcmp(f->name, "tokens") == 0)
        return 9;
    if (cm->type == MSG_PREFILL_JOB && strcmp(f->name, "skip_tokens") == 0)
        return 3;
    if (f->kind == CODEC_LIST || f->kind == CODEC_ARRAY)
        return 2;
    return f->min;
}

/* All fields of cm with good values but field `odd`, which gets v. */
static void put_message(struct str *w, const struct codec_message *cm, size_t odd, uint64_t v)
{
    for (size_t i = 0; i < cm->n_fields; i++)
        put_value(w, &cm->fields[i], &cm->pb->fields[i],
                  i == odd ? v : good_value(cm, &cm->fields[i]));
}

static int decode(const struct codec_message *cm, const struct str *w, struct msg *m, struct err *e)
{
    /* A copy of the exact size, so that ASan sees a read past the end. */
    void *exact = mem_dup(str_text(w), w->len);
    int rc = codec_decode(m, cm->type, exact, w->len, e);

    mem_free(exact);
    if (rc < 0)
        assert_int_equal(m->type, 0);
    return rc;
}

/* Encoding what was decoded gives the same message. */
static void assert_stable(const struct codec_message *cm, const struct msg *m)
{
    struct str first = {0}, second = {0};
    struct err e = {0};
    struct msg again;

    assert_int_equal(codec_encode(&first, m, &e), 0);
    assert_int_equal(decode(cm, &first, &again, &e), 0);
    assert_int_equal(codec_encode(&second, &again, &e), 0);
    assert_int_equal(first.len, second.len);
    assert_memory_equal(str_text(&first), str_text(&second), first.len);
    msg_fini(&again);
    str_fini(&first);
    str_fini(&second);
}

/* A row names the protobuf field at its place, and fits the room that codec.c has. */
static void test_schema_matches_protobuf(void **state)
{
    (void)state;
    for (size_t i = 0; i < codec_n_messages; i++) {
        const struct codec_message *cm = &codec_messages[i];

        assert_string_not_equal(msg_type_name(cm->type), "?");
        assert_int_equal(cm->n_fields, cm->pb->n_fields);
        assert_true(cm->n_fields <= CODEC_FIELDS_MAX);
        assert_true(cm->pb->sizeof_message <= CODEC_PB_BYTES);
        for (size_t k = 0; k < cm->n_fields; k++) {
            assert_string_equal(cm->fields[k].name, cm->pb->fields[k].name);
            assert_int_equal(cm->fields[k].pb_at, cm->pb->fields[k].offset);
            assert_int_not_equal(cm->pb->fields[k].type, PROTOBUF_C_TYPE_MESSAGE);
        }
    }
}

/* Each field alone at 0, 1, its bounds, one beyond, and the powers of two that overflow something:
 * taken exactly if it is within the bounds. */
static void test_every_field_at_its_bounds(void **state)
{
    (void)state;
    for (size_t i = 0; i < codec_n_messages; i++) {
        const struct codec_message *cm = &codec_messages[i];

        for (size_t k = 0; k < cm->n_fields; k++) {
            const struct codec_field *f = &cm->fields[k];
            uint64_t values[] = {0, 1, f->min, f->min - 1, f->max - 1, f->max, f->max + 1,
                                 UINT64_C(1) << 31, (UINT64_C(1) << 32) - 1, UINT64_C(1) << 32,
                                 (UINT64_C(1) << 32) + f->min, UINT64_C(1) << 63, UINT64_MAX};

            if (f->kind == CODEC_F32)
                continue;
            for (size_t j = 0; j < ARRAY_LEN(values); j++) {
                uint64_t max = f->kind == CODEC_BOOL ? 1 : f->max, v = values[j];
                bool good = v >= f->min && v <= max;
                struct str w = {0};
                struct err e = {0};
                struct msg m;
                int rc;

                if (is_length(f->kind) && v > f->max + 1)
                    continue; /* as a length it cannot be built */
                if (cm->check && good && v != good_value(cm, f))
                    continue; /* the relations have a test of their own */
                put_message(&w, cm, k, v);
                rc = decode(cm, &w, &m, &e);
                if ((rc == 0) != good)
                    fail_msg("%s.%s = %llu: %d %s", msg_type_name(cm->type), f->name,
                             (unsigned long long)v, rc, e.text);
                if (rc == 0)
                    assert_stable(cm, &m);
                msg_fini(&m);
                str_fini(&w);
            }
        }
    }
}

/* What breaks a bound is refused on the way out as well. */
static void test_encode_checks_too(void **state)
{
    struct msg m = {.type = MSG_KV_END, .u.end.n_tokens = MSG_TOKENS_MAX + 1};
    struct str w = {0};
    struct err e = {0};

    (void)state;
    assert_int_equal(codec_encode(&w, &m, &e), ERR_LIMIT);
    assert_string_equal(e.text, "KV_END.n_tokens is 1048577, not 1 .. 1048576");
    m.type = 5;
    assert_int_equal(codec_encode(&w, &m, &e), ERR_ARG);
    assert_int_equal(w.len, 0);
    str_fini(&w);
}

/* The rows couple the right members: read back with the generated code, every value distinct. */
static void test_members_are_the_right_ones(void **state)
{
    uint32_t prompt[3] = {7, 0, UINT32_MAX};
    struct msg m = {.type = MSG_PREFILL_JOB,
                    .u.job = {.id = {UINT64_MAX, 2}, .tokens = prompt, .n_tokens = 3,
                              .first_index = 4, .max_new = 5, .skip_tokens = 1,
                              .sampling = {0.5f, 0.25f, 6, 8}, .n_stop_tokens = 2,
                              .stop_tokens = {9, 10}, .decode_name = "d", .kv_endpoint = "ipc://k"}};
    struct str w = {0};
    Tandem__PrefillJob *j;
    Tandem__KvPage *p;
    Tandem__KvPlace *a;
    Tandem__KvHello *h;
    Tandem__Tokens *t;
    Tandem__Register *r;

    (void)state;
    assert_int_equal(codec_encode(&w, &m, NULL), 0);
    j = tandem__prefill_job__unpack(NULL, w.len, (uint8_t *)w.data);
    assert_true(j->request == UINT64_MAX && j->epoch == 2 && j->n_tokens == 3);
    assert_memory_equal(j->tokens, prompt, sizeof(prompt));
    assert_true(j->first_index == 4 && j->max_new == 5 && j->skip_tokens == 1);
    assert_true(j->temperature == 0.5f && j->top_p == 0.25f && j->top_k == 6 && j->seed == 8);
    assert_true(j->n_stop_tokens == 2 && j->stop_tokens[1] == 10);
    assert_string_equal(j->decode_name, "d");
    assert_string_equal(j->kv_endpoint, "ipc://k");
    tandem__prefill_job__free_unpacked(j, NULL);
    str_clear(&w);

    m = (struct msg){.type = MSG_KV_PAGE, .u.page = {.id = {1, 2}, .layer = 3, .page = 4,
                     .head_first = 5, .head_count = 6, .n_tokens = 7, .checksum = 8}};
    assert_int_equal(codec_encode(&w, &m, NULL), 0);
    p = tandem__kv_page__unpack(NULL, w.len, (uint8_t *)w.data);
    assert_true(p->request == 1 && p->epoch == 2 && p->layer == 3 && p->page == 4);
    assert_true(p->head_first == 5 && p->head_count == 6 && p->n_tokens == 7 && p->checksum == 8);
    tandem__kv_page__free_unpacked(p, NULL);
    str_clear(&w);

    m = (struct msg){.type = MSG_KV_PLACE, .u.page = {.id = {1, 2}, .layer = 3, .page = 4,
                     .head_first = 5, .head_count = 6, .n_tokens = 7, .checksum = 8, .place = 9,
                     .bulk.size = 10}};
    assert_int_equal(codec_encode(&w, &m, NULL), 0);
    a = tandem__kv_place__unpack(NULL, w.len, (uint8_t *)w.data);
    assert_true(a->request == 1 && a->epoch == 2 && a->layer == 3 && a->page == 4);
    assert_true(a->head_first == 5 && a->head_count == 6 && a->n_tokens == 7 && a->checksum == 8);
    assert_true(a->place == 9 && a->bytes == 10);
    tandem__kv_place__free_unpacked(a, NULL);
    str_clear(&w);

    m = (struct msg){.type = MSG_KV_HELLO, .u.hello = {.cluster = "c", .name = "n",
                     .geometry = {4, 5, 6, 7, 1}, .offer = {11, 12, 13, 14, 15, 16}}};
    assert_int_equal(codec_encode(&w, &m, NULL), 0);
    h = tandem__kv_hello__unpack(NULL, w.len, (uint8_t *)w.data);
    assert_true(h->share_host == 11 && h->share_pid == 12 && h->share_fd == 13);
    assert_true(h->share_dev == 14 && h->share_ino == 15 && h->share_size == 16);
    tandem__kv_hello__free_unpacked(h, NULL);
    str_clear(&w);

    m = (struct msg){.type = MSG_TOKENS, .u.tokens = {.id = {1, 2}, .index = 3, .n_tokens = 2,
                     .tokens = {4, 5}, .finish = FINISH_LENGTH, .kv_bytes = 6}};
    assert_int_equal(codec_encode(&w, &m, NULL), 0);
    t = tandem__tokens__unpack(NULL, w.len, (uint8_t *)w.data);
    assert_true(t->request == 1 && t->epoch == 2 && t->index == 3 && t->n_tokens == 2);
    assert_true(t->tokens[0] == 4 && t->finish == TANDEM__FINISH__FINISH_LENGTH && t->kv_bytes == 6);
    tandem__tokens__free_unpacked(t, NULL);
    str_clear(&w);

    m = (struct msg){.type = MSG_REGISTER, .u.reg = {1, ROLE_DECODE, "c", "n", "t", "k", 2, 3,
                     {4, 5, 6, 7, 1}, 8, 9, 10, 11, 12, 13}};
    m.u.reg.kv_type = KV_Q8;
    assert_int_equal(codec_encode(&w, &m, NULL), 0);
    r = tandem__register__unpack(NULL, w.len, (uint8_t *)w.data);
    assert_true(r->protocol == 1 && r->role == TANDEM__NODE_ROLE__ROLE_DECODE && r->boot == 2);
    assert_true(r->model_hash == 3 && r->n_layer == 4 && r->n_kv_head == 5 && r->head_dim == 6);
    assert_true(r->page_tokens == 7 && r->wire_type == 1 && r->ctx_max == 8 && r->slots == 9);
    assert_true(r->pages_total == 10 && r->cores == 11 && r->domain == 12 && r->pid == 13);
    assert_int_equal(r->kv_type, KV_Q8);
    assert_true(*r->cluster == 'c' && *r->name == 'n' && *r->tier == 't' && *r->kv_endpoint == 'k');
    tandem__register__free_unpacked(r, NULL);
    str_fini(&w);
}

/* A trace has a span and a span a trace, coming and going. */
static void test_traces_are_whole(void **state)
{
    static const struct traceparent some[] = {{{0, 0}, 0, 0}, {{1, 0}, 2, 255}, {{0, 1}, 2, 0},
                                              {{1, 1}, 0, 0}, {{0, 0}, 2, 0},   {{0, 1}, 2, 256}};
    uint32_t prompt = 7;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(some); i++) {
        struct msg job = {.type = MSG_PREFILL_JOB,
                          .u.job = {.tokens = &prompt, .n_tokens = 1, .max_new = 1,
                                    .sampling.top_p = 1, .decode_name = "d", .kv_endpoint = "k",
                                    .trace = some[i]}};
        struct msg reserve = {.type = MSG_RESERVE,
                              .u.reserve = {.tokens = &prompt, .n_tokens = 1, .max_new = 1,
                                            .sampling.top_p = 1, .trace = some[i]}};
        struct str w = {0};
        struct err e = {0};

        assert_int_equal(codec_encode(&w, &job, &e) == 0, i < 3);
        str_clear(&w);
        assert_int_equal(codec_encode(&w, &reserve, &e) == 0, i < 3);
        if (i < 3) {
            Tandem__Reserve *r = tandem__reserve__unpack(NULL, w.len, (uint8_t *)w.data);

            assert_true(r->trace_hi == some[i].id[0] && r->trace_lo == some[i].id[1]);
            assert_true(r->span == some[i].span && r->trace_flags == some[i].flags);
            tandem__reserve__free_unpacked(r, NULL);
        }
        str_fini(&w);
    }
}

static void assert_generate(struct msg *m, int want)
{
    struct str w = {0};
    struct err e = {0};

    assert_int_equal(codec_encode(&w, m, &e), want);
    str_fini(&w);
}

/* Floats are finite and in range; a prompt is tokens or text; stops are not empty. */
static void test_generate(void **state)
{
    static const float bad_temperature[] = {-0.001f, 100.1f, NAN, INFINITY, -INFINITY};
    static const float bad_top_p[] = {0.0f, -1.0f, 1.001f, NAN, INFINITY};
    char text[] = "Emma", *moved;
    uint32_t token = 1;
    struct msg m = {.type = MSG_GENERATE,
                    .u.generate = {.text = text, .text_bytes = 4, .sampling = {0, 1, 0, 0},
                                   .n_stops = 2, .stops = {"\n\n", "The End"}, .has_seed = true}};
    struct str w = {0};
    struct msg back;

    (void)state;
    assert_int_equal(codec_encode(&w, &m, NULL), 0);
    assert_int_equal(codec_decode(&back, MSG_GENERATE, w.data, w.len, NULL), 0);
    moved = back.u.generate.text;
    assert_string_equal(moved, "Emma"); /* a NUL follows */
    assert_true(back.u.generate.text_bytes == 4 && back.u.generate.has_seed);
    assert_string_equal(back.u.generate.stops[1], "The End");
    msg_fini(&back);
    str_fini(&w);

    for (size_t i = 0; i < ARRAY_LEN(bad_temperature); i++) {
        m.u.generate.sampling.temperature = bad_temperature[i];
        assert_generate(&m, ERR_LIMIT);
    }
    m.u.generate.sampling.temperature = 100;
    for (size_t i = 0; i < ARRAY_LEN(bad_top_p); i++) {
        m.u.generate.sampling.top_p = bad_top_p[i];
        assert_generate(&m, ERR_LIMIT);
    }
    m.u.generate.sampling.top_p = 1e-30f;
    assert_generate(&m, 0);
    m.u.generate.stops[0][0] = '\0';
    assert_generate(&m, ERR_FORMAT);
    m.u.generate.n_stops = 0;
    m.u.generate.tokens = &token;
    m.u.generate.n_tokens = 1;
    assert_generate(&m, ERR_FORMAT); /* both */
    m.u.generate.text_bytes = 0;
    assert_generate(&m, 0);
    m.u.generate.n_tokens = 0;
    assert_generate(&m, ERR_FORMAT); /* neither */
}

static void test_relations(void **state)
{
    uint32_t prompt[4] = {0};
    struct msg job = {.type = MSG_PREFILL_JOB,
                      .u.job = {.tokens = prompt, .n_tokens = 4, .max_new = 1, .skip_tokens = 4,
                                .sampling = {.top_p = 1}, .decode_name = "d", .kv_endpoint = "k"}};
    struct msg reg = {.type = MSG_REGISTERED, .u.registered = {1000, 1000}};
    struct msg tok = {.type = MSG_TOKENS};
    struct str w = {0};

    (void)state;
    assert_int_equal(codec_encode(&w, &job, NULL), ERR_FORMAT);
    job.u.job.skip_tokens = 3;
    assert_int_equal(codec_encode(&w, &job, NULL), 0);
    assert_int_equal(codec_encode(&w, &reg, NULL), ERR_FORMAT);
    reg.u.registered.dead_ms = 1001;
    assert_int_equal(codec_encode(&w, &reg, NULL), 0);
    assert_int_equal(codec_encode(&w, &tok, NULL), ERR_FORMAT);
    tok.u.tokens.finish = FINISH_CANCELLED;
    assert_int_equal(codec_encode(&w, &tok, NULL), 0);
    str_fini(&w);
}

/* One protobuf frame by hand, and what it should give. */
static void assert_frame(enum msg_type type, const void *bytes, size_t n, int want,
                         const char *text)
{
    void *exact = mem_dup(bytes, n);
    struct err e = {0};
    struct msg m;

    assert_int_equal(codec_decode(&m, type, exact, n, &e), want);
    if (text)
        assert_string_equal(e.text, text);
    msg_fini(&m);
    mem_free(exact);
}
#define FRAME(type, bytes, want, text) assert_frame(type, bytes, sizeof(bytes) - 1, want, text)

static void test_bad_wire(void **state)
{
    (void)state;
    FRAME(MSG_CANCEL, "\x08\x01\x10\x02", 0, NULL);
    FRAME(MSG_CANCEL, "", 0, NULL); /* proto3: absent is zero */
    FRAME(MSG_CANCEL, "\x08", ERR_FORMAT, "Cancel.request ends early");
    FRAME(MSG_CANCEL, "\x18\x01", ERR_FORMAT, "Cancel has no field 3");
    FRAME(MSG_CANCEL, "\x08\x01\x08\x01", ERR_FORMAT, "Cancel.request comes more than 1 times");
    FRAME(MSG_CANCEL, "\x09\x01\0\0\0\0\0\0\0", ERR_FORMAT, "Cancel.request has wire type 1, not 0");
    FRAME(MSG_CANCEL, "\x0b\x0c", ERR_FORMAT, "Cancel.request has wire type 3, not 0");
    FRAME(MSG_CANCEL, "\x10\x80\x80\x80\x80\x10", ERR_LIMIT, "Cancel.epoch does not fit its type");
    FRAME(MSG_CANCEL, "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 0, NULL);
    FRAME(MSG_CANCEL, "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", ERR_FORMAT, NULL);
    FRAME(MSG_CANCEL, "\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", ERR_FORMAT, NULL);
    FRAME(MSG_CANCEL, "\x80", ERR_FORMAT, "Cancel: a field tag ends early");
    FRAME(MSG_CANCEL, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01", ERR_FORMAT, NULL);
    FRAME(MSG_TOKENS, "\x20\x05\x28\x01", ERR_FORMAT, "Tokens.tokens has wire type 0, not 2");
    FRAME(MSG_TOKENS, "\x22\x03" "abc" "\x28\x01", ERR_FORMAT, NULL); /* not 4 n bytes */
    FRAME(MSG_TOKENS, "\x22\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", ERR_FORMAT, NULL);
    FRAME(MSG_BYE, "\x0a\x02" "a\0", ERR_FORMAT, "Bye.text has a NUL inside");
}

/* Many tiny fields are refused before they cost memory: 1 MiB of empty stop strings. */
static void test_no_amplification(void **state)
{
    struct str w = {0};

    (void)state;
    for (size_t i = 0; i < (1u << 19); i++)
        str_add(&w, "\x5a\0", 2);
    assert_frame(MSG_GENERATE, w.data, w.len, ERR_FORMAT,
                 "Generate.stops comes more than 8 times");
    str_fini(&w);
}

static void assert_register(const char *name, size_t n, int want)
{
    const struct codec_message *cm = NULL;
    struct str w = {0};
    struct err e = {0};
    struct msg m;

    for (size_t i = 0; i < codec_n_messages; i++)
        if (codec_messages[i].type == MSG_REGISTER)
            cm = &codec_messages[i];
    for (size_t i = 0; i < cm->n_fields; i++)
        if (strcmp(cm->fields[i].name, "name") == 0)
            put_blob(&w, cm->pb->fields[i].id, name, n);
        else
            put_value(&w, &cm->fields[i], &cm->pb->fields[i], good_value(cm, &cm->fields[i]));
    assert_int_equal(decode(cm, &w, &m, &e), want);
    msg_fini(&m);
    str_fini(&w);
}

static void test_names(void **state)
{
    (void)state;
    assert_register("decode-1", 8, 0);
    assert_register("", 0, ERR_LIMIT);
    assert_register("de\0ode", 6, ERR_FORMAT);
    assert_register("a b", 3, ERR_FORMAT);
    assert_register("a\nb", 3, ERR_FORMAT);
    assert_register("caf\xc3\xa9", 5, ERR_FORMAT);
}

/* Text for people cannot forge a log line nor break JSON. */
static void test_text_is_cleaned(void **state)
{
    static const struct {
        const char *sent, *got;
    } cases[] = {
        {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"a\nb\x1b[1m\x7f", "a?b?[1m?"},
        {"\xc0\x80", "??"},             /* overlong NUL */
        {"\xed\xa0\x80", "???"},        /* surrogate */
        {"\xf4\x90\x80\x80", "????"},   /* beyond U+10FFFF */
        {"\xe2\x82", "??"},             /* cut */
        {"\xe2\x82" "a", "??a"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct str w = {0};
        struct msg m;

        put_blob(&w, 1, cases[i].sent, strlen(cases[i].sent));
        assert_int_equal(codec_decode(&m, MSG_REFUSED, w.data, w.len, NULL), 0);
        assert_string_equal(m.u.text.text, cases[i].got);
        snprintf(m.u.text.text, sizeof(m.u.text.text), "%s", cases[i].sent);
        str_clear(&w);
        assert_int_equal(codec_encode(&w, &m, NULL), 0); /* and on the way out */
        assert_int_equal(w.len, 2 + strlen(cases[i].got));
        assert_memory_equal(w.data + 2, cases[i].got, w.len - 2);
        str_fini(&w);
        msg_fini(&m);
    }
}

/* Every prefix and every flipped bit of every message is refused, or is a message within bounds that
 * can be sent on. Under ASan: without a leak or a stray read. */
static void test_truncated_and_flipped(void **state)
{
    (void)state;
    for (size_t i = 0; i < codec_n_messages; i++) {
        const struct codec_message *cm = &codec_messages[i];
        struct str w = {0};
        struct msg m;

        put_message(&w, cm, SIZE_MAX, 0);
        for (size_t n = 0; n < w.len; n++) {
            struct str cut = {.data = w.data, .len = n, .cap = n};

            if (decode(cm, &cut, &m, NULL) == 0)
                assert_stable(cm, &m);
            msg_fini(&m);
        }
        for (size_t bit = 0; bit < 8 * w.len; bit++) {
            w.data[bit / 8] = (char)(w.data[bit / 8] ^ 1 << bit % 8);
            if (decode(cm, &w, &m, NULL) == 0)
                assert_stable(cm, &m);
            msg_fini(&m);
            w.data[bit / 8] = (char)(w.data[bit / 8] ^ 1 << bit % 8);
        }
        str_fini(&w);
    }
}

static void assert_frames(const char *header, size_t header_bytes, size_t n, size_t bulk, int want,
                          const char *text)
{
    static const uint8_t page[] = {0x30, 1, 0x38, 1}; /* head_count 1, n_tokens 1 */
    static uint8_t kv[MSG_BULK_MAX + 1];
    struct codec_frame f[4] = {{header, header_bytes}, {page, 4}, {kv, bulk}, {kv, 0}};
    struct err e = {0};
    struct msg m;

    if (header_bytes > 4 && header[4] != MSG_KV_PAGE)
        f[1].size = 0; /* CANCEL 0 0, REFUSED "" */
    assert_int_equal(codec_decode_frames(&m, f, n, &e), want);
    if (text)
        assert_string_equal(e.text, text);
    if (want == 0 && m.type == MSG_KV_PAGE) {
        assert_ptr_equal(m.u.page.bulk.data, kv);
        assert_int_equal(m.u.page.bulk.size, bulk);
    }
    msg_fini(&m);
}

static void test_framing(void **state)
{
    static const char cancel[] = {'T', 'D', MSG_PROTOCOL, 0, MSG_CANCEL, 0, 0, 0, 0};
    static const char page[] = {'T', 'D', MSG_PROTOCOL, 0, MSG_KV_PAGE, 0, 0, 0};
    static const char place[] = {'T', 'D', MSG_PROTOCOL, 0, MSG_KV_PLACE, 0, 0, 0};
    static const char newer[] = {'T', 'D', MSG_PROTOCOL + 1, 0, MSG_CANCEL, 0, 0, 0};
    static const char newer_refused[] = {'T', 'D', MSG_PROTOCOL + 1, 0, MSG_REFUSED, 0, 0, 0};
    static const char unknown[] = {'T', 'D', MSG_PROTOCOL, 0, 5, 0, 0, 0};
    static const char high[] = {'T', 'D', MSG_PROTOCOL, 0, MSG_CANCEL, 1, 0, 0};
    static const char reserved[] = {'T', 'D', MSG_PROTOCOL, 0, MSG_CANCEL, 0, 0, 1};
    static const char magic[] = {'T', 'E', MSG_PROTOCOL, 0, MSG_CANCEL, 0, 0, 0};
    uint8_t made[CODEC_HEADER_BYTES];

    (void)state;
    codec_header(made, MSG_CANCEL);
    assert_memory_equal(made, cancel, CODEC_HEADER_BYTES);

    assert_frames(cancel, 8, 2, 0, 0, NULL);
    assert_frames(cancel, 8, 0, 0, ERR_FORMAT, "message without frames");
    assert_frames(cancel, 8, 1, 0, ERR_FORMAT, "CANCEL has 1 frames, not 2");
    assert_frames(cancel, 8, 3, 1, ERR_FORMAT, "CANCEL has 3 frames, not 2");
    assert_frames(cancel, 8, 1000, 0, ERR_FORMAT, NULL);
    assert_frames(cancel, 7, 2, 0, ERR_FORMAT, "first frame of 7 bytes is no header of ours");
    assert_frames(cancel, 9, 2, 0, ERR_FORMAT, NULL);
    assert_frames(cancel, 0, 2, 0, ERR_FORMAT, NULL);
    assert_frames(page, 8, 3, 1, 0, NULL);
    assert_frames(page, 8, 3, MSG_BULK_MAX, 0, NULL);
    assert_frames(page, 8, 3, MSG_BULK_MAX + 1, ERR_LIMIT, NULL);
    assert_frames(page, 8, 3, 0, ERR_LIMIT, "KV_PAGE has 0 bytes of KV, not 1 .. 262144");
    assert_frames(page, 8, 2, 0, ERR_FORMAT, NULL);
    assert_frames(page, 8, 4, 1, ERR_FORMAT, NULL);
    assert_frames(place, 8, 3, 1, ERR_FORMAT, "KV_PLACE has 3 frames, not 2"); /* it brings no KV */
    assert_frames(newer, 8, 2, 0, ERR_PEER, "peer speaks protocol 7, we speak 6");
    assert_frames(newer_refused, 8, 2, 0, 0, NULL);
    assert_frames(unknown, 8, 2, 0, ERR_UNSUPPORTED, "message type 5 is unknown");
    assert_frames(high, 8, 2, 0, ERR_UNSUPPORTED, NULL);
    assert_frames(reserved, 8, 2, 0, ERR_FORMAT, NULL);
    assert_frames(magic, 8, 2, 0, ERR_FORMAT, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schema_matches_protobuf),
        cmocka_unit_test(test_every_field_at_its_bounds),
        cmocka_unit_test(test_encode_checks_too),
        cmocka_unit_test(test_members_are_the_right_ones),
        cmocka_unit_test(test_generate),
        cmocka_unit_test(test_traces_are_whole),
        cmocka_unit_test(test_relations),
        cmocka_unit_test(test_bad_wire),
        cmocka_unit_test(test_no_amplification),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_text_is_cleaned),
        cmocka_unit_test(test_truncated_and_flipped),
        cmocka_unit_test(test_framing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
