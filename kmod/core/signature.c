// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* The crash signature, read from the text of the kernel log. */
#include "kmod/core/signature.h"

#define DCAST_SIGNATURE_FRAMES 4
#define DCAST_SIGNATURE_LINES  40 /* before a call trace, in which its registers are */

struct dcast_signature_out {
	char *at;
	__u32 len;
};

/* A piece of a line. */
struct dcast_span {
	const char *at, *end;
};

static void dcast_signature_put(struct dcast_signature_out *out, char c)
{
	if (out->len < DCAST_SIGNATURE_TEXT_BYTES)
		out->at[out->len++] = c;
}

static void dcast_signature_put_span(struct dcast_signature_out *out, struct dcast_span span)
{
	for (; span.at < span.end; span.at++)
		dcast_signature_put(out, *span.at);
}

static int dcast_is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int dcast_is_word(char c)
{
	return dcast_is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* Words with a digit in them, as addresses, processors and process ids have, become '#'. */
static void dcast_signature_reason(struct dcast_signature_out *out, const char *reason)
{
	while (*reason) {
		struct dcast_span word = { reason, reason };
		int digits = 0;

		while (dcast_is_word(*word.end))
			digits |= dcast_is_digit(*word.end++);
		if (word.end == word.at) {
			dcast_signature_put(out, *reason++);
			continue;
		}
		if (digits)
			dcast_signature_put(out, '#');
		else
			dcast_signature_put_span(out, word);
		reason = word.end;
	}
	dcast_signature_put(out, '\n');
}

static int dcast_span_begins(struct dcast_span span, const char *with)
{
	while (*with && span.at < span.end && *span.at == *with) {
		span.at++;
		with++;
	}
	return !*with;
}

/* Where needle is in span first, or NULL. */
static const char *dcast_span_find(struct dcast_span span, const char *needle)
{
	for (; span.at < span.end; span.at++)
		if (*span.at == *needle && dcast_span_begins(span, needle))
			return span.at;
	return NULL;
}

/* The line that ends before end; it begins at or after begin. */
static struct dcast_span dcast_line_before(const char *begin, const char *end)
{
	struct dcast_span line = { end, end };

	while (line.at > begin && line.at[-1] != '\n')
		line.at--;
	return line;
}

/* What a line says, without "[  12.345678]", "[   T1]" and blanks before it. */
static struct dcast_span dcast_line_text(struct dcast_span line)
{
	for (;;) {
		while (line.at < line.end && *line.at == ' ')
			line.at++;
		if (line.at == line.end || *line.at != '[')
			return line;
		while (line.at < line.end && *line.at != ']')
			line.at++;
		if (line.at < line.end)
			line.at++;
	}
}

/* symbol+0xoffset/0xsize: the symbol without what a compiler added to it; empty when it is none. */
static struct dcast_span dcast_symbol(struct dcast_span text, struct dcast_span *offset)
{
	struct dcast_span symbol = { text.at, text.at };

	while (symbol.end < text.end && dcast_is_word(*symbol.end))
		symbol.end++;
	offset->at = symbol.end;
	while (offset->at < text.end && (*offset->at == '.' || dcast_is_word(*offset->at)))
		offset->at++;
	offset->end = offset->at;
	text.at = offset->at;
	if (!dcast_span_begins(text, "+0x"))
		symbol.end = symbol.at;
	else
		while (offset->end < text.end && *offset->end != '/' && *offset->end != ' ')
			offset->end++;
	return symbol;
}

/* Where the processor was: the last such line of the registers before a call trace. */
static void dcast_signature_place(struct dcast_signature_out *out, const char *begin,
				  const char *trace)
{
	static const char *const names[] = { "RIP: 0010:", "pc : " };
	const char *end = trace;
	unsigned int i, n;

	for (n = 0; n < DCAST_SIGNATURE_LINES && end > begin; n++) {
		struct dcast_span line = dcast_line_before(begin, end), symbol, offset;

		end = line.at > begin ? line.at - 1 : begin;
		for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
			const char *at = dcast_span_find(line, names[i]);

			if (!at)
				continue;
			line.at = at + strlen(names[i]);
			symbol = dcast_symbol(line, &offset);
			if (symbol.at == symbol.end)
				continue;
			dcast_signature_put_span(out, symbol);
			dcast_signature_put_span(out, offset);
			dcast_signature_put(out, '\n');
			return;
		}
	}
}

/* Of the way into the panic, not to it. */
static int dcast_is_panics_own(struct dcast_span symbol)
{
	return dcast_span_begins(symbol, "dump_stack") || dcast_span_begins(symbol, "show_stack") ||
	       (dcast_span_begins(symbol, "panic") && symbol.end - symbol.at == 5);
}

static void dcast_signature_frames(struct dcast_signature_out *out, const char *trace,
				   const char *end)
{
	unsigned int frames = 0;

	while (trace < end && frames < DCAST_SIGNATURE_FRAMES) {
		struct dcast_span line = { trace, trace }, text, symbol, offset;

		while (line.end < end && *line.end != '\n')
			line.end++;
		trace = line.end + (line.end < end);
		text = dcast_line_text(line);
		if (text.at == text.end || *text.at == '?' || *text.at == '<')
			continue;
		symbol = dcast_symbol(text, &offset);
		if (symbol.at == symbol.end)
			return; /* the trace is over */
		if (dcast_is_panics_own(symbol))
			continue;
		dcast_signature_put_span(out, symbol);
		dcast_signature_put(out, '\n');
		frames++;
	}
}

__u32 dcast_signature_text(const char *reason, const char *log, __u32 log_len,
			   char out[DCAST_SIGNATURE_TEXT_BYTES])
{
	struct dcast_signature_out to = { out, 0 };
	const char *end = log + log_len, *at = end;

	dcast_signature_reason(&to, reason);
	while (at > log) {
		struct dcast_span line = dcast_line_before(log, at);

		if (dcast_span_find(line, "Call Trace:")) {
			dcast_signature_place(&to, log, line.at > log ? line.at - 1 : log);
			dcast_signature_frames(&to, line.end + (line.end < end), end);
			break;
		}
		at = line.at > log ? line.at - 1 : log;
	}
	return to.len;
}

void dcast_signature(const struct dcast_siphash_key *key, const char *reason, const char *log,
		     __u32 log_len, __u8 out[DCAST_SIGNATURE_BYTES])
{
	char text[DCAST_SIGNATURE_TEXT_BYTES];
	__u64 hash[2];

	dcast_siphash128_prefixed(key, NULL, 0, text,
				  dcast_signature_text(reason, log, log_len, text), hash);
	dcast_store64(out, hash[0]);
	dcast_store64(out + 8, hash[1]);
}
