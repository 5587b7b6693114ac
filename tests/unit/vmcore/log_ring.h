// SPDX-License-Identifier: Apache-2.0
// Writes a printk ring buffer into a dump that is being built.
#ifndef DUMPCAST_TESTS_UNIT_VMCORE_LOG_RING_H_
#define DUMPCAST_TESTS_UNIT_VMCORE_LOG_RING_H_

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include "tests/unit/vmcore/dump_builder.h"

namespace dumpcast {

// The lines of vmcoreinfo that Linux 6.1 writes for its ring buffer, SYMBOL(prb) at `prb`.
inline std::string RingVmcoreinfo(uint64_t prb) {
  char symbol[64];
  std::snprintf(symbol, sizeof(symbol), "SYMBOL(prb)=%llx\n", static_cast<unsigned long long>(prb));
  return std::string(symbol) +
         "SIZE(printk_ringbuffer)=88\n"
         "OFFSET(printk_ringbuffer.desc_ring)=0\n"
         "OFFSET(printk_ringbuffer.text_data_ring)=48\n"
         "OFFSET(printk_ringbuffer.fail)=80\n"
         "SIZE(prb_desc_ring)=48\n"
         "OFFSET(prb_desc_ring.count_bits)=0\n"
         "OFFSET(prb_desc_ring.descs)=8\n"
         "OFFSET(prb_desc_ring.infos)=16\n"
         "OFFSET(prb_desc_ring.head_id)=24\n"
         "OFFSET(prb_desc_ring.tail_id)=32\n"
         "SIZE(prb_desc)=24\n"
         "OFFSET(prb_desc.state_var)=0\n"
         "OFFSET(prb_desc.text_blk_lpos)=8\n"
         "SIZE(prb_data_blk_lpos)=16\n"
         "OFFSET(prb_data_blk_lpos.begin)=0\n"
         "OFFSET(prb_data_blk_lpos.next)=8\n"
         "SIZE(printk_info)=88\n"
         "OFFSET(printk_info.seq)=0\n"
         "OFFSET(printk_info.ts_nsec)=8\n"
         "OFFSET(printk_info.text_len)=16\n"
         "OFFSET(printk_info.caller_id)=20\n"
         "SIZE(prb_data_ring)=32\n"
         "OFFSET(prb_data_ring.size_bits)=0\n"
         "OFFSET(prb_data_ring.data)=8\n"
         "SIZE(atomic_long_t)=8\n"
         "OFFSET(atomic_long_t.counter)=0\n";
}

// Everything lies in the direct map, in pages that were added to the builder before: the pointer
// prb at prb_paddr, descriptors, infos and texts where the constructor says.
class LogRing {
 public:
  static constexpr uint64_t kDirectMap = 0xffff888000000000;
  static constexpr unsigned kCountBits = 3;
  static constexpr unsigned kSizeBits = 9;
  static constexpr uint64_t kIdMask = (uint64_t{1} << 62) - 1;
  enum State : uint64_t { kReserved = 0, kCommitted = 1, kFinalized = 2, kReusable = 3 };

  LogRing(DumpBuilder* builder, uint64_t prb, uint64_t descs, uint64_t infos, uint64_t texts)
      : builder_(builder), ring_(prb + 64), descs_(descs), infos_(infos), texts_(texts) {
    builder_->vmcoreinfo += RingVmcoreinfo(kDirectMap + prb);
    builder_->Write64(prb, kDirectMap + ring_);
    builder_->Write32(ring_ + 0, kCountBits);
    builder_->Write64(ring_ + 8, kDirectMap + descs_);
    builder_->Write64(ring_ + 16, kDirectMap + infos_);
    builder_->Write32(ring_ + 48, kSizeBits);
    builder_->Write64(ring_ + 56, kDirectMap + texts_);
    SetIds(first_id_, first_id_);
  }

  void SetIds(uint64_t tail, uint64_t head) {
    // The upper bits are a descriptor's state and no part of an id.
    builder_->Write64(ring_ + 24, head | kFinalized << 62);
    builder_->Write64(ring_ + 32, tail | kFinalized << 62);
  }

  // Adds a record as the kernel's prb_reserve() and prb_commit() do. Its id.
  uint64_t Add(uint64_t ts_ns, std::string_view text, State state = kFinalized) {
    const uint64_t size = uint64_t{1} << kSizeBits;
    const uint64_t block = (8 + text.size() + 7) / 8 * 8;
    uint64_t begin = next_lpos_;
    uint64_t next = begin + block;
    if (begin / size != next / size) next = next / size * size + block;  // wraps: at the start
    const uint64_t at = begin / size == next / size ? begin % size : 0;
    const uint64_t id = AddAt(ts_ns, text.size(), begin, next, state);
    builder_->Write64(texts_ + at, id);
    builder_->Write(texts_ + at + 8, text);
    next_lpos_ = next;
    return id;
  }

  // Adds a record that claims to lie at [begin, next), without its text.
  uint64_t AddAt(uint64_t ts_ns, uint64_t text_len, uint64_t begin, uint64_t next, State state) {
    const uint64_t id = next_id_;
    next_id_ = (next_id_ + 1) & kIdMask;
    const uint64_t index = id % (uint64_t{1} << kCountBits);
    builder_->Write64(descs_ + 24 * index, id | static_cast<uint64_t>(state) << 62);
    builder_->Write64(descs_ + 24 * index + 8, begin);
    builder_->Write64(descs_ + 24 * index + 16, next);
    builder_->Write64(infos_ + 88 * index + 8, ts_ns);
    const uint16_t len = static_cast<uint16_t>(text_len);
    builder_->Write(infos_ + 88 * index + 16, {reinterpret_cast<const char*>(&len), sizeof(len)});
    const uint64_t count = uint64_t{1} << kCountBits;
    if (added_++ >= count) tail_id_ = (tail_id_ + 1) & kIdMask;
    SetIds(tail_id_, id);
    return id;
  }

  uint64_t ring() const { return ring_; }

 private:
  DumpBuilder* builder_;
  const uint64_t ring_, descs_, infos_, texts_;  // physical
  // As the kernel starts: so that ids soon need all of their bits.
  const uint64_t first_id_ = (uint64_t{1} << 62) - 5;
  uint64_t next_id_ = first_id_;
  uint64_t tail_id_ = first_id_;
  uint64_t added_ = 0;
  uint64_t next_lpos_ = 0;
};

}  // namespace dumpcast

#endif  // DUMPCAST_TESTS_UNIT_VMCORE_LOG_RING_H_
