// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Systematic Cauchy Reed-Solomon over GF(2^8), polynomial x^8+x^4+x^3+x^2+1 (0x11d).
 * Parity symbol i (k..63) is the sum over data symbols j of inverse(i ^ j) * symbol j:
 * the matrix that ISA-L's gf_gen_cauchy1_matrix() makes, so relays decode with ISA-L.
 *
 * A product by a constant is a sum of the constant's bits times powers of two. Of each bit there is a list
 * of the symbols whose factor has it; from the highest bit down, what was summed is doubled and the
 * bit's symbols are added. That is four exclusive-ors per word and symbol on average, of words that
 * stay in registers, in plain C, and needs no tables of products. Programs do the same with vectors.
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

/* Context: any, also panic with interrupts off; must not allocate. */
void dcast_fec_parity(const __u8 *data, __u32 stride, unsigned int k, unsigned int index, __u32 len,
		      __u8 *dst, struct dcast_fec_lists *lists)
{
	__u32 done = 0;

	dcast_fec_list(lists, stride, k, index);
#ifdef __SSE2__
	if (__builtin_cpu_supports("avx2"))
		done = dcast_fec_vectors(lists, data, len, dst);
#endif
	for (; done + 32 <= len; done += 32)
		dcast_fec_words(lists, data + done, dst + done);
	for (; done < len; done += 8) {
		const __u64 v = dcast_fec_word(lists, data + done);

		memcpy(dst + done, &v, 8);
	}
}
