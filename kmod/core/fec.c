// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Systematic Cauchy Reed-Solomon over GF(2^8), polynomial x^8+x^4+x^3+x^2+1 (0x11d).
 * Parity symbol i (k..63) is the sum over data symbols j of inverse(i ^ j) * symbol j:
 * the matrix that ISA-L's gf_gen_cauchy1_matrix() makes, so relays decode with ISA-L.
 *
 * A product by a constant is a sum of the constant's bits, and doubling distributes over
 * sums: symbols are first summed into eight planes, one per bit of their factors, and the
 * planes are then folded from the top with seven doublings. That is four exclusive-ors per
 * word and symbol on average, in plain C, and needs no tables of products.
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
static void dcast_fec_add(__u64 *plane, const __u8 *src, unsigned int words)
{
	unsigned int w;

	for (w = 0; w < words; w++) {
		__u64 v;

		memcpy(&v, src + 8 * w, 8);
		plane[w] ^= v;
	}
}

/* Context: any, also panic with interrupts off; must not allocate. */
void dcast_fec_parity(const __u8 *data, __u32 stride, unsigned int k, unsigned int index, __u32 len,
		      __u8 *dst, __u64 *planes)
{
	__u32 done;

	for (done = 0; done < len; done += DCAST_FEC_PLANE_WORDS * 8) {
		const __u32 left = len - done;
		const unsigned int words = left < DCAST_FEC_PLANE_WORDS * 8 ? left / 8 :
									      DCAST_FEC_PLANE_WORDS;
		unsigned int j, w;
		int bit;

		memset(planes, 0, DCAST_FEC_SCRATCH_BYTES);
		for (j = 0; j < k; j++) {
			const __u8 factor = dcast_fec_inverse(index ^ j);
			const __u8 *src = data + (__u64)j * stride + done;

			for (bit = 0; bit < 8; bit++)
				if (factor >> bit & 1)
					dcast_fec_add(planes + bit * DCAST_FEC_PLANE_WORDS, src,
						      words);
		}
		for (w = 0; w < words; w++) {
			__u64 v = planes[7 * DCAST_FEC_PLANE_WORDS + w];

			for (bit = 6; bit >= 0; bit--)
				v = dcast_fec_double(v) ^ planes[bit * DCAST_FEC_PLANE_WORDS + w];
			memcpy(dst + done + 8 * w, &v, 8);
		}
	}
}
