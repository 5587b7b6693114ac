// SPDX-License-Identifier: GPL-2.0-only
/*
 * What `status` prints: lines of words "key=value", the first word of a line says what it is
 * about. Values with spaces are in double quotes; no value holds a quote or a control
 * character. dumpcast-arm turns it into a table or JSON.
 *
 *   host state=armed dump_id=... held_bytes=... symbol_size=... relays=...
 *   path index=0 name=... device=... up=1 resolved=1/1 sent=... errors=... error="..."
 *   relay id=... name=... lanes=... pace_kib_s=... heard_ms.0=...
 *   running test=0 dump_id=... done=... total=... packets=... relays=... ms=...
 *   test ok=1 error=0 relays=2 packets=... ms=...
 *   live ok=1 error=0 relays=2 packets=... ms=...
 *
 * running: the live dump that is under way; done and total count blocks, total is 0 until it is
 * known, relays are those that have it all.
 */
#include "dumpcast.h"

#include <linux/ctype.h>
#include <linux/timekeeping.h>

/* A live dump that begins adds a line, too. */
#define DCAST_TEXT_SPARE 256

__printf(2, 3) void dcast_print(struct dcast_out_text *out, const char *fmt, ...)
{
	va_list args;
	size_t left = out->cap - out->len;

	va_start(args, fmt);
	out->len += out->at ? vscnprintf(out->at + out->len, left, fmt, args) :
			      vsnprintf(NULL, 0, fmt, args);
	va_end(args);
}

/* Relays' names come off the network. */
static void dcast_print_quoted(struct dcast_out_text *out, const char *key, const char *text,
			       size_t cap)
{
	size_t i;

	dcast_print(out, " %s=\"", key);
	for (i = 0; i < cap && text[i]; i++)
		dcast_print(out, "%c",
			    isascii(text[i]) && isprint(text[i]) && text[i] != '"' ? text[i] : '?');
	dcast_print(out, "\"");
}

/* Writes an address as text. */
void dcast_addr_text(const struct dcast_addr *addr, char *out, size_t cap)
{
	if (addr->family == AF_INET6)
		snprintf(out, cap, "%pI6c", &addr->v6);
	else if (addr->family == AF_INET)
		snprintf(out, cap, "%pI4", &addr->v4);
	else
		snprintf(out, cap, "-");
}

static void dcast_print_path(struct dcast_out_text *out, const struct dcast_path *path)
{
	const struct dcast_card *card = dcast_path_card(path);
	unsigned int i, resolved = 0;
	char text[64];

	for (i = 0; i < path->set.nr_targets; i++)
		resolved += path->targets[i].resolved;
	dcast_addr_text(&path->source, text, sizeof(text));
	dcast_print(out, "path index=%u name=%s device=%s card=%s source=%s up=%d resolved=%u/%u",
		    path->index, path->set.name, path->set.device, card ? card->dev->name : "-",
		    text, dcast_path_usable(path), resolved, path->set.nr_targets);
	dcast_print(out, " ring=%u sent=%llu errors=%llu", path->ring_size, path->sock_sent,
		    path->sock_errors);
	dcast_addr_text(&path->set.targets[0], text, sizeof(text));
	dcast_print(out, " destination=%s", text);
	dcast_print_quoted(out, "error", path->error, sizeof(path->error));
	dcast_print(out, "\n");
}

static void dcast_print_relay(struct dcast_out_text *out, const struct dcast_host *host,
			      const struct dcast_relay_info *relay)
{
	u64 now = ktime_get_boottime_ns();
	unsigned int i;

	dcast_print(out, "relay id=%016llx", relay->id);
	dcast_print_quoted(out, "name", relay->name, sizeof(relay->name));
	dcast_print(out, " lanes=%llx pace_kib_s=%u", relay->lane_mask, relay->pace_kib_s);
	for (i = 0; i < host->nr_paths; i++)
		if (relay->heard_ns[i])
			dcast_print(out, " heard_ms.%u=%llu", i,
				    (now - min(now, relay->heard_ns[i])) / NSEC_PER_MSEC);
	dcast_print(out, "\n");
}

static void dcast_print_result(struct dcast_out_text *out, const char *what,
			       const struct dcast_live_result *result)
{
	if (result->ran)
		dcast_print(out, "%s ok=%d error=%d relays=%u packets=%llu ms=%llu\n", what,
			    !result->error, result->error, result->relays, result->packets,
			    result->duration_ns / NSEC_PER_MSEC);
}

static void dcast_print_running(struct dcast_out_text *out, const struct dcast_host *host)
{
	const struct dcast_run *run = host->live;
	u64 done, total;

	if (!run)
		return;
	dcast_sender_progress(&run->sender, &done, &total);
	dcast_print(out,
		    "running test=%d dump_id=%*phN done=%llu total=%llu packets=%llu relays=%u ms=%llu\n",
		    host->live_is_test, DCAST_ID_BYTES, run->config.dump_id, done, total,
		    dcast_sender_stats(&run->sender)->packets[0], dcast_live_committed(run),
		    (ktime_get_boottime_ns() - host->live_began_ns) / NSEC_PER_MSEC);
}

/* Context: process, under dcast_config_lock. */
void dcast_status_print(struct dcast_out_text *out)
{
	struct dcast_host *host = dcast_armed;
	const struct dcast_relay_info *relay;
	const struct dcast_stats *stats;
	unsigned int i, relays = 0;

	if (!host) {
		dcast_print(out, "host state=disarmed\n");
		return;
	}
	mutex_lock(&host->lock);
	while (dcast_sender_relay(&host->armed->sender, relays))
		relays++;
	stats = dcast_sender_stats(&host->armed->sender);
	dcast_print(out,
		    "host state=armed dump_id=%*phN held_bytes=%llu dump_level=%u exclude_unused_vmemmap=%u symbol_size=%u memory_bytes=%llu relays=%u bad_mac=%llu bad_format=%llu\n",
		    DCAST_ID_BYTES, host->dump_ids[host->dump_slot], host->held_bytes,
		    host->set.engine.dump_level, host->set.exclude_unused_vmemmap,
		    host->set.engine.symbol_size, host->map->bytes, relays, stats->rx_bad_mac,
		    stats->rx_bad_format);
	for (i = 0; i < host->nr_paths; i++)
		dcast_print_path(out, host->paths[i]);
	for (i = 0; (relay = dcast_sender_relay(&host->armed->sender, i)); i++)
		dcast_print_relay(out, host, relay);
	dcast_print_running(out, host);
	dcast_print_result(out, "test", &host->test_result);
	dcast_print_result(out, "live", &host->live_result);
	mutex_unlock(&host->lock);
}

/*
 * Writes what print says to buf, or only measures it when buf is NULL: configfs asks first
 * how much there will be, and ages may grow by a digit until it asks for the text. What is
 * left is filled with empty lines. Bytes.
 * Context: process, under dcast_config_lock.
 */
ssize_t dcast_text_read(void (*print)(struct dcast_out_text *out), char *buf, size_t cap)
{
	struct dcast_out_text out = { .at = buf, .cap = cap };

	print(&out);
	if (!buf)
		return out.len + DCAST_TEXT_SPARE;
	memset(buf + out.len, '\n', cap - out.len);
	return cap;
}
