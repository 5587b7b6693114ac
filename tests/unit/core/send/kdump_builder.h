// SPDX-License-Identifier: Apache-2.0
// Kdump-compressed files made in memory, and files flattened, for tests.
#ifndef DUMPCAST_TESTS_UNIT_CORE_SEND_KDUMP_BUILDER_H_
#define DUMPCAST_TESTS_UNIT_CORE_SEND_KDUMP_BUILDER_H_

#include <endian.h>
#include <lzo/lzo1x.h>
#include <snappy-c.h>
#include <zlib.h>
#include <zstd.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace dumpcast {

// The structures are written field by field, by their offsets in makedumpfile's headers, so that a
// wrong layout in the reader is not repeated here.
class KdumpBuilder {
 public:
  enum How : uint32_t { kPlain = 0, kZlib = 1, kLzo = 2, kSnappy = 4, kZstd = 0x20 };

  void Ram(uint64_t first, uint64_t pages) {
    for (uint64_t pfn = first; pfn < first + pages; ++pfn) ram_.insert(pfn);
  }
  void Page(uint64_t pfn, std::string bytes, How how = kPlain) {
    pages_[pfn] = {how, std::move(bytes)};
  }
  std::string notes, vmcoreinfo;
  uint32_t version = 6, status = 0, split = 0, page_bytes = 4096;
  uint64_t phys_base = 0, max_pfn = 0x200;

  std::string Build() const {
    const uint64_t half_blocks = (max_pfn / 8 + 4095) / 4096;
    std::string bitmaps(2 * half_blocks * 4096, '\0');
    const auto set = [&](uint64_t at, uint64_t pfn) {
      bitmaps[at + pfn / 8] = static_cast<char>(bitmaps[at + pfn / 8] | 1 << pfn % 8);
    };
    for (const uint64_t pfn : ram_) set(0, pfn);
    for (const auto& [pfn, page] : pages_) set(half_blocks * 4096, pfn);
    const uint64_t notes_at = 2 * 4096 + bitmaps.size() + pages_.size() * 24;
    std::string data = notes + vmcoreinfo, descriptors;
    for (const auto& [pfn, page] : pages_) {
      const std::string stored = Compress(page.first, page.second);
      Put(&descriptors, descriptors.size(), notes_at + data.size(), 8);
      Put(&descriptors, descriptors.size(), stored.size(), 4);
      Put(&descriptors, descriptors.size(), page.first, 4);
      Put(&descriptors, descriptors.size(), 0, 8);
      data += stored;
    }
    std::string header(2 * 4096, '\0');
    header.replace(0, 8, "KDUMP   ");
    Put(&header, 8, version, 4);
    header.replace(12 + 65, 4, "web1");
    header.replace(12 + 2 * 65, 7, "6.1.0-9");
    Put(&header, 408, 1700000000, 8);
    Put(&header, 424, status, 4);
    Put(&header, 428, page_bytes, 4);
    Put(&header, 432, 1, 4);  // sub header's blocks
    Put(&header, 436, 2 * half_blocks, 4);
    Put(&header, 440, max_pfn, 4);
    Put(&header, 4096 + 0, phys_base, 8);
    Put(&header, 4096 + 8, 31, 4);  // dump level
    Put(&header, 4096 + 12, split, 4);
    Put(&header, 4096 + 32, notes_at + notes.size(), 8);
    Put(&header, 4096 + 40, vmcoreinfo.size(), 8);
    Put(&header, 4096 + 48, notes_at, 8);
    Put(&header, 4096 + 56, notes.size(), 8);
    if (version >= 6) Put(&header, 4096 + 96, max_pfn, 8);
    return header + bitmaps + descriptors + data;
  }

  // As makedumpfile -F writes it, in pieces; the first of them is written twice, wrong at first.
  static std::string Flatten(const std::string& file, size_t piece) {
    std::string out("makedumpfile\0\0\0\0", 16);
    Record(&out, 1, 1);
    out.resize(4096);
    Record(&out, 0, piece);
    out += std::string(piece, '?');
    for (size_t at = 0; at < file.size(); at += piece) {
      const std::string bytes = file.substr(at, piece);
      if (bytes.find_first_not_of('\0') == std::string::npos && at + piece < file.size()) continue;
      Record(&out, at, bytes.size());
      out += bytes;
    }
    Record(&out, ~uint64_t{0}, ~uint64_t{0});
    return out;
  }

 private:
  static void Put(std::string* out, size_t at, uint64_t value, size_t bytes) {
    if (out->size() < at + bytes) out->resize(at + bytes);
    value = htole64(value);
    std::memcpy(out->data() + at, &value, bytes);
  }
  static void Record(std::string* out, uint64_t first, uint64_t second) {
    for (uint64_t value : {first, second}) {
      value = htobe64(value);
      out->append(reinterpret_cast<const char*>(&value), sizeof(value));
    }
  }
  static std::string Compress(How how, const std::string& page) {
    std::string out(2 * page.size() + 1024, '\0');
    auto* to = reinterpret_cast<uint8_t*>(out.data());
    const auto* from = reinterpret_cast<const uint8_t*>(page.data());
    size_t size = out.size();
    if (how == kPlain) return page;
    if (how == kZlib) {
      uLongf got = out.size();
      compress(to, &got, from, page.size());
      size = got;
    } else if (how == kLzo) {
      std::vector<uint8_t> work(LZO1X_1_MEM_COMPRESS);
      lzo_uint got = 0;
      lzo1x_1_compress(from, page.size(), to, &got, work.data());
      size = got;
    } else if (how == kSnappy) {
      snappy_compress(page.data(), page.size(), out.data(), &size);
    } else {
      size = ZSTD_compress(to, out.size(), from, page.size(), 1);
    }
    out.resize(size);
    return out;
  }

  std::set<uint64_t> ram_;
  std::map<uint64_t, std::pair<How, std::string>> pages_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_TESTS_UNIT_CORE_SEND_KDUMP_BUILDER_H_
