// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
#include "kmod/core/send/kdump_file.h"

#include <lzo/lzo1x.h>
#include <snappy-c.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "protos/wire/bytes.h"

namespace dumpcast {
namespace {

constexpr char kSignature[8] = {'K', 'D', 'U', 'M', 'P', ' ', ' ', ' '};
constexpr uint64_t kRankBits = 512;
constexpr uint64_t kMaxPfn = uint64_t{1} << 40;
constexpr uint64_t kMaxTextBytes = 64 << 20;

// struct disk_dump_header of a 64-bit little-endian machine.
struct Header {
  char signature[8];
  uint32_t version;
  char utsname[6][65];  // sysname nodename release version machine domainname
  char pad[6];
  uint64_t time_s, time_us;
  uint32_t status;
  uint32_t block_size;  // bytes: the page size
  uint32_t sub_hdr_blocks;
  uint32_t bitmap_blocks;  // of both bitmaps
  uint32_t max_mapnr;
  uint32_t total_ram_blocks, device_blocks, written_blocks;
  uint32_t current_cpu, nr_cpus;
};
static_assert(sizeof(Header) == 464 && offsetof(Header, time_s) == 408);
constexpr uint32_t kStatusIncomplete = 0x8;  // DUMP_DH_COMPRESSED_INCOMPLETE

// struct kdump_sub_header; the last three since header version 6.
struct SubHeader {
  uint64_t phys_base;
  uint32_t dump_level, split;
  uint64_t start_pfn, end_pfn;
  uint64_t offset_vmcoreinfo, size_vmcoreinfo;
  uint64_t offset_note, size_note;
  uint64_t offset_eraseinfo, size_eraseinfo;
  uint64_t start_pfn_64, end_pfn_64, max_mapnr_64;
};
static_assert(sizeof(SubHeader) == 104);

// struct page_desc.
struct Descriptor {
  uint64_t offset;
  uint32_t size;
  uint32_t flags;
  uint64_t page_flags;
};
static_assert(sizeof(Descriptor) == 24);
enum : uint32_t { kZlib = 0x1, kLzo = 0x2, kSnappy = 0x4, kZstd = 0x20 };

absl::Status Bad(absl::string_view name, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(name, ": a kdump-compressed file, but ", what));
}

template <size_t N>
std::string Text(const char (&field)[N]) {
  return std::string(field, strnlen(field, N));
}

bool Decompress(uint32_t how, const std::array<uint8_t, KdumpFile::kPageBytes>& from, size_t bytes,
                void* dst) {
  constexpr size_t kPage = KdumpFile::kPageBytes;
  auto* out = static_cast<uint8_t*>(dst);
  if (how == kZlib) {
    uLongf got = kPage;
    return uncompress(out, &got, from.data(), bytes) == Z_OK && got == kPage;
  }
  if (how == kLzo) {
    lzo_uint got = kPage;
    return lzo1x_decompress_safe(from.data(), bytes, out, &got, nullptr) == LZO_E_OK &&
           got == kPage;
  }
  if (how == kSnappy) {
    size_t got = kPage;
    return snappy_uncompress(reinterpret_cast<const char*>(from.data()), bytes,
                             reinterpret_cast<char*>(out), &got) == SNAPPY_OK &&
           got == kPage;
  }
  if (how == kZstd) return ZSTD_decompress(out, kPage, from.data(), bytes) == kPage;
  return false;
}

}  // namespace

bool KdumpFile::Is(const FileBytes& file) {
  char signature[sizeof(kSignature)];
  return file.Copy(0, signature, sizeof(signature)) &&
         std::memcmp(signature, kSignature, sizeof(kSignature)) == 0;
}

absl::StatusOr<std::unique_ptr<KdumpFile>> KdumpFile::Open(const FileBytes* file,
                                                           absl::string_view name) {
  std::unique_ptr<KdumpFile> kdump(new KdumpFile(file));
  const absl::Status status = kdump->Load(name);
  if (!status.ok()) return status;
  return kdump;
}

