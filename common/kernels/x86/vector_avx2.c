#include <string.h>

#include "kernels/tiers.h"
#include "kernels/x86/lanes_avx2.h"

static inline uint32_t max_u32(__m256i v)
{
    __m128i m = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(m);
}

static inline int32_t sum_i32(__m256i v)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    return _mm_cvtsi128_si32(s);
}

void quantize_avx2(struct act_q8 *a, uint32_t row, const float *x, size_t k)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    /* The packs below work within halves of a vector: dword order[i] of theirs is dword i of q. */
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    size_t blocks = a->k_pad / QK;
    int8_t *q = a->q + (size_t)row * a->k_pad;

    for (size_t b = 0; b < blocks; b++, x += QK, q += QK) {
        __m256i bits = _mm256_setzero_si256(), qi[4], bytes;
        __m256 v[4], id = _mm256_setzero_ps();
        uint32_t top;
        float amax;

        for (size_t j = 0; j < 4; j++) {
            v[j] = _mm256_maskload_ps(x + 8 * j, lanes_avx2(k - b * QK, 8 * j));
            bits = _mm256_max_epu32(bits, _mm256_and_si256(_mm256_castps_si256(v[j]), magnitude));
        }
        top = max_u32(bits);
        memcpy(&amax, &top, 4);
        if (amax >= QUANTIZE_MIN && amax < INFINITY)
            id = _mm256_set1_ps(127 / amax);
        else
            v[0] = v[1] = v[2] = v[3] = id;
        for (size_t j = 0; j < 4; j++)
            qi[j] = _mm256_cvtps_epi32(_mm256_mul_ps(v[j], id));
        bytes = _mm256_packs_epi16(_mm256_packs_epi32(qi[0], qi[1]),
                                   _mm256_packs_epi32(qi[2], qi[3]));
        _mm256_storeu_si256((__m256i *)q, _mm256_permutevar8x32_epi32(bytes, order));
        a->d[row * blocks + b] = amax / 127;
        for (size_t j = 0; j < 2; j++)
            a->sum[2 * (row * blocks + b) + j] =
                (int16_t)sum_i32(_mm256_add_epi32(qi[2 * j], qi[2 * j + 1]));
    }
}

void quantize_k_avx2(struct act_q8k *a, uint32_t row, const float *x, size_t k)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    size_t blocks = a->k_pad / QK_K;
    int8_t *q = a->q + row * ACT_Q8K_STRIDE(a->k_pad);

    for (size_t b = 0; b < blocks; b++, q += QK_K) {
        size_t n = k - b * QK_K < QK_K ? k - b * QK_K : QK_K;
        __m256i bits = _mm256_setzero_si256(), sum = bits;
        uint32_t top;
        float amax;

        for (size_t i = 0; i < n; i += 8)
            bits = _mm256_max_epu32(
                bits, _mm256_and_si256(_mm256_castps_si256(load_avx2(x + b * QK_K, n, i)), magnitude));
        top = max_u32(bits);
        memcpy(&amax, &top, 4);
        for (size_t i = 0; i < QK_K; i += 8) {
            __m256i v = _mm256_setzero_si256();
            __m128i half;

            if (amax >= QUANTIZE_MIN && amax < INFINITY && i < n)
                v = _mm256_cvtps_epi32(
                    _mm256_mul_ps(load_avx2(x + b * QK_K, n, i), _mm256_set1_ps(127 / amax)));
            sum = _mm256_add_epi32(sum, v);
            half = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
            _mm_storel_epi64((__m128i *)(q + i), _mm_packs_epi16(half, half));
        }
        a->d[row * blocks + b] = amax / 127;
        a->sum[row * blocks + b] = sum_i32(sum);
    }
}

void rms_norm_avx2(float *y, const float *x, const float *w, size_t n, float eps)
{
    __m256 lo = _mm256_setzero_ps(), hi = lo, r;

    for (size_t i = 0; i < n; i += 16) {
        __m256 a = load_avx2(x, n, i), b = i + 8 < n ? load_avx2(x, n, i + 8) : _mm256_setzero_ps();

        lo = _mm256_fmadd_ps(a, a, lo);
        hi = _mm256_fmadd_ps(b, b, hi);
    }
    r = _mm256_set1_ps(1 / sqrtf(tree_sum_avx2(lo, hi) / (float)n + eps));
    for (size_t i = 0; i < n; i += 8)
        store_avx2(y, n, i,
                   _mm256_mul_ps(_mm256_mul_ps(load_avx2(x, n, i), r), load_avx2(w, n, i)));
}

void rope_avx2(float *x, const float *cs, uint32_t n_head, uint32_t head_dim, uint32_t n_rot)
{
    /* The sign of b in even lanes: a' takes -b sin, b' takes +b cos. */
    const __m256 sign = _mm256_castsi256_ps(_mm256_set1_epi64x(0x80000000));

    for (uint32_t h = 0; h < n_head; h++, x += head_dim)
        for (uint32_t i = 0; i < n_rot; i += 8) {
            __m256 v = load_avx2(x, n_rot, i), c = load_avx2(cs, n_rot, i);
            __m256 a = _mm256_moveldup_ps(v);
            __m256 b = _mm256_xor_ps(_mm256_movehdup_ps(v), sign);

            v = _mm256_fmadd_ps(b, _mm256_permute_ps(c, 0xb1), _mm256_mul_ps(a, c));
            store_avx2(x, n_rot, i, v);
        }
}

void silu_mul_avx2(float *y, const float *gate, const float *up, size_t n)
{
    const __m256 one = _mm256_set1_ps(1), sign = _mm256_set1_ps(-0.0f);

    for (size_t i = 0; i < n; i += 8) {
        __m256 g = load_avx2(gate, n, i);
        __m256 s = _mm256_add_ps(one, exp_avx2(_mm256_xor_ps(g, sign)));

        store_avx2(y, n, i, _mm256_mul_ps(_mm256_div_ps(g, s), load_avx2(up, n, i)));
    }
}

void add_avx2(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 8)
        store_avx2(y, n, i, _mm256_add_ps(load_avx2(y, n, i), load_avx2(x, n, i)));
}

void axpy_avx2(float *y, float a, const float *x, size_t n)
{
    const __m256 va = _mm256_set1_ps(a);

    for (size_t i = 0; i < n; i += 8)
        store_avx2(y, n, i, _mm256_fmadd_ps(va, load_avx2(x, n, i), load_avx2(y, n, i)));
}
