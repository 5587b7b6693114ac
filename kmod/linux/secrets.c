// SPDX-License-Identifier: GPL-2.0-only
/*
 * Keys: what user space has set, and what an armed host has, each in a page of its own. The second
 * is left out of every dump; the first is empty while the host is armed, and a dump needs an armed
 * host. Arming takes the keys, so that each arming wants them anew.
 */
#include "dumpcast.h"

#include <linux/gfp.h>
#include <linux/mm.h>

static struct dcast_secrets *dcast_wanted;
static bool dcast_has_host_key;

int dcast_secrets_init(void)
{
	BUILD_BUG_ON(sizeof(struct dcast_secrets) > PAGE_SIZE);
	dcast_wanted = (void *)get_zeroed_page(GFP_KERNEL);
	return dcast_wanted ? 0 : -ENOMEM;
}

static void dcast_page_wipe(struct dcast_secrets *secrets)
{
	if (!secrets)
		return;
	memzero_explicit(secrets, PAGE_SIZE);
	free_page((unsigned long)secrets);
}

void dcast_secrets_exit(void)
{
	dcast_page_wipe(dcast_wanted);
}

void dcast_secrets_set_host_key(const u8 host_key[DCAST_HOST_KEY_BYTES])
{
	dcast_keys_init(&dcast_wanted->wire, host_key);
	dcast_has_host_key = true;
}

/* The keys of dcast_cipher_keys and of crash signatures; dumps are encrypted from then on. */
void dcast_secrets_set_cipher_keys(const u8 keys[DCAST_CIPHER_KEYS_BYTES])
{
	const u8 *at = keys + DCAST_CIPHER_KEY_BYTES;

	memcpy(dcast_wanted->end_to_end.cipher, keys, DCAST_CIPHER_KEY_BYTES);
	dcast_wanted->end_to_end.nonce.k0 = dcast_load64(at);
	dcast_wanted->end_to_end.nonce.k1 = dcast_load64(at + 8);
	dcast_wanted->signature.k0 = dcast_load64(at + 16);
	dcast_wanted->signature.k1 = dcast_load64(at + 24);
	dcast_wanted->encrypted = true;
}

/* Nothing is set any more. */
void dcast_secrets_forget(void)
{
	memzero_explicit(dcast_wanted, PAGE_SIZE);
	dcast_has_host_key = false;
}

/* What was set becomes the host's, and is set no longer. 0, -ENOMEM, or -EINVAL, said. */
int dcast_secrets_take(struct dcast_host *host)
{
	if (!dcast_has_host_key) {
		pr_err("arm: host_key is not set; it is wanted each time\n");
		return -EINVAL;
	}
	if (dcast_wanted->encrypted != !!host->set.nr_key_boxes) {
		pr_err("arm: %s are not set\n",
		       host->set.nr_key_boxes ? "cipher_keys" : "key_boxes");
		return -EINVAL;
	}
	host->secrets = (void *)get_zeroed_page(GFP_KERNEL);
	if (!host->secrets)
		return -ENOMEM;
	host->held_bytes += PAGE_SIZE;
	*host->secrets = *dcast_wanted;
	host->set.engine.secrets = host->secrets;
	dcast_secrets_forget();
	return 0;
}

void dcast_secrets_free(struct dcast_host *host)
{
	dcast_page_wipe(host->secrets);
}

bool dcast_secrets_in(const struct dcast_host *host, u64 pfn)
{
	return pfn == PHYS_PFN(virt_to_phys(host->secrets));
}
