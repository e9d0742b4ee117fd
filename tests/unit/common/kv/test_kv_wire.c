#include <math.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kv/kv_wire.h"
#include "model/dtype.h"
#include "tests/lib/test.h"

static const struct {
    uint32_t n_layer, n_kv_head, head_dim;
} shapes[] = {{1, 1, 8}, {2, 3, 24}, {3, 2, 40}, {1, 4, 72}, {1, 2, 33}};

static void fill(uint8_t *p, size_t n, uint64_t key)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(rng_u64(key, i) & 0x3b); /* halves without NaN */
}

/* The element (token, dim) of K or V where the header of kv_layout says it is. */
static const uint8_t *element(const uint8_t *page, const struct kv_layout *l, uint32_t layer,
                              uint32_t head, int v, uint32_t token, uint32_t dim)
{
    size_t at = v ? (size_t)token * l->v_stride + dim : (size_t)dim * KV_PAGE_TOKENS + token;

    if (l->type == KV_BF16)
        at = v ? (token / 2 * (size_t)l->v_stride + dim) * 2 + token % 2
               : (dim / 2 * (size_t)KV_PAGE_TOKENS + token) * 2 + dim % 2;
    return page + kv_layout_k(l, layer, head) + (v ? l->v_offset : 0) + at * l->element_bytes;
}

/* Heads that pages pad. */
static void odd_heads_travel_as_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2 * ARRAY_LEN(shapes); i++) {
        enum kv_type type = i % 2 ? KV_BF16 : KV_F16;
        struct kv_layout l;
        uint8_t *page, *wire;
        size_t at = 0;
        uint32_t n = 19;

        kv_layout_init(&l, type, shapes[i / 2].n_layer, shapes[i / 2].n_kv_head, shapes[i / 2].head_dim);
        page = mem_aligned(l.page_bytes, 64);
        fill(page, l.page_bytes, i);
        wire = mem_alloc(kv_wire_bytes(&l, type, l.n_kv_head, n));
        kv_wire_export(wire, type, &l, page, l.n_layer - 1, 0, l.n_kv_head, n);
        for (int v = 0; v < 2; v++)
            for (uint32_t h = 0; h < l.n_kv_head; h++)
                for (uint32_t t = 0; t < n; t++)
                    for (uint32_t d = 0; d < l.head_dim; d++, at += 2)
                        assert_memory_equal(wire + at,
                                            element(page, &l, l.n_layer - 1, h, v, t, d), 2);
        assert_int_equal(at, kv_wire_bytes(&l, type, l.n_kv_head, n));
        mem_free(page);
        mem_free(wire);
    }
}

/* Both ends have pages of the wire type, so nothing is converted: not of f32, whose other end may not. */
static void a_page_travels_as_it_lies(void **state)
{
    (void)state;
    for (int type = 0; type < KV_TYPE_COUNT; type++) {
        enum kv_type wire = (enum kv_type)type;
        struct kv_layout l, padded;
        uint8_t *a, *b, *sent;
        size_t n, at;

        kv_layout_init(&l, wire, 2, 3, 48);
        kv_layout_init(&padded, wire, 2, 3, 40);
        n = kv_wire_bytes(&l, wire, 2, 32);
        at = kv_layout_k(&l, 1, 1);
        assert_int_equal(n, 2 * l.head_bytes);
        a = mem_aligned(l.page_bytes, 64);
        b = mem_aligned(l.page_bytes, 64);
        sent = mem_alloc(n);
        fill(a, l.page_bytes, 9);
        memset(b, 0x77, l.page_bytes);
        assert_int_equal(kv_wire_whole(&l, wire), wire != KV_F32);
        assert_false(kv_wire_whole(&l, wire == KV_F16 ? KV_BF16 : KV_F16));
        assert_false(kv_wire_whole(&padded, wire));
        kv_wire_export(sent, wire, &l, a, 1, 1, 2, 32);
        assert_int_equal(memcmp(sent, a + at, n) == 0, wire != KV_F32);
        kv_wire_import(b, &l, sent, wire, 1, 1, 2, 32);
        assert_memory_equal(b + at, a + at, n);
        for (size_t i = 0; i < l.page_bytes; i++)
            assert_true((i >= at && i < at + n) || b[i] == 0x77);
        mem_free(a);
        mem_free(b);
        mem_free(sent);
    }
}

