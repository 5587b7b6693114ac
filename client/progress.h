// SPDX-License-Identifier: Apache-2.0
// How far a download has come: a bar that is redrawn on a terminal, plain lines elsewhere.
#ifndef DUMPCAST_CLIENT_PROGRESS_H_
#define DUMPCAST_CLIENT_PROGRESS_H_

#include <cstdint>
#include <deque>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/environment.h"

namespace dumpcast {

class Progress {
 public:
  // Writes to env.err unless `quiet`; notes are always written. `env` must outlive it.
  Progress(const Environment* env, bool quiet);

  // `done` of `total` bytes are there. `done` may fall when a download starts again. Draws at most
  // every 100 ms on a terminal, every 5 s elsewhere, by env.now.
  void Update(uint64_t done, uint64_t total);
  // A line of its own, which the bar does not overwrite.
  void Note(absl::string_view text);
  // Leaves the last state on the screen.
  void Finish();

 private:
  struct Sample {
    absl::Time when;
    uint64_t done;
  };
  double BytesPerSecond() const;
  std::string Line() const;
  void Draw();

  const Environment* env_;
  bool quiet_;
  bool drawn_ = false;  // a bar stands in the current line of the terminal
  uint64_t done_ = 0;
  uint64_t total_ = 0;
  absl::Time last_draw_ = absl::InfinitePast();
  // The last seconds, oldest first: the rate is theirs, and so is the time left.
  std::deque<Sample> samples_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_CLIENT_PROGRESS_H_
