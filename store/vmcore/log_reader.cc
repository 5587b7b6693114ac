// SPDX-License-Identifier: Apache-2.0
// The structures and their rules: Documentation/admin-guide/kdump/vmcoreinfo.rst and
// kernel/printk/printk_ringbuffer.c of Linux 5.10 to 6.12.
#include "store/vmcore/log_reader.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "protos/wire/bytes.h"
#include "store/vmcore/virtual_memory.h"

namespace dumpcast {
namespace {

// Limits on what the dump's own words may make us do. The kernel's own default is 2^12 records and
// 2^18 bytes; log_buf_len= goes to 2^31.
constexpr uint64_t kMaxCountBits = 26;
constexpr uint64_t kMaxSizeBits = 31;
constexpr size_t kMaxTextBytes = size_t{512} << 20;
constexpr uint64_t kMaxStructBytes = 4096;
constexpr uint64_t kMaxStreamBytes = uint64_t{512} << 20;

// A descriptor's state lives in the upper two bits of its state_var, its id in the others.
constexpr int kStateShift = 62;
constexpr uint64_t kIdMask = (uint64_t{1} << kStateShift) - 1;
constexpr uint64_t kCommitted = 1;
constexpr uint64_t kFinalized = 2;
// Positions with this bit set stand for records without data.
constexpr uint64_t kDatalessBit = 1;
constexpr uint64_t kBlockIdBytes = 8;  // prb_data_block.id, before the text

// Offsets and sizes from vmcoreinfo; 64-bit kernels.
struct Layout {
  uint64_t ring_bytes, ring_desc_ring, ring_text_ring;
  uint64_t desc_ring_count_bits, desc_ring_descs, desc_ring_infos, desc_ring_head, desc_ring_tail;
  uint64_t desc_bytes, desc_state, desc_lpos, lpos_begin, lpos_next;
  uint64_t info_bytes, info_ts, info_text_len;
  uint64_t data_size_bits, data_data;
  uint64_t counter;
};

absl::StatusOr<Layout> ReadLayout(const Vmcoreinfo& info) {
  Layout l{};
  struct Wanted {
    const char* name;
    uint64_t* value;
    bool size;
    uint64_t bytes;  // of the field
  };
  const Wanted wanted[] = {
      {"printk_ringbuffer", &l.ring_bytes, true, 0},
      {"printk_ringbuffer.desc_ring", &l.ring_desc_ring, false, 8},
      {"printk_ringbuffer.text_data_ring", &l.ring_text_ring, false, 8},
      {"prb_desc_ring.count_bits", &l.desc_ring_count_bits, false, 4},
      {"prb_desc_ring.descs", &l.desc_ring_descs, false, 8},
      {"prb_desc_ring.infos", &l.desc_ring_infos, false, 8},
      {"prb_desc_ring.head_id", &l.desc_ring_head, false, 8},
      {"prb_desc_ring.tail_id", &l.desc_ring_tail, false, 8},
      {"prb_desc", &l.desc_bytes, true, 0},
      {"prb_desc.state_var", &l.desc_state, false, 8},
      {"prb_desc.text_blk_lpos", &l.desc_lpos, false, 8},
      {"prb_data_blk_lpos.begin", &l.lpos_begin, false, 8},
      {"prb_data_blk_lpos.next", &l.lpos_next, false, 8},
      {"printk_info", &l.info_bytes, true, 0},
      {"printk_info.ts_nsec", &l.info_ts, false, 8},
      {"printk_info.text_len", &l.info_text_len, false, 2},
      {"prb_data_ring.size_bits", &l.data_size_bits, false, 4},
      {"prb_data_ring.data", &l.data_data, false, 8},
      {"atomic_long_t.counter", &l.counter, false, 8},
  };
  for (const Wanted& field : wanted) {
    const std::optional<uint64_t> value =
        field.size ? info.Size(field.name) : info.Offset(field.name);
    if (!value) {
      return absl::NotFoundError(absl::StrFormat(
          "vmcoreinfo has no %s(%s): wanted a kernel of 5.10 or newer, and its whole vmcoreinfo",
          field.size ? "SIZE" : "OFFSET", field.name));
    }
    if (*value > kMaxStructBytes || (field.size && *value == 0)) {
      return absl::DataLossError(absl::StrFormat("vmcoreinfo: %s is %d: wanted at most %d",
                                                 field.name, *value, kMaxStructBytes));
    }
    *field.value = *value;
  }
  if (l.desc_state + l.counter + 8 > l.desc_bytes ||
      l.desc_lpos + l.lpos_begin + 8 > l.desc_bytes ||
      l.desc_lpos + l.lpos_next + 8 > l.desc_bytes || l.info_ts + 8 > l.info_bytes ||
      l.info_text_len + 2 > l.info_bytes) {
    return absl::DataLossError("vmcoreinfo: a field of prb_desc or printk_info lies outside of it");
  }
  return l;
}

// Adds text as dmesg does: each of its lines behind the time stamp. What a terminal would take for
// a command comes out as \xNN, as /dev/kmsg has it.
void AppendLines(uint64_t ts_ns, std::string_view text, std::string* out) {
  const std::string prefix =
      absl::StrFormat("[%5d.%06d] ", ts_ns / 1'000'000'000, ts_ns % 1'000'000'000 / 1000);
  while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  while (true) {
    const size_t end = std::min(text.find('\n'), text.size());
    out->append(prefix);
    for (const char c : text.substr(0, end)) {
      const unsigned char byte = static_cast<unsigned char>(c);
      if ((byte < 0x20 && c != '\t') || byte == 0x7f) {
        absl::StrAppendFormat(out, "\\x%02x", byte);
      } else {
        out->push_back(c);
      }
    }
    out->push_back('\n');
    if (end == text.size()) return;
    text.remove_prefix(end + 1);
  }
}

class RingReader {
 public:
  RingReader(const VirtualMemory& memory, const Layout& layout) : memory_(memory), l_(layout) {}

