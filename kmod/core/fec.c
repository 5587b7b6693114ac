// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Systematic Cauchy Reed-Solomon over GF(2^8), polynomial x^8+x^4+x^3+x^2+1 (0x11d).
 * Parity symbol i (k..63) is the sum over data symbols j of inverse(i ^ j) * symbol j:
 * the matrix that ISA-L's gf_gen_cauchy1_matrix() makes, so relays decode with ISA-L.
 *
 * A product by a constant is a sum of the constant's bits times powers of two. Of each bit there is a list
 * of the symbols whose factor has it; from the highest bit down, what was summed is doubled and the
 * bit's symbols are added. That is four exclusive-ors per word and symbol on average, of words that
 * stay in registers, in plain C, and needs no tables of products. Programs do the same with vectors, or have
 * the processor multiply (GFNI).
 */
#include "kmod/core/sender_internal.h"

static const __u8 dcast_inverse[DCAST_MAX_SYMBOLS] = {
	0x00, 0x01, 0x8e, 0xf4, 0x47, 0xa7, 0x7a, 0xba, 0xad, 0x9d, 0xdd, 0x98, 0x3d,
	0xaa, 0x5d, 0x96, 0xd8, 0x72, 0xc0, 0x58, 0xe0, 0x3e, 0x4c, 0x66, 0x90, 0xde,
	0x55, 0x80, 0xa0, 0x83, 0x4b, 0x2a, 0x6c, 0xed, 0x39, 0x51, 0x60, 0x56, 0x2c,
	0x8a, 0x70, 0xd0, 0x1f, 0x4a, 0x26, 0x8b, 0x33, 0x6e, 0x48, 0x89, 0x6f, 0x2e,
	0xa4, 0xc3, 0x40, 0x5e, 0x50, 0x22, 0xcf, 0xa9, 0xab, 0x0c, 0x15, 0xe1,
};

/* Context: any; pure. */
__u8 dcast_fec_inverse(unsigned int x)
{
	return dcast_inverse[x & (DCAST_MAX_SYMBOLS - 1)];
}

/* Eight field elements times x. Context: any; pure. */
static inline __u64 dcast_fec_double(__u64 v)
{
	const __u64 high = (v >> 7) & 0x0101010101010101ull;

	return ((v & 0x7f7f7f7f7f7f7f7full) << 1) ^ (high * 0x1d);
}

/* Context: any; must not allocate. */
static inline __u64 dcast_fec_load(const __u8 *src)
{
	__u64 v;

	memcpy(&v, src, sizeof(v));
	return v;
}

/* Which symbols have which bit in their factors. Context: any; must not allocate. */
static void dcast_fec_list(struct dcast_fec_lists *lists, __u32 stride, unsigned int k,
			   unsigned int index)
{
	unsigned int j, bit;

	memset(lists->n, 0, sizeof(lists->n));
	for (j = 0; j < k; j++) {
		const __u8 factor = dcast_fec_inverse(index ^ j);

		for (bit = 0; bit < 8; bit++)
			if (factor >> bit & 1)
				lists->offset[bit][lists->n[bit]++] = j * stride;
	}
}

/* One word of the parity symbol; data: where it is in the first symbol. Context: any; must not allocate. */
static __u64 dcast_fec_word(const struct dcast_fec_lists *lists, const __u8 *data)
{
	__u64 a = 0;
	int bit;

	for (bit = 7; bit >= 0; bit--) {
		const __u32 *at = lists->offset[bit], *end = at + lists->n[bit];

		for (a = dcast_fec_double(a); at < end; at++)
			a ^= dcast_fec_load(data + *at);
	}
	return a;
}

