#include "model/blocks.h"

#include <stddef.h>
#include <string.h>

#include "base/check.h"

bool block_is_scaled(enum dtype type)
{
    return type == DTYPE_Q8_0 || type == DTYPE_Q4_0 || type == DTYPE_Q5_0 || type == DTYPE_IQ4_NL ||
           type == DTYPE_TQ1_0 || type == DTYPE_TQ2_0;
}

bool block_is_ternary(enum dtype type)
{
    return type == DTYPE_TQ1_0 || type == DTYPE_TQ2_0 || type == DTYPE_I2_S;
}

bool block_has_min(enum dtype type)
{
    return type == DTYPE_Q4_K || type == DTYPE_Q5_K || type == DTYPE_Q4_1 || type == DTYPE_Q5_1;
}

/* q[32] of 16 bytes of nibbles */
static void nibbles(uint8_t *q, const uint8_t *qs)
{
    for (size_t i = 0; i < QK / 2; i++) {
        q[i] = qs[i] & 15;
        q[i + QK / 2] = qs[i] >> 4;
    }
}

/* Bit i of qh is bit 4 of q[i]. */
static void fifth_bits(uint8_t *q, const uint8_t *qh)
{
    for (size_t i = 0; i < QK; i++)
        q[i] = (uint8_t)(q[i] | (qh[i / 8] >> i % 8 & 1) << 4);
}

static void from_q4_0(struct block_q8_0 *out, const void *bytes)
{
    struct block_q4_0 b;
    uint8_t q[QK];

    memcpy(&b, bytes, sizeof(b));
    out->d = b.d;
    nibbles(q, b.qs);
    for (size_t i = 0; i < QK; i++)
        out->qs[i] = (int8_t)(q[i] - 8);
}

static void from_q5_0(struct block_q8_0 *out, const void *bytes)
{
    struct block_q5_0 b;
    uint8_t q[QK];

    memcpy(&b, bytes, sizeof(b));
    out->d = b.d;
    nibbles(q, b.qs);
    fifth_bits(q, b.qh);
    for (size_t i = 0; i < QK; i++)
        out->qs[i] = (int8_t)(q[i] - 16);
}

void block_look_up(int8_t w[QK], const uint8_t *qs, const int8_t *table)
{
    uint8_t q[QK];

    nibbles(q, qs);
    for (size_t i = 0; i < QK; i++)
        w[i] = table[q[i]];
}

const int8_t block_iq4_table[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                    1,    13,   25,  38,  53,  69,  89,  113};

static void from_iq4_nl(struct block_q8_0 *out, const void *bytes)
{
    struct block_iq4_nl b;

    memcpy(&b, bytes, sizeof(b));
    out->d = b.d;
    block_look_up(out->qs, b.qs, block_iq4_table);
}

/* w[digit * n + i] = digit `digit` of byte i, less 1. A byte is the fraction in 256ths, rounded up:
 * after taking off the digits before by wrapping, times 3 has the next one above bit 8. */
static void digits(int8_t *w, const uint8_t *bytes, size_t n, size_t n_digits)
{
    uint8_t power = 1;

    for (size_t digit = 0; digit < n_digits; digit++, power = (uint8_t)(power * 3))
        for (size_t i = 0; i < n; i++)
            w[digit * n + i] = (int8_t)(((uint8_t)(bytes[i] * power) * 3 >> 8) - 1);
}

static void from_tq1_0(struct block_q8_0 *out, const void *bytes)
{
    struct block_tq1_0 b;
    int8_t w[QK_K];

    memcpy(&b, bytes, sizeof(b));
    digits(w, b.qs, 32, 5);
    digits(w + 160, b.qs + 32, 16, 5);
    digits(w + 240, b.qh, 4, 4);
    for (size_t j = 0; j < QK_K / QK; j++) {
        out[j].d = b.d;
        memcpy(out[j].qs, w + j * QK, QK);
    }
}

static void from_tq2_0(struct block_q8_0 *out, const void *bytes)
{
    struct block_tq2_0 b;

    memcpy(&b, bytes, sizeof(b));
    for (size_t j = 0; j < QK_K / QK; j++) {
        out[j].d = b.d;
        for (size_t i = 0; i < QK; i++)
            out[j].qs[i] = (int8_t)((b.qs[j / 4 * 32 + i] >> j % 4 * 2 & 3) - 1);
    }
}

size_t block_to_q8_0(struct block_q8_0 *out, const void *block, enum dtype type)
{
    switch (type) {
    case DTYPE_Q8_0: memcpy(out, block, sizeof(*out)); return 1;
    case DTYPE_Q4_0: from_q4_0(out, block); return 1;
    case DTYPE_Q5_0: from_q5_0(out, block); return 1;
    case DTYPE_IQ4_NL: from_iq4_nl(out, block); return 1;
    case DTYPE_TQ1_0: from_tq1_0(out, block); return QK_K / QK;
    case DTYPE_TQ2_0: from_tq2_0(out, block); return QK_K / QK;
    default: UNREACHABLE();
    }
}

