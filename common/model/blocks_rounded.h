/* blocks_rounded: the quantised types whose values no type that has kernels holds: Q2_K, IQ4_XS and
 * MXFP4 are packed as the nearest Q8_0. Blocks as blocks.h says; their own values are exact in f32,
 * but for Q2_K's difference. */
#ifndef TANDEM_MODEL_BLOCKS_ROUNDED_H
#define TANDEM_MODEL_BLOCKS_ROUNDED_H

#include "model/blocks.h"

/* 2^(e - 128) times entry q of a table, which has twice the values of floats of four bits. */
struct block_mxfp4 {
    uint8_t e;
    uint8_t qs[QK / 2];
};

/* 16 blocks of 16, d sc q - dmin mn: sc and mn are the low and high nibbles of scales; bits 2j and
 * 2j + 1 of qs[32h + l] are q of weight 128h + 32j + l. */
struct block_q2_k {
    uint8_t scales[QK_K / 16];
    uint8_t qs[QK_K / 4];
    uint16_t d, dmin;
};

/* 8 blocks of 32, d (sc - 32) times entry q of IQ4_NL's table: each with 16 bytes of qs as that type
 * has them. The low four bits of sc[j] are nibble j of scales_l, the upper two bits 2j of scales_h. */
struct block_iq4_xs {
    uint16_t d, scales_h;
    uint8_t scales_l[QK_K / 64];
    uint8_t qs[QK_K / 2];
};

_Static_assert(sizeof(struct block_mxfp4) == 17, "MXFP4 is 17 bytes a block");
_Static_assert(sizeof(struct block_q2_k) == 84, "Q2_K is 84 bytes a block");
_Static_assert(sizeof(struct block_iq4_xs) == 136, "IQ4_XS is 136 bytes a block");

bool block_is_rounded(enum dtype type);

/* out[n] = the weights of a block; returns n. */
size_t block_rounded_to_f32(float *out, const void *block, enum dtype type);

/* A block as 1 or 8 blocks of Q8_0; returns how many. IQ4_XS and MXFP4 keep their integers, and their
 * scale becomes the nearest half: MXFP4 is the same from 2^-24 to 2^15, and what is beyond a half is
 * infinite. 32 weights of Q2_K become 127ths of their largest. */
size_t block_rounded_to_q8_0(struct block_q8_0 *out, const void *block, enum dtype type);

#endif