  absl::StatusOr<PrintkRing> Read(uint64_t ring) {
    if (absl::Status status = ReadHeads(ring); !status.ok()) return status;
    PrintkRing result;
    const uint64_t count = uint64_t{1} << count_bits_;
    uint64_t id = tail_id_;
    for (uint64_t i = 0; i < count; ++i, id = (id + 1) & kIdMask) {
      if (absl::Status status = ReadRecord(id, &result); absl::IsNotFound(status)) {
        ++result.lost_records;
      } else if (!status.ok()) {
        return status;
      }
      if (id == head_id_) break;
    }
    return result;
  }

 private:
  absl::Status ReadHeads(uint64_t ring) {
    const uint64_t descs = ring + l_.ring_desc_ring;
    const uint64_t data = ring + l_.ring_text_ring;
    absl::Status status;
    const auto word = [&](uint64_t vaddr) -> uint64_t {
      absl::StatusOr<uint64_t> value = memory_.Read64(vaddr);
      if (!value.ok()) status.Update(value.status());
      return value.value_or(0);
    };
    const auto half = [&](uint64_t vaddr) -> uint64_t {
      absl::StatusOr<uint32_t> value = memory_.Read32(vaddr);
      if (!value.ok()) status.Update(value.status());
      return value.value_or(0);
    };
    count_bits_ = half(descs + l_.desc_ring_count_bits);
    descs_ = word(descs + l_.desc_ring_descs);
    infos_ = word(descs + l_.desc_ring_infos);
    head_id_ = word(descs + l_.desc_ring_head + l_.counter) & kIdMask;
    tail_id_ = word(descs + l_.desc_ring_tail + l_.counter) & kIdMask;
    size_bits_ = half(data + l_.data_size_bits);
    data_ = word(data + l_.data_data);
    if (!status.ok()) return status;
    if (count_bits_ == 0 || count_bits_ > kMaxCountBits || size_bits_ == 0 ||
        size_bits_ > kMaxSizeBits) {
      return absl::DataLossError(absl::StrFormat(
          "printk ring: 2^%d records in 2^%d bytes: wanted 2^1 to 2^%d in 2^1 to 2^%d", count_bits_,
          size_bits_, kMaxCountBits, kMaxSizeBits));
    }
    if (((head_id_ - tail_id_) & kIdMask) >> count_bits_ != 0) {
      return absl::DataLossError(
          absl::StrFormat("printk ring: records %#x to %#x: wanted at most 2^%d of them", tail_id_,
                          head_id_, count_bits_));
    }
    return absl::OkStatus();
  }

  // Adds one record to *result. OK also when it is none that dmesg would show.
  absl::Status ReadRecord(uint64_t id, PrintkRing* result) {
    const uint64_t index = id & ((uint64_t{1} << count_bits_) - 1);
    std::string desc(l_.desc_bytes, '\0');
    absl::Status status = memory_.Read(descs_ + index * l_.desc_bytes, desc.size(), desc.data());
    if (!status.ok()) return status;
    const uint64_t state_var = dcast_load64(desc.data() + l_.desc_state + l_.counter);
    const uint64_t state = state_var >> kStateShift;
    if ((state_var & kIdMask) != id || (state != kCommitted && state != kFinalized)) {
      return absl::OkStatus();
    }
    std::string info(l_.info_bytes, '\0');
    status = memory_.Read(infos_ + index * l_.info_bytes, info.size(), info.data());
    if (!status.ok()) return status;
    uint16_t text_len;
    std::memcpy(&text_len, info.data() + l_.info_text_len, sizeof(text_len));
    std::string text;
    status = ReadText(id, dcast_load64(desc.data() + l_.desc_lpos + l_.lpos_begin),
                      dcast_load64(desc.data() + l_.desc_lpos + l_.lpos_next), dcast_le16(text_len),
                      &text);
    if (!status.ok()) return status;
    // Blocks of live records do not overlap: more text than the ring has is garbage read twice.
    text_bytes_ += text.size();
    if (text_bytes_ > uint64_t{1} << size_bits_) {
      return absl::DataLossError(absl::StrFormat(
          "printk ring: its records have more text than the ring's 2^%d bytes", size_bits_));
    }
    AppendLines(dcast_load64(info.data() + l_.info_ts), text, &result->text);
    if (result->text.size() > kMaxTextBytes) {
      return absl::DataLossError(
          absl::StrFormat("printk ring: more than %d bytes of lines", kMaxTextBytes));
    }
    ++result->records;
    return absl::OkStatus();
  }

