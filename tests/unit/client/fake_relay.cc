// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/client/fake_relay.h"

#include <grpcpp/server_builder.h>
#include <algorithm>
#include <chrono>
#include <optional>
#include <random>
#include <stdexcept>
#include <thread>

namespace dumpcast {
namespace {

using grpc::ServerContext;
using grpc::Status;
using grpc::StatusCode;

// CRC-32C bit by bit: the definition, independent of what the client uses.
uint32_t SlowCrc32c(const std::string& data) {
  uint32_t crc = 0xffffffff;
  for (const char c : data) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78 : 0);
  }
  return ~crc;
}

void WaitUntilCancelled(ServerContext* context) {
  while (!context->IsCancelled()) std::this_thread::sleep_for(std::chrono::milliseconds(2));
}

}  // namespace

v1::Dump MakeDump(const std::string& id) {
  v1::Dump dump;
  dump.set_name(std::string("hosts/") + kHostId + "/dumps/" + id);
  dump.set_host_id(kHostId);
  dump.set_dump_id(id);
  dump.set_boot_id("bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb");
  dump.set_hostname("web1");
  dump.set_kernel_release("6.1.0-56-amd64");
  dump.set_kernel_version("#1 SMP Debian");
  dump.set_reason("sysrq triggered crash");
  dump.set_state(v1::DUMP_STATE_COMPLETE);
  dump.mutable_crash_time()->set_seconds(1790000000);
  dump.mutable_receive_time()->set_seconds(1790000001);
  dump.set_blocks_held(4000);
  dump.set_blocks_expected(4000);
  dump.set_stored_bytes(90 << 20);
  dump.set_memory_bytes(256 << 20);
  dump.set_elf_bytes(200 << 20);
  dump.set_cpus(2);
  dump.set_etag("v1");
  v1::Holder* holder = dump.add_holders();
  holder->set_relay_id("00000000000000a1");
  holder->set_relay_name("relay-0");
  holder->set_blocks(4000);
  holder->set_complete(true);
  v1::PathStats* path = dump.add_paths();
  path->set_origin("00000000000000b2");
  path->set_packets(123456);
  path->set_lost(7);
  return dump;
}

