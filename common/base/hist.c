#include "base/hist.h"

#include <math.h>

/* Values below 2^SUB have a bucket each; above, the bucket is (octave, next SUB bits). */
static uint32_t hist_index(uint64_t v)
{
    uint32_t msb, shift;

    if (v < (1u << HIST_SUB_BITS))
        return (uint32_t)v;
    msb = 63 - (uint32_t)__builtin_clzll(v);
    shift = msb - HIST_SUB_BITS;
    return ((shift + 1) << HIST_SUB_BITS) + (uint32_t)((v >> shift) & ((1u << HIST_SUB_BITS) - 1));
}

/* The largest value that falls into the bucket. */
static int64_t hist_upper(uint32_t index)
{
    uint32_t octave = index >> HIST_SUB_BITS;
    uint64_t low;

    if (!octave)
        return (int64_t)index;
    low = ((uint64_t)(index & ((1u << HIST_SUB_BITS) - 1)) | (1u << HIST_SUB_BITS)) << (octave - 1);
    return (int64_t)(low + ((uint64_t)1 << (octave - 1)) - 1);
}

void hist_add(struct hist *h, int64_t value)
{
    if (value < 0)
        value = 0;
    if (!h->count || value < h->min)
        h->min = value;
    if (value > h->max)
        h->max = value;
    h->count++;
    h->sum += (double)value;
    h->buckets[hist_index((uint64_t)value)]++;
}

void hist_merge(struct hist *h, const struct hist *other)
{
    if (!other->count)
        return;
    if (!h->count || other->min < h->min)
        h->min = other->min;
    if (other->max > h->max)
        h->max = other->max;
    h->count += other->count;
    h->sum += other->sum;
    for (uint32_t i = 0; i < HIST_BUCKETS; i++)
        h->buckets[i] += other->buckets[i];
}

int64_t hist_percentile(const struct hist *h, double p)
{
    uint64_t want, seen = 0;

    if (!h->count || p <= 0)
        return h->min;
    if (p >= 100)
        return h->max;
    want = (uint64_t)ceil((double)h->count * p / 100);
    for (uint32_t i = 0; i < HIST_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen >= want) {
            int64_t v = hist_upper(i);

            return v > h->max ? h->max : v < h->min ? h->min : v;
        }
    }
    return h->max;
}

double hist_mean(const struct hist *h) { return h->count ? h->sum / (double)h->count : 0; }

uint64_t hist_count_le(const struct hist *h, int64_t bound)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < HIST_BUCKETS && hist_upper(i) <= bound; i++)
        n += h->buckets[i];
    return n;
}
