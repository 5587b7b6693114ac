// SPDX-License-Identifier: GPL-2.0-only
/*
 * The interface to user space, all of it:
 *
 *   /sys/kernel/config/dumpcast/
 *     host_id boot_id          32 hex digits (dashes allowed); host_id is the machine-id
 *     host_key                 64 hex digits, write only; wanted anew for each arming
 *     cipher_keys              128 hex digits, write only: of the cipher (32 bytes), of nonces and of
 *                              crash signatures (16 each); dumps are encrypted then
 *     key_boxes                struct dcast_key_box as 192 hex digits, one a line, up to 16; write
 *                              only; wanted with cipher_keys
 *     key_epoch                which cluster key the host key was derived from
 *     hostname
 *     dump_level               makedumpfile's -d bits, 0..31
 *     exclude_unused_vmemmap   1: as makedumpfile's -e, the memory map of pages that are left out
 *     mode                     mirror or stripe
 *     lanes symbol_size        symbol_size 0: by the paths' MTU
 *     slots                    blocks interleaved
 *     codec                    auto, none, lz4 or zstd; auto: whichever is the fastest at the moment
 *     helpers                  other processors that encode, at most
 *     commits                  relays that must have it all; 0: two, or all that are known
 *     parity_percent           at first; more, to 25, while a relay lacks symbols of many blocks, less while none does
 *     parity_percent_blind blind_passes
 *     heartbeat_ms rate_kib_s linger_ms time_limit_s
 *     ring_kib                 most memory of one path's packets
 *     crash_notes              lines "CPU ADDRESS", from /sys/devices/system/cpu/cpuN/crash_notes
 *     paths/<name>/            mkdir makes one; see configfs_path.c
 *     armed                    1 arms, 0 disarms
 *     test                     1 sends a test dump and waits for the commits
 *     dump                     "LEVEL KIB_S" sends a live dump of that dump level, with at most
 *                              that many KiB/s on a path (0: no limit), and waits; a signal to
 *                              who writes ends it
 *     dump_id status           read only
 *     held                     read only, by root: physical pages held for a dump (held.c)
 *
 * Settings are refused while armed (EBUSY). A bad value is refused with EINVAL, and the
 * kernel log says what was wanted.
 * Context: process; everything is serialised by dcast_config_lock.
 */
#include "dumpcast.h"

#include <linux/configfs.h>
#include <linux/ctype.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/utsname.h>
#include <linux/vmalloc.h>

DEFINE_MUTEX(dcast_config_lock);

/* Defaults of everything that has one. */
static struct dcast_settings dcast_settings = {
	.engine = {
		.lanes = 1,
		.mode = DCAST_MIRROR,
		.page_shift = PAGE_SHIFT,
		.dump_level = 31,
		.slots = 8,
		.helpers = 3,
		.codecs = 1 << DCAST_CODEC_NONE | 1 << DCAST_CODEC_LZ4 | 1 << DCAST_CODEC_ZSTD,
		.parity_percent = 4,
		.parity_percent_blind = 25,
		.heartbeat_ms = 5000,
		.linger_ns = 10 * NSEC_PER_SEC,
		.time_limit_ns = 1800 * NSEC_PER_SEC,
		.blind_passes = 2,
	},
	.ring_kib = 1024,
};

/* Ends the value at its newline. */
static void dcast_text(const char *page, size_t len, char *out, size_t cap)
{
	strscpy(out, page, min(len + 1, cap));
	strim(out);
}

static ssize_t dcast_store_busy(const char *name)
{
	pr_err("%s: cannot be changed while armed: write 0 to armed first\n", name);
	return -EBUSY;
}

/* Bytes, or -EINVAL, said. Dashes and blanks are passed over. */
static ssize_t dcast_parse_hex(const char *name, const char *page, size_t len, u8 *out,
			       size_t bytes)
{
	size_t i, digits = 0;

	for (i = 0; i < len; i++) {
		int digit = hex_to_bin(page[i]);

		if (page[i] == '-' || isspace(page[i]))
			continue;
		if (digit < 0 || digits >= 2 * bytes)
			goto bad;
		out[digits / 2] = out[digits / 2] << 4 | digit;
		digits++;
	}
	if (digits == 2 * bytes)
		return bytes;

bad:
	pr_err("%s: wanted %zu hex digits\n", name, 2 * bytes);
	return -EINVAL;
}