/* Four words of it into dst; four variables, since an array would be kept in memory. Context: any; must not allocate. */
static void dcast_fec_words(const struct dcast_fec_lists *lists, const __u8 *data, __u8 *dst)
{
	__u64 a = 0, b = 0, c = 0, d = 0;
	int bit;

	for (bit = 7; bit >= 0; bit--) {
		const __u32 *at = lists->offset[bit], *end = at + lists->n[bit];

		a = dcast_fec_double(a);
		b = dcast_fec_double(b);
		c = dcast_fec_double(c);
		d = dcast_fec_double(d);
		for (; at < end; at++) {
			const __u8 *src = data + *at;

			a ^= dcast_fec_load(src);
			b ^= dcast_fec_load(src + 8);
			c ^= dcast_fec_load(src + 16);
			d ^= dcast_fec_load(src + 24);
		}
	}
	memcpy(dst, &a, 8);
	memcpy(dst + 8, &b, 8);
	memcpy(dst + 16, &c, 8);
	memcpy(dst + 24, &d, 8);
}

#ifdef __SSE2__ /* In no kernel: it keeps vector registers for whom it has interrupted. */

#include <immintrin.h>

/*
 * The maps "times dcast_inverse[x]" as GF2P8AFFINEQB has them (Intel's manual): byte 7 - i has the bits of
 * which bit i of the product is the sum.
 */
static const __u64 dcast_fec_matrices[DCAST_MAX_SYMBOLS] = {
	0x0000000000000000, 0x0102040810204080, 0x0205091120408001, 0xfefc07f01f3f7fff,
	0x050b132240800102, 0xab5705a0ead5aa55, 0xfcf90ee13f7ffffe, 0xdab5b0bbad5bb66d,
	0x0b16274580010205, 0x9326df2dc9922449, 0x57ae0b41d5aa55ab, 0xd2a49ae71d3a74e9,
	0xf9f21dc37ffffefc, 0xca95e00bdcb972e5, 0xb56a61775bb66dda, 0x3265f9c0b366cc99,
	0x162c4e8b0102050b, 0xdcb9ae80ddbb77ee, 0x264cbe5a92244993, 0xf4e824bd8f1e3d7a,
	0xae5c1682aa55ab57, 0x78f19b4fe7cf9e3c, 0xa44835cf3a74e9d2, 0x8c19bff268d1a346,
	0xf2e43a86fffefcf9, 0xd6ad8dcd4d9a356b, 0x952ac116b972e5ca, 0xe2c46a368e1c3871,
	0x6ad4c2eeb66ddab5, 0x63c7ecba162c58b1, 0x65cbf28166cc9932, 0x28518a3d52a54a94,
	0x2c589d1702050b16, 0xcf9ef3299c3973e7, 0xb9725c01bb77eedc, 0xd5aa80d47dfaf5ea,
	0x4c987cb424499326, 0x1429479a2142850a, 0xe8d0497b1e3d7af4, 0x428548d3e4c89021,
	0x5cb82c0455ab57ae, 0x366ceeeae3c68d1b, 0xf1e3379fcf9e3c78, 0x64c9f68976ecd9b2,
	0x48916b9e74e9d2a4, 0x43874cdbf4e8d0a1, 0x19337ee4d1a3468c, 0xac591f938a152b56,
	0xe4c8740dfefcf9f2, 0xc386ce5f7cf8f0e1, 0xad5b1b9b9a356bd6, 0x68d1cbff962d5ab4,
	0x2a54832c72e5ca95, 0xa74f38d60a142953, 0xc488d46c1c3871e2, 0x3469e7fbc3860d1a,
	0xd4a884dc6ddab56a, 0x08112a5cb061c284, 0xc78fd9752c58b163, 0x4b96668744891225,
	0xcb97e403cc993265, 0x60c0e1a3264c9830, 0x51a2157aa54a9428, 0xaf5e128aba75ebd7,
};

