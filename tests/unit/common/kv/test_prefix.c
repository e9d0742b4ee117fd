#include "kv/prefix.h"

#include "base/check.h"
#include "base/rng.h"
#include "tests/lib/test.h"

#define P KV_PAGE_TOKENS

/* A sequence whose block i is 32 times the letter path[i]. */
static uint32_t spell(uint32_t *tokens, const char *path)
{
    uint32_t n = (uint32_t)strlen(path) * P;

    for (uint32_t i = 0; i < n; i++)
        tokens[i] = (uint32_t)path[i / P];
    return n;
}

static struct kv_pool *pool_open(uint32_t pages)
{
    struct kv_layout l;
    struct kv_pool *pool;

    kv_layout_init(&l, KV_F16, 1, 1, 8);
    assert_int_equal(kv_pool_open(&pool, &l, pages, NULL), 0);
    return pool;
}

static void drop(struct kv_pool *pool, const uint32_t *ids, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        kv_pool_unref(pool, ids[i]);
}

/* Computes, inserts and releases a sequence. */
static void learn(struct prefix *p, struct kv_pool *pool, uint64_t salt, const char *path)
{
    uint32_t tokens[8 * P], ids[8], n = spell(tokens, path);

    assert_true(prefix_take(p, ids, n / P));
    prefix_insert(p, salt, tokens, n, ids);
    drop(pool, ids, n / P);
}

/* How many blocks of path and one token more are known; holds none of them. */
static uint32_t knows(struct prefix *p, struct kv_pool *pool, uint64_t salt, const char *path)
{
    uint32_t tokens[8 * P + 1], ids[8], n = spell(tokens, path), found;

    tokens[n] = 'x';
    found = prefix_match(p, salt, tokens, n + 1, ids);
    drop(pool, ids, found);
    return found;
}

static void finish(struct prefix *p, struct kv_pool *pool)
{
    prefix_free(&p);
    assert_null(p);
    assert_int_equal(kv_pool_free_count(pool), kv_pool_total(pool));
    kv_pool_close(&pool);
}

static void the_same_beginning_has_the_same_pages(void **state)
{
    struct kv_pool *pool = pool_open(8);
    struct prefix *p = prefix_new(pool, 8);
    uint32_t tokens[4 * P], ids[4], again[4], n = spell(tokens, "abcd");

    (void)state;
    assert_int_equal(prefix_match(p, 1, tokens, n, again), 0);
    assert_true(prefix_take(p, ids, 4));
    prefix_insert(p, 1, tokens, n - 1, ids); /* the fourth block is not full */
    drop(pool, ids, 4);
    assert_int_equal(kv_pool_free_count(pool), 5);
    assert_int_equal(prefix_match(p, 1, tokens, n, again), 3);
    assert_memory_equal(ids, again, 3 * sizeof(*ids));
    assert_int_equal(kv_pool_refs(pool, ids[0]), 2);
    drop(pool, again, 3);
    assert_int_equal(knows(p, pool, 1, "abxd"), 2);
    assert_int_equal(knows(p, pool, 1, "bcd"), 0);
    finish(p, pool);
}

static void one_token_at_least_is_left_to_compute(void **state)
{
    struct kv_pool *pool = pool_open(4);
    struct prefix *p = prefix_new(pool, 4);
    uint32_t tokens[2 * P + 1], ids[2], n = spell(tokens, "ab");

    (void)state;
    learn(p, pool, 0, "ab");
    tokens[n] = 'c';
    assert_int_equal(prefix_match(p, 0, tokens, 0, ids), 0);
    assert_int_equal(prefix_match(p, 0, tokens, 1, ids), 0);
    assert_int_equal(prefix_match(p, 0, tokens, P, ids), 0);
    assert_int_equal(prefix_match(p, 0, tokens, P + 1, ids), 1);
    drop(pool, ids, 1);
    assert_int_equal(prefix_match(p, 0, tokens, 2 * P, ids), 1);
    drop(pool, ids, 1);
    assert_int_equal(prefix_match(p, 0, tokens, 2 * P + 1, ids), 2);
    drop(pool, ids, 2);
    finish(p, pool);
}

