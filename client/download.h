// SPDX-License-Identifier: Apache-2.0
// Fetches one view of a dump, whole and checked, from whichever relay has it.
#ifndef DUMPCAST_CLIENT_DOWNLOAD_H_
#define DUMPCAST_CLIENT_DOWNLOAD_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/dump_sink.h"
#include "client/environment.h"
#include "client/progress.h"
#include "client/servers.h"
#include "protos/keys/end_to_end.h"

namespace dumpcast {

struct DownloadRequest {
  std::string name;  // full resource name
  v1::DumpFormat format = v1::DUMP_FORMAT_ELF;
  // Of an encrypted dump, whose file is made here of its blocks. Must outlive the call. Null: the
  // relay makes the file.
  const Identity* identity = nullptr;
  // Rounds over all servers without one byte of progress before giving up.
  int retries = 5;
  // Times that a changed view is started again before giving up.
  int restarts = 5;
};

struct DownloadResult {
  uint64_t resumed_at = 0;  // bytes that an earlier run had fetched
  int restarts = 0;         // times that the view changed on the way
  std::string server;       // that sent the last byte
};

// Reads into `sink` from sink->offset() to the end of the file and finishes it. A broken stream
// goes on at the exact byte, on the next server, as long as that one has the same view (etag); when
// no server has it any more, it starts again and says so. Chunks with a wrong checksum, offset or
// length are never written.
// Of an encrypted dump, a block that does not open counts as a broken stream.
// RESOURCE_EXHAUSTED and the sink's other errors end it at once. UNAVAILABLE names each server and
// why; what was fetched stays in the sink. ABORTED when the view keeps changing.
absl::StatusOr<DownloadResult> Download(Servers& servers, const DownloadRequest& request,
                                        DumpSink* sink, Progress* progress, const Environment& env);

}  // namespace dumpcast

#endif  // DUMPCAST_CLIENT_DOWNLOAD_H_
