// SPDX-License-Identifier: GPL-2.0-only
/* Reading memory that may be gone: unmapped, offline or poisoned pages give an error. */
#include "dumpcast.h"

#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/uaccess.h>
#ifdef CONFIG_X86
#include <asm/asm.h>
#include <asm/cpufeature.h>
#endif

/* As copy_from_kernel_nofault(), which takes a loop of single words. Context: any. */
static int dcast_copy_words(void *dst, const void *src, size_t len)
{
#ifdef CONFIG_X86_64
	size_t words = len / 8;

	asm volatile("1: rep movsq\n2:\n" _ASM_EXTABLE(1b, 2b)
		     : "+c"(words), "+S"(src), "+D"(dst)
		     :
		     : "memory");
	if (words)
		return -EFAULT;
	len %= 8;
#endif
	return copy_from_kernel_nofault(dst, src, len);
}

static int dcast_copy(void *dst, const void *src, size_t len)
{
#ifdef CONFIG_ARCH_HAS_COPY_MC
	/*
	 * With fast strings the copy recovers from page faults and from machine checks alike.
	 * Without them it is a plain memcpy on some processors, which recovers from neither.
	 */
	if (boot_cpu_has(X86_FEATURE_ERMS))
		return copy_mc_to_kernel(dst, src, len) ? -EIO : 0;
#endif
	return dcast_copy_words(dst, src, len);
}

/*
 * Copies one page. -EIO when it cannot be read.
 * Context: any; does not fault, allocate or lock.
 */
int dcast_page_read(u64 pfn, void *dst)
{
	struct page *page = pfn_to_online_page(pfn);

	if (!page || PageOffline(page) || dcast_page_unaccepted(pfn))
		return -EIO;
#ifdef CONFIG_MEMORY_FAILURE
	if (test_bit(PG_hwpoison, &page->flags))
		return -EIO;
#endif
	return dcast_copy(dst, __va(PFN_PHYS(pfn)), PAGE_SIZE) ? -EIO : 0;
}

/*
 * Copies len bytes at a physical address of RAM, which may cross pages. -EIO when unreadable.
 * Context: any; does not fault, allocate or lock.
 */
int dcast_phys_read(phys_addr_t paddr, void *dst, size_t len)
{
	phys_addr_t at;

	for (at = ALIGN_DOWN(paddr, PAGE_SIZE); at < paddr + len; at += PAGE_SIZE) {
		if (!pfn_to_online_page(PHYS_PFN(at)))
			return -EIO;
	}
	return dcast_copy(dst, __va(paddr), len) ? -EIO : 0;
}
