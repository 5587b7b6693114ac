/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Little-endian loads, stores and conversions for kernel C, user-space C and C++. */
#ifndef DUMPCAST_PROTOS_WIRE_BYTES_H
#define DUMPCAST_PROTOS_WIRE_BYTES_H

#include <linux/types.h>
#ifdef __KERNEL__
#include <asm/byteorder.h>
#include <linux/string.h>
#define dcast_le16(x)	 le16_to_cpu(x)
#define dcast_le32(x)	 le32_to_cpu(x)
#define dcast_le64(x)	 le64_to_cpu(x)
#define dcast_to_le16(x) cpu_to_le16(x)
#define dcast_to_le32(x) cpu_to_le32(x)
#define dcast_to_le64(x) cpu_to_le64(x)
#else
#include <endian.h>
#include <string.h>
#define dcast_le16(x)	 le16toh(x)
#define dcast_le32(x)	 le32toh(x)
#define dcast_le64(x)	 le64toh(x)
#define dcast_to_le16(x) htole16(x)
#define dcast_to_le32(x) htole32(x)
#define dcast_to_le64(x) htole64(x)
#endif

static inline __u64 dcast_load64(const void *p)
{
	__le64 v;

	memcpy(&v, p, sizeof(v));
	return dcast_le64(v);
}

static inline void dcast_store64(void *p, __u64 x)
{
	const __le64 v = dcast_to_le64(x);

	memcpy(p, &v, sizeof(v));
}

#endif
