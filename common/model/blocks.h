/* blocks: what is in a block of a quantised type, and its integers. The file's rows are such blocks
 * after each other, at any alignment. Four families, and blocks_rounded.h has more:
 *   scaled   w = d q, d f16 and q int8: Q8_0, Q4_0, Q5_0, IQ4_NL, TQ1_0, TQ2_0
 *   min      w = d sc q - dmin mn, sc and mn of 6 bits, q of up to 5: Q4_K, Q5_K; Q4_1 and Q5_1
 *            with sc = mn = 1 and dmin = -m
 *   I2_S     w = d q, d f32 and one for the whole tensor, q of -1..1
 *   Q6_K     w = d sc (q - 32), sc int8, q of 6 bits; Q3_K is this with q of 28..35
 * All of these products are exact in f32. */
#ifndef TANDEM_MODEL_BLOCKS_H
#define TANDEM_MODEL_BLOCKS_H

#include <stdbool.h>

#include "model/dtype.h"

/* Byte i of qs holds q of w[i] low and of w[i + 16] high. Bit i of qh is bit 4 of w[i]'s q. */
struct block_q4_0 { /* d (q - 8) */
    uint16_t d;
    uint8_t qs[QK / 2];
};
struct block_q4_1 { /* d q + m */
    uint16_t d, m;
    uint8_t qs[QK / 2];
};
struct block_q5_0 { /* d (q - 16) */
    uint16_t d;
    uint8_t qh[QK / 8], qs[QK / 2];
};
struct block_q5_1 { /* d q + m */
    uint16_t d, m;
    uint8_t qh[QK / 8], qs[QK / 2];
};
struct block_iq4_nl { /* d times entry q of a table */
    uint16_t d;
    uint8_t qs[QK / 2];
};
struct block_q8_0 { /* d q */
    uint16_t d;
    int8_t qs[QK];
};

/* 16 blocks of 16, d (sc - 32) (q - 4): qs has the low two bits of q as Q2_K's, bit 4h + j of hmask[l]
 * is the third. The low four bits of sc are the low nibbles of scales[0..7], then the high ones; the
 * upper two are in scales[8..11], of sc[i] bits i / 4 * 2 of byte i % 4. */
struct block_q3_k {
    uint8_t hmask[QK_K / 8];
    uint8_t qs[QK_K / 4];
    uint8_t scales[12];
    uint16_t d;
};

/* 8 blocks of 32. sc and mn lie in scales[12]; qs holds the blocks 2c and 2c + 1 as low and high
 * nibbles of bytes 32c .. 32c + 31; bit j of qh[l] is bit 4 of q of weight l of block j. */
struct block_q4_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qs[QK_K / 2];
};
struct block_q5_k {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qh[QK_K / 8];
    uint8_t qs[QK_K / 2];
};

/* 16 blocks of 16. In each half of 128, with l < 32: the low nibbles of ql[l], ql[l + 32] and then
 * the high nibbles are the low bits of q of i = l, l + 32, l + 64, l + 96, and qh[l] holds the
 * upper two bits of these, lowest first. */
struct block_q6_k {
    uint8_t ql[QK_K / 2];
    uint8_t qh[QK_K / 4];
    int8_t scales[QK_K / 16];
    uint16_t d;
};

/* d (q - 1), q of 0..2: five in a byte of qs and four in one of qh, as the digits of a fraction in
 * base 3, each byte one digit of 5 (or 4) runs of 32, 16 or 4 weights. */
struct block_tq1_0 {
    uint8_t qs[48], qh[4];
    uint16_t d;
};
/* d (q - 1): bits 2j and 2j + 1 of qs[32h + l] are q of weight 128h + 32j + l. */
struct block_tq2_0 {
    uint8_t qs[QK_K / 4];
    uint16_t d;
};

_Static_assert(sizeof(struct block_q4_0) == 18, "Q4_0 is 18 bytes a block");
_Static_assert(sizeof(struct block_q4_1) == 20, "Q4_1 is 20 bytes a block");
_Static_assert(sizeof(struct block_q5_0) == 22, "Q5_0 is 22 bytes a block");
_Static_assert(sizeof(struct block_q5_1) == 24, "Q5_1 is 24 bytes a block");
_Static_assert(sizeof(struct block_iq4_nl) == 18, "IQ4_NL is 18 bytes a block");
_Static_assert(sizeof(struct block_q8_0) == 34, "Q8_0 is 34 bytes a block");
_Static_assert(sizeof(struct block_q3_k) == 110, "Q3_K is 110 bytes a block");
_Static_assert(sizeof(struct block_q4_k) == 144, "Q4_K is 144 bytes a block");
_Static_assert(sizeof(struct block_q5_k) == 176, "Q5_K is 176 bytes a block");
_Static_assert(sizeof(struct block_q6_k) == 210, "Q6_K is 210 bytes a block");
_Static_assert(sizeof(struct block_tq1_0) == 54, "TQ1_0 is 54 bytes a block");
_Static_assert(sizeof(struct block_tq2_0) == 66, "TQ2_0 is 66 bytes a block");

/* A block of the min family. */
struct block_min {
    size_t n; /* weights: 32 or 256 */
    uint16_t d, dmin;
    uint8_t sc[8], mn[8]; /* of each 32 */
    uint8_t q[QK_K];
};

bool block_is_scaled(enum dtype type);
bool block_is_ternary(enum dtype type);
bool block_has_min(enum dtype type);

/* w[32] = the entries of a table that 16 bytes of nibbles name, in the order of all types of 32. */
void block_look_up(int8_t w[QK], const uint8_t *qs, const int8_t *table);

extern const int8_t block_iq4_table[16]; /* IQ4_NL's */

/* A block of a scaled type as 1 or 8 blocks of Q8_0 of the same values; returns how many. */
size_t block_to_q8_0(struct block_q8_0 *out, const void *block, enum dtype type);

/* q[n] = w / d + 1, of 0..3, of n weights in whole blocks of a ternary type, up to 256; returns d, which
 * for I2_S is 1: its bits 6 - 2j and 7 - 2j of byte 32h + l are those of weight 128h + 32j + l. */
float block_ternary_unpack(uint8_t *q, const uint8_t *bytes, enum dtype type, size_t n);

void block_to_min(struct block_min *out, const void *block, enum dtype type);

/* The eight 6-bit scales and minima of a block of Q4_K or Q5_K, from its 12 bytes: the first four of
 * each are the low bits of bytes 0..3 and 4..7; of the last four, the low nibbles (scales) and high
 * nibbles (minima) are in bytes 8..11, and their upper two bits are those of bytes 0..3 and 4..7. */
void block_scales(uint8_t sc[8], uint8_t mn[8], const uint8_t *scales);

/* A block of Q6_K or Q3_K as one of Q6_K of the same values. */
void block_to_q6_k(struct block_q6_k *out, const void *block, enum dtype type);

/* q[256] */
void block_q6_k_unpack(uint8_t *q, const struct block_q6_k *block);

#endif