static void tenants_do_not_share(void **state)
{
    struct kv_pool *pool = pool_open(4);
    struct prefix *p = prefix_new(pool, 4);
    uint32_t a[P];

    (void)state;
    learn(p, pool, 1, "ab");
    assert_int_equal(knows(p, pool, 2, "ab"), 0);
    /* A salt that is the name of another tenant's block gives the same names as its children have. */
    spell(a, "a");
    assert_int_equal(knows(p, pool, prefix_name(1, a), "b"), 0);
    learn(p, pool, prefix_name(1, a), "b");
    assert_int_equal(knows(p, pool, prefix_name(1, a), "b"), 0);
    assert_int_equal(knows(p, pool, 1, "ab"), 2);
    finish(p, pool);
}

/* XXH3 multiplies 8 input bytes, less a constant and the seed, by the next 8: where the first factor is
 * made 0, the next 8 bytes are of no account. */
static void a_collision_of_names_is_a_miss(void **state)
{
    struct kv_pool *pool = pool_open(6);
    struct prefix *p = prefix_new(pool, 6);
    const uint64_t salt = 77, zero = 0xbe4ba423396cfeb8 + salt;
    uint32_t a[2 * P + 1], b[2 * P + 1], ids[2], got[2];

    (void)state;
    spell(a, "ab");
    a[0] = (uint32_t)zero;
    a[1] = (uint32_t)(zero >> 32);
    a[2 * P] = 0;
    memcpy(b, a, sizeof(b));
    b[2] ^= 1;
    assert_true(prefix_name(salt, a) == prefix_name(salt, b));
    assert_true(prefix_take(p, ids, 2));
    prefix_insert(p, salt, a, 2 * P, ids);
    assert_int_equal(prefix_match(p, salt, b, 2 * P + 1, got), 0);
    drop(pool, ids, 2);
    /* nor does the other displace it, or hang its children under it */
    assert_true(prefix_take(p, ids, 2));
    prefix_insert(p, salt, b, 2 * P, ids);
    drop(pool, ids, 2);
    assert_int_equal(prefix_match(p, salt, b, 2 * P + 1, got), 0);
    assert_int_equal(prefix_match(p, salt, a, 2 * P + 1, got), 2);
    drop(pool, got, 2);
    finish(p, pool);
}

static void the_first_to_insert_stays(void **state)
{
    struct kv_pool *pool = pool_open(8);
    struct prefix *p = prefix_new(pool, 8);
    uint32_t tokens[3 * P], one[2], two[3], got[3], n = spell(tokens, "abc");

    (void)state;
    assert_true(prefix_take(p, one, 2) && prefix_take(p, two, 3));
    prefix_insert(p, 0, tokens, 2 * P, one);
    prefix_insert(p, 0, tokens, n, two); /* computed at the same time; the third block is new */
    drop(pool, one, 2);
    assert_int_equal(prefix_evictable(p), 0); /* under a block in use nothing can go */
    drop(pool, two, 3);
    assert_int_equal(kv_pool_free_count(pool), 5);
    assert_int_equal(prefix_evictable(p), 3);
    assert_int_equal(prefix_match(p, 0, tokens, n, got), 2);
    assert_memory_equal(got, one, sizeof(one));
    drop(pool, got, 2);
    finish(p, pool);
}

static void the_oldest_goes_first_and_children_before_parents(void **state)
{
    struct kv_pool *pool = pool_open(6);
    struct prefix *p = prefix_new(pool, 6);
    uint32_t ids[6];

    (void)state;
    learn(p, pool, 0, "abc");
    learn(p, pool, 0, "xyz");
    assert_int_equal(knows(p, pool, 0, "ab"), 2); /* used: only c is now older than xyz */
    assert_int_equal(prefix_evictable(p), 6);
    assert_true(prefix_take(p, ids, 1));
    assert_int_equal(knows(p, pool, 0, "xyz"), 3);
    assert_int_equal(knows(p, pool, 0, "abc"), 2);
    drop(pool, ids, 1);
    assert_true(prefix_take(p, ids, 3)); /* one is free: z and y go, of what is now oldest */
    assert_int_equal(knows(p, pool, 0, "xyz"), 1);
    assert_int_equal(knows(p, pool, 0, "abc"), 2);
    drop(pool, ids, 3);
    finish(p, pool);
}

