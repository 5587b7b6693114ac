// SPDX-License-Identifier: Apache-2.0
#include "client/decrypted_dump.h"

#include <sodium.h>

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "client/remote_source.h"
#include "store/vmcore/encrypted_source.h"
#include "store/vmcore/log_reader.h"

namespace dumpcast {
namespace {

constexpr uint64_t kLayoutStepBytes = 1 << 20;

// What follows "/dumps/" in a full resource name.
absl::StatusOr<std::array<uint8_t, DCAST_ID_BYTES>> DumpIdOf(const std::string& name) {
  std::array<uint8_t, DCAST_ID_BYTES> id;
  const std::string hex = name.substr(name.rfind('/') + 1);
  if (sodium_hex2bin(id.data(), id.size(), hex.data(), hex.size(), nullptr, nullptr, nullptr) !=
          0 ||
      hex.size() != 2 * id.size()) {
    return absl::InternalError(
        absl::StrCat("named the dump \"", name, "\", wanted an id of 32 hex digits at its end"));
  }
  return id;
}

// The relay knows the dump, but holds too little of it: another may hold more, and so may this one
// later.
absl::Status NotYet(const absl::Status& status) {
  if (!absl::IsNotFound(status)) return status;
  return absl::UnavailableError(absl::StrCat("cannot be opened yet: ", status.message()));
}

// The last `lines` lines; 0: all.
std::string Tail(std::string text, uint32_t lines) {
  if (lines == 0 || text.empty()) return text;
  size_t at = text.size() - 1;  // the last newline ends the last line
  while (lines-- != 0) {
    at = at == 0 ? std::string::npos : text.rfind('\n', at - 1);
    if (at == std::string::npos) return text;
  }
  return text.substr(at + 1);
}

}  // namespace

absl::StatusOr<Identity> ReadIdentity(const std::string& path) {
  if (path.empty()) {
    return absl::FailedPreconditionError(
        "the dump is encrypted: name the identity that opens it with --identity FILE, "
        "DUMPCAST_IDENTITY, or `identity` in client.toml; it is of one of those for whom the host "
        "was armed");
  }
  absl::StatusOr<Identity> identity = LoadIdentity(path);
  // Not the dump was not found.
  if (absl::IsNotFound(identity.status())) {
    return absl::InvalidArgumentError(identity.status().message());
  }
  return identity;
}

absl::StatusOr<DecryptedDump> OpenDecrypted(const Servers& servers, Server* server,
                                            const std::string& name, const Identity& identity) {
  const auto dump_id = DumpIdOf(name);
  if (!dump_id.ok()) return dump_id.status();
  auto blocks = RemoteSource::Open(server, name, servers.deadline());
  if (!blocks.ok()) return blocks.status();
  auto source = EncryptedSource::Open(*blocks, *dump_id, identity);
  if (!source.ok()) return NotYet(source.status());
  auto memory = MemoryView::Open(*std::move(source));
  if (!memory.ok()) return NotYet(memory.status());
  return DecryptedDump{*std::move(memory), (*blocks)->etag()};
}

absl::StatusOr<std::string> DecryptedFileEtag(const DecryptedDump& dump, absl::string_view format,
                                              const FileView& file) {
  crypto_generichash_state state;
  std::array<uint8_t, 16> hash;
  crypto_generichash_init(&state, nullptr, 0, hash.size());
  std::string layout;
  for (uint64_t at = 0; at < file.layout_bytes(); at += layout.size()) {
    layout.resize(std::min(kLayoutStepBytes, file.layout_bytes() - at));
    if (absl::Status status = file.Read(at, layout.size(), layout.data()); !status.ok()) {
      return status;
    }
    crypto_generichash_update(&state, reinterpret_cast<const uint8_t*>(layout.data()),
                              layout.size());
  }
  crypto_generichash_final(&state, hash.data(), hash.size());
  return absl::StrCat(dump.etag, "-", format, "-",
                      absl::BytesToHexString(absl::string_view(
                          reinterpret_cast<const char*>(hash.data()), hash.size())));
}

absl::StatusOr<DumpLog> ReadDecryptedLog(Servers& servers, const std::string& name,
                                         const Identity& identity, uint32_t tail_lines) {
  DumpLog log;
  absl::Status status = servers.Try([&](Server& server) {
    auto dump = OpenDecrypted(servers, &server, name, identity);
    if (!dump.ok()) return dump.status();
    auto read = ReadKernelLog(*dump->memory);
    if (!read.ok()) return NotYet(read.status());
    log.text = Tail(std::move(read->text), tail_lines);
    log.source = read->origin == LogOrigin::kMemory ? v1::LOG_SOURCE_MEMORY : v1::LOG_SOURCE_STREAM;
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return log;
}

}  // namespace dumpcast