  absl::Status ReadText(uint64_t id, uint64_t begin, uint64_t next, uint64_t text_len,
                        std::string* text) {
    if ((begin & kDatalessBit) != 0 && (next & kDatalessBit) != 0) return absl::OkStatus();
    const uint64_t mask = (uint64_t{1} << size_bits_) - 1;
    uint64_t start = begin & mask;
    uint64_t end = next & mask;
    if (begin >> size_bits_ != next >> size_bits_) {
      if (end == 0) {
        end = mask + 1;  // ends with the ring: kernels later than 6.12
      } else {
        start = 0;  // did not fit before the end: the whole block lies at the start
      }
    }
    if (end < start + kBlockIdBytes) {
      return absl::NotFoundError(
          absl::StrFormat("printk ring: record %#x lies at %#x to %#x", id, begin, next));
    }
    absl::StatusOr<uint64_t> owner = memory_.Read64(data_ + start);
    if (!owner.ok()) return owner.status();
    if (*owner != id) {
      return absl::NotFoundError(
          absl::StrFormat("printk ring: text of record %#x belongs to %#x", id, *owner));
    }
    text->resize(std::min(text_len, end - start - kBlockIdBytes));
    return memory_.Read(data_ + start + kBlockIdBytes, text->size(), text->data());
  }

  const VirtualMemory& memory_;
  const Layout l_;
  uint64_t count_bits_ = 0, size_bits_ = 0;
  uint64_t descs_ = 0, infos_ = 0, data_ = 0;  // virtual addresses
  uint64_t head_id_ = 0, tail_id_ = 0;
  uint64_t text_bytes_ = 0;
};

}  // namespace

absl::StatusOr<PrintkRing> ReadPrintkRing(const MemoryView& memory) {
  const Vmcoreinfo& info = memory.meta().vmcoreinfo();
  if (info.empty()) return absl::NotFoundError("vmcoreinfo has not arrived");
  const std::optional<uint64_t> pointer = info.Symbol("prb");
  if (!pointer) {
    return absl::NotFoundError("vmcoreinfo has no SYMBOL(prb): wanted a kernel of 5.10 or newer");
  }
  absl::StatusOr<Layout> layout = ReadLayout(info);
  if (!layout.ok()) return layout.status();
  const VirtualMemory virtual_memory(memory);
  absl::StatusOr<uint64_t> ring = virtual_memory.Read64(*pointer);
  if (!ring.ok()) return ring.status();
  return RingReader(virtual_memory, *layout).Read(*ring);
}

absl::StatusOr<KernelLog> ReadKernelLog(const MemoryView& memory) {
  KernelLog log;
  absl::StatusOr<PrintkRing> ring = ReadPrintkRing(memory);
  if (ring.ok() && ring->lost_records == 0 && ring->records != 0) {
    log.text = std::move(ring->text);
    return log;
  }
  if (!ring.ok()) {
    log.memory_status = ring.status();
  } else if (ring->records == 0) {
    log.memory_status = absl::NotFoundError("printk ring: no record can be read");
  } else {
    log.memory_status = absl::NotFoundError(
        absl::StrFormat("printk ring: %d of %d records cannot be read", ring->lost_records,
                        ring->lost_records + ring->records));
  }
  absl::StatusOr<std::string> stream =
      ReadStream(memory.source(), memory.meta().fields(), DCAST_STREAM_LOG, kMaxStreamBytes);
  if (stream.ok() && !stream->empty()) {
    log.origin = LogOrigin::kStream;
    log.text = *std::move(stream);
    if (log.text.back() != '\n') log.text.push_back('\n');
    return log;
  }
  if (ring.ok() && ring->records != 0) {  // some lines are better than none
    log.text = std::move(ring->text);
    return log;
  }
  return absl::NotFoundError(
      absl::StrCat("no kernel log: ", log.memory_status.message(), "; ",
                   stream.ok() ? "stream LOG: empty" : stream.status().message()));
}

}  // namespace dumpcast