static void a_page_in_use_is_not_evicted_nor_are_its_parents(void **state)
{
    struct kv_pool *pool = pool_open(4);
    struct prefix *p = prefix_new(pool, 4);
    uint32_t tokens[4 * P], held[4], ids[4], n = spell(tokens, "abcd");

    (void)state;
    learn(p, pool, 0, "abcd");
    assert_int_equal(prefix_match(p, 0, tokens, n - P + 1, held), 3);
    assert_int_equal(prefix_evictable(p), 1);
    assert_false(prefix_take(p, ids, 2));
    assert_int_equal(knows(p, pool, 0, "abcd"), 4); /* nothing was evicted in vain */
    assert_true(prefix_take(p, ids, 1));
    assert_int_equal(knows(p, pool, 0, "abcd"), 3);
    drop(pool, held, 3);
    drop(pool, ids, 1);
    finish(p, pool);
}

static void no_more_is_known_than_the_limit(void **state)
{
    struct kv_pool *pool = pool_open(8);
    struct prefix *p = prefix_new(pool, 3);
    uint32_t tokens[5 * P], ids[5], n = spell(tokens, "klmno");

    (void)state;
    learn(p, pool, 0, "abc");
    learn(p, pool, 0, "d");
    assert_int_equal(knows(p, pool, 0, "abc"), 2);
    assert_int_equal(knows(p, pool, 0, "d"), 1);
    assert_int_equal(kv_pool_free_count(pool), 5);
    assert_true(prefix_take(p, ids, 5)); /* a chain longer than the limit does not eat itself */
    prefix_insert(p, 0, tokens, n, ids);
    drop(pool, ids, 5);
    assert_int_equal(knows(p, pool, 0, "klmno"), 3);
    finish(p, pool);
}

static void a_cache_that_is_off_knows_nothing(void **state)
{
    struct kv_pool *pool = pool_open(4);
    struct prefix *p = prefix_new(pool, 0);
    uint32_t ids[5], added[1], removed[1], n_added, n_removed;

    (void)state;
    learn(p, pool, 0, "abc");
    assert_int_equal(knows(p, pool, 0, "abc"), 0);
    assert_int_equal(prefix_evictable(p), 0);
    prefix_changes(p, added, &n_added, removed, &n_removed, 1);
    assert_int_equal(n_added + n_removed, 0);
    assert_false(prefix_take(p, ids, 5));
    assert_true(prefix_take(p, ids, 4));
    drop(pool, ids, 4);
    finish(p, pool);
}

/* What the next prefix_changes says, `max` at most. */
static void changes(struct prefix *p, uint32_t max, uint32_t n_added, uint32_t n_removed)
{
    uint32_t added[8], removed[8], a, r;

    prefix_changes(p, added, &a, removed, &r, max);
    assert_int_equal(a, n_added);
    assert_int_equal(r, n_removed);
}

static void changes_are_told_once_and_in_pieces(void **state)
{
    struct kv_pool *pool = pool_open(4);
    struct prefix *p = prefix_new(pool, 4);
    uint32_t tokens[P], added[8], removed[8], ids[4], a, r;

    (void)state;
    learn(p, pool, 5, "abc");
    spell(tokens, "a");
    prefix_changes(p, added, &a, removed, &r, 2);
    assert_int_equal(a, 2);
    assert_int_equal(r, 0);
    assert_int_equal(added[0], (uint32_t)prefix_name(5, tokens)); /* parents first */
    changes(p, 2, 1, 0);
    changes(p, 2, 0, 0);
    assert_true(prefix_take(p, ids, 4));
    changes(p, 2, 0, 2);
    changes(p, 2, 0, 1);
    drop(pool, ids, 4);
    learn(p, pool, 5, "xy");
    assert_true(prefix_take(p, ids, 4)); /* came and went */
    drop(pool, ids, 4);
    changes(p, 8, 0, 0);
    learn(p, pool, 5, "xy");
    changes(p, 8, 2, 0);
    assert_true(prefix_take(p, ids, 4)); /* went and came */
    drop(pool, ids, 4);
    learn(p, pool, 5, "xy");
    changes(p, 8, 0, 0);
    finish(p, pool);
}

static void after_a_reset_all_that_is_known_is_told_anew(void **state)
{
    struct kv_pool *pool = pool_open(4);
    struct prefix *p = prefix_new(pool, 4);
    uint32_t ids[4];

    (void)state;
    learn(p, pool, 5, "abc");
    changes(p, 1, 1, 0);
    assert_true(prefix_take(p, ids, 2)); /* c, untold, goes */
    prefix_changes_reset(p);
    changes(p, 8, 2, 0);
    assert_int_equal(knows(p, pool, 5, "abc"), 2);
    drop(pool, ids, 2);
    assert_true(prefix_take(p, ids, 4));
    prefix_changes_reset(p);
    changes(p, 8, 0, 0); /* whoever starts from nothing need not hear what left */
    drop(pool, ids, 4);
    finish(p, pool);
}

