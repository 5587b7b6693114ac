// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// A kdump-compressed vmcore, as makedumpfile and `virsh dump` write it: its pages and what it says
// of the host. Format: diskdump_mod.h and makedumpfile.h of makedumpfile, header versions 3 to 6.
#ifndef DUMPCAST_KMOD_CORE_SEND_KDUMP_FILE_H_
#define DUMPCAST_KMOD_CORE_SEND_KDUMP_FILE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kmod/core/send/file_bytes.h"

namespace dumpcast {

// Immutable; ReadPage() may be called from any thread. Little-endian hosts with pages of 4 KiB.
class KdumpFile {
 public:
  static constexpr uint64_t kPageBytes = 4096;

  static bool Is(const FileBytes& file);
  // `file` must outlive it. Errors: kInvalidArgument, with what was wanted and found.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<KdumpFile>> Open(const FileBytes* file,
                                                                       absl::string_view name);

  // Of the pages that existed, [first, end), ascending and disjoint.
  const std::vector<std::pair<uint64_t, uint64_t>>& ram() const { return ram_; }
  // Whether the page was dumped, a zero page too.
  bool Has(uint64_t pfn) const {
    return pfn < max_pfn_ && (dumped_[pfn / 8] >> (pfn % 8) & 1) != 0;
  }
  // False when it was not dumped, or cannot be decompressed.
  bool ReadPage(uint64_t pfn, void* dst) const;

  const std::string& notes() const { return notes_; }            // content of PT_NOTE
  const std::string& vmcoreinfo() const { return vmcoreinfo_; }  // text
  const std::string& nodename() const { return nodename_; }
  const std::string& release() const { return release_; }
  uint64_t phys_base() const { return phys_base_; }
  uint64_t crash_s() const { return crash_s_; }  // since 1970, 0 when unknown
  uint32_t dump_level() const { return dump_level_; }
  // The program that wrote it had no room for all.
  bool incomplete() const { return incomplete_; }

 private:
  explicit KdumpFile(const FileBytes* file) : file_(file) {}
  absl::Status Load(absl::string_view name);

  const FileBytes* const file_;
  uint64_t max_pfn_ = 0;
  std::vector<uint8_t> dumped_;   // bit i: page i
  std::vector<uint64_t> before_;  // pages dumped before each kRankBits of them
  uint64_t descriptors_at_ = 0;
  std::vector<std::pair<uint64_t, uint64_t>> ram_;
  std::string notes_, vmcoreinfo_, nodename_, release_;
  uint64_t phys_base_ = 0, crash_s_ = 0;
  uint32_t dump_level_ = 0;
  bool incomplete_ = false;
};

}  // namespace dumpcast

#endif  // DUMPCAST_KMOD_CORE_SEND_KDUMP_FILE_H_
