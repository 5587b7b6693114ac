// SPDX-License-Identifier: Apache-2.0
// The blocks of a dump on one relay, for views that are made here.
#ifndef DUMPCAST_CLIENT_REMOTE_SOURCE_H_
#define DUMPCAST_CLIENT_REMOTE_SOURCE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/servers.h"
#include "store/vmcore/block_source.h"

namespace dumpcast {

// One block set: a relay that does not have it any more answers ABORTED. What goes forward in a
// class is read ahead, in the background, so that the network and whoever uses the blocks work at
// the same time: at most some 32 MiB in all. Blocks that are asked for here and there come a few at
// a time.
//
// Thread safety: as BlockSource says. Readers of one class wait for each other.
class RemoteSource final : public BlockSource {
 public:
  // Learns which blocks the relay holds of the dump with this resource name. `server` must outlive
  // the source. `patience`: how long the relay may say nothing.
  // Errors of the relay; DEADLINE_EXCEEDED; DATA_LOSS when its answer cannot be one.
  static absl::StatusOr<std::shared_ptr<const RemoteSource>> Open(Server* server, std::string name,
                                                                  absl::Duration patience);
  ~RemoteSource() override;

  // Names the block set, as Dump.etag.
  const std::string& etag() const { return etag_; }

  // As in Open(). DATA_LOSS also when a checksum is wrong.
  absl::StatusOr<BlockState> ReadBlock(uint8_t block_class, uint64_t number,
                                       std::string* encoded) const override;
  absl::StatusOr<std::vector<HeldRun>> HeldRuns(uint8_t block_class, uint64_t first,
                                                uint64_t last) const override;
  // Gives the first 72 bytes.
  absl::StatusOr<BlockState> ReadBlockHeader(uint8_t block_class, uint64_t number,
                                             std::string* header) const override;

 private:
  // Blocks of a range of numbers, one after the other as they are held.
  struct Piece {
    uint64_t first = 0;
    uint64_t last = 0;
    std::vector<uint64_t> numbers;
    std::vector<std::string> encoded;
    bool Covers(uint64_t number) const {
      return !numbers.empty() && number >= first && number <= last;
    }
  };
  class Fetch;
  // Where the readers of a class are, of whole blocks or of headers.
  struct Cursor {
    std::mutex mutex;  // guards all of it; not absl::Mutex: as in MemoryView
    Piece piece;
    std::unique_ptr<Fetch> ahead;  // of what follows `piece`, may be null
    size_t blocks = 0;             // of the piece that was fetched last
  };

  RemoteSource(Server* server, std::string name, absl::Duration patience);
  absl::Status LoadRuns(uint8_t block_class);
  absl::StatusOr<BlockState> Read(bool headers, uint8_t block_class, uint64_t number,
                                  std::string* out) const;
  absl::Status MoveTo(bool headers, uint8_t block_class, uint64_t number, Cursor* cursor) const;
  std::vector<uint64_t> Numbers(uint8_t block_class, uint64_t from, size_t count) const;

  Server* const server_;
  const std::string name_;
  const absl::Duration patience_;
  std::string etag_;
  std::array<std::vector<HeldRun>, 4> runs_;              // by class, ascending
  mutable std::array<std::array<Cursor, 4>, 2> cursors_;  // by headers, class
};

}  // namespace dumpcast

#endif  // DUMPCAST_CLIENT_REMOTE_SOURCE_H_
