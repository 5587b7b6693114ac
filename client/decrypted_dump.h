// SPDX-License-Identifier: Apache-2.0
// Encrypted dumps, whose views are made here: relays cannot read them.
#ifndef DUMPCAST_CLIENT_DECRYPTED_DUMP_H_
#define DUMPCAST_CLIENT_DECRYPTED_DUMP_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/api.h"
#include "client/servers.h"
#include "protos/keys/end_to_end.h"
#include "store/vmcore/file_view.h"
#include "store/vmcore/memory_view.h"

namespace dumpcast {

// Reads the identity file that an encrypted dump needs. `path` may be empty: none was named.
// FAILED_PRECONDITION says how to name one; INVALID_ARGUMENT when there is no such file, or no
// identity in it; PERMISSION_DENIED when others can read it.
absl::StatusOr<Identity> ReadIdentity(const std::string& path);

struct DecryptedDump {
  std::shared_ptr<const MemoryView> memory;
  std::string etag;  // of the block set
};

// Opens what one server holds. name: full resource name.
// Errors of RemoteSource::Open(), EncryptedSource::Open() and MemoryView::Open(); UNAVAILABLE while
// what is needed to open it has not arrived there.
absl::StatusOr<DecryptedDump> OpenDecrypted(const Servers& servers, Server* server,
                                            const std::string& name, const Identity& identity);

// Names a file made here. Equal only when the same bytes lie at the same offsets, whatever a relay
// says of the blocks it holds: beside block set and format it has a hash of the file's layout.
absl::StatusOr<std::string> DecryptedFileEtag(const DecryptedDump& dump, absl::string_view format,
                                              const FileView& file);

// As ReadLog() of api.h, read here.
absl::StatusOr<DumpLog> ReadDecryptedLog(Servers& servers, const std::string& name,
                                         const Identity& identity, uint32_t tail_lines);

}  // namespace dumpcast

#endif  // DUMPCAST_CLIENT_DECRYPTED_DUMP_H_