static ssize_t dcast_store_id(const char *name, const char *page, size_t len,
			      u8 out[DCAST_ID_BYTES])
{
	u8 parsed[DCAST_ID_BYTES] = {};
	ssize_t result = dcast_parse_hex(name, page, len, parsed, sizeof(parsed));

	if (result < 0)
		return result;
	mutex_lock(&dcast_config_lock);
	result = dcast_armed ? dcast_store_busy(name) : len;
	if (result > 0)
		memcpy(out, parsed, sizeof(parsed));
	mutex_unlock(&dcast_config_lock);
	return result;
}

/* Of at most DCAST_CIPHER_KEYS_BYTES. Nothing of it stays: not in configfs' page either. */
static ssize_t dcast_store_key(const char *name, const char *page, size_t len, size_t bytes,
			       void (*set)(const u8 *key))
{
	u8 parsed[DCAST_CIPHER_KEYS_BYTES] = {};
	ssize_t result = dcast_parse_hex(name, page, len, parsed, bytes);

	if (result > 0) {
		mutex_lock(&dcast_config_lock);
		result = dcast_armed ? dcast_store_busy(name) : len;
		if (result > 0)
			set(parsed);
		mutex_unlock(&dcast_config_lock);
	}
	memzero_explicit(parsed, sizeof(parsed));
	memzero_explicit((char *)page, len);
	return result;
}

static ssize_t dcast_store_number(const char *name, const char *page, u64 min, u64 max, u64 *out,
				  size_t len)
{
	u64 value;

	if (kstrtou64(page, 0, &value) || value < min || value > max) {
		pr_err("%s: wanted a number in %llu..%llu, got \"%.*s\"\n", name, min, max,
		       (int)strcspn(page, "\n"), page);
		return -EINVAL;
	}
	*out = value;
	return len;
}

