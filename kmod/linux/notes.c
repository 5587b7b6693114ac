// SPDX-License-Identifier: GPL-2.0-only
/*
 * ELF notes: NT_PRSTATUS of every processor in the order of their numbers, then VMCOREINFO.
 *
 * The layout of a note is that of the kernel's own crash_notes (include/linux/kexec.h,
 * note_buf_t), so that readers of vmcores find what they know. A processor that left no
 * registers gets a note of zeroes: readers count notes to tell which is whose.
 */
#include "dumpcast.h"

#include <linux/cpumask.h>
#include <linux/elf.h>
#include <linux/elfcore.h>
#include <linux/kallsyms.h>
#include <linux/kexec.h>
#include <linux/memory_hotplug.h>
#include <linux/panic.h>
#include <linux/sched.h>
#include <linux/uaccess.h>

struct dcast_note_source *dcast_note_sources;

#define DCAST_PRSTATUS_BYTES \
	(CRASH_CORE_NOTE_HEAD_BYTES + CRASH_CORE_NOTE_NAME_BYTES + CRASH_CORE_NOTE_DESC_BYTES)

/* Bytes that dcast_notes_build() may need on this machine. */
u32 dcast_notes_bytes(void)
{
	return num_possible_cpus() * DCAST_PRSTATUS_BYTES + CRASH_CORE_NOTE_HEAD_BYTES +
	       VMCOREINFO_NOTE_NAME_BYTES + ALIGN(DCAST_VMCOREINFO_BYTES, 4);
}

static u8 *dcast_note_append(u8 *at, const u8 *end, const char *name, u32 type, const void *desc,
			     u32 len)
{
	struct elf_note *note = (struct elf_note *)at;
	u32 name_len = strlen(name) + 1;

	if (end - at < sizeof(*note) + ALIGN(name_len, 4) + ALIGN(len, 4))
		return at;
	memset(at, 0, sizeof(*note) + ALIGN(name_len, 4) + ALIGN(len, 4));
	note->n_namesz = name_len;
	note->n_descsz = len;
	note->n_type = type;
	at += sizeof(*note);
	memcpy(at, name, name_len);
	at += ALIGN(name_len, 4);
	memcpy(at, desc, len);
	return at + ALIGN(len, 4);
}

/*
 * What the kernel wrote when it stopped a processor by NMI; false when it did not.
 * Context: any.
 */
bool dcast_note_saved(unsigned int cpu, struct elf_prstatus *status)
{
	u32 buf[CRASH_CORE_NOTE_BYTES / 4];
	const struct elf_note *note = (const struct elf_note *)buf;
	phys_addr_t paddr = dcast_note_sources[cpu].paddr;

	if (!paddr || dcast_phys_read(paddr, buf, sizeof(buf)))
		return false;
	if (note->n_namesz != sizeof(CRASH_CORE_NOTE_NAME) || note->n_type != NT_PRSTATUS ||
	    note->n_descsz != sizeof(*status))
		return false;
	memcpy(status, (u8 *)buf + CRASH_CORE_NOTE_HEAD_BYTES + CRASH_CORE_NOTE_NAME_BYTES,
	       sizeof(*status));
	return true;
}

/* Writes the panicking processor's note where the kernel would have: readers look there, too. */
static void dcast_note_publish(unsigned int cpu, const void *note)
{
	phys_addr_t paddr = dcast_note_sources[cpu].paddr;

	if (!paddr || offset_in_page(paddr) + DCAST_PRSTATUS_BYTES > PAGE_SIZE ||
	    !pfn_to_online_page(PHYS_PFN(paddr)))
		return;
	memcpy(__va(paddr), note, DCAST_PRSTATUS_BYTES);
}

