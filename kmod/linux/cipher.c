// SPDX-License-Identifier: GPL-2.0-only
/*
 * XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha) of the kernel's own pieces, in their portable versions: the
 * others use the FPU, which nobody may in an NMI and who has crashed should leave alone.
 */
#include "dumpcast.h"

#include <crypto/chacha.h>
#include <crypto/internal/poly1305.h>
#include <linux/string.h>

/* The state of the cipher; what is left of it holds keys. */
struct dcast_chacha {
	u32 key[CHACHA_KEY_SIZE / sizeof(u32)];
	u32 state[CHACHA_STATE_WORDS];
	u8 block[CHACHA_BLOCK_SIZE];
	u8 iv[CHACHA_IV_SIZE];
	struct poly1305_desc_ctx poly;
};

/*
 * In place; the tag of DCAST_TAG_BYTES goes behind the data. ad_len: a multiple of 16.
 * Context: any.
 */
void dcast_xchacha20poly1305_encrypt(const u8 key[DCAST_CIPHER_KEY_BYTES], void *data, u32 len,
				     const void *ad, u32 ad_len, const u8 nonce[DCAST_NONCE_BYTES])
{
	static const u8 zeros[POLY1305_BLOCK_SIZE];
	const __le64 lengths[2] = { cpu_to_le64(ad_len), cpu_to_le64(len) };
	struct dcast_chacha c;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(c.key); i++)
		c.key[i] = get_unaligned_le32(key + i * sizeof(u32));
	chacha_init_generic(c.state, c.key, nonce);
	hchacha_block_generic(c.state, c.key, 20);
	memset(c.iv, 0, 8); /* the counter, and the first bytes of the 96-bit nonce */
	memcpy(c.iv + 8, nonce + 16, 8);
	chacha_init_generic(c.state, c.key, c.iv);
	memset(c.block, 0, sizeof(c.block));
	chacha_crypt_generic(c.state, c.block, c.block, sizeof(c.block), 20);
	poly1305_init_generic(&c.poly, c.block);
	poly1305_update_generic(&c.poly, ad, ad_len);
	chacha_crypt_generic(c.state, data, data, len, 20);
	poly1305_update_generic(&c.poly, data, len);
	poly1305_update_generic(&c.poly, zeros, -len % POLY1305_BLOCK_SIZE);
	poly1305_update_generic(&c.poly, (const u8 *)lengths, sizeof(lengths));
	poly1305_final_generic(&c.poly, data + len);
	memzero_explicit(&c, sizeof(c));
}