/* What a prompt does not fill of its last page goes along, so both ends have the same bytes. */
static void a_page_that_is_not_full_travels_as_it_lies_too(void **state)
{
    (void)state;
    for (int type = 0; type < KV_TYPE_COUNT; type++) {
        enum kv_type wire = (enum kv_type)type;
        struct kv_layout l;
        uint8_t *a, *b, *sent;
        size_t n;

        if (wire == KV_F32)
            continue;
        kv_layout_init(&l, wire, 1, 2, 32);
        n = kv_wire_bytes(&l, wire, 2, 7);
        assert_int_equal(n, 2 * l.head_bytes);
        a = mem_aligned(l.page_bytes, 64);
        b = mem_zalloc(l.page_bytes);
        sent = mem_alloc(n);
        fill(a, l.page_bytes, 5);
        kv_wire_export(sent, wire, &l, a, 0, 0, 2, 7);
        assert_memory_equal(sent, a, n);
        kv_wire_import(b, &l, sent, wire, 0, 0, 2, 7);
        assert_memory_equal(b, a, n);
        mem_free(a);
        mem_free(b);
        mem_free(sent);
    }
}

static void import_of_export_gives_the_same_elements_and_touches_no_others(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= KV_PAGE_TOKENS; n++) {
        enum kv_type type = n % 2 ? KV_BF16 : KV_F16;
        struct kv_layout l;
        uint8_t *a, *b, *wire;

        kv_layout_init(&l, type, 2, 3, 24);
        a = mem_aligned(l.page_bytes, 64);
        b = mem_aligned(l.page_bytes, 64);
        fill(a, l.page_bytes, n);
        memset(b, 0x77, l.page_bytes);
        wire = mem_alloc(kv_wire_bytes(&l, type, 2, n));
        kv_wire_export(wire, type, &l, a, 1, 1, 2, n);
        kv_wire_import(b, &l, wire, type, 1, 1, 2, n);
        for (int v = 0; v < 2; v++)
            for (uint32_t layer = 0; layer < 2; layer++)
                for (uint32_t h = 0; h < 3; h++)
                    for (uint32_t t = 0; t < KV_PAGE_TOKENS; t++)
                        for (uint32_t d = 0; d < 24; d++) {
                            const uint8_t *eb = element(b, &l, layer, h, v, t, d);
                            const uint8_t *ea = element(a, &l, layer, h, v, t, d);

                            if (layer == 1 && h >= 1 && t < n)
                                assert_memory_equal(eb, ea, 2);
                            else
                                assert_memory_equal(eb, "\x77\x77", 2);
                        }
        mem_free(a);
        mem_free(b);
        mem_free(wire);
    }
}

static void f16_on_the_wire_rounds_f32_pages_to_nearest(void **state)
{
    struct kv_layout l;
    float *page;
    uint16_t wire[2 * 8];

    (void)state;
    kv_layout_init(&l, KV_F32, 1, 1, 8);
    page = mem_aligned(l.page_bytes, 64);
    memset(page, 0, l.page_bytes);
    for (int d = 0; d < 8; d++)
        page[d * KV_PAGE_TOKENS] = 0.1f * (float)d;
    kv_wire_export(wire, KV_F16, &l, (uint8_t *)page, 0, 0, 1, 1);
    for (int d = 0; d < 8; d++)
        assert_int_equal(wire[d], dtype_f32_to_f16(0.1f * (float)d));
    kv_wire_import((uint8_t *)page, &l, wire, KV_F16, 0, 0, 1, 1);
    assert_true(page[3 * KV_PAGE_TOKENS] == dtype_f16_to_f32(dtype_f32_to_f16(0.1f * 3.0f)));
    mem_free(page);
}