#ifdef CONFIG_X86_64
/* What elf_core_copy_regs() does, which needs a function that modules may not call. */
static void dcast_note_regs(struct elf_prstatus *status, const struct pt_regs *regs)
{
	struct user_regs_struct *user = (struct user_regs_struct *)&status->pr_reg;

	/* The two agree up to ss (arch/x86/include/asm/elf.h). */
	BUILD_BUG_ON(offsetof(struct user_regs_struct, ss) != offsetof(struct pt_regs, ss));
	memcpy(user, regs, offsetofend(struct user_regs_struct, ss));
	rdmsrl(MSR_FS_BASE, user->fs_base);
	rdmsrl(MSR_KERNEL_GS_BASE, user->gs_base);
}
#else
static void dcast_note_regs(struct elf_prstatus *status, const struct pt_regs *regs)
{
	struct pt_regs copy = *regs;

	elf_core_copy_regs(&status->pr_reg, &copy);
}
#endif

/*
 * Leaves a processor's registers where the kernel would when it stops it by NMI.
 * Context: NMI, on that processor.
 */
void dcast_note_save(unsigned int cpu, const struct pt_regs *regs)
{
	struct elf_prstatus status = {};
	u8 note[DCAST_PRSTATUS_BYTES];

	status.common.pr_pid = current->pid;
	dcast_note_regs(&status, regs);
	dcast_note_append(note, note + sizeof(note), CRASH_CORE_NOTE_NAME, NT_PRSTATUS, &status,
			  sizeof(status));
	dcast_note_publish(cpu, note);
}

/*
 * Writes all notes to out; returns their length. regs are the panicking processor's, NULL
 * for a live dump, which has no registers.
 * Context: any; does not fault, allocate or lock.
 */
u32 dcast_notes_build(struct dcast_host *host, const struct pt_regs *regs, const char *vmcoreinfo,
		      u32 vmcoreinfo_len, void *out, u32 cap)
{
	unsigned int cpu, self = raw_smp_processor_id();
	const u8 *end = (u8 *)out + cap;
	u8 *at = out;

	for_each_present_cpu(cpu) {
		struct elf_prstatus status;
		u8 *note = at;

		if (!regs)
			break;
		memset(&status, 0, sizeof(status));
		if (cpu == self) {
			status.common.pr_pid = current->pid;
			dcast_note_regs(&status, regs);
		} else if (!dcast_note_saved(cpu, &status)) {
			memset(&status, 0, sizeof(status));
		}
		at = dcast_note_append(at, end, CRASH_CORE_NOTE_NAME, NT_PRSTATUS, &status,
				       sizeof(status));
		if (cpu == self && at != note)
			dcast_note_publish(cpu, note);
	}
	at = dcast_note_append(at, end, VMCOREINFO_NOTE_NAME, 0, vmcoreinfo, vmcoreinfo_len);
	return at - (u8 *)out;
}

/*
 * Finds where panic() begins and ends, from the symbol table ("panic+0x0/0x2f8").
 * Context: process.
 */
void dcast_find_panic_text(struct dcast_host *host)
{
	unsigned long size = 0;
	char text[KSYM_SYMBOL_LEN];
	const char *slash;

	sprint_symbol(text, (unsigned long)panic);
	slash = strchr(text, '/');
	if (slash && sscanf(slash, "/0x%lx", &size) == 1) {
		host->panic_start = (unsigned long)panic;
		host->panic_end = host->panic_start + size;
	}
}

/*
 * Moves registers that were taken in the hook up to panic()'s own frame, so that a backtrace
 * begins there and not in our code. The frame is found by its return address; when there is
 * none, the registers stay as they are: a little longer a backtrace, no less true.
 * Context: panic.
 */
void dcast_regs_to_panic(const struct dcast_host *host, struct pt_regs *regs)
{
	const unsigned int reach = 2048; /* notifier_call_chain() and its callers are small */
	unsigned long at, value;

	for (at = ALIGN(regs->sp, sizeof(long)); at < regs->sp + reach; at += sizeof(long)) {
		if (get_kernel_nofault(value, (unsigned long *)at))
			return;
		if (value > host->panic_start && value < host->panic_end) {
			regs->ip = value;
			regs->sp = at + sizeof(long);
			return;
		}
	}
}
