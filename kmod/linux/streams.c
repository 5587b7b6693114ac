// SPDX-License-Identifier: GPL-2.0-only
/*
 * Class 0 streams: what is not a memory page. Each is built once, before the engine begins,
 * so that the same bytes come out however often they are asked for.
 */
#include "dumpcast.h"

#include "kmod/core/signature.h"

#include <linux/cpumask.h>
#include <linux/elf.h>
#include <linux/kexec.h>
#include <linux/kmsg_dump.h>
#include <linux/mm.h>
#include <linux/smp.h>
#include <linux/utsname.h>
#include <asm/pgtable.h>

/* Unfinished records in a row that are passed over: each processor may have left a few. */
#define DCAST_LOG_UNFINISHED 64

/*
 * The text of the vmcoreinfo note, with the time of the crash appended as the kernel does
 * for a crash kernel. Bytes written, without a terminating zero.
 * Context: any; does not fault, allocate or lock.
 */
u32 dcast_vmcoreinfo_text(char *out, u32 cap, u64 crash_unix_ns)
{
	phys_addr_t paddr = paddr_vmcoreinfo_note();
	struct elf_note note;
	u32 len = 0;

	if (dcast_phys_read(paddr, &note, sizeof(note)))
		return 0;
	paddr += sizeof(note) + ALIGN(note.n_namesz, 4);
	if (note.n_namesz == sizeof(VMCOREINFO_NOTE_NAME) && note.n_descsz <= cap &&
	    !dcast_phys_read(paddr, out, note.n_descsz))
		len = strnlen(out, note.n_descsz);
	if (len)
		len += scnprintf(out + len, cap - len, "CRASHTIME=%llu\n",
				 crash_unix_ns / NSEC_PER_SEC);
	return len;
}

/*
 * Records behind one that was never finished, since its writer was stopped: there a reader of
 * the log stops for ever, and what comes after it is what the panic said. Bytes written.
 */
static u32 dcast_log_after(u64 seq, char *out, u32 cap)
{
	struct kmsg_dump_iter iter = { .cur_seq = seq };
	unsigned int unfinished = 0;
	u32 used = 0;
	size_t len;

	while (unfinished < DCAST_LOG_UNFINISHED && used < cap) {
		if (kmsg_dump_get_line(&iter, false, out + used, cap - used, &len)) {
			used += len;
			unfinished = 0;
		} else {
			iter.cur_seq++;
			unfinished++;
		}
	}
	return used;
}

/*
 * The newest records of the kernel log that fit, as text, oldest first.
 * Context: any; the log buffer is read without locks.
 */
u32 dcast_log_capture(char *out, u32 cap)
{
	struct kmsg_dump_iter iter;
	u32 after;
	size_t len = 0;

	kmsg_dump_rewind(&iter);
	/* The end is read first and kept at the end, so that it is what has room for sure. */
	after = dcast_log_after(iter.next_seq, out, cap / 2);
	memmove(out + cap - after, out, after);
	if (!kmsg_dump_get_buffer(&iter, false, out, cap - after, &len))
		len = 0;
	memmove(out + len, out + cap - after, after);
	return len + after;
}

/*
 * Fills run->meta; the other streams must be there already. The engine adds what it knows.
 * Context: any.
 */
void dcast_meta_fill(struct dcast_run *run, u64 flags, const char *reason)
{
	const struct new_utsname *uts = init_utsname();
	const struct dcast_config *config = &run->config;
	const struct dcast_map *map = run->map;
	struct dcast_meta *meta = &run->meta;

	memset(meta, 0, sizeof(*meta));
	meta->elf_machine = cpu_to_le16(ELF_ARCH);
	meta->page_shift = PAGE_SHIFT;
	meta->dump_level = config->dump_level;
	meta->flags = cpu_to_le64(flags);
	meta->crash_unix_ns = cpu_to_le64(dcast_unix_ns());
	meta->uptime_ns = cpu_to_le64(dcast_uptime_ns());
	memcpy(meta->boot_id, config->boot_id, sizeof(meta->boot_id));
	meta->stream_len[DCAST_STREAM_VMCOREINFO] = cpu_to_le64(run->vmcoreinfo_len);
	meta->stream_len[DCAST_STREAM_NOTES] = cpu_to_le64(run->notes_len);
	meta->stream_len[DCAST_STREAM_LOG] = cpu_to_le64(run->log_len);
	meta->stream_len[DCAST_STREAM_KEYS] =
		cpu_to_le64(run->host->set.nr_key_boxes * sizeof(struct dcast_key_box));
	meta->page_offset = cpu_to_le64(PAGE_OFFSET);
	if (map->text_start < map->text_end) {
		meta->text_paddr = cpu_to_le64(map->text_start);
		meta->text_bytes = cpu_to_le64(map->text_end - map->text_start);
#ifdef CONFIG_X86_64
		meta->text_vaddr = cpu_to_le64(map->text_start - phys_base + __START_KERNEL_map);
#endif
	}
#ifdef CONFIG_SPARSEMEM_VMEMMAP
	meta->vmemmap_vaddr = cpu_to_le64((unsigned long)vmemmap);
#endif
	meta->cpus = cpu_to_le32(num_present_cpus());
	meta->crash_cpu = cpu_to_le32(raw_smp_processor_id());
	meta->lanes = cpu_to_le32(config->lanes);
	meta->symbol_size = cpu_to_le32(config->symbol_size);
	strscpy_pad(meta->hostname, config->hostname, sizeof(meta->hostname));
	strscpy_pad(meta->release, uts->release, sizeof(meta->release));
	strscpy_pad(meta->version, uts->version, sizeof(meta->version));
	strscpy_pad(meta->machine, uts->machine, sizeof(meta->machine));
	strscpy_pad(meta->reason, reason, sizeof(meta->reason));
	if (!(flags & DCAST_META_LIVE) && run->log_len)
		dcast_signature(&config->secrets->signature, meta->reason, run->log, run->log_len,
				meta->signature);
}

/*
 * The engine's read_stream: 0, or -EINVAL outside the stream.
 * Context: any.
 */
int dcast_stream_read(struct dcast_run *run, unsigned int stream, u64 offset, void *dst, u32 len)
{
	const void *from;
	u64 size;

	switch (stream) {
	case DCAST_STREAM_VMCOREINFO:
		from = run->vmcoreinfo;
		size = run->vmcoreinfo_len;
		break;
	case DCAST_STREAM_NOTES:
		from = run->notes;
		size = run->notes_len;
		break;
	case DCAST_STREAM_MEMMAP:
		from = run->map->ranges;
		size = run->map->nr * sizeof(struct dcast_range);
		break;
	case DCAST_STREAM_LOG:
		from = run->log;
		size = run->log_len;
		break;
	case DCAST_STREAM_KEYS:
		from = run->host->set.key_boxes;
		size = run->host->set.nr_key_boxes * sizeof(struct dcast_key_box);
		break;
	default:
		return -EINVAL;
	}
	if (offset > size || len > size - offset)
		return -EINVAL;
	memcpy(dst, from + offset, len);
	return 0;
}