/* A row of q8 is {scale, q[head_dim]}, by the rule of kv_q8.h, and comes back as d * q. */
static void q8_has_the_scale_of_a_row_in_front(void **state)
{
    static const float row[5] = {1, -2.54f, 0.02f, 0, -0.031f}; /* d = 0.02 */
    static const int8_t want[5] = {50, -127, 1, 0, -2};
    struct kv_layout l, q;
    uint8_t wire[2 * 2 * (4 + 5)], back[sizeof(wire)];
    float *page, d = 2.54f / 127;
    uint8_t *packed;

    (void)state;
    kv_layout_init(&l, KV_F32, 1, 1, 5);
    kv_layout_init(&q, KV_Q8, 1, 1, 5);
    assert_int_equal(kv_wire_bytes(&l, KV_Q8, 1, 2), sizeof(wire));
    page = mem_aligned(l.page_bytes, 64);
    packed = mem_aligned(q.page_bytes, 64);
    memset(page, 0, l.page_bytes);
    for (int i = 0; i < 5; i++)
        page[i * KV_PAGE_TOKENS + 1] = row[i]; /* K of token 1; all else is zero */
    kv_wire_export(wire, KV_Q8, &l, (uint8_t *)page, 0, 0, 1, 2);
    for (int i = 0; i < 36; i++)
        if (i / 9 != 1)
            assert_int_equal(wire[i], 0);
    assert_memory_equal(wire + 9, &d, 4);
    assert_memory_equal(wire + 13, want, 5);
    kv_wire_import(packed, &q, wire, KV_Q8, 0, 0, 1, 2);
    kv_wire_export(back, KV_Q8, &q, packed, 0, 0, 1, 2);
    assert_memory_equal(back, wire, sizeof(wire));
    kv_wire_import((uint8_t *)page, &l, wire, KV_Q8, 0, 0, 1, 2);
    for (int i = 0; i < 5; i++)
        assert_true(page[i * KV_PAGE_TOKENS + 1] == d * want[i]);
    mem_free(page);
    mem_free(packed);
}

/* Of q8, import writes the tokens' own elements and scales. */
static void q8_import_touches_no_other_token(void **state)
{
    struct kv_layout l;
    uint8_t *a, *b, wire[2 * 3 * 28];

    (void)state;
    kv_layout_init(&l, KV_Q8, 2, 2, 24);
    a = mem_aligned(l.page_bytes, 64);
    b = mem_aligned(l.page_bytes, 64);
    fill(a, l.page_bytes, 1);
    memset(b, 0x77, l.page_bytes);
    kv_wire_export(wire, KV_Q8, &l, a, 1, 1, 1, 3);
    kv_wire_import(b, &l, wire, KV_Q8, 1, 1, 1, 3);
    for (size_t i = 0; i < l.page_bytes; i++) {
        size_t head = kv_layout_k(&l, 1, 1), at = i - head;
        bool k = i >= head && at < 24 * 32 && at % 32 < 3;
        bool v = i >= head && at >= l.v_offset && at < l.v_scales &&
                 (at - l.v_offset) / l.v_stride < 3 && (at - l.v_offset) % l.v_stride < 24;
        bool scale = i >= head && ((at >= l.k_scales && at < l.k_scales + 12) ||
                                   (at >= l.v_scales && at < l.v_scales + 12));

        assert_int_equal(b[i], k || v || scale ? a[i] : 0x77);
    }
    mem_free(a);
    mem_free(b);
}