/* The cache as a list of paths, in the words of the header. */
#define MODEL_PAGES 24
#define MODEL_DEPTH 4
struct model_block {
    uint64_t salt;
    char path[MODEL_DEPTH + 1];
    uint32_t page, used;
};
struct model {
    struct model_block blocks[MODEL_PAGES];
    uint32_t n, limit, clock;
    uint32_t refs[MODEL_PAGES]; /* not counting the cache's */
};

static struct model_block *model_find(struct model *m, uint64_t salt, const char *path, size_t n)
{
    for (uint32_t i = 0; i < m->n; i++)
        if (m->blocks[i].salt == salt && strlen(m->blocks[i].path) == n &&
            strncmp(m->blocks[i].path, path, n) == 0)
            return &m->blocks[i];
    return NULL;
}

/* Whether a block has descendants: any, or only those in use. */
static bool model_above(const struct model *m, const struct model_block *b, bool in_use)
{
    for (uint32_t i = 0; i < m->n; i++) {
        const struct model_block *c = &m->blocks[i];

        if (c != b && c->salt == b->salt && strncmp(c->path, b->path, strlen(b->path)) == 0 &&
            (!in_use || m->refs[c->page]))
            return true;
    }
    return false;
}

static uint32_t model_evictable(const struct model *m)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < m->n; i++)
        n += !m->refs[m->blocks[i].page] && !model_above(m, &m->blocks[i], true);
    return n;
}

static bool model_evict(struct model *m, const char *but, uint64_t salt, size_t n)
{
    struct model_block *oldest = NULL;

    for (uint32_t i = 0; i < m->n; i++) {
        struct model_block *b = &m->blocks[i];

        if (m->refs[b->page] || model_above(m, b, false) || (oldest && oldest->used < b->used) ||
            (n && b == model_find(m, salt, but, n)))
            continue;
        oldest = b;
    }
    if (oldest)
        *oldest = m->blocks[--m->n];
    return oldest;
}

static void model_touch(struct model *m, uint64_t salt, const char *path, size_t n)
{
    for (; n; n--)
        model_find(m, salt, path, n)->used = m->clock++;
}

static void model_insert(struct model *m, uint64_t salt, const char *path, const uint32_t *ids)
{
    size_t n = 0;

    for (; n < strlen(path); n++) {
        struct model_block b = {.salt = salt, .page = ids[n], .used = m->clock++};

        memcpy(b.path, path, n + 1);
        if (model_find(m, salt, path, n + 1))
            continue;
        if (m->n == m->limit && !model_evict(m, path, salt, n))
            break;
        m->blocks[m->n++] = b;
    }
    model_touch(m, salt, path, n);
}

/* One held sequence: its pages are referenced once each. */
struct holding {
    uint32_t ids[MODEL_DEPTH], n;
};

static void model_drop(struct model *m, struct kv_pool *pool, struct holding *h)
{
    drop(pool, h->ids, h->n);
    for (uint32_t i = 0; i < h->n; i++)
        m->refs[h->ids[i]]--;
    h->n = 0;
}

static uint32_t model_free(const struct model *m)
{
    uint32_t n = MODEL_PAGES;

    for (uint32_t page = 0; page < MODEL_PAGES; page++) {
        bool cached = false;

        for (uint32_t i = 0; i < m->n; i++)
            cached |= m->blocks[i].page == page;
        n -= cached || m->refs[page];
    }
    return n;
}

/* A request as a node serves it: match what is known, take the rest, insert. */
static void model_request(struct model *m, struct prefix *p, struct holding *h, uint64_t salt,
                          const char *path)
{
    uint32_t tokens[MODEL_DEPTH * P + 1], blocks = (uint32_t)strlen(path), hit = 0, rest;
    uint32_t n = spell(tokens, path);
    const struct model_block *b;
    bool can;

    tokens[n] = 'x';
    h->n = prefix_match(p, salt, tokens, n + 1, h->ids);
    for (; hit < blocks && (b = model_find(m, salt, path, hit + 1)); hit++)
        assert_int_equal(h->ids[hit], b->page);
    assert_int_equal(h->n, hit);
    model_touch(m, salt, path, hit);
    for (uint32_t i = 0; i < hit; i++)
        m->refs[h->ids[i]]++;
    rest = blocks - hit;
    can = rest <= model_free(m) + model_evictable(m);
    while (can && model_free(m) < rest)
        assert_true(model_evict(m, NULL, 0, 0));
    assert_int_equal(prefix_take(p, h->ids + hit, rest), can);
    if (!can)
        return;
    for (; h->n < blocks; h->n++)
        m->refs[h->ids[h->n]]++;
    prefix_insert(p, salt, tokens, n, h->ids);
    model_insert(m, salt, path, h->ids);
}

