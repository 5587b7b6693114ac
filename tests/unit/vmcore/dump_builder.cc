// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/vmcore/dump_builder.h"

#include <elf.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "kmod/core/send/compress.h"
#include "protos/wire/bytes.h"
#include "store/vmcore/block_codec.h"

namespace dumpcast {
namespace {

bool Number(std::string_view text, uint64_t* value) {
  const bool hex = text.substr(0, 2) == "0x";
  if (hex) text.remove_prefix(2);
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, *value, hex ? 16 : 10);
  return error == std::errc() && stopped == end && !text.empty();
}

std::vector<std::string_view> Split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t end = text.find(at);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::string_view Strip(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

template <size_t kBytes>
void SetText(char (&field)[kBytes], std::string_view text) {
  std::memcpy(field, text.data(), std::min(text.size(), kBytes));
}

}  // namespace

absl::StatusOr<BlockState> MapBlockSource::ReadBlock(uint8_t block_class, uint64_t number,
                                                     std::string* encoded) const {
  encoded->clear();
  if (auto it = failures_.find({block_class, number}); it != failures_.end()) return it->second;
  const auto it = blocks_.find({block_class, number});
  if (it == blocks_.end()) return BlockState::kMissing;
  *encoded = it->second;
  return encoded->empty() ? BlockState::kEmpty : BlockState::kHeld;
}

absl::StatusOr<std::vector<HeldRun>> MapBlockSource::HeldRuns(uint8_t block_class, uint64_t first,
                                                              uint64_t last) const {
  std::vector<HeldRun> runs;
  for (auto it = blocks_.lower_bound({block_class, first});
       it != blocks_.end() && it->first.first == block_class && it->first.second <= last; ++it) {
    const uint64_t number = it->first.second;
    if (!runs.empty() && runs.back().first + runs.back().count == number) {
      ++runs.back().count;
    } else {
      runs.push_back({number, 1});
    }
  }
  return runs;
}

std::string EncodeBlock(uint8_t codec, uint8_t page_shift, uint16_t present, uint16_t zero,
                        uint16_t unreadable, std::string_view raw) {
  std::string payload(raw.size(), '\0');
  const auto size = static_cast<uint32_t>(raw.size());
  payload.resize(
      CompressBlock(static_cast<dcast_codec>(codec), raw.data(), size, payload.data(), size));
  if (payload.empty() || payload.size() >= raw.size()) {
    payload.assign(raw);
    codec = DCAST_CODEC_NONE;
  }
  dcast_block_hdr header{};
  header.raw_len = dcast_to_le32(static_cast<uint32_t>(raw.size()));
  header.codec = codec;
  header.page_shift = page_shift;
  header.hdr_len = sizeof(header);
  header.present = dcast_to_le16(present);
  header.zero = dcast_to_le16(zero);
  header.unreadable = dcast_to_le16(unreadable);
  return std::string(reinterpret_cast<const char*>(&header), sizeof(header)) + payload;
}

DumpBuilder::DumpBuilder() : meta{} {
  meta.size = dcast_to_le32(sizeof(meta));
  meta.elf_machine = dcast_to_le16(EM_X86_64);
  meta.page_shift = 12;
  meta.page_offset = dcast_to_le64(0xffff888000000000);
  meta.crash_unix_ns = dcast_to_le64(1'700'000'000'123'456'789);
  meta.cpus = dcast_to_le32(1);
  meta.lanes = dcast_to_le32(1);
  meta.symbol_size = dcast_to_le32(1352);
  SetText(meta.hostname, "crashed");
  SetText(meta.release, "6.1.0-test");
  SetText(meta.version, "#1 SMP");
  SetText(meta.machine, "x86_64");
  SetText(meta.reason, "sysrq triggered crash");
}

void DumpBuilder::AddPage(uint64_t pfn, uint8_t block_class) {
  pages_[pfn] = {block_class, false, {}};
}

void DumpBuilder::AddUnreadable(uint64_t pfn, uint8_t block_class) {
  pages_[pfn] = {block_class, true, {}};
}

void DumpBuilder::AddPage(uint64_t pfn, uint8_t block_class, std::string_view bytes) {
  AddPage(pfn, block_class);
  if (bytes.find_first_not_of('\0') != std::string_view::npos) pages_[pfn].bytes = bytes;
}

bool DumpBuilder::Write(uint64_t paddr, std::string_view bytes) {
  while (!bytes.empty()) {
    const auto it = pages_.find(paddr >> meta.page_shift);
    if (it == pages_.end()) return false;
    it->second.bytes.resize(page_bytes());
    const size_t at = static_cast<size_t>(paddr % page_bytes());
    const size_t take = std::min<size_t>(bytes.size(), page_bytes() - at);
    std::memcpy(it->second.bytes.data() + at, bytes.data(), take);
    bytes.remove_prefix(take);
    paddr += take;
  }
  return true;
}

bool DumpBuilder::Write64(uint64_t paddr, uint64_t value) {
  value = dcast_to_le64(value);
  return Write(paddr, {reinterpret_cast<const char*>(&value), sizeof(value)});
}

bool DumpBuilder::Write32(uint64_t paddr, uint32_t value) {
  value = dcast_to_le32(value);
  return Write(paddr, {reinterpret_cast<const char*>(&value), sizeof(value)});
}

void DumpBuilder::PutStream(MapBlockSource* source, dcast_stream stream,
                            std::string_view bytes) const {
  const size_t chunk =
      stream == DCAST_STREAM_PRESENCE ? sizeof(dcast_presence) : DCAST_WINDOW_BYTES;
  for (size_t at = 0; at < bytes.size(); at += chunk) {
    source->Put(0, dcast_class0_number(stream, at / chunk),
                EncodeBlock(codec, 0, 0, 0, 0, bytes.substr(at, chunk)));
  }
}

std::shared_ptr<MapBlockSource> DumpBuilder::Build() const {
  auto source = std::make_shared<MapBlockSource>();
  const unsigned per_window = DCAST_WINDOW_BYTES >> meta.page_shift;
  struct Block {
    uint16_t present = 0, zero = 0, unreadable = 0;
    std::string raw;
  };
  std::map<std::pair<uint8_t, uint64_t>, Block> blocks;
  for (const auto& [pfn, page] : pages_) {
    Block& block = blocks[{page.block_class, pfn / per_window}];
    const uint16_t bit = static_cast<uint16_t>(1u << (pfn % per_window));
    block.present |= bit;
    if (page.unreadable) {
      block.unreadable |= bit;
    } else if (page.bytes.find_first_not_of('\0') == std::string::npos) {
      block.zero |= bit;
    } else {
      block.raw += page.bytes;
    }
  }
  uint64_t window_end = 0;
  std::string memory_map;
  for (const auto& [start, end] : ram) {
    const dcast_range range{dcast_to_le64(start), dcast_to_le64(end)};
    memory_map.append(reinterpret_cast<const char*>(&range), sizeof(range));
    window_end = std::max(window_end, (end + DCAST_WINDOW_BYTES - 1) >> DCAST_WINDOW_SHIFT);
  }
  std::vector<dcast_presence> presence((window_end + DCAST_SLICE_WINDOWS - 1) /
                                       DCAST_SLICE_WINDOWS);
  for (const auto& [key, block] : blocks) {
    const auto& [block_class, window] = key;
    source->Put(block_class, window,
                EncodeBlock(codec, meta.page_shift, block.present, block.zero, block.unreadable,
                            block.raw));
    if (window >= window_end) continue;
    presence[window / DCAST_SLICE_WINDOWS]
        .bits[block_class - 1][window % DCAST_SLICE_WINDOWS / 8] |=
        static_cast<uint8_t>(1u << (window % 8));
  }
  const std::string_view slices(reinterpret_cast<const char*>(presence.data()),
                                presence.size() * sizeof(dcast_presence));
  const std::pair<dcast_stream, std::string_view> streams[] = {
      {DCAST_STREAM_VMCOREINFO, vmcoreinfo}, {DCAST_STREAM_NOTES, notes},
      {DCAST_STREAM_MEMMAP, memory_map},     {DCAST_STREAM_LOG, log},
      {DCAST_STREAM_PRESENCE, slices},
  };
  dcast_meta filled = meta;
  filled.window_end = dcast_to_le64(window_end);
  filled.stream_len[DCAST_STREAM_META] = dcast_to_le64(sizeof(filled));
  for (const auto& [stream, bytes] : streams) {
    filled.stream_len[stream] = dcast_to_le64(bytes.size());
    PutStream(source.get(), stream, bytes);
  }
  PutStream(source.get(), DCAST_STREAM_META,
            {reinterpret_cast<const char*>(&filled), sizeof(filled)});
  for (const auto& [block_class, number] : dropped_) source->Drop(block_class, number);
  for (const auto& [block_class, number] : empty_) source->PutEmpty(block_class, number);
  return source;
}

std::shared_ptr<MapBlockSource> DumpBuilder::BuildEncrypted(
    const EndToEndKey& key, const std::array<uint8_t, DCAST_ID_BYTES>& dump_id,
    const std::vector<Recipient>& recipients) const {
  std::shared_ptr<MapBlockSource> source = Build();
  std::string boxes;
  for (const Recipient& recipient : recipients) {
    const dcast_key_box box = MakeKeyBox(key, recipient);
    boxes.append(reinterpret_cast<const char*>(&box), sizeof(box));
  }
  const auto stored = source->blocks().find({0, dcast_class0_number(DCAST_STREAM_META, 0)});
  if (stored != source->blocks().end() && !stored->second.empty()) {
    dcast_meta whole;
    std::memcpy(&whole, DecodeBlock(0, 0, stored->second)->raw.data(), sizeof(whole));
    whole.stream_len[DCAST_STREAM_WHOLE_META] = dcast_to_le64(sizeof(whole));
    whole.stream_len[DCAST_STREAM_KEYS] = dcast_to_le64(boxes.size());
    PutStream(source.get(), DCAST_STREAM_WHOLE_META,
              {reinterpret_cast<const char*>(&whole), sizeof(whole)});
    dcast_meta clear = whole;
    clear.flags = dcast_to_le64(dcast_le64(whole.flags) | DCAST_META_ENCRYPTED);
    clear.page_offset = clear.text_vaddr = clear.text_paddr = clear.text_bytes = 0;
    clear.vmemmap_vaddr = 0;
    clear.crash_cpu = 0;
    std::memset(clear.reason, 0, sizeof(clear.reason));
    PutStream(source.get(), DCAST_STREAM_META,
              {reinterpret_cast<const char*>(&clear), sizeof(clear)});
  }
  PutStream(source.get(), DCAST_STREAM_KEYS, boxes);
  for (const auto& [block_class, number] : dropped_) source->Drop(block_class, number);
  const CipherKeys keys(key);
  const std::map<std::pair<uint8_t, uint64_t>, std::string> blocks = source->blocks();
  for (const auto& [id, encoded] : blocks) {
    const auto& [block_class, number] = id;
    if (encoded.empty() || (block_class == 0 && dcast_stream_is_clear(static_cast<unsigned>(
                                                    number >> DCAST_STREAM_SHIFT)) != 0)) {
      continue;
    }
    source->Put(block_class, number,
                EncryptEncoding(keys, dump_id.data(), block_class, number, encoded));
  }
  return source;
}

absl::StatusOr<DumpBuilder> DumpBuilder::FromText(std::string_view text) {
  DumpBuilder builder;
  int number = 0;
  for (std::string_view line : Split(text, '\n')) {
    ++number;
    line = Strip(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    if (absl::Status status = builder.Statement(line); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("line ", number, ": ", status.message()));
    }
  }
  return builder;
}

absl::Status DumpBuilder::Statement(std::string_view line) {
  std::vector<std::string_view> words = Split(line, ' ');
  std::erase(words, "");
  const std::string_view what = words[0];
  absl::Status malformed = absl::InvalidArgumentError("not understood: " + std::string(line));
  if (what == "info" || what == "log") {
    const std::string_view rest = Strip(line.substr(what.size()));
    (what == "info" ? vmcoreinfo : log).append(rest).append("\n");
    return absl::OkStatus();
  }
  if (what == "codec") {
    constexpr std::array<std::string_view, 3> kCodecs = {"none", "lz4", "zstd"};
    const auto at =
        words.size() == 2 ? std::find(kCodecs.begin(), kCodecs.end(), words[1]) : kCodecs.end();
    if (at == kCodecs.end()) return malformed;
    codec = static_cast<uint8_t>(at - kCodecs.begin());
    return absl::OkStatus();
  }
  if (what == "bytes") {
    uint64_t paddr = 0;
    if (words.size() != 3 || !Number(words[1], &paddr)) return malformed;
    if (!Write(paddr, absl::HexStringToBytes(std::string(words[2])))) {
      return absl::InvalidArgumentError("no such page: " + std::string(line));
    }
    return absl::OkStatus();
  }
  if (what == "page") {
    if (words.size() != 4) return malformed;
    const size_t dash = words[1].find('-');
    uint64_t first = 0, last = 0, cls = 0, byte = 0;
    if (!Number(words[1].substr(0, dash), &first) || !Number(words[2], &cls) || cls < 1 ||
        cls > 3) {
      return malformed;
    }
    last = first;
    if (dash != std::string_view::npos && !Number(words[1].substr(dash + 1), &last)) {
      return malformed;
    }
    for (uint64_t pfn = first; pfn <= last; ++pfn) {
      const uint8_t block_class = static_cast<uint8_t>(cls);
      if (words[3] == "zero") {
        AddPage(pfn, block_class);
      } else if (words[3] == "unreadable") {
        AddUnreadable(pfn, block_class);
      } else if (words[3] == "own") {
        AddPage(pfn, block_class);
        for (uint64_t at = 0; at < page_bytes(); at += 8) {
          Write64((pfn << meta.page_shift) + at, pfn);
        }
      } else if (Number(words[3], &byte) && byte < 256) {
        AddPage(pfn, block_class, std::string(page_bytes(), static_cast<char>(byte)));
      } else {
        return malformed;
      }
    }
    return absl::OkStatus();
  }
  uint64_t values[3] = {0, 0, 0};
  if (words.size() > 4) return malformed;
  for (size_t i = 1; i < words.size(); ++i) {
    if (!Number(words[i], &values[i - 1])) return malformed;
  }
  const size_t count = words.size() - 1;
  if (what == "ram" && count == 2) {
    ram.emplace_back(values[0], values[1]);
  } else if (what == "page_shift" && count == 1) {
    meta.page_shift = static_cast<uint8_t>(values[0]);
  } else if (what == "page_offset" && count == 1) {
    meta.page_offset = dcast_to_le64(values[0]);
  } else if (what == "text" && count == 3) {
    meta.text_vaddr = dcast_to_le64(values[0]);
    meta.text_paddr = dcast_to_le64(values[1]);
    meta.text_bytes = dcast_to_le64(values[2]);
  } else if (what == "drop" && count == 2) {
    dropped_.emplace_back(static_cast<uint8_t>(values[0]), values[1]);
  } else if (what == "empty" && count == 2) {
    empty_.emplace_back(static_cast<uint8_t>(values[0]), values[1]);
  } else if (what == "drop_stream" && (count == 1 || count == 2)) {
    dropped_.emplace_back(uint8_t{0},
                          dcast_class0_number(static_cast<unsigned>(values[0]), values[1]));
  } else {
    return malformed;
  }
  return absl::OkStatus();
}

}  // namespace dumpcast
