// SPDX-License-Identifier: Apache-2.0
#include "client/remote_source.h"

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/crc32c.h"
#include "protos/wire/encrypt.h"

namespace dumpcast {
namespace {

static_assert(DCAST_CLASSES == 4);

// Enough for the header of an encrypted block, and for all of one that has no page.
constexpr uint32_t kHeaderBytes =
    DCAST_ENCRYPTED_HDR_BYTES + sizeof(dcast_block_hdr) + DCAST_TAG_BYTES;
// x86-64 and arm64 have physical addresses of 52 bits.
constexpr uint64_t kMaxWindows = uint64_t{1} << (52 - DCAST_WINDOW_SHIFT);
// Of a class: what a host with 16 TiB has at worst, and 2 GiB here.
constexpr size_t kMaxRuns = size_t{1} << 27;

// How many blocks are fetched at once: few by one who jumps, more and more by one who goes on.
struct PieceSize {
  size_t first;
  size_t most;
};
constexpr size_t kGrowth = 4;
constexpr PieceSize kBlockPiece = {4, 64};
constexpr PieceSize kHeaderPiece = {64, 4096};

bool Holds(const std::vector<HeldRun>& runs, uint64_t number) {
  const auto after =
      std::upper_bound(runs.begin(), runs.end(), number,
                       [](uint64_t at, const HeldRun& run) { return at < run.first; });
  return after != runs.begin() && number - std::prev(after)->first < std::prev(after)->count;
}

absl::Status Silent(absl::Duration patience) {
  return absl::DeadlineExceededError(absl::StrCat("silent for ", absl::FormatDuration(patience)));
}

}  // namespace

// One call of ReadBlocks for blocks that are known to be held, on a thread of its own. Ending it
// cancels the call.
class RemoteSource::Fetch {
 public:
  Fetch(const RemoteSource& source, bool headers, uint8_t block_class,
        std::vector<uint64_t> numbers)
      : source_(source), block_class_(block_class), headers_(headers) {
    piece_.first = numbers.front();
    piece_.last = numbers.back();
    piece_.numbers = std::move(numbers);
    thread_ = std::thread([this] { status_ = Run(); });
  }
  ~Fetch() {
    if (!thread_.joinable()) return;
    context_.TryCancel();
    thread_.join();
  }
  Fetch(const Fetch&) = delete;
  Fetch& operator=(const Fetch&) = delete;

  bool Covers(uint64_t number) const { return number >= piece_.first && number <= piece_.last; }
  // Waits for the end. To be called once.
  absl::StatusOr<Piece> Take() {
    thread_.join();
    if (!status_.ok()) return status_;
    return std::move(piece_);
  }

 private:
  absl::Status Run() {
    v1::ReadBlocksRequest request;
    request.set_name(source_.name_);
    request.set_block_class(block_class_);
    request.set_first(piece_.first);
    request.set_last(piece_.last);
    request.set_prefix_bytes(headers_ ? kHeaderBytes : 0);
    request.set_etag(source_.etag_);
    Watchdog watchdog(&context_, source_.patience_);
    auto reader = source_.server_->dumps->ReadBlocks(&context_, request);
    v1::ReadBlocksResponse response;
    absl::Status wrong;
    watchdog.Arm();
    while (wrong.ok() && reader->Read(&response)) {
      watchdog.Arm();
      for (v1::StoredBlock& block : *response.mutable_blocks()) {
        wrong = Take(&block);
        if (!wrong.ok()) break;
      }
    }
    if (!wrong.ok()) {
      context_.TryCancel();
      (void)reader->Finish();  // the reason is known
      return wrong;
    }
    absl::Status status = FromGrpc(reader->Finish());
    if (watchdog.fired()) return Silent(source_.patience_);
    if (status.ok() && piece_.encoded.size() != piece_.numbers.size()) {
      return absl::DataLossError(absl::StrFormat("left out block (%d, %#x), which it holds",
                                                 block_class_,
                                                 piece_.numbers[piece_.encoded.size()]));
    }
    return status;
  }