/* A received frame starts anywhere; UBSan watches. */
static void the_wire_side_needs_no_alignment(void **state)
{
    static const enum kv_type types[] = {KV_F16, KV_F32, KV_BF16, KV_Q8};

    (void)state;
    for (size_t pool = 0; pool < ARRAY_LEN(types); pool++)
        for (size_t wire = 0; wire < ARRAY_LEN(types); wire++) {
            struct kv_layout l;
            uint8_t *page, *bytes;
            size_t n;

            kv_layout_init(&l, types[pool], 1, 2, 24);
            page = mem_aligned(l.page_bytes, 64);
            fill(page, l.page_bytes, 3);
            n = kv_wire_bytes(&l, types[wire], 2, 5);
            bytes = mem_alloc(2 * n + 1);
            kv_wire_export(bytes + 1, types[wire], &l, page, 0, 0, 2, 5);
            kv_wire_import(page, &l, bytes + 1, types[wire], 0, 0, 2, 5);
            kv_wire_export(bytes + 1 + n, types[wire], &l, page, 0, 0, 2, 5);
            if (types[pool] == types[wire] || (types[pool] != KV_Q8 && types[wire] != KV_Q8))
                assert_memory_equal(bytes + 1, bytes + 1 + n, n);
            mem_free(bytes);
            mem_free(page);
        }
}

static void heads_of_a_frame_fit_the_limit(void **state)
{
    struct kv_layout l;

    (void)state;
    kv_layout_init(&l, KV_F16, 32, 32, 128); /* one head, one page: 16 KiB */
    assert_int_equal(kv_wire_heads(&l, KV_F16, 256 << 10), 16);
    assert_int_equal(kv_wire_heads(&l, KV_F16, (16 << 10) - 1), 0);
    kv_layout_init(&l, KV_F16, 32, 8, 128);
    assert_int_equal(kv_wire_heads(&l, KV_F16, 256 << 10), 8);
}

/* Where kv_wire_exact says so, any value comes back with its bits; elsewhere, not all do. */
static void an_exact_wire_gives_back_every_bit(void **state)
{
    (void)state;
    for (int pool = 0; pool < KV_TYPE_COUNT; pool++)
        for (int wire = 0; wire < KV_TYPE_COUNT; wire++)
            for (uint64_t seed = 0; seed < 20; seed++) {
                struct kv_layout l;
                float x[2 * 32 * 24];
                uint8_t *page, *twin, own[sizeof(x)], again[sizeof(x)], sent[sizeof(x) + 256];
                size_t n;
                bool same;

                kv_layout_init(&l, (enum kv_type)pool, 1, 1, 24);
                n = kv_wire_bytes(&l, l.type, 1, 32);
                page = mem_aligned(l.page_bytes, 64);
                twin = mem_aligned(l.page_bytes, 64);
                for (size_t i = 0; i < ARRAY_LEN(x); i++)
                    x[i] = ldexpf((float)(rng_f64(seed, i) - 0.5), 3 - (int)(i % 30));
                kv_wire_import(page, &l, x, KV_F32, 0, 0, 1, 32);
                kv_wire_export(sent, (enum kv_type)wire, &l, page, 0, 0, 1, 32);
                kv_wire_import(twin, &l, sent, (enum kv_type)wire, 0, 0, 1, 32);
                kv_wire_export(own, l.type, &l, page, 0, 0, 1, 32);
                kv_wire_export(again, l.type, &l, twin, 0, 0, 1, 32);
                same = memcmp(own, again, n) == 0;
                if (kv_wire_exact((enum kv_type)wire, l.type))
                    assert_true(same);
                else if (pool != KV_Q8 || wire != KV_F32) /* this one is merely not promised */
                    assert_false(same);
                mem_free(page);
                mem_free(twin);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(odd_heads_travel_as_rows),
        cmocka_unit_test(a_page_travels_as_it_lies),
        cmocka_unit_test(a_page_that_is_not_full_travels_as_it_lies_too),
        cmocka_unit_test(import_of_export_gives_the_same_elements_and_touches_no_others),
        cmocka_unit_test(f16_on_the_wire_rounds_f32_pages_to_nearest),
        cmocka_unit_test(q8_has_the_scale_of_a_row_in_front),
        cmocka_unit_test(q8_import_touches_no_other_token),
        cmocka_unit_test(the_wire_side_needs_no_alignment),
        cmocka_unit_test(an_exact_wire_gives_back_every_bit),
        cmocka_unit_test(heads_of_a_frame_fit_the_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