absl::Status KdumpFile::Load(absl::string_view name) {
  Header header;
  if (!file_->Copy(0, &header, sizeof(header))) return Bad(name, "shorter than its header");
  const uint32_t version = dcast_le32(header.version);
  if (version < 3 || version > 6)
    return Bad(name, absl::StrCat("of header version ", version, ": wanted 3 to 6"));
  if (dcast_le32(header.block_size) != kPageBytes)
    return Bad(name, absl::StrCat("of pages of ", dcast_le32(header.block_size),
                                  " bytes: wanted 4096, of a little-endian host"));
  SubHeader sub{};
  const size_t sub_bytes = version >= 6 ? sizeof(sub) : offsetof(SubHeader, start_pfn_64);
  if (dcast_le32(header.sub_hdr_blocks) == 0 || !file_->Copy(kPageBytes, &sub, sub_bytes))
    return Bad(name, "without a sub header");
  if (dcast_le32(sub.split) != 0)
    return Bad(name,
               "one of several (makedumpfile --split): put them together with "
               "makedumpfile --reassemble");

  max_pfn_ = version >= 6 ? dcast_le64(sub.max_mapnr_64) : dcast_le32(header.max_mapnr);
  const uint64_t bitmaps_at = (1 + uint64_t{dcast_le32(header.sub_hdr_blocks)}) * kPageBytes;
  const uint64_t bitmaps_bytes = uint64_t{dcast_le32(header.bitmap_blocks)} * kPageBytes;
  const uint64_t half = bitmaps_bytes / 2;
  if (max_pfn_ == 0 || max_pfn_ > kMaxPfn || (max_pfn_ + 7) / 8 > half)
    return Bad(name, absl::StrCat("its bitmaps of ", bitmaps_bytes, " bytes are not of ", max_pfn_,
                                  " pages"));
  // Bitmaps are stored whole, also when they are flattened.
  if (bitmaps_at > file_->size() || file_->size() - bitmaps_at < bitmaps_bytes ||
      file_->stored_bytes() < bitmaps_bytes)
    return Bad(name, "its bitmaps are cut off: it is incomplete, fetch it again");
  descriptors_at_ = bitmaps_at + bitmaps_bytes;

  const uint64_t bytes = (max_pfn_ + 7) / 8;
  std::vector<uint8_t> exists(bytes);
  dumped_.resize((bytes + 7) / 8 * 8);
  if (!file_->Copy(bitmaps_at, exists.data(), bytes) ||
      !file_->Copy(bitmaps_at + half, dumped_.data(), bytes))
    return Bad(name, "its bitmaps cannot be read");
  if (max_pfn_ % 8 != 0) dumped_[bytes - 1] &= static_cast<uint8_t>((1u << max_pfn_ % 8) - 1);
  uint64_t rank = 0;
  for (uint64_t at = 0; at < bytes; ++at) {
    if (at % (kRankBits / 8) == 0) before_.push_back(rank);
    rank += static_cast<uint64_t>(std::popcount(dumped_[at]));
  }
  if ((file_->size() - descriptors_at_) / sizeof(Descriptor) < rank)
    return Bad(name, "its page descriptors are cut off: it is incomplete, fetch it again");
  for (uint64_t pfn = 0; pfn < max_pfn_; ++pfn) {
    if (pfn % 8 == 0 && exists[pfn / 8] == 0) {
      pfn += 7;
      continue;
    }
    if ((exists[pfn / 8] >> (pfn % 8) & 1) == 0) continue;
    if (ram_.empty() || ram_.back().second != pfn) ram_.emplace_back(pfn, pfn);
    ++ram_.back().second;
  }

  const auto text = [&](uint64_t offset, uint64_t size, std::string* out) {
    if (size > kMaxTextBytes || size > file_->stored_bytes()) return false;
    out->resize(size);
    return file_->Copy(offset, out->data(), size);
  };
  if (!text(dcast_le64(sub.offset_vmcoreinfo), dcast_le64(sub.size_vmcoreinfo), &vmcoreinfo_) ||
      !text(dcast_le64(sub.offset_note), dcast_le64(sub.size_note), &notes_))
    return Bad(name, "its notes are cut off or too large");
  nodename_ = Text(header.utsname[1]);
  release_ = Text(header.utsname[2]);
  phys_base_ = dcast_le64(sub.phys_base);
  dump_level_ = dcast_le32(sub.dump_level) & 31;
  crash_s_ = dcast_le64(header.time_s);
  incomplete_ = (dcast_le32(header.status) & kStatusIncomplete) != 0;
  static const int lzo = lzo_init();
  return lzo == LZO_E_OK ? absl::OkStatus() : absl::InternalError("liblzo2 cannot start");
}

bool KdumpFile::ReadPage(uint64_t pfn, void* dst) const {
  if (!Has(pfn)) return false;
  uint64_t rank = before_[pfn / kRankBits];
  for (uint64_t at = pfn / kRankBits * (kRankBits / 8); at < pfn / 8; ++at)
    rank += static_cast<uint64_t>(std::popcount(dumped_[at]));
  rank += static_cast<uint64_t>(
      std::popcount(static_cast<uint8_t>(dumped_[pfn / 8] & ((1u << pfn % 8) - 1))));
  Descriptor descriptor;
  if (!file_->Copy(descriptors_at_ + rank * sizeof(descriptor), &descriptor, sizeof(descriptor)))
    return false;
  const uint64_t offset = dcast_le64(descriptor.offset);
  const uint32_t size = dcast_le32(descriptor.size), flags = dcast_le32(descriptor.flags);
  const uint32_t how = flags & (kZlib | kLzo | kSnappy | kZstd);
  if (how == 0) return size == kPageBytes && file_->Copy(offset, dst, kPageBytes);
  std::array<uint8_t, kPageBytes> compressed;
  return size <= compressed.size() && file_->Copy(offset, compressed.data(), size) &&
         Decompress(how, compressed, size, dst);
}

}  // namespace dumpcast
