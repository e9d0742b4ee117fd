/* exp_poly: the constants of kernels_exp, shared by its scalar and vector forms.
 *
 * exp(x) = 2^n exp(r), n = x / ln 2 rounded, r = x - n ln 2 in two steps of fma, |r| <= 0.347.
 * Adding EXP_SHIFT rounds to an integer and leaves n in the low bits of the sum, from where a
 * shift by 23 takes it to the exponent: with x in [EXP_LO, EXP_HI] the result is a normal number,
 * so adding to the exponent field is exact. exp(r) = 1 + r + r^2 (C2 + C3 r + ...), by Horner's
 * rule in fma; the coefficients are the minimax fit of the relative error on |r| <= 0.34661
 * (2^-28.2) with the first two fixed at 1, rounded to float. */
#ifndef TANDEM_KERNELS_EXP_POLY_H
#define TANDEM_KERNELS_EXP_POLY_H

#define EXP_LO (-87.3f)
#define EXP_HI 88.7f
#define EXP_SHIFT 0x1.8p23f
#define EXP_LOG2E 0x1.715476p+0f
#define EXP_LN2_HI 0x1.62e43p-1f
#define EXP_LN2_LO (-0x1.05c61p-29f)
#define EXP_C2 0x1.fffffcp-2f
#define EXP_C3 0x1.555492p-3f
#define EXP_C4 0x1.5558f2p-5f
#define EXP_C5 0x1.1239e2p-7f
#define EXP_C6 0x1.6a2434p-10f
#define EXP_LN2 0x1.62e43p-1f

/* 2^r = 1 + C1 r + C2 r^2 + C3 r^3 for 0 <= r <= 1, where eight bits of it will be kept: the minimax fit
 * of the relative error (2^-13.5) with the first fixed at 1. */
#define EXP2_C1 0x1.63e65ap-1f
#define EXP2_C2 0x1.d23768p-3f
#define EXP2_C3 0x1.3baae6p-4f

#endif
