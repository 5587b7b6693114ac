// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
#include "kmod/core/send/replay.h"

#include <poll.h>
#include <sodium.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <thread>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "kmod/core/send/compress.h"
#include "kmod/core/signature.h"
#include "protos/keys/end_to_end.h"
#include "protos/keys/siphash.h"

namespace dumpcast {
namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr auto kHelperNap =
    std::chrono::microseconds(50);  // of a helper that finds nothing to encode
constexpr uint64_t kUpCheckNs = 100'000'000;
constexpr size_t kScratchAlign = 64;

uint64_t Now(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<uint64_t>(t.tv_sec) * kSecondNs + static_cast<uint64_t>(t.tv_nsec);
}

bool IsAdmit(const uint8_t* packet, uint32_t len) {
  return len >= sizeof(dcast_hdr) && packet[offsetof(dcast_hdr, type)] == DCAST_ADMIT;
}

double MiB(uint64_t bytes) {
  return static_cast<double>(bytes) / (1 << 20);
}

const char* PhaseName(dcast_phase phase) {
  switch (phase) {
    case DCAST_PHASE_ARMED:
      return "armed";
    case DCAST_PHASE_WALK:
      return "sending";
    case DCAST_PHASE_PASS:
      return "sending again";
    case DCAST_PHASE_LINGER:
      return "answering";
    default:
      return "done";
  }
}

}  // namespace

// The engine's callbacks; ctx is the Replay.
struct Replay::Rim {
  static Replay& Self(void* ctx) { return *static_cast<Replay*>(ctx); }
  static void WindowClasses(void* ctx, __u64 window, __u8 cls[DCAST_MAX_WINDOW_PAGES]) {
    Self(ctx).source_->WindowClasses(window, cls);
  }
  static int ReadPage(void* ctx, __u64 pfn, void* dst) {
    return Self(ctx).source_->ReadPage(pfn, dst) ? 0 : -14;
  }
  static int ReadStream(void* ctx, unsigned stream, __u64 offset, void* dst, __u32 len) {
    const std::string& text = Self(ctx).source_->stream(stream);
    if (offset > text.size() || text.size() - offset < len) return -22;
    std::memcpy(dst, text.data() + offset, len);
    return 0;
  }
  static __u32 Compress(void*, unsigned, dcast_codec codec, const void* src, __u32 len, void* dst,
                        __u32 cap) {
    return CompressBlock(codec, src, len, dst, cap);
  }
  static void Encrypt(void* ctx, void* data, __u32 len, const dcast_encrypt_ad* ad,
                      const __u8 nonce[DCAST_NONCE_BYTES]) {
    EncryptInPlace(Self(ctx).options_.secrets.end_to_end.cipher, static_cast<uint8_t*>(data), len,
                   *ad, nonce);
  }
  static void Digests(void* ctx, dcast_encoding* encodings, unsigned n) {
    std::array<Encoding, DCAST_MAX_ENCODINGS> all;
    std::array<uint64_t, DCAST_MAX_ENCODINGS> digests;
    for (unsigned i = 0; i < n; ++i)
      all[i] = {&Self(ctx).options_.secrets.wire,
                encodings[i].block_class,
                encodings[i].number,
                {reinterpret_cast<const char*>(encodings[i].data), encodings[i].len}};
    BlockDigests({all.data(), n}, digests.data());
    for (unsigned i = 0; i < n; ++i) encodings[i].digest = digests[i];
  }
  static void* TxGet(void* ctx, unsigned path) { return (*Self(ctx).paths_)[path]->Get(); }
  static void TxPut(void* ctx, unsigned path, void*, __u32 len, unsigned lane) {
    (*Self(ctx).paths_)[path]->Put(len, lane);
  }
  static int PathUp(void* ctx, unsigned path) { return Self(ctx).up_[path]; }
  static __u64 UnixNs(void*) { return Now(CLOCK_REALTIME); }
  static __u64 ClockNs(void*) { return Now(CLOCK_MONOTONIC); }
};

absl::StatusOr<std::unique_ptr<Replay>> Replay::Create(
    const ReplayOptions& options, const MemorySource* source,
    std::vector<std::unique_ptr<UdpPath>>* paths) {
  std::unique_ptr<Replay> replay(new Replay);
  replay->options_ = options;
  replay->source_ = source;
  replay->paths_ = paths;
  dcast_config& config = replay->options_.config;
  config.paths = static_cast<__u8>(paths->size());
  config.memory_bytes = source->memory_bytes();
  config.secrets = &replay->options_.secrets;
  const dcast_rim rim = {replay.get(),      Rim::WindowClasses, nullptr,      Rim::ReadPage,
                         Rim::ReadStream,   Rim::Compress,      Rim::Encrypt, Rim::TxGet,
                         Rim::TxPut,        Rim::PathUp,        Rim::UnixNs,  Rim::ClockNs,
                         /*writes_macs=*/1, Rim::Digests};
  for (auto& path : *paths) path->WriteMacs(&replay->options_.secrets.wire);
  replay->sender_ = std::make_unique<dcast_sender>();
  replay->scratch_ =
      std::make_unique<uint8_t[]>(dcast_sender_scratch_bytes(&config) + kScratchAlign);
  void* scratch = replay->scratch_.get();
  size_t space = dcast_sender_scratch_bytes(&config) + kScratchAlign;
  std::align(kScratchAlign, dcast_sender_scratch_bytes(&config), scratch, space);
  const char* why = nullptr;
  if (dcast_sender_init(replay->sender_.get(), &config, &rim, scratch, &why) != 0) {
    return absl::InvalidArgumentError(why);
  }
  replay->up_.fill(true);
  return replay;
}