/* view: what a router makes of the reports. Any that is late is made good by the end. */
static void view_update(struct prefix *p, uint32_t *view, uint32_t *n_view, uint32_t max)
{
    uint32_t added[MODEL_PAGES], removed[MODEL_PAGES], a, r;

    prefix_changes(p, added, &a, removed, &r, max);
    assert_true(a <= max && r <= max);
    for (uint32_t i = 0; i < a; i++) {
        for (uint32_t j = 0; j < *n_view; j++)
            assert_int_not_equal(view[j], added[i]);
        view[(*n_view)++] = added[i];
    }
    for (uint32_t i = 0; i < r; i++) {
        uint32_t j = 0;

        while (j < *n_view && view[j] != removed[i])
            j++;
        assert_true(j < *n_view);
        view[j] = view[--*n_view];
    }
}

static void model_compare(const struct model *m, struct prefix *p, const struct kv_pool *pool)
{
    assert_int_equal(kv_pool_free_count(pool), model_free(m));
    assert_int_equal(prefix_evictable(p), model_evictable(m));
    for (uint32_t i = 0; i < m->n; i++)
        assert_int_equal(kv_pool_refs(pool, m->blocks[i].page), m->refs[m->blocks[i].page] + 1);
}

static void random_use_agrees_with_the_model(uint64_t seed, uint32_t limit)
{
    struct kv_pool *pool = pool_open(MODEL_PAGES);
    struct prefix *p = prefix_new(pool, limit);
    struct model m = {.limit = u32_min(limit, MODEL_PAGES)};
    struct holding held[6] = {0};
    uint32_t view[8 * MODEL_PAGES], n_view = 0;

    for (uint32_t i = 0; i < 4000; i++) {
        uint64_t r = rng_u64(seed, i);
        struct holding *h = &held[r % ARRAY_LEN(held)];
        char path[MODEL_DEPTH + 1] = {0};

        model_drop(&m, pool, h);
        for (uint32_t k = 0; k < 1 + (r >> 8) % MODEL_DEPTH; k++)
            path[k] = "abc"[(r >> (16 + 4 * k)) % 3];
        if ((r >> 40) % 4)
            model_request(&m, p, h, 100 + (r >> 48) % 2, path);
        if ((r >> 52) % 4 == 0)
            view_update(p, view, &n_view, 1 + (r >> 56) % 8);
        model_compare(&m, p, pool);
    }
    for (uint32_t i = 0; i < 2 * MODEL_PAGES; i++)
        view_update(p, view, &n_view, 3);
    assert_int_equal(n_view, m.n);
    for (uint32_t i = 0; i < ARRAY_LEN(held); i++)
        model_drop(&m, pool, &held[i]);
    finish(p, pool);
}

static void any_use_agrees_with_the_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        random_use_agrees_with_the_model(seed, UINT32_MAX);
        random_use_agrees_with_the_model(seed, 7);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_beginning_has_the_same_pages),
        cmocka_unit_test(one_token_at_least_is_left_to_compute),
        cmocka_unit_test(tenants_do_not_share),
        cmocka_unit_test(a_collision_of_names_is_a_miss),
        cmocka_unit_test(the_first_to_insert_stays),
        cmocka_unit_test(the_oldest_goes_first_and_children_before_parents),
        cmocka_unit_test(a_page_in_use_is_not_evicted_nor_are_its_parents),
        cmocka_unit_test(no_more_is_known_than_the_limit),
        cmocka_unit_test(a_cache_that_is_off_knows_nothing),
        cmocka_unit_test(changes_are_told_once_and_in_pieces),
        cmocka_unit_test(after_a_reset_all_that_is_known_is_told_anew),
        cmocka_unit_test(any_use_agrees_with_the_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
