// SPDX-License-Identifier: Apache-2.0
#include "kmod/arm/arming.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "kmod/arm/loading.h"

namespace dumpcast {
namespace {

// A page of configfs, less a bit.
constexpr size_t kMostWritten = 3500;

std::string Attribute(absl::string_view name) {
  return absl::StrCat(kConfigRoot, "/", name);
}

template <typename Bytes>
std::string Hex(const Bytes& bytes) {
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

// What is written of the host itself, gathered before a host that is armed already is let go.
struct HostIdentity {
  HostId host_id{};
  std::string boot_id, hostname;
  uint16_t key_epoch = 0;
  Key host_key{};
};

absl::StatusOr<HostIdentity> GatherIdentity(const Files& files, const ArmConfig& config) {
  HostIdentity identity;
  const absl::StatusOr<HostId> host_id = FindHostId(files, config);
  if (!host_id.ok()) return host_id.status();
  identity.host_id = *host_id;
  const absl::StatusOr<std::string> boot_id = files.Read("/proc/sys/kernel/random/boot_id");
  if (!boot_id.ok()) return boot_id.status();
  identity.boot_id = *boot_id;
  identity.hostname = config.hostname.empty() ? files.Read("/proc/sys/kernel/hostname").value_or("")
                                              : config.hostname;
  ClusterKeys keys = UnauthenticatedKeys();
  if (!config.key_file.empty()) {
    absl::StatusOr<ClusterKeys> loaded = LoadKeyFile(files.Path(config.key_file));
    if (!loaded.ok()) return loaded.status();
    keys = *std::move(loaded);
  }
  identity.key_epoch = keys.NewestEpoch();
  identity.host_key = *keys.HostKey(identity.host_id, identity.key_epoch);  // the newest is there
  return identity;
}

// The module would refuse a path without a device, but only after the host was disarmed.
absl::Status CheckDevices(const Files& files, const ArmConfig& config) {
  for (const PathConfig& path : config.paths) {
    if (files.Exists(absl::StrCat("/sys/class/net/", path.device))) continue;
    return absl::NotFoundError(absl::StrCat("path ", path.name, ": no network device ", path.device,
                                            "; see `ip link` for the names"));
  }
  return absl::OkStatus();
}

// Where each processor's registers are left when it is stopped.
absl::Status WriteCrashNotes(const Files& files) {
  std::string lines;
  absl::Status status;
  for (const std::string& name : files.List("/sys/devices/system/cpu")) {
    absl::string_view number = name;
    int cpu = 0;
    if (!absl::ConsumePrefix(&number, "cpu") || !absl::SimpleAtoi(number, &cpu)) continue;
    const auto address = files.Read(absl::StrCat("/sys/devices/system/cpu/", name, "/crash_notes"));
    if (!address.ok()) continue;
    absl::StrAppend(&lines, cpu, " ", *address, "\n");
    if (lines.size() > kMostWritten) {
      status.Update(files.Write(Attribute("crash_notes"), lines));
      lines.clear();
    }
  }
  if (!lines.empty()) status.Update(files.Write(Attribute("crash_notes"), lines));
  return status;
}

absl::Status RemovePaths(const Files& files) {
  absl::Status status;
  for (const std::string& name : files.List(Attribute("paths"))) {
    status.Update(files.RemoveFolder(Attribute(absl::StrCat("paths/", name))));
  }
  return status;
}

absl::Status WritePath(const Files& files, const PathConfig& path) {
  const std::string folder = Attribute(absl::StrCat("paths/", path.name));
  if (absl::Status status = files.MakeFolder(folder); !status.ok()) return status;
  std::map<std::string, std::string> attributes = path.attributes;
  attributes["device"] = path.device;
  attributes["destination"] = absl::StrJoin(path.destinations, " ");
  attributes["port"] = absl::StrCat(path.port);
  for (const auto& [name, value] : attributes) {
    absl::Status status = files.Write(absl::StrCat(folder, "/", name), value);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// A key of this arming's own, for those who may read its dumps. It is not kept anywhere else.
absl::Status WriteCipherKeys(const Files& files, const std::vector<Recipient>& recipients) {
  std::string boxes = "\n";
  if (!recipients.empty()) {
    const EndToEndKey key = NewEndToEndKey();
    const CipherKeys cipher(key);
    const Secret<16> signature = SignatureKey(recipients);
    Secret<DCAST_CIPHER_KEY_BYTES + 16 + 16> all;  // as kmod/linux/configfs.c wants them
    std::copy(std::begin(cipher.cipher), std::end(cipher.cipher), all.data());
    dcast_store64(all.data() + DCAST_CIPHER_KEY_BYTES, cipher.nonce.k0);
    dcast_store64(all.data() + DCAST_CIPHER_KEY_BYTES + 8, cipher.nonce.k1);
    std::copy(signature.data(), signature.data() + signature.size(),
              all.data() + DCAST_CIPHER_KEY_BYTES + 16);
    for (const Recipient& recipient : recipients) {
      const dcast_key_box box = MakeKeyBox(key, recipient);
      absl::StrAppend(&boxes,
                      absl::BytesToHexString(
                          absl::string_view(reinterpret_cast<const char*>(&box), sizeof(box))),
                      "\n");
    }
    absl::Status status = files.WriteSecret(Attribute("cipher_keys"), all.data(), all.size());
    if (!status.ok()) return status;
  }
  return files.Write(Attribute("key_boxes"), boxes);
}

absl::Status WriteSettings(const Files& files, const ArmConfig& config,
                           const HostIdentity& identity) {
  absl::Status status = files.Write(Attribute("host_id"), Hex(identity.host_id));
  status.Update(files.Write(Attribute("boot_id"), identity.boot_id));
  status.Update(files.Write(Attribute("hostname"), identity.hostname));
  status.Update(
      files.WriteSecret(Attribute("host_key"), identity.host_key.data(), identity.host_key.size()));
  status.Update(WriteCipherKeys(files, config.recipients));
  status.Update(files.Write(Attribute("key_epoch"), absl::StrCat(identity.key_epoch)));
  status.Update(WriteCrashNotes(files));
  for (const auto& [name, value] : config.attributes) {
    status.Update(files.Write(Attribute(name), value));
  }
  return status;
}

absl::Status WriteAll(const Files& files, const ArmConfig& config, const HostIdentity& identity) {
  if (absl::Status status = Disarm(files); !status.ok()) return status;
  if (absl::Status status = WriteSettings(files, config, identity); !status.ok()) return status;
  for (const PathConfig& path : config.paths) {
    if (absl::Status status = WritePath(files, path); !status.ok()) return status;
  }
  return files.Write(Attribute("armed"), "1");
}

absl::Status CheckReady(const Files& files) {
  const absl::StatusOr<ArmStatus> status = ReadStatus(files);
  if (!status.ok()) return status.status();
  if (!status->armed) {
    return absl::FailedPreconditionError("the host is not armed: `dumpcast-arm arm` first");
  }
  if (status->running) {
    return absl::AbortedError(absl::StrCat("another dump is under way: ", status->running->dump_id,
                                           "; wait for its end"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<HostId> FindHostId(const Files& files, const ArmConfig& config) {
  std::string text = config.host_id;
  if (text.empty()) {
    const absl::StatusOr<std::string> machine_id = files.Read("/etc/machine-id");
    if (!machine_id.ok()) {
      return absl::FailedPreconditionError(
          absl::StrCat(machine_id.status().message(),
                       ": make one with `systemd-machine-id-setup`, or set host_id"));
    }
    text = *machine_id;
  }
  text = absl::StrReplaceAll(text, {{"-", ""}});
  const bool hex = std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isxdigit(static_cast<unsigned char>(c));
  });
  if (text.size() != 2 * kHostIdBytes || !hex) {
    return absl::FailedPreconditionError(
        "/etc/machine-id: wanted 32 hex digits: make one with `systemd-machine-id-setup`, or set "
        "host_id");
  }
  const std::string bytes = absl::HexStringToBytes(text);
  HostId id;
  std::copy(bytes.begin(), bytes.end(), id.begin());
  return id;
}

absl::Status Arm(const Files& files, const ArmConfig& config) {
  const absl::StatusOr<HostIdentity> identity = GatherIdentity(files, config);
  if (!identity.ok()) return identity.status();
  if (absl::Status status = CheckDevices(files, config); !status.ok()) return status;
  absl::Status status = WriteAll(files, config, *identity);
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat(status.message(), "; `dmesg | grep dumpcast` says more"));
}

absl::Status Disarm(const Files& files) {
  if (!files.Exists(Attribute("armed"))) return absl::OkStatus();
  absl::Status status = files.Write(Attribute("armed"), "0");
  status.Update(RemovePaths(files));
  return status;
}

absl::Status SendTestDump(const Files& files) {
  const absl::Status ready = CheckReady(files);
  return ready.ok() ? files.Write(Attribute("test"), "1") : ready;
}

absl::Status SendLiveDump(const Files& files, unsigned dump_level, uint64_t rate_kib_s) {
  const absl::Status ready = CheckReady(files);
  return ready.ok() ? files.Write(Attribute("dump"), absl::StrCat(dump_level, " ", rate_kib_s))
                    : ready;
}

absl::StatusOr<ArmStatus> ReadStatus(const Files& files) {
  if (!files.Exists(Attribute("status"))) return ArmStatus();
  const absl::StatusOr<std::string> text = files.Read(Attribute("status"));
  if (!text.ok()) return text.status();
  return ParseStatus(*text);
}

}  // namespace dumpcast