void Replay::Pump(uint64_t now_ns) {
  if (now_ns >= up_checked_ns_ + kUpCheckNs) {
    up_checked_ns_ = now_ns;
    for (size_t i = 0; i < paths_->size(); ++i) up_[i] = (*paths_)[i]->Up();
  }
  for (unsigned path = 0; path < paths_->size(); ++path) {
    (*paths_)[path]->Receive([&](const uint8_t* packet, uint32_t len) {
      if (!options_.ignore_replies && !(options_.insists && IsAdmit(packet, len))) {
        dcast_sender_input(sender_.get(), now_ns, path, packet, len);
      }
    });
  }
  const unsigned sent = dcast_sender_step(sender_.get(), now_ns);
  for (auto& path : *paths_) path->Flush();
  if (sent == 0) WaitUntil(dcast_sender_wake_ns(sender_.get()), now_ns);
}

void Replay::WaitUntil(uint64_t wake_ns, uint64_t now_ns) {
  if (wake_ns <= now_ns) return;
  uint64_t wait = std::min(wake_ns - now_ns, kSecondNs / 10);
  std::vector<pollfd> polls;
  for (auto& path : *paths_) {
    for (const int fd : path->fds()) {
      if (fd >= 0) {
        polls.push_back({fd, static_cast<short>(POLLIN | (path->blocked() ? POLLOUT : 0)), 0});
      }
    }
  }
  const timespec timeout = {static_cast<time_t>(wait / kSecondNs),
                            static_cast<long>(wait % kSecondNs)};
  ppoll(polls.data(), polls.size(), &timeout, nullptr);
}

// What the relays say, when it is something else than before.
void Replay::PrintVerdict(uint64_t now_ns) {
  __u64 wait_ns;
  const dcast_verdict verdict = dcast_sender_verdict(sender_.get(), now_ns, &wait_ns);
  if (options_.quiet || verdict == told_verdict_) return;
  told_verdict_ = verdict;
  const std::string text =
      verdict == DCAST_ADMIT_WAIT
          ? absl::StrFormat("too many dumps at once; memory waits, %d s at most",
                            (wait_ns + kSecondNs - 1) / kSecondNs)
      : verdict == DCAST_ADMIT_LOG_ONLY ? "they have enough of this crash; only the log is sent"
                                        : "memory is sent now";
  absl::FPrintF(stderr, "%srelays: %s\n", progress_open_ ? "\n" : "", text);
  progress_open_ = false;
}

void Replay::PrintProgress(uint64_t now_ns) {
  if (options_.quiet || now_ns < progress_ns_ + kSecondNs) return;
  const dcast_stats& stats = *dcast_sender_stats(sender_.get());
  uint64_t bytes = 0;
  for (const __u64 b : stats.bytes) bytes += b;
  __u64 done, total;
  dcast_sender_progress(sender_.get(), &done, &total);
  unsigned relays = 0, commits = 0;
  while (const dcast_relay_info* relay = dcast_sender_relay(sender_.get(), relays)) {
    commits += relay->commit_mask != 0;
    ++relays;
  }
  const std::string percent =
      total ? absl::StrFormat("%3d%%", done * 100 / total) : absl::StrFormat("%d blocks", done);
  const double rate = progress_ns_ == 0 ? 0
                                        : MiB(bytes - progress_bytes_) * kSecondNs /
                                              static_cast<double>(now_ns - progress_ns_);
  const bool tty = isatty(STDERR_FILENO);
  absl::FPrintF(stderr, "%s%-13s %s  %.0f MiB sent, %.1f MiB/s  relays %d, committed %d%s",
                tty ? "\r\033[K" : "", PhaseName(dcast_sender_phase(sender_.get())), percent,
                MiB(bytes), rate, relays, commits, tty ? "" : "\n");
  std::fflush(stderr);
  progress_open_ = tty;
  progress_ns_ = now_ns;
  progress_bytes_ = bytes;
}