  absl::Status Take(v1::StoredBlock* block) {
    const size_t at = piece_.encoded.size();
    if (at == piece_.numbers.size() || block->number() != piece_.numbers[at]) {
      return absl::DataLossError(absl::StrFormat(
          "sent block (%d, %#x), wanted %s", block_class_, block->number(),
          at == piece_.numbers.size() ? "no more" : absl::StrFormat("%#x", piece_.numbers[at])));
    }
    const size_t most = headers_ ? kHeaderBytes : DCAST_MAX_ENCODED_BYTES;
    if (block->encoded().size() > most) {
      return absl::DataLossError(
          absl::StrFormat("sent %d bytes of block (%d, %#x), wanted at most "
                          "%d",
                          block->encoded().size(), block_class_, block->number(), most));
    }
    if (const uint32_t crc = Crc32c(block->encoded()); crc != block->crc32c()) {
      return absl::DataLossError(absl::StrFormat("block (%d, %#x) has CRC-32C %08x, want %08x",
                                                 block_class_, block->number(), crc,
                                                 block->crc32c()));
    }
    piece_.encoded.push_back(std::move(*block->mutable_encoded()));
    return absl::OkStatus();
  }

  const RemoteSource& source_;
  const uint8_t block_class_;
  const bool headers_;
  Piece piece_;          // the thread's until it ends, but for the range
  absl::Status status_;  // the thread's until it ends
  grpc::ClientContext context_;
  std::thread thread_;
};

RemoteSource::RemoteSource(Server* server, std::string name, absl::Duration patience)
    : server_(server), name_(std::move(name)), patience_(patience) {}

RemoteSource::~RemoteSource() = default;

absl::StatusOr<std::shared_ptr<const RemoteSource>> RemoteSource::Open(Server* server,
                                                                       std::string name,
                                                                       absl::Duration patience) {
  std::shared_ptr<RemoteSource> source(new RemoteSource(server, std::move(name), patience));
  for (uint8_t block_class = 0; block_class < DCAST_CLASSES; ++block_class) {
    if (absl::Status status = source->LoadRuns(block_class); !status.ok()) return status;
  }
  return source;
}

absl::Status RemoteSource::LoadRuns(uint8_t block_class) {
  v1::ListHeldRunsRequest request;
  request.set_name(name_);
  request.set_block_class(block_class);
  request.set_etag(etag_);
  grpc::ClientContext context;
  Watchdog watchdog(&context, patience_);
  auto reader = server_->dumps->ListHeldRuns(&context, request);
  v1::ListHeldRunsResponse response;
  std::vector<HeldRun>& runs = runs_[block_class];
  const uint64_t end = block_class == 0 ? ~uint64_t{0} : kMaxWindows;
  absl::Status wrong;
  bool first = true;
  watchdog.Arm();
  while (wrong.ok() && reader->Read(&response)) {
    watchdog.Arm();
    if (first) {
      first = false;
      if (response.etag().empty() || (!etag_.empty() && etag_ != response.etag())) {
        wrong = absl::InternalError(response.etag().empty()
                                        ? "named no etag"
                                        : "sent another block set than the one asked for");
      }
      etag_ = response.etag();
    }
    for (const v1::HeldRun& run : response.runs()) {
      const uint64_t from = runs.empty() ? 0 : runs.back().first + runs.back().count + 1;
      if (run.first() < from || run.count() == 0 || run.first() >= end ||
          run.count() > end - run.first() || runs.size() == kMaxRuns) {
        wrong = absl::DataLossError(absl::StrFormat(
            "run %d of class %d is %d blocks from %#x: wanted some, ascending, from %#x on, below "
            "%#x",
            runs.size(), block_class, run.count(), run.first(), from, end));
        break;
      }
      runs.push_back({run.first(), run.count()});
    }
  }
  if (!wrong.ok()) {
    context.TryCancel();
    (void)reader->Finish();  // the reason is known
    return wrong;
  }
  absl::Status status = FromGrpc(reader->Finish());
  if (watchdog.fired()) return Silent(patience_);
  if (status.ok() && first) return absl::InternalError("named no etag");
  return status;
}

absl::StatusOr<std::vector<HeldRun>> RemoteSource::HeldRuns(uint8_t block_class, uint64_t first,
                                                            uint64_t last) const {
  std::vector<HeldRun> found;
  if (block_class >= DCAST_CLASSES) return found;
  for (const HeldRun& run : runs_[block_class]) {
    const uint64_t from = std::max(run.first, first);
    const uint64_t to = std::min(run.first + run.count - 1, last);
    if (from <= to) found.push_back({from, to - from + 1});
  }
  return found;
}

// The first `count` numbers of the class that are held, from `from` on; fewer at its end.
std::vector<uint64_t> RemoteSource::Numbers(uint8_t block_class, uint64_t from,
                                            size_t count) const {
  std::vector<uint64_t> numbers;
  const std::vector<HeldRun>& runs = runs_[block_class];
  auto run = std::partition_point(runs.begin(), runs.end(), [from](const HeldRun& candidate) {
    return candidate.first + candidate.count <= from;
  });
  for (; run != runs.end(); ++run) {
    for (uint64_t number = std::max(from, run->first); number < run->first + run->count; ++number) {
      if (numbers.size() == count) return numbers;
      numbers.push_back(number);
    }
  }
  return numbers;
}

// Makes cursor->piece one that covers `number`, which is held.
absl::Status RemoteSource::MoveTo(bool headers, uint8_t block_class, uint64_t number,
                                  Cursor* cursor) const {
  const PieceSize size = headers ? kHeaderPiece : kBlockPiece;
  std::unique_ptr<Fetch> fetch = std::move(cursor->ahead);
  if (fetch == nullptr || !fetch->Covers(number)) {
    fetch.reset();
    // Whoever asks for one of the next few goes on from where they were.
    bool onward = false;
    if (!cursor->piece.numbers.empty() && number > cursor->piece.last) {
      const std::vector<uint64_t> next =
          Numbers(block_class, cursor->piece.last + 1, cursor->blocks);
      onward = number <= next.back();
    }
    cursor->blocks = onward ? std::min(cursor->blocks * kGrowth, size.most) : size.first;
    fetch = std::make_unique<Fetch>(*this, headers, block_class,
                                    Numbers(block_class, number, cursor->blocks));
  }
  cursor->piece = Piece();  // not kept beside the next one
  absl::StatusOr<Piece> piece = fetch->Take();
  if (!piece.ok()) return piece.status();
  cursor->piece = *std::move(piece);
  if (cursor->blocks == size.most) {
    std::vector<uint64_t> next = Numbers(block_class, cursor->piece.last + 1, size.most);
    if (!next.empty()) {
      cursor->ahead = std::make_unique<Fetch>(*this, headers, block_class, std::move(next));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<BlockState> RemoteSource::Read(bool headers, uint8_t block_class, uint64_t number,
                                              std::string* out) const {
  out->clear();
  if (block_class >= DCAST_CLASSES || !Holds(runs_[block_class], number)) {
    return BlockState::kMissing;
  }
  Cursor& cursor = cursors_[headers ? 1 : 0][block_class];
  const std::lock_guard<std::mutex> lock(cursor.mutex);
  if (!cursor.piece.Covers(number)) {
    if (absl::Status status = MoveTo(headers, block_class, number, &cursor); !status.ok()) {
      return status;
    }
  }
  const auto at =
      std::lower_bound(cursor.piece.numbers.begin(), cursor.piece.numbers.end(), number);
  *out = cursor.piece.encoded[static_cast<size_t>(at - cursor.piece.numbers.begin())];
  return out->empty() ? BlockState::kEmpty : BlockState::kHeld;
}

absl::StatusOr<BlockState> RemoteSource::ReadBlock(uint8_t block_class, uint64_t number,
                                                   std::string* encoded) const {
  return Read(/*headers=*/false, block_class, number, encoded);
}

absl::StatusOr<BlockState> RemoteSource::ReadBlockHeader(uint8_t block_class, uint64_t number,
                                                         std::string* header) const {
  return Read(/*headers=*/true, block_class, number, header);
}

}  // namespace dumpcast
