// SPDX-License-Identifier: Apache-2.0
// How the store's keys and index values look on disk, and how RocksDB is set up. Version 1.
//
// Changing anything here makes another version: raise kFormatVersion, so that an older relay
// refuses the store by name instead of misreading it.
#ifndef DUMPCAST_STORE_ROCKS_FORMAT_H_
#define DUMPCAST_STORE_ROCKS_FORMAT_H_

#include <rocksdb/options.h>
#include <rocksdb/status.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "store/ids.h"
#include "store/store.h"

namespace dumpcast::rocks {

// Record "format" of column family "default".
inline constexpr std::string_view kFormatKey = "format";
inline constexpr std::string_view kFormatVersion = "dumpcast-store 1";
inline constexpr std::string_view kRelayIdKey = "relay_id";  // 8 bytes, little-endian
inline constexpr std::string_view kDumpPrefix = "d/";        // host_id dump_id -> v1.DumpRecord
inline constexpr std::string_view kHostPrefix = "h/";        // host_id -> v1.HostRecord
inline constexpr std::string_view kBlocksFamily = "blocks";
inline constexpr std::string_view kIndexFamily = "index";

// What the index keeps of an encoding: its header; of an encrypted one the header, the nonce and
// room for the header within and the tag, which is all of a block that carries no page.
inline constexpr size_t kHeaderBytes = 16;  // sizeof(struct dcast_block_hdr)
inline constexpr size_t kEncryptedHeaderBytes = 72;
inline constexpr size_t kDumpBytes = 32;
inline constexpr size_t kBlockKeyBytes = kDumpBytes + 1 + 8 + 8;

std::string DumpPrefix(const DumpKey& dump);
std::string EncodeBlockKey(const DumpKey& dump, const BlockKey& key);
// nullopt when `bytes` is no key of this length.
std::optional<DumpKey> DecodeDump(std::string_view bytes);
std::optional<BlockKey> DecodeBlockKey(std::string_view bytes);
// The first key after all keys of the dump; empty when there is none (ids of 0xff only).
std::string EndOfDump(const DumpKey& dump);

// Index value: le32 encoded length, then the encoding's first bytes: at most kHeaderBytes, or
// kEncryptedHeaderBytes when it is encrypted.
std::string EncodeIndexValue(std::string_view encoded);
struct IndexValue {
  uint32_t encoded_len = 0;
  std::string_view head;
};
std::optional<IndexValue> DecodeIndexValue(std::string_view bytes);

// Options of the database and its families. direct_io is what the file system can do; log gets
// RocksDB's own warnings, a line each, and may be empty. A merge that meets a damaged table calls
// merge_failed, from a thread of the database, and is no reason to take no more.
rocksdb::DBOptions DatabaseOptions(bool direct_io, std::function<void(const std::string&)> log,
                                   std::function<void()> merge_failed);
rocksdb::ColumnFamilyOptions RecordFamilyOptions();
rocksdb::ColumnFamilyOptions BlockFamilyOptions();
rocksdb::ColumnFamilyOptions IndexFamilyOptions();

// Whether files in the directory can be opened with O_DIRECT. Creates and removes one.
bool SupportsDirectIo(const std::string& directory);

// NOT_FOUND, DATA_LOSS (Corruption), RESOURCE_EXHAUSTED (NoSpace), else INTERNAL; `doing` comes
// first.
absl::Status ToAbsl(const rocksdb::Status& status, std::string_view doing);

// What a key in the index without its block means: the error of reading it, or that the dump was
// deleted meanwhile (DATA_LOSS).
absl::Status Vanished(const rocksdb::Status& status, const DumpKey& dump, const BlockKey& key);

}  // namespace dumpcast::rocks

#endif  // DUMPCAST_STORE_ROCKS_FORMAT_H_