/* A number with its range, kept in field after multiplication by unit. */
#define DCAST_NUMBER(name, field, low, high, unit)                                        \
	static ssize_t dcast_##name##_show(struct config_item *item, char *page)          \
	{                                                                                 \
		return sysfs_emit(page, "%llu\n", (u64)dcast_settings.field / (unit));    \
	}                                                                                 \
	static ssize_t dcast_##name##_store(struct config_item *item, const char *page,   \
					    size_t len)                                   \
	{                                                                                 \
		u64 value;                                                                \
		ssize_t result = dcast_store_number(#name, page, low, high, &value, len); \
                                                                                          \
		if (result < 0)                                                           \
			return result;                                                    \
		mutex_lock(&dcast_config_lock);                                           \
		if (dcast_armed)                                                          \
			result = dcast_store_busy(#name);                                 \
		else                                                                      \
			dcast_settings.field = value * (unit);                            \
		mutex_unlock(&dcast_config_lock);                                         \
		return result;                                                            \
	}                                                                                 \
	CONFIGFS_ATTR(dcast_, name)

DCAST_NUMBER(key_epoch, engine.key_epoch, 0, U16_MAX, 1);
DCAST_NUMBER(dump_level, engine.dump_level, 0, 31, 1);
DCAST_NUMBER(exclude_unused_vmemmap, exclude_unused_vmemmap, 0, 1, 1);
DCAST_NUMBER(lanes, engine.lanes, 1, DCAST_MAX_LANES, 1);
DCAST_NUMBER(symbol_size, engine.symbol_size, 0, DCAST_MAX_SYMBOL_BYTES, 1);
DCAST_NUMBER(slots, engine.slots, 1, 16, 1);
DCAST_NUMBER(helpers, engine.helpers, 0, DCAST_MAX_HELPERS, 1);
DCAST_NUMBER(commits, engine.commits_wanted, 0, DCAST_MAX_RELAYS, 1);
DCAST_NUMBER(parity_percent, engine.parity_percent, 0, 100, 1);
DCAST_NUMBER(parity_percent_blind, engine.parity_percent_blind, 0, 100, 1);
DCAST_NUMBER(blind_passes, engine.blind_passes, 0, 1000, 1);
DCAST_NUMBER(heartbeat_ms, engine.heartbeat_ms, 100, 3600000, 1);
DCAST_NUMBER(rate_kib_s, engine.rate_kib_s, 0, U32_MAX, 1);
DCAST_NUMBER(linger_ms, engine.linger_ns, 0, 3600000, NSEC_PER_MSEC);
DCAST_NUMBER(time_limit_s, engine.time_limit_ns, 0, 7 * 86400, NSEC_PER_SEC);
DCAST_NUMBER(ring_kib, ring_kib, 64, 65536, 1);

static ssize_t dcast_host_id_show(struct config_item *item, char *page)
{
	return sysfs_emit(page, "%*phN\n", DCAST_ID_BYTES, dcast_settings.engine.host_id);
}

static ssize_t dcast_host_id_store(struct config_item *item, const char *page, size_t len)
{
	ssize_t result = dcast_store_id("host_id", page, len, dcast_settings.engine.host_id);

	if (result > 0)
		dcast_settings.has_host_id = true;
	return result;
}
CONFIGFS_ATTR(dcast_, host_id);

static ssize_t dcast_boot_id_show(struct config_item *item, char *page)
{
	return sysfs_emit(page, "%*phN\n", DCAST_ID_BYTES, dcast_settings.engine.boot_id);
}

static ssize_t dcast_boot_id_store(struct config_item *item, const char *page, size_t len)
{
	return dcast_store_id("boot_id", page, len, dcast_settings.engine.boot_id);
}
CONFIGFS_ATTR(dcast_, boot_id);

static ssize_t dcast_host_key_store(struct config_item *item, const char *page, size_t len)
{
	return dcast_store_key("host_key", page, len, DCAST_HOST_KEY_BYTES,
			       dcast_secrets_set_host_key);
}
CONFIGFS_ATTR_WO(dcast_, host_key);

static ssize_t dcast_cipher_keys_store(struct config_item *item, const char *page, size_t len)
{
	return dcast_store_key("cipher_keys", page, len, DCAST_CIPHER_KEYS_BYTES,
			       dcast_secrets_set_cipher_keys);
}
CONFIGFS_ATTR_WO(dcast_, cipher_keys);

static ssize_t dcast_key_boxes_store(struct config_item *item, const char *page, size_t len)
{
	struct dcast_key_box *boxes;
	const char *line = page;
	ssize_t result = len;
	u32 n = 0;

	boxes = kcalloc(DCAST_MAX_KEY_BOXES, sizeof(*boxes), GFP_KERNEL);
	if (!boxes)
		return -ENOMEM;
	while (*line && result > 0) {
		size_t chars = strcspn(line, "\n");

		if (!chars) {
			line++;
			continue;
		}
		if (n == DCAST_MAX_KEY_BOXES) {
			pr_err("key_boxes: wanted at most %u\n", DCAST_MAX_KEY_BOXES);
			result = -EINVAL;
		} else if (dcast_parse_hex("key_boxes, each line", line, chars, (u8 *)&boxes[n++],
					   sizeof(*boxes)) < 0) {
			result = -EINVAL;
		}
		line += chars + (line[chars] == '\n');
	}
	mutex_lock(&dcast_config_lock);
	if (result > 0 && dcast_armed)
		result = dcast_store_busy("key_boxes");
	if (result > 0) {
		memcpy(dcast_settings.key_boxes, boxes, n * sizeof(*boxes));
		dcast_settings.nr_key_boxes = n;
	}
	mutex_unlock(&dcast_config_lock);
	kfree(boxes);
	return result;
}
CONFIGFS_ATTR_WO(dcast_, key_boxes);

static ssize_t dcast_hostname_show(struct config_item *item, char *page)
{
	return sysfs_emit(page, "%s\n", dcast_settings.engine.hostname);
}

static ssize_t dcast_hostname_store(struct config_item *item, const char *page, size_t len)
{
	ssize_t result = len;

	mutex_lock(&dcast_config_lock);
	if (dcast_armed)
		result = dcast_store_busy("hostname");
	else
		dcast_text(page, len, dcast_settings.engine.hostname,
			   sizeof(dcast_settings.engine.hostname));
	mutex_unlock(&dcast_config_lock);
	return result;
}
CONFIGFS_ATTR(dcast_, hostname);

struct dcast_word {
	const char *name;
	u8 value;
};

static ssize_t dcast_show_word(const struct dcast_word *words, u8 value, char *page)
{
	while (words->name && words->value != value)
		words++;
	return sysfs_emit(page, "%s\n", words->name ?: "?");
}

static ssize_t dcast_store_word(const char *name, const struct dcast_word *words,
				const char *wanted, const char *page, size_t len, u8 *out)
{
	ssize_t result = len;

	while (words->name && !sysfs_streq(page, words->name))
		words++;
	if (!words->name) {
		pr_err("%s: wanted %s, got \"%.*s\"\n", name, wanted, (int)strcspn(page, "\n"),
		       page);
		return -EINVAL;
	}
	mutex_lock(&dcast_config_lock);
	if (dcast_armed)
		result = dcast_store_busy(name);
	else
		*out = words->value;
	mutex_unlock(&dcast_config_lock);
	return result;
}

static const struct dcast_word dcast_modes[] = { { "mirror", DCAST_MIRROR },
						 { "stripe", DCAST_STRIPE },
						 {} };

static ssize_t dcast_mode_show(struct config_item *item, char *page)
{
	return dcast_show_word(dcast_modes, dcast_settings.engine.mode, page);
}

static ssize_t dcast_mode_store(struct config_item *item, const char *page, size_t len)
{
	return dcast_store_word("mode", dcast_modes, "mirror or stripe", page, len,
				&dcast_settings.engine.mode);
}
CONFIGFS_ATTR(dcast_, mode);

/* As bits of the codecs that may be used. */
static const struct dcast_word dcast_codecs[] = {
	{ "auto", 1 << DCAST_CODEC_NONE | 1 << DCAST_CODEC_LZ4 | 1 << DCAST_CODEC_ZSTD },
	{ "none", 1 << DCAST_CODEC_NONE },
	{ "lz4", 1 << DCAST_CODEC_LZ4 },
	{ "zstd", 1 << DCAST_CODEC_ZSTD },
	{}
};

static ssize_t dcast_codec_show(struct config_item *item, char *page)
{
	return dcast_show_word(dcast_codecs, dcast_settings.engine.codecs, page);
}

static ssize_t dcast_codec_store(struct config_item *item, const char *page, size_t len)
{
	return dcast_store_word("codec", dcast_codecs, "auto, none, lz4 or zstd", page, len,
				&dcast_settings.engine.codecs);
}
CONFIGFS_ATTR(dcast_, codec);

/* Processors come and go while armed: allowed then, too. */
static ssize_t dcast_crash_notes_store(struct config_item *item, const char *page, size_t len)
{
	const char *line = page;

	while (*line) {
		unsigned long long address;
		unsigned int cpu;

		if (sscanf(line, "%u %llx", &cpu, &address) != 2 || cpu >= nr_cpu_ids) {
			pr_err("crash_notes: wanted lines \"CPU ADDRESS\", CPU under %u, ADDRESS in hex\n",
			       nr_cpu_ids);
			return -EINVAL;
		}
		WRITE_ONCE(dcast_note_sources[cpu].paddr, address);
		line += strcspn(line, "\n");
		line += *line == '\n';
	}
	return len;
}
CONFIGFS_ATTR_WO(dcast_, crash_notes);

static ssize_t dcast_dump_id_show(struct config_item *item, char *page)
{
	ssize_t len = 0;

	mutex_lock(&dcast_config_lock);
	if (dcast_armed)
		len = sysfs_emit(page, "%*phN\n", DCAST_ID_BYTES,
				 dcast_armed->dump_ids[dcast_armed->dump_slot]);
	mutex_unlock(&dcast_config_lock);
	return len;
}
CONFIGFS_ATTR_RO(dcast_, dump_id);

static ssize_t dcast_armed_show(struct config_item *item, char *page)
{
	return sysfs_emit(page, "%d\n", !!READ_ONCE(dcast_armed));
}

static ssize_t dcast_armed_store(struct config_item *item, const char *page, size_t len)
{
	bool wanted;
	int err = 0;

	if (kstrtobool(page, &wanted)) {
		pr_err("armed: wanted 1 or 0\n");
		return -EINVAL;
	}
	mutex_lock(&dcast_config_lock);
	if (wanted)
		err = dcast_arm(&dcast_settings);
	else
		dcast_disarm();
	mutex_unlock(&dcast_config_lock);
	return err ? err : len;
}
CONFIGFS_ATTR(dcast_, armed);

static ssize_t dcast_test_store(struct config_item *item, const char *page, size_t len)
{
	const struct dcast_live_wish wish = { .test = true };
	bool wanted;
	int err;

	if (kstrtobool(page, &wanted) || !wanted) {
		pr_err("test: wanted 1\n");
		return -EINVAL;
	}
	err = dcast_live_dump(&wish);
	return err ? err : len;
}
CONFIGFS_ATTR_WO(dcast_, test);

static ssize_t dcast_dump_store(struct config_item *item, const char *page, size_t len)
{
	struct dcast_live_wish wish = {};
	int err;

	if (sscanf(page, "%hhu %u", &wish.dump_level, &wish.rate_kib_s) != 2 ||
	    wish.dump_level > 31) {
		pr_err("dump: wanted \"LEVEL KIB_S\", LEVEL in 0..31, got \"%.*s\"\n",
		       (int)strcspn(page, "\n"), page);
		return -EINVAL;
	}
	err = dcast_live_dump(&wish);
	return err ? err : len;
}
CONFIGFS_ATTR_WO(dcast_, dump);

/* clang-format off */
static struct configfs_attribute *dcast_attrs[] = {
	&dcast_attr_host_id,
	&dcast_attr_boot_id,
	&dcast_attr_host_key,
	&dcast_attr_cipher_keys,
	&dcast_attr_key_boxes,
	&dcast_attr_key_epoch,
	&dcast_attr_hostname,
	&dcast_attr_dump_level,
	&dcast_attr_exclude_unused_vmemmap,
	&dcast_attr_mode,
	&dcast_attr_lanes,
	&dcast_attr_symbol_size,
	&dcast_attr_slots,
	&dcast_attr_codec,
	&dcast_attr_helpers,
	&dcast_attr_commits,
	&dcast_attr_parity_percent,
	&dcast_attr_parity_percent_blind,
	&dcast_attr_blind_passes,
	&dcast_attr_heartbeat_ms,
	&dcast_attr_rate_kib_s,
	&dcast_attr_linger_ms,
	&dcast_attr_time_limit_s,
	&dcast_attr_ring_kib,
	&dcast_attr_crash_notes,
	&dcast_attr_dump_id,
	&dcast_attr_armed,
	&dcast_attr_test,
	&dcast_attr_dump,
	NULL,
};
/* clang-format on */

static ssize_t dcast_read_text(void (*print)(struct dcast_out_text *out), void *data, size_t len)
{
	ssize_t size;

	mutex_lock(&dcast_config_lock);
	size = dcast_text_read(print, data, len);
	mutex_unlock(&dcast_config_lock);
	return size;
}

/* Longer than a page with many relays or packets: binary attributes. */
static ssize_t dcast_status_read(struct config_item *item, void *data, size_t len)
{
	return dcast_read_text(dcast_status_print, data, len);
}
CONFIGFS_BIN_ATTR_RO(dcast_, status, NULL, SZ_64K);

static ssize_t dcast_held_read(struct config_item *item, void *data, size_t len)
{
	return dcast_read_text(dcast_held_print, data, len);
}
/* Not for everybody, as /proc/iomem's addresses are not. */
static struct configfs_bin_attribute dcast_attr_held = {
	.cb_attr = { .ca_name = "held", .ca_mode = 0400, .ca_owner = THIS_MODULE },
	.cb_max_size = SZ_1M,
	.read = dcast_held_read,
};

static struct configfs_bin_attribute *dcast_bin_attrs[] = {
	&dcast_attr_status,
	&dcast_attr_held,
	NULL,
};

static const struct config_item_type dcast_type = {
	.ct_attrs = dcast_attrs,
	.ct_bin_attrs = dcast_bin_attrs,
	.ct_owner = THIS_MODULE,
};

static struct configfs_subsystem dcast_subsystem = {
	.su_group = {
		.cg_item = {
			.ci_namebuf = "dumpcast",
			.ci_type = &dcast_type,
		},
	},
};

int dcast_configfs_init(void)
{
	const struct new_utsname *uts = utsname();

	strscpy(dcast_settings.engine.hostname, uts->nodename,
		sizeof(dcast_settings.engine.hostname));
	strscpy(dcast_settings.engine.release, uts->release, sizeof(dcast_settings.engine.release));
	config_group_init(&dcast_subsystem.su_group);
	mutex_init(&dcast_subsystem.su_mutex);
	configfs_add_default_group(dcast_paths_group_init(), &dcast_subsystem.su_group);
	return configfs_register_subsystem(&dcast_subsystem);
}

void dcast_configfs_exit(void)
{
	configfs_unregister_subsystem(&dcast_subsystem);
}
