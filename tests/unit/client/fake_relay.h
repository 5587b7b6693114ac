// SPDX-License-Identifier: Apache-2.0
// A relay's Dumps and Hosts services over real gRPC on loopback, from memory, with faults on
// demand.
#ifndef DUMPCAST_TESTS_UNIT_CLIENT_FAKE_RELAY_H_
#define DUMPCAST_TESTS_UNIT_CLIENT_FAKE_RELAY_H_

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "dumpcast/v1/dumps.grpc.pb.h"
#include "dumpcast/v1/hosts.grpc.pb.h"
#include "store/vmcore/block_source.h"

namespace dumpcast {

inline constexpr char kHostId[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
inline constexpr char kDumpId[] = "3fa9c2e17b5d4a60918273645546372a";

// A complete dump of host "web1"; `id` has 32 hex digits.
v1::Dump MakeDump(const std::string& id = kDumpId);

// `size` bytes that differ everywhere, from `seed`.
std::string RandomBytes(size_t size, unsigned seed);

// The view of a dump that ReadDump serves.
struct View {
  std::string bytes;
  std::string etag;
};

// What ReadDump does wrong, once: it is taken from the queue by the call it befalls.
struct Fault {
  enum Kind {
    kBreak,        // the stream ends with UNAVAILABLE before byte `at`
    kWrongCrc,     // the chunk that holds byte `at` has a flipped bit, not its checksum
    kWrongOffset,  // the chunk that holds byte `at` names another offset
    kTooLong,      // more bytes than the file has
    kEndEarly,     // the stream ends with OK before byte `at`
    kSilence,      // nothing more is said before byte `at`, until the caller gives up
    kOtherView,    // serves the view of now although another etag was asked for
  };
  Kind kind;
  size_t at = 0;
};

class FakeRelay final {
 public:
  explicit FakeRelay(
      std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials());
  ~FakeRelay();

  // host:port of the listening server.
  const std::string& address() const { return address_; }
  // Ends every call and refuses new ones, as a killed relay does.
  void Stop();

  // All below are set while no call runs, or in after_chunk; ClientTest calls Sync() before and
  // after each command, which orders them with the calls for the thread sanitizer, too.
  void Sync() const { const std::lock_guard lock(mutex_); }
  std::vector<v1::Dump> dumps;  // newest first
  std::vector<v1::Host> hosts;
  std::map<std::string, View> views;  // by format: "elf", "kdump"
  std::string log;
  v1::LogSource log_source = v1::LOG_SOURCE_MEMORY;
  std::deque<Fault> faults;
  // Every call answers this when it is not OK.
  grpc::Status down;
  // DeleteDump answers this when it is not OK.
  grpc::Status delete_status;
  size_t chunk_bytes = 4096;
  // What ListHeldRuns and ReadBlocks serve.
  std::shared_ptr<const BlockSource> blocks;
  std::string blocks_etag = "v1";
  // Called with each message of ReadBlocks before it is sent; may change it. When it does not
  // return OK, that ends the call instead.
  std::function<grpc::Status(const v1::ReadBlocksRequest&, v1::ReadBlocksResponse*)> on_blocks;
  // The same for ListHeldRuns.
  std::function<grpc::Status(const v1::ListHeldRunsRequest&, v1::ListHeldRunsResponse*)> on_runs;
  // Largest page of a list.
  int page_size = 1000;
  // Called with the offset after each chunk that was sent.
  std::function<void(size_t sent)> after_chunk;
  // What the next WatchDumps sends after its first burst.
  std::vector<v1::WatchDumpsResponse> events;
  bool keep_watching = false;  // after them: stays silent, instead of UNAVAILABLE

  // What was asked, in order.
  std::vector<v1::ReadDumpRequest> reads;
  std::vector<v1::ReadBlocksRequest> block_reads;
  std::vector<v1::ListDumpsRequest> lists;
  std::vector<v1::WatchDumpsRequest> watches;
  std::vector<std::string> deleted;
  int calls = 0;

 private:
  class DumpsService;
  class HostsService;

  mutable std::mutex mutex_;
  std::unique_ptr<DumpsService> dumps_service_;
  std::unique_ptr<HostsService> hosts_service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_TESTS_UNIT_CLIENT_FAKE_RELAY_H_