std::string RandomBytes(size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::string bytes(size, '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  return bytes;
}

class FakeRelay::DumpsService final : public v1::Dumps::Service {
 public:
  explicit DumpsService(FakeRelay* relay) : relay_(*relay) {}

  Status ListDumps(ServerContext*, const v1::ListDumpsRequest* request,
                   v1::ListDumpsResponse* response) override {
    const std::lock_guard lock(relay_.mutex_);
    ++relay_.calls;
    relay_.lists.push_back(*request);
    if (!relay_.down.ok()) return relay_.down;
    if (request->filter() == "nonsense") {
      return {StatusCode::INVALID_ARGUMENT, "filter: \"nonsense\" has no operator"};
    }
    const size_t first = request->page_token().empty() ? 0 : std::stoul(request->page_token());
    const size_t last =
        std::min(relay_.dumps.size(),
                 first + static_cast<size_t>(std::min(request->page_size(), relay_.page_size)));
    for (size_t i = first; i < last; ++i) *response->add_dumps() = relay_.dumps[i];
    if (last < relay_.dumps.size()) response->set_next_page_token(std::to_string(last));
    return Status::OK;
  }

  Status GetDump(ServerContext*, const v1::GetDumpRequest* request, v1::Dump* dump) override {
    const std::lock_guard lock(relay_.mutex_);
    ++relay_.calls;
    if (!relay_.down.ok()) return relay_.down;
    return Find(request->name(), dump);
  }

  Status ReadDump(ServerContext* context, const v1::ReadDumpRequest* request,
                  grpc::ServerWriter<v1::ReadDumpResponse>* writer) override {
    View view;
    std::optional<Fault> fault;
    {
      const std::lock_guard lock(relay_.mutex_);
      ++relay_.calls;
      relay_.reads.push_back(*request);
      if (!relay_.down.ok()) return relay_.down;
      v1::Dump dump;
      if (Status status = Find(request->name(), &dump); !status.ok()) return status;
      view = relay_.views[request->format() == v1::DUMP_FORMAT_KDUMP ? "kdump" : "elf"];
      if (!relay_.faults.empty()) {
        fault = relay_.faults.front();
        relay_.faults.pop_front();
      }
    }
    const bool lies = fault && fault->kind == Fault::kOtherView;
    if (!request->etag().empty() && request->etag() != view.etag && !lies) {
      return {StatusCode::ABORTED, "the view has changed"};
    }
    if (request->offset() > view.bytes.size()) return {StatusCode::OUT_OF_RANGE, "beyond the end"};
    return Send(context, *request, view, fault, writer);
  }

  Status ReadLog(ServerContext*, const v1::ReadLogRequest* request,
                 grpc::ServerWriter<v1::ReadLogResponse>* writer) override {
    const std::lock_guard lock(relay_.mutex_);
    ++relay_.calls;
    if (!relay_.down.ok()) return relay_.down;
    v1::Dump dump;
    if (Status status = Find(request->name(), &dump); !status.ok()) return status;
    std::string text = relay_.log;
    if (request->tail_lines() > 0) {
      size_t begin = text.size();
      for (uint32_t i = 0; i <= request->tail_lines() && begin != std::string::npos; ++i) {
        begin = begin == 0 ? std::string::npos : text.rfind('\n', begin - 1);
      }
      if (begin != std::string::npos) text.erase(0, begin + 1);
    }
    // In two messages, to be joined.
    for (const std::string& half :
         {text.substr(0, text.size() / 2), text.substr(text.size() / 2)}) {
      v1::ReadLogResponse response;
      response.set_text(half);
      response.set_source(relay_.log_source);
      writer->Write(response);
    }
    return Status::OK;
  }

  Status ListHeldRuns(ServerContext*, const v1::ListHeldRunsRequest* request,
                      grpc::ServerWriter<v1::ListHeldRunsResponse>* writer) override {
    const std::lock_guard lock(relay_.mutex_);
    ++relay_.calls;
    if (Status status = CheckBlocks(request->name(), request->etag()); !status.ok()) return status;
    const auto runs =
        relay_.blocks->HeldRuns(static_cast<uint8_t>(request->block_class()), 0, ~uint64_t{0});
    // Two runs a message, to be joined.
    auto run = runs->begin();
    v1::ListHeldRunsResponse response;
    response.set_etag(relay_.blocks_etag);
    do {
      for (; run != runs->end() && response.runs_size() < 2; ++run) {
        v1::HeldRun* out = response.add_runs();
        out->set_first(run->first);
        out->set_count(run->count);
      }
      if (relay_.on_runs) {
        if (Status status = relay_.on_runs(*request, &response); !status.ok()) return status;
      }
      if (!writer->Write(response)) return Status::CANCELLED;
      response.Clear();
    } while (run != runs->end());
    return Status::OK;
  }

  Status ReadBlocks(ServerContext*, const v1::ReadBlocksRequest* request,
                    grpc::ServerWriter<v1::ReadBlocksResponse>* writer) override {
    const std::lock_guard lock(relay_.mutex_);
    ++relay_.calls;
    relay_.block_reads.push_back(*request);
    if (Status status = CheckBlocks(request->name(), request->etag()); !status.ok()) return status;
    const auto block_class = static_cast<uint8_t>(request->block_class());
    const auto runs = relay_.blocks->HeldRuns(block_class, request->first(), request->last());
    v1::ReadBlocksResponse response;
    response.set_etag(relay_.blocks_etag);
    const auto send = [&] {
      if (relay_.on_blocks) {
        if (Status status = relay_.on_blocks(*request, &response); !status.ok()) return status;
      }
      const bool sent = writer->Write(response);
      response.Clear();
      return sent ? Status::OK : Status::CANCELLED;
    };
    for (const HeldRun& run : *runs) {
      for (uint64_t number = run.first; number < run.first + run.count; ++number) {
        v1::StoredBlock* block = response.add_blocks();
        block->set_number(number);
        (void)relay_.blocks->ReadBlock(block_class, number, block->mutable_encoded());
        if (request->prefix_bytes() != 0 && block->encoded().size() > request->prefix_bytes()) {
          block->mutable_encoded()->resize(request->prefix_bytes());
        }
        block->set_crc32c(SlowCrc32c(block->encoded()));
        if (response.blocks_size() < 3) continue;
        if (Status status = send(); !status.ok()) return status;
      }
    }
    return send();
  }

  Status WatchDumps(ServerContext* context, const v1::WatchDumpsRequest* request,
                    grpc::ServerWriter<v1::WatchDumpsResponse>* writer) override {
    std::vector<v1::WatchDumpsResponse> events;
    bool stay = false;
    {
      const std::lock_guard lock(relay_.mutex_);
      ++relay_.calls;
      relay_.watches.push_back(*request);
      if (!relay_.down.ok()) return relay_.down;
      for (const v1::Dump& dump : relay_.dumps) {
        v1::WatchDumpsResponse event;
        *event.mutable_dump() = dump;
        writer->Write(event);
      }
      events.swap(relay_.events);
      stay = relay_.keep_watching;
    }
    for (const v1::WatchDumpsResponse& event : events) writer->Write(event);
    if (stay) WaitUntilCancelled(context);
    return {StatusCode::UNAVAILABLE, "going down"};
  }

  Status DeleteDump(ServerContext*, const v1::DeleteDumpRequest* request,
                    v1::DeleteDumpResponse*) override {
    const std::lock_guard lock(relay_.mutex_);
    ++relay_.calls;
    if (!relay_.delete_status.ok() && !request->force()) return relay_.delete_status;
    v1::Dump dump;
    if (Status status = Find(request->name(), &dump); !status.ok()) return status;
    relay_.deleted.push_back(request->name());
    return Status::OK;
  }

 private:
  Status CheckBlocks(const std::string& name, const std::string& etag) {
    if (!relay_.down.ok()) return relay_.down;
    v1::Dump dump;
    if (Status status = Find(name, &dump); !status.ok()) return status;
    if (relay_.blocks == nullptr) return {StatusCode::NOT_FOUND, "no blocks of " + name};
    if (!etag.empty() && etag != relay_.blocks_etag) {
      return {StatusCode::ABORTED, "the block set has changed"};
    }
    return Status::OK;
  }

  Status Find(const std::string& name, v1::Dump* dump) {
    const std::string any = "hosts/-/dumps/";
    for (const v1::Dump& known : relay_.dumps) {
      if (known.name() == name ||
          (name.rfind(any, 0) == 0 && known.dump_id().rfind(name.substr(any.size()), 0) == 0)) {
        *dump = known;
        return Status::OK;
      }
    }
    return {StatusCode::NOT_FOUND, "no dump " + name};
  }

  Status Send(ServerContext* context, const v1::ReadDumpRequest& request, const View& view,
              const std::optional<Fault>& fault, grpc::ServerWriter<v1::ReadDumpResponse>* writer) {
    bool first = true;
    size_t offset = request.offset();
    do {
      size_t end = std::min(offset + relay_.chunk_bytes, view.bytes.size());
      // Ends the chunk where the fault begins, so that the client must go on at an odd byte.
      if (fault && fault->at > offset && fault->at < end) end = fault->at;
      const bool hit = fault && offset <= fault->at && fault->at < end;
      if (hit && fault->kind == Fault::kBreak) return {StatusCode::UNAVAILABLE, "cable cut"};
      if (hit && fault->kind == Fault::kEndEarly) return Status::OK;
      if (hit && fault->kind == Fault::kSilence) {
        WaitUntilCancelled(context);
        return Status::CANCELLED;
      }
      v1::ReadDumpResponse chunk;
      chunk.set_offset(offset);
      chunk.set_data(view.bytes.substr(offset, end - offset));
      chunk.set_crc32c(SlowCrc32c(chunk.data()));
      if (hit && fault->kind == Fault::kWrongCrc) (*chunk.mutable_data())[0] ^= 1;
      if (hit && fault->kind == Fault::kWrongOffset) chunk.set_offset(offset + 1);
      if (hit && fault->kind == Fault::kTooLong) {
        chunk.set_data(view.bytes + "x");
        chunk.set_crc32c(SlowCrc32c(chunk.data()));
      }
      if (first) {
        chunk.set_file_bytes(view.bytes.size());
        chunk.set_etag(view.etag);
        first = false;
      }
      if (!writer->Write(chunk)) return Status::CANCELLED;
      offset = end;
      const std::lock_guard lock(relay_.mutex_);
      if (relay_.after_chunk) relay_.after_chunk(offset);
    } while (offset < view.bytes.size());
    return Status::OK;
  }

  FakeRelay& relay_;
};

class FakeRelay::HostsService final : public v1::Hosts::Service {
 public:
  explicit HostsService(FakeRelay* relay) : relay_(*relay) {}

  Status ListHosts(ServerContext*, const v1::ListHostsRequest* request,
                   v1::ListHostsResponse* response) override {
    const std::lock_guard lock(relay_.mutex_);
    if (!relay_.down.ok()) return relay_.down;
    const size_t first = request->page_token().empty() ? 0 : std::stoul(request->page_token());
    const size_t last =
        std::min(relay_.hosts.size(), first + static_cast<size_t>(relay_.page_size));
    for (size_t i = first; i < last; ++i) *response->add_hosts() = relay_.hosts[i];
    if (last < relay_.hosts.size()) response->set_next_page_token(std::to_string(last));
    return Status::OK;
  }

 private:
  FakeRelay& relay_;
};

FakeRelay::FakeRelay(std::shared_ptr<grpc::ServerCredentials> credentials)
    : dumps_service_(std::make_unique<DumpsService>(this)),
      hosts_service_(std::make_unique<HostsService>(this)) {
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", std::move(credentials), &port);
  builder.RegisterService(dumps_service_.get());
  builder.RegisterService(hosts_service_.get());
  server_ = builder.BuildAndStart();
  if (server_ == nullptr || port == 0) throw std::runtime_error("no port on 127.0.0.1");
  address_ = "127.0.0.1:" + std::to_string(port);
}

FakeRelay::~FakeRelay() {
  Stop();
}

void FakeRelay::Stop() {
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  server_.reset();
}

}  // namespace dumpcast
