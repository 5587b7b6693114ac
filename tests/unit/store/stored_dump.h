// SPDX-License-Identifier: Apache-2.0
// Dumps made by DumpBuilder, put into stores under real digests.
#ifndef DUMPCAST_TESTS_UNIT_STORE_STORED_DUMP_H_
#define DUMPCAST_TESTS_UNIT_STORE_STORED_DUMP_H_

#include <functional>
#include <string>
#include <vector>

#include "protos/wire/auth.h"
#include "store/store.h"
#include "tests/unit/vmcore/dump_builder.h"

namespace dumpcast::testing {

// The key of every host in these tests.
const dcast_keys& TestKeys();
uint64_t DigestOf(uint8_t block_class, uint64_t number, std::string_view encoded);
// What a relay's verifier says: OK when the digest is that of the bytes.
absl::Status VerifyDigest(const DumpKey& dump, uint32_t key_epoch, const BlockKey& key,
                          std::string_view encoded);

struct StoredBlock {
  BlockKey key;
  std::string encoded;
};

// The blocks of a source, with their digests.
std::vector<StoredBlock> BlocksOf(const MapBlockSource& source);

// A dump of 40 MiB of RAM in two ranges with pages of all three classes, a log and vmcoreinfo;
// `edit` may change the builder before it is built.
std::vector<StoredBlock> SmallDump(const std::function<void(DumpBuilder*)>& edit = {});

// The same as its host encrypts it for one recipient.
std::vector<StoredBlock> EncryptedSmallDump(const DumpKey& dump, const EndToEndKey& key,
                                            const Recipient& recipient);

// Puts the blocks for which `keep` holds, and flushes.
void PutAll(Store* store, const DumpKey& dump, const std::vector<StoredBlock>& blocks,
            const std::function<bool(const BlockKey&)>& keep = {});

}  // namespace dumpcast::testing

#endif  // DUMPCAST_TESTS_UNIT_STORE_STORED_DUMP_H_