void Replay::PrintSummary(uint64_t now_ns) {
  if (progress_open_) absl::FPrintF(stderr, "\n");
  if (options_.quiet) return;
  const dcast_stats& stats = *dcast_sender_stats(sender_.get());
  const double seconds = static_cast<double>(now_ns - begin_ns_) / kSecondNs;
  absl::FPrintF(stderr,
                "sent in %.2f s: %d blocks, %.1f MiB of memory as %.1f MiB, %d zero pages, "
                "%d unreadable pages\n",
                seconds, stats.blocks, MiB(stats.raw_bytes), MiB(stats.encoded_bytes),
                stats.zero_pages, stats.unreadable_pages);
  absl::FPrintF(stderr,
                "parity %d symbols, repeated %d, empty %d; NAKs %d (%d entries, %d dropped); "
                "refused: MAC %d, format %d, foreign %d, replayed %d\n",
                stats.parity_symbols, stats.repeat_symbols, stats.empties, stats.naks,
                stats.nak_entries, stats.nak_dropped, stats.rx_bad_mac, stats.rx_bad_format,
                stats.rx_foreign, stats.rx_replayed);
  for (size_t i = 0; i < paths_->size(); ++i) {
    absl::FPrintF(stderr, "path %d: %d packets, %.1f MiB, %d skipped", i, stats.packets[i],
                  MiB(stats.bytes[i]), stats.skipped[i]);
    if ((*paths_)[i]->errors() != 0) {
      absl::FPrintF(stderr, ", %d refused by the kernel (%s)", (*paths_)[i]->errors(),
                    (*paths_)[i]->last_error());
    }
    absl::FPrintF(stderr, "\n");
  }
  for (unsigned i = 0;; ++i) {
    const dcast_relay_info* relay = dcast_sender_relay(sender_.get(), i);
    if (relay == nullptr) break;
    absl::FPrintF(stderr, "relay %016x %s: %s\n", relay->id, relay->name,
                  relay->commit_mask != 0 ? "committed" : "did not commit");
  }
}

Replay::~Replay() {
  sodium_memzero(&options_.secrets, sizeof(options_.secrets));
}

// Of a crash whose log is known, unless another sender has said it already.
void Replay::AddSignature(dcast_meta* meta) const {
  const std::string& log = source_->stream(DCAST_STREAM_LOG);
  if (options_.continues || options_.flags != 0 || log.empty()) return;
  const std::string reason(meta->reason, strnlen(meta->reason, sizeof(meta->reason)));
  dcast_signature(&options_.secrets.signature, reason.c_str(), log.data(),
                  static_cast<__u32>(log.size()), meta->signature);
}

bool Replay::Run() {
  uint64_t now = Now(CLOCK_MONOTONIC);
  const uint64_t armed_until = now + options_.arm_ns;
  while (options_.arm_ns != 0 && now < armed_until) {
    Pump(now);
    now = Now(CLOCK_MONOTONIC);
  }
  dcast_meta meta = source_->meta();
  for (unsigned s = DCAST_STREAM_VMCOREINFO; s <= DCAST_STREAM_LOG; ++s) {
    meta.stream_len[s] = dcast_to_le64(source_->stream(s).size());
  }
  meta.stream_len[DCAST_STREAM_KEYS] = dcast_to_le64(source_->stream(DCAST_STREAM_KEYS).size());
  AddSignature(&meta);
  const dcast_config& config = options_.config;
  std::memcpy(meta.boot_id, config.boot_id, DCAST_ID_BYTES);
  std::memcpy(meta.hostname, config.hostname, sizeof(meta.hostname));
  if (meta.release[0] == 0) std::memcpy(meta.release, config.release, sizeof(meta.release));
  if (meta.crash_unix_ns == 0) meta.crash_unix_ns = dcast_to_le64(Now(CLOCK_REALTIME));
  meta.flags = dcast_to_le64((options_.flags & DCAST_F_LIVE ? DCAST_META_LIVE : 0) |
                             (options_.flags & DCAST_F_TEST ? DCAST_META_TEST : 0));
  begin_ns_ = now;
  std::atomic<bool> over = false;
  std::vector<std::thread> helpers;
  const absl::Cleanup join = [&] {
    over = true;
    for (std::thread& helper : helpers) helper.join();
  };
  dcast_sender_begin(sender_.get(), now, source_->ranges().data(),
                     static_cast<__u32>(source_->ranges().size()), &meta, options_.flags);
  if (options_.continues) dcast_sender_continue(sender_.get(), now);
  for (unsigned number = 1; number <= config.helpers; ++number) {
    helpers.emplace_back([&, number] {
      while (!over)
        if (!dcast_sender_help(sender_.get(), number)) std::this_thread::sleep_for(kHelperNap);
    });
  }
  while (dcast_sender_phase(sender_.get()) != DCAST_PHASE_DONE) {
    Pump(now);
    PrintVerdict(now);
    PrintProgress(now);
    now = Now(CLOCK_MONOTONIC);
  }
  for (auto& path : *paths_) path->Flush();
  PrintSummary(now);
  return dcast_sender_committed(sender_.get());
}

}  // namespace dumpcast
