/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What crashes of one cause have in common: WIRE.md, "Crash signature", defines it.
 */
#ifndef DUMPCAST_KMOD_CORE_SIGNATURE_H
#define DUMPCAST_KMOD_CORE_SIGNATURE_H

#include "protos/wire/auth.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DCAST_SIGNATURE_TEXT_BYTES 512

/*
 * The text that is hashed: the reason without its numbers, where the processor was, and the first
 * frames of the last call trace in the log, a line each. Bytes written, at most
 * DCAST_SIGNATURE_TEXT_BYTES; what does not fit is left out. log need not end in a NUL.
 * Context: any; pure; looks at each byte of the log a few times at most.
 */
__u32 dcast_signature_text(const char *reason, const char *log, __u32 log_len,
			   char out[DCAST_SIGNATURE_TEXT_BYTES]);

/* SipHash-2-4-128 of that text. Context: any; pure; 600 bytes of stack. */
void dcast_signature(const struct dcast_siphash_key *key, const char *reason, const char *log,
		     __u32 log_len, __u8 out[DCAST_SIGNATURE_BYTES]);

#ifdef __cplusplus
}
#endif

#endif