/* All of the parity symbol, 128 bytes at a time. Context: any; must not allocate. */
__attribute__((target("gfni,avx512f,avx512bw"))) static void
dcast_fec_gfni(const __u8 *data, __u32 stride, unsigned int k, unsigned int index, __u32 len,
	       __u8 *dst)
{
	__u32 done;
	unsigned int j;

	for (done = 0; done < len; done += 128) {
		const __u32 left = len - done;
		const __mmask64 first = left >= 64 ? ~0ull : (1ull << left) - 1;
		const __mmask64 second = left >= 128 ? ~0ull :
					 left <= 64  ? 0 :
						       (1ull << (left - 64)) - 1;
		__m512i a = _mm512_setzero_si512(), b = a;

		for (j = 0; j < k; j++) {
			const __u8 *src = data + j * stride + done;
			const __m512i times = _mm512_set1_epi64((
				long long)dcast_fec_matrices[(index ^ j) & (DCAST_MAX_SYMBOLS - 1)]);

			a = _mm512_xor_si512(a,
					     _mm512_gf2p8affine_epi64_epi8(_mm512_maskz_loadu_epi8(first,
												   src),
									   times, 0));
			b = _mm512_xor_si512(b, _mm512_gf2p8affine_epi64_epi8(
							_mm512_maskz_loadu_epi8(second, src + 64),
							times, 0));
		}
		_mm512_mask_storeu_epi8(dst + done, first, a);
		_mm512_mask_storeu_epi8(dst + done + 64, second, b);
	}
}

#define DCAST_FEC_WIDE 4 /* vectors at a time */
typedef __u8 dcast_fec_vector __attribute__((vector_size(32), aligned(1), may_alias));
typedef __s8 dcast_fec_signs __attribute__((vector_size(32)));

/* As dcast_fec_words(), as far as whole vectors go; how many bytes that is. Context: any; must not allocate. */
__attribute__((target("avx2"))) static __u32
dcast_fec_vectors(const struct dcast_fec_lists *lists, const __u8 *data, __u32 len, __u8 *dst)
{
	const __u32 step = DCAST_FEC_WIDE * sizeof(dcast_fec_vector);
	__u32 done;
	int bit, i;

	for (done = 0; done + step <= len; done += step) {
		dcast_fec_vector sum[DCAST_FEC_WIDE] = { 0 };

		for (bit = 7; bit >= 0; bit--) {
			const __u32 *at = lists->offset[bit], *end = at + lists->n[bit];

#pragma GCC unroll 8
			for (i = 0; i < DCAST_FEC_WIDE; i++)
				sum[i] = (sum[i] + sum[i]) ^
					 ((dcast_fec_vector)((dcast_fec_signs)sum[i] < 0) & 0x1d);
			for (; at < end; at++) {
				const dcast_fec_vector *src = (const void *)(data + done + *at);

#pragma GCC unroll 8
				for (i = 0; i < DCAST_FEC_WIDE; i++)
					sum[i] ^= src[i];
			}
		}
		memcpy(dst + done, sum, step);
	}
	return done;
}

#endif

/* Context: any; pure. */
enum dcast_fec_way dcast_fec_best(void)
{
#ifdef __SSE2__
	if (__builtin_cpu_supports("gfni") && __builtin_cpu_supports("avx512bw"))
		return DCAST_FEC_GFNI;
	if (__builtin_cpu_supports("avx2"))
		return DCAST_FEC_AVX2;
#endif
	return DCAST_FEC_WORDS;
}

/* Context: any, also panic with interrupts off; must not allocate. */
void dcast_fec_parity_by(enum dcast_fec_way way, const __u8 *data, __u32 stride, unsigned int k,
			 unsigned int index, __u32 len, __u8 *dst, struct dcast_fec_lists *lists)
{
	__u32 done = 0;

#ifdef __SSE2__
	if (way == DCAST_FEC_GFNI) {
		dcast_fec_gfni(data, stride, k, index, len, dst);
		return;
	}
#endif
	dcast_fec_list(lists, stride, k, index);
#ifdef __SSE2__
	if (way == DCAST_FEC_AVX2)
		done = dcast_fec_vectors(lists, data, len, dst);
#endif
	for (; done + 32 <= len; done += 32)
		dcast_fec_words(lists, data + done, dst + done);
	for (; done < len; done += 8) {
		const __u64 v = dcast_fec_word(lists, data + done);

		memcpy(dst + done, &v, 8);
	}
}

/* Context: any, also panic with interrupts off; must not allocate. */
void dcast_fec_parity(const __u8 *data, __u32 stride, unsigned int k, unsigned int index, __u32 len,
		      __u8 *dst, struct dcast_fec_lists *lists)
{
	dcast_fec_parity_by(dcast_fec_best(), data, stride, k, index, len, dst, lists);
}
