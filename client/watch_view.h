// SPDX-License-Identifier: Apache-2.0
// What `dumpcast watch` shows: a redrawn table on a terminal, a line per step elsewhere, or JSON.
#ifndef DUMPCAST_CLIENT_WATCH_VIEW_H_
#define DUMPCAST_CLIENT_WATCH_VIEW_H_

#include <map>
#include <string>

#include "absl/time/time.h"
#include "client/environment.h"
#include "dumpcast/v1/dumps.pb.h"

namespace dumpcast {

class WatchView {
 public:
  // `env` must outlive it.
  WatchView(const Environment* env, bool json) : env_(env), json_(json) {}

  // Shows what changed. The same message again, as after a failover, shows nothing in lines.
  void Show(const v1::WatchDumpsResponse& event);
  // Dumps seen and not deleted, by resource name.
  const std::map<std::string, v1::Dump>& dumps() const { return dumps_; }

 private:
  // Where a dump stood, to tell its rate.
  struct Mark {
    absl::Time when;
    uint64_t stored_bytes = 0;
    uint64_t blocks = 0;
    double bytes_per_second = 0;
    double blocks_per_second = 0;
  };
  void UpdateRate(const v1::Dump& dump);
  std::string RateText(const v1::Dump& dump) const;
  std::string LineFor(const v1::Dump& dump) const;
  void Redraw();

  const Environment* env_;
  bool json_;
  std::map<std::string, v1::Dump> dumps_;
  std::map<std::string, Mark> marks_;
  std::map<std::string, std::string> shown_;  // the state last printed
  size_t drawn_lines_ = 0;
};

}  // namespace dumpcast

#endif  // DUMPCAST_CLIENT_WATCH_VIEW_H_
