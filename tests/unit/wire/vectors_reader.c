/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/wire/vectors.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protos/wire/auth.h"
#include "protos/wire/dumpcast_wire.h"

struct field {
  const char* name;
  size_t offset, size;
};

#define AT(prefix, type, base, member) \
  { prefix "." #member, (base) + offsetof(struct type, member), sizeof(((struct type*)0)->member) }
#define HDR(member) AT("hdr", dcast_hdr, 0, member)
#define BODY(prefix, type, member) AT(prefix, type, sizeof(struct dcast_hdr), member)
#define ENTRY(i, member)                                                                     \
  {                                                                                          \
    "nak.entry[" #i "]." #member,                                                            \
        sizeof(struct dcast_hdr) + sizeof(struct dcast_nak) +                                \
            (i) * sizeof(struct dcast_nak_entry) + offsetof(struct dcast_nak_entry, member), \
        sizeof(((struct dcast_nak_entry*)0)->member)                                         \
  }

static const struct field fields[] = {
    HDR(mac),
    HDR(magic),
    HDR(major),
    HDR(minor),
    HDR(type),
    HDR(flags),
    HDR(origin),
    HDR(seq),
    HDR(number),
    HDR(digest),
    HDR(encoded_len),
    HDR(payload_len),
    HDR(key_epoch),
    HDR(symbol_size),
    HDR(path),
    HDR(lane),
    HDR(block_class),
    HDR(index),
    HDR(k),
    HDR(m),
    BODY("announce", dcast_announce, unix_ns),
    BODY("announce", dcast_announce, memory_bytes),
    BODY("announce", dcast_announce, blocks_done),
    BODY("announce", dcast_announce, blocks_total),
    BODY("announce", dcast_announce, interval_ms),
    BODY("announce", dcast_announce, state),
    BODY("announce", dcast_announce, paths),
    BODY("announce", dcast_announce, lanes),
    BODY("announce", dcast_announce, dump_level),
    BODY("end", dcast_end, cls[0].blocks),
    BODY("end", dcast_end, cls[0].id_sum),
    BODY("end", dcast_end, cls[1].blocks),
    BODY("end", dcast_end, cls[1].id_sum),
    BODY("end", dcast_end, cls[2].blocks),
    BODY("end", dcast_end, cls[2].id_sum),
    BODY("end", dcast_end, cls[3].blocks),
    BODY("end", dcast_end, cls[3].id_sum),
    BODY("end", dcast_end, unreadable_pages),
    BODY("end", dcast_end, pass),
    BODY("end", dcast_end, lanes),
    BODY("end", dcast_end, flags),
    BODY("hello", dcast_hello, announce_seq),
    BODY("hello", dcast_hello, lane_mask),
    BODY("hello", dcast_hello, pace_kib_s),
    BODY("hello", dcast_hello, reserved),
    BODY("nak", dcast_nak, entries),
    BODY("nak", dcast_nak, entry_bytes),
    ENTRY(0, number),
    ENTRY(0, digest),
    ENTRY(0, mask),
    ENTRY(0, count),
    ENTRY(0, block_class),
    ENTRY(0, flags),
    ENTRY(1, number),
    ENTRY(1, digest),
    ENTRY(1, mask),
    ENTRY(1, count),
    ENTRY(1, block_class),
    ENTRY(1, flags),
    BODY("pace", dcast_pace, kib_s),
    BODY("pace", dcast_pace, lacking),
    BODY("admit", dcast_admit, verdict),
    BODY("admit", dcast_admit, wait_ms),
    BODY("commit", dcast_commit, lane_mask),
    BODY("commit", dcast_commit, blocks),
};

struct vector {
  unsigned char bytes[16384];
  size_t len;
  unsigned char host_key[DCAST_HOST_KEY_BYTES];
  struct {
    char name[64];
    unsigned long long value;
  } wanted[128];
  size_t nr_wanted;
};

static size_t parse_hex(const char* p, unsigned char* out, size_t room) {
  size_t n = 0;

  for (; *p && *p != '#' && n < room; p++) {
    unsigned int byte;

    if (isspace((unsigned char)*p)) continue;
    if (sscanf(p, "%2x", &byte) != 1) break;
    out[n++] = (unsigned char)byte;
    p++;
  }
  return n;
}

static int parse(FILE* file, struct vector* v) {
  char line[512], name[64], value[128];

  while (fgets(line, sizeof(line), file)) {
    if (line[0] == '#') continue;
    if (line[0] != '=') {
      v->len += parse_hex(line, v->bytes + v->len, sizeof(v->bytes) - v->len);
      continue;
    }
    if (sscanf(line, "= %63s %127s", name, value) != 2) return -1;
    if (!strcmp(name, "host_key")) {
      if (parse_hex(value, v->host_key, sizeof(v->host_key)) != sizeof(v->host_key)) return -1;
    } else if (strcmp(name, "cluster_key")) {
      if (v->nr_wanted == sizeof(v->wanted) / sizeof(v->wanted[0])) return -1;
      strcpy(v->wanted[v->nr_wanted].name, name);
      v->wanted[v->nr_wanted++].value = strtoull(value, NULL, 10);
    }
  }
  return 0;
}

static int check(const struct vector* v, char* why, size_t why_bytes) {
  struct dcast_keys keys;
  size_t i, j;

  dcast_keys_init(&keys, v->host_key);
  if (v->len < sizeof(struct dcast_hdr) ||
      dcast_packet_mac(&keys, v->bytes, v->len) != dcast_load64(v->bytes)) {
    snprintf(why, why_bytes, "the MAC of %zu bytes is wrong", v->len);
    return -1;
  }
  for (i = 0; i < v->nr_wanted; i++) {
    unsigned char raw[8] = {0};

    for (j = 0; j < sizeof(fields) / sizeof(fields[0]); j++)
      if (!strcmp(fields[j].name, v->wanted[i].name)) break;
    if (j == sizeof(fields) / sizeof(fields[0]) || fields[j].offset + fields[j].size > v->len) {
      snprintf(why, why_bytes, "no field %s", v->wanted[i].name);
      return -1;
    }
    memcpy(raw, v->bytes + fields[j].offset, fields[j].size);
    if (dcast_load64(raw) != v->wanted[i].value) {
      snprintf(why, why_bytes, "%s: wanted %llu, read %llu", fields[j].name, v->wanted[i].value,
               (unsigned long long)dcast_load64(raw));
      return -1;
    }
  }
  return (int)v->nr_wanted;
}

int dcast_check_vector(const char* path, char* why, size_t why_bytes) {
  struct vector* v = calloc(1, sizeof(*v));
  FILE* file = fopen(path, "r");
  int result = -1;

  if (!v || !file)
    snprintf(why, why_bytes, "cannot open %s", path);
  else if (parse(file, v))
    snprintf(why, why_bytes, "%s is malformed", path);
  else
    result = check(v, why, why_bytes);
  if (file) fclose(file);
  free(v);
  return result;
}