float block_ternary_unpack(uint8_t *q, const uint8_t *bytes, enum dtype type, size_t n)
{
    struct block_q8_0 blocks[QK_K / QK];
    uint16_t d;

    switch (type) {
    case DTYPE_TQ2_0:
        for (size_t i = 0; i < n; i++)
            q[i] = bytes[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
        memcpy(&d, bytes + offsetof(struct block_tq2_0, d), sizeof(d));
        return dtype_f16_to_f32(d);
    case DTYPE_I2_S:
        for (size_t i = 0; i < n; i++)
            q[i] = bytes[i / 128 * 32 + i % 32] >> (6 - i % 128 / 32 * 2) & 3;
        return 1;
    default:
        block_to_q8_0(blocks, bytes, type);
        for (size_t i = 0; i < n; i++)
            q[i] = (uint8_t)(blocks[i / QK].qs[i % QK] + 1);
        return dtype_f16_to_f32(blocks[0].d);
    }
}

void block_scales(uint8_t sc[8], uint8_t mn[8], const uint8_t *scales)
{
    uint32_t s[3], four[4];

    memcpy(s, scales, sizeof(s));
    four[0] = s[0] & 0x3f3f3f3f;
    four[1] = (s[2] & 0x0f0f0f0f) | (s[0] >> 6 & 0x03030303) << 4;
    four[2] = s[1] & 0x3f3f3f3f;
    four[3] = (s[2] >> 4 & 0x0f0f0f0f) | (s[1] >> 6 & 0x03030303) << 4;
    memcpy(sc, four, 8);
    memcpy(mn, four + 2, 8);
}

static void k_nibbles(uint8_t *q, const uint8_t *qs)
{
    for (size_t c = 0; c < 4; c++)
        for (size_t l = 0; l < 32; l++) {
            q[64 * c + l] = qs[32 * c + l] & 15;
            q[64 * c + 32 + l] = qs[32 * c + l] >> 4;
        }
}

static void from_q4_k(struct block_min *out, const void *bytes)
{
    struct block_q4_k b;

    memcpy(&b, bytes, sizeof(b));
    out->d = b.d;
    out->dmin = b.dmin;
    block_scales(out->sc, out->mn, b.scales);
    k_nibbles(out->q, b.qs);
}

static void from_q5_k(struct block_min *out, const void *bytes)
{
    struct block_q5_k b;

    memcpy(&b, bytes, sizeof(b));
    out->d = b.d;
    out->dmin = b.dmin;
    block_scales(out->sc, out->mn, b.scales);
    k_nibbles(out->q, b.qs);
    for (size_t i = 0; i < QK_K; i++)
        out->q[i] = (uint8_t)(out->q[i] | (b.qh[i % 32] >> i / 32 & 1) << 4);
}

static void from_q4_1(struct block_min *out, const void *bytes)
{
    struct block_q4_1 b;

    memcpy(&b, bytes, sizeof(b));
    out->d = b.d;
    out->dmin = b.m ^ 0x8000;
    nibbles(out->q, b.qs);
}

static void from_q5_1(struct block_min *out, const void *bytes)
{
    struct block_q5_1 b;

    memcpy(&b, bytes, sizeof(b));
    out->d = b.d;
    out->dmin = b.m ^ 0x8000;
    nibbles(out->q, b.qs);
    fifth_bits(out->q, b.qh);
}

void block_to_min(struct block_min *out, const void *block, enum dtype type)
{
    out->n = dtype_info(type)->block_elems;
    out->sc[0] = out->mn[0] = 1;
    switch (type) {
    case DTYPE_Q4_K: from_q4_k(out, block); return;
    case DTYPE_Q5_K: from_q5_k(out, block); return;
    case DTYPE_Q4_1: from_q4_1(out, block); return;
    case DTYPE_Q5_1: from_q5_1(out, block); return;
    default: UNREACHABLE();
    }
}

/* What block_q6_k_unpack undoes. */
static void q6_k_pack(struct block_q6_k *block, const uint8_t *q)
{
    for (size_t half = 0; half < 2; half++, q += 128) {
        uint8_t *ql = block->ql + 64 * half, *qh = block->qh + 32 * half;

        for (size_t l = 0; l < 32; l++) {
            ql[l] = (uint8_t)((q[l] & 15) | q[l + 64] << 4);
            ql[l + 32] = (uint8_t)((q[l + 32] & 15) | q[l + 96] << 4);
            qh[l] = (uint8_t)(q[l] >> 4 | q[l + 32] >> 4 << 2 | q[l + 64] >> 4 << 4 |
                              q[l + 96] >> 4 << 6);
        }
    }
}

void block_to_q6_k(struct block_q6_k *out, const void *block, enum dtype type)
{
    struct block_q3_k b;
    uint8_t q[QK_K];

    if (type == DTYPE_Q6_K) {
        memcpy(out, block, sizeof(*out));
        return;
    }
    memcpy(&b, block, sizeof(b));
    out->d = b.d;
    for (size_t i = 0; i < QK_K / 16; i++) {
        int low = b.scales[i % 8] >> i / 8 * 4 & 15, high = b.scales[8 + i % 4] >> i / 4 * 2 & 3;

        out->scales[i] = (int8_t)((low | high << 4) - 32);
    }
    for (size_t j = 0; j < QK_K / 32; j++)
        for (size_t l = 0; l < 32; l++) {
            int low = b.qs[j / 4 * 32 + l] >> j % 4 * 2 & 3, high = b.hmask[l] >> j & 1;

            q[32 * j + l] = (uint8_t)((low | high << 2) + 32 - 4);
        }
    q6_k_pack(out, q);
}

void block_q6_k_unpack(uint8_t *q, const struct block_q6_k *block)
{
    for (size_t half = 0; half < 2; half++, q += 128) {
        const uint8_t *ql = block->ql + 64 * half, *qh = block->qh + 32 * half;

        for (size_t l = 0; l < 32; l++) {
            q[l] = (uint8_t)((ql[l] & 15) | (qh[l] & 3) << 4);
            q[l + 32] = (uint8_t)((ql[l + 32] & 15) | (qh[l] >> 2 & 3) << 4);
            q[l + 64] = (uint8_t)(ql[l] >> 4 | (qh[l] >> 4 & 3) << 4);
            q[l + 96] = (uint8_t)(ql[l + 32] >> 4 | qh[l] >> 6 << 4);
        }
    }
}
