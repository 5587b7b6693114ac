/* SPDX-License-Identifier: Apache-2.0 */
/* The C reader of protos/wire/vectors, called from the C++ test program. */
#ifndef DUMPCAST_TESTS_UNIT_WIRE_VECTORS_H_
#define DUMPCAST_TESTS_UNIT_WIRE_VECTORS_H_

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Reads one packet vector with the header's structures, in C: every `= name value` line must
 * be what the structure says, and the MAC must be right. Number of fields compared, or -1 with
 * the reason in why.
 */
int dcast_check_vector(const char* path, char* why, size_t why_bytes);

#ifdef __cplusplus
}
#endif

#endif /* DUMPCAST_TESTS_UNIT_WIRE_VECTORS_H_ */
