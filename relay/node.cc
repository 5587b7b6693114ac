// SPDX-License-Identifier: Apache-2.0
#include "relay/node.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <random>
#include <span>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "relay/decode.h"
#include "relay/log.h"
#include "store/service/catalog.h"

namespace dumpcast {
namespace {

constexpr uint16_t kGrpcPort = 26211;
constexpr TimeNs kInterfacesNs = 5 * kSecond;  // how often new interfaces are looked for
constexpr TimeNs kMaxSleepNs = kSecond;
constexpr TimeNs kStoreErrorNs = 60 * kSecond;  // one line for each kind of work
constexpr size_t kOpsPerBatch = 256;
constexpr size_t kOpsDecoded =
    8;  // together: as much as a processor's cache holds until they are written
// Until blocks have gathered whose digests are computed side by side.
constexpr auto kGatherOps = std::chrono::milliseconds(4);
constexpr int kPingEveryMs = 10'000;  // no less than what ApiServer allows
constexpr int kPingTimeoutMs = 5'000;

int64_t UnixNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string FileText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace

TimeNs Node::Now() {
  return static_cast<TimeNs>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                 std::chrono::steady_clock::now().time_since_epoch())
                                 .count());
}

Node::Node(const RelayOptions& options, ClusterKeys keys)
    : options_(options), keys_(std::move(keys)) {}

absl::StatusOr<std::unique_ptr<Node>> Node::Start(const RelayOptions& options, ClusterKeys keys) {
  std::unique_ptr<Node> node(new Node(options, std::move(keys)));
  absl::Status status = node->Init();
  if (!status.ok()) return status;
  return node;
}

Node::~Node() {
  (void)Stop();
}

void Node::SetKeys(ClusterKeys keys) {
  {
    const std::lock_guard<std::mutex> lock(keys_mu_);
    keys_ = std::move(keys);
  }
  ++keys_version_;
}

HostKeys Node::FindHostKeys(const Id16& host_id, uint16_t epoch) const {
  const std::lock_guard<std::mutex> lock(keys_mu_);
  HostKeys found({});
  found.revoked = keys_.IsRevoked(host_id, epoch);
  if (const std::optional<Key> host = keys_.HostKey(host_id, epoch)) {
    dcast_keys_init(&found.keys.emplace(), host->data());
  }
  return found;
}

absl::Status Node::Init() {
  std::vector<PeerName> names;
  for (const std::string& peer : options_.peers) {
    auto name = ParsePeer(peer, kGrpcPort);
    if (!name.ok()) return name.status();
    names.push_back(*std::move(name));
  }
  peer_names_ = std::make_unique<PeerNames>(std::move(names), options_.port);

  StoreOptions store_options;
  store_options.path = options_.store_path;
  store_options.min_free_bytes = options_.min_free_bytes;
  store_options.log = [](const std::string& line) { spdlog::warn("store: {}", line); };
  auto store = Store::Open(store_options);
  if (!store.ok()) return store.status();
  store_ = *std::move(store);
  writer_ = std::make_unique<Writer>(store_.get(), UnixNs);

  EngineConfig config;
  config.relay_id = store_->relay_id();
  config.name = options_.name;
  // Rises over restarts, as the wall clock does.
  config.first_seq = static_cast<uint64_t>(UnixNs() / 1000);
  config.lane_mask = options_.own_lanes;
  config.has_peers = !peer_names_->empty();
  config.dump_memory_bytes = options_.dump_memory_bytes;
  config.total_memory_bytes = options_.memory_bytes;
  config.max_dumps = options_.max_dumps;
  config.admission = options_.admission;
  config.silent_ns = options_.silent_ns;
  config.seal_ns = options_.seal_ns;
  std::random_device seed;
  auto random = std::make_shared<std::mt19937_64>((uint64_t{seed()} << 32) | seed());
  engine_ = std::make_unique<Engine>(
      config, [this](const Id16& host_id, uint16_t epoch) { return FindHostKeys(host_id, epoch); },
      [random] { return (*random)(); });
  if (absl::Status s = RestoreFromStore(*store_, Now(), UnixNs(), engine_.get()); !s.ok()) return s;

  UdpOptions udp_options;
  udp_options.group = options_.group;
  udp_options.group6 = options_.group6;
  udp_options.port = options_.port;
  udp_options.lanes = options_.own_lanes;
  udp_options.interfaces = options_.interfaces;
  udp_options.buffer_bytes = options_.socket_buffer_bytes;
  auto udp = Udp::Open(udp_options);
  if (!udp.ok()) return udp.status();
  udp_ = *std::move(udp);
  if (udp_->buffer_bytes() < options_.socket_buffer_bytes)
    spdlog::warn(
        "the kernel gave a receive buffer of {} KiB instead of {}: packets may be lost in "
        "bursts; run with CAP_NET_ADMIN, or raise net.core.rmem_max",
        udp_->buffer_bytes() >> 10, options_.socket_buffer_bytes >> 10);

  // Replication exists before the API asks it for holders, and runs after it.
  StartReplication();
  if (absl::Status s = StartApi(); !s.ok()) return s;
  if (options_.metrics != "none") {
    auto metrics = StartMetricsServer(options_.metrics, [this] { return Metrics(); });
    if (!metrics.ok()) return metrics.status();
    metrics_ = *std::move(metrics);
  }
  writer_thread_ = std::thread([this] { WriterLoop(); });
  flusher_thread_ = std::thread([this] { FlusherLoop(); });
  timer_thread_ = std::thread([this] { TimerLoop(); });
  for (size_t i = 0; i < udp_->receivers(); ++i)
    receive_threads_.emplace_back([this, i] { ReceiveLoop(i); });
  replicator_->Start();
  return absl::OkStatus();
}

void Node::StartReplication() {
  ReplicatorOptions replication;
  replication.store = store_.get();
  replication.relay_name = options_.name;
  replication.scrub_bytes_per_second = uint64_t{options_.scrub_mib_s} << 20;
  replication.peers = [this] {
    std::vector<std::string> targets = peer_names_->Targets(Now());
    WithEngine([&](Engine& engine, TimeNs) {
      engine.SetPeers(peer_names_->UdpAddresses(), !targets.empty());
    });
    return targets;
  };
  std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
  if (!options_.tls_ca.empty()) {
    grpc::SslCredentialsOptions tls;
    tls.pem_root_certs = FileText(options_.tls_ca);
    tls.pem_private_key = FileText(options_.tls_key);
    tls.pem_cert_chain = FileText(options_.tls_cert);
    credentials = grpc::SslCredentials(tls);
  }
  const bool tls = !options_.tls_ca.empty();
  replication.channel = [this, credentials, tls](const std::string& target) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(64 << 20);
    // The certificate names the peer, not the address that its name has today.
    if (const std::string name = peer_names_->NameOf(target); tls && !name.empty())
      arguments.SetSslTargetNameOverride(name);
    // A peer that restarts should be found again within seconds.
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
    // One that vanished without a word is noticed, not waited for until a deadline.
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kPingEveryMs);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kPingTimeoutMs);
    return std::shared_ptr<grpc::ChannelInterface>(
        grpc::CreateCustomChannel(target, credentials, arguments));
  };
  replication.verify = [this](const DumpKey& dump, uint32_t epoch, const BlockKey& key,
                              std::string_view encoded) {
    return VerifyEncoding(dump, epoch, key, encoded);
  };
  replication.receiving = [this](const DumpKey& dump) { return Receiving(dump); };
  replication.on_blocks = [this](const DumpKey& dump, const std::vector<FetchedBlock>& blocks) {
    OnReplicated(dump, blocks);
  };
  replication.on_delete = [this](const DumpKey& dump) {
    WithEngine([&](Engine& engine, TimeNs now) { engine.Decline(now, dump); });
    server_->ForgetViews();
  };
  replication.on_seal = [this](const DumpKey& dump, bool complete) {
    OnReplicatedSeal(dump, complete);
  };
  replication.log = [](const DumpKey& about, const std::string& line) {
    LogAbout(spdlog::level::info, about, "replication", absl::StrCat("replication: ", line));
  };
  replicator_ = std::make_unique<Replicator>(std::move(replication));
}

absl::Status Node::StartApi() {
  ServerOptions api;
  api.store = store_.get();
  api.receive_status = this;
  api.holders = replicator_.get();
  api.relay_name = options_.name;
  api.listen = options_.listen;
  api.tls_cert_file = options_.tls_cert;
  api.tls_key_file = options_.tls_key;
  api.tls_ca_file = options_.tls_ca;
  api.on_delete = [this](const DumpKey& dump) {
    WithEngine([&](Engine& engine, TimeNs now) { engine.Decline(now, dump); });
  };
  auto server = StartServer(std::move(api));
  if (!server.ok()) return server.status();
  server_ = *std::move(server);
  return absl::OkStatus();
}

absl::Status Node::VerifyEncoding(const DumpKey& dump, uint32_t key_epoch, const BlockKey& key,
                                  std::string_view encoded) const {
  // A host that was revoked since has sent it before.
  const auto keys = FindHostKeys(dump.host_id, static_cast<uint16_t>(key_epoch)).keys;
  if (!keys)
    return absl::FailedPreconditionError(
        absl::StrCat("the key file has no epoch ", key_epoch, ", which the host's packets named"));
  if (encoded.size() > DCAST_MAX_ENCODED_BYTES ||
      dcast_block_digest(&*keys, key.block_class, key.number, encoded.data(),
                         static_cast<uint32_t>(encoded.size())) != key.digest)
    return absl::DataLossError("the digest is not that of the encoding");
  return absl::OkStatus();
}

bool Node::Receiving(const DumpKey& dump) const {
  const std::lock_guard<std::mutex> lock(engine_mu_);
  const auto view = engine_->GetDump(dump);
  return view && !view->sealed && !view->declined;
}

void Node::OnReplicated(const DumpKey& dump, const std::vector<FetchedBlock>& blocks) {
  std::vector<PeerBlock> copies;
  copies.reserve(blocks.size());
  for (const FetchedBlock& block : blocks)
    copies.push_back({block.key, block.key.block_class == 0 ? block.encoded : std::string()});
  WithEngine([&](Engine& engine, TimeNs now) { engine.BlocksReplicated(now, dump, copies); });
}

void Node::OnReplicatedSeal(const DumpKey& dump, bool complete) {
  const auto record = store_->GetDump(dump);
  WithEngine([&](Engine& engine, TimeNs now) {
    if (record.ok() && !engine.GetDump(dump)) {
      // Should its host be heard again, the engine goes on from here, with the host's key.
      const absl::Status status = RestoreRecord(*store_, *record, now, UnixNs(), &engine);
      if (!status.ok()) LogAbout(spdlog::level::err, dump, "", status.ToString());
    }
    if (complete) engine.SealedByReplication(dump);
  });
}

void Node::WithEngine(const std::function<void(Engine&, TimeNs)>& work) {
  std::vector<Reply> replies;
  std::vector<StoreOp> ops;
  std::vector<PeerFetch> fetches;
  std::vector<Event> events;
  TimeNs wake;
  {
    const std::lock_guard<std::mutex> lock(engine_mu_);
    const TimeNs now = Now();
    work(*engine_, now);
    replies = engine_->TakeReplies();
    ops = engine_->TakeStoreOps(now);
    fetches = engine_->TakePeerFetches();
    events = engine_->TakeEvents();
    wake = engine_->WakeNs();
    if (!ops.empty()) {
      // Inside the lock, so that ops of two threads keep their order.
      const std::lock_guard<std::mutex> ops_lock(ops_mu_);
      std::move(ops.begin(), ops.end(), std::back_inserter(ops_));
    }
  }
  if (!ops.empty()) ops_cv_.notify_one();
  {
    const std::lock_guard<std::mutex> lock(timer_mu_);
    if (wake < timer_wake_ns_) {
      timer_wake_ns_ = wake;
      timer_cv_.notify_one();
    }
  }
  LogEvents(events);
  if (!replies.empty()) udp_->Send(replies);
  for (PeerFetch& fetch : fetches) {
    replicator_->FetchFromPeers(
        fetch.dump, fetch.key_epoch, std::move(fetch.runs), std::move(fetch.symbols),
        [this, id = fetch.id](FetchResult result) {
          PeerResult answer;
          answer.peers_asked = result.peers_asked;
          answer.more = result.more;
          answer.symbols = std::move(result.symbols);
          for (FetchedBlock& block : result.blocks)
            answer.blocks.push_back({block.key, std::move(block.encoded)});
          WithEngine([&](Engine& engine, TimeNs now) { engine.PeerFetched(now, id, answer); });
        });
  }
}

void Node::LogEvents(const std::vector<Event>& events) {
  for (const Event& event : events) {
    LogEvent(event);
    // What is sealed here may complete a peer, and the other way round.
    if (event.kind == Event::Kind::kSealedIncomplete || event.kind == Event::Kind::kSealedComplete)
      replicator_->Trigger();
  }
}

void Node::ReceiveLoop(size_t receiver) {
  Verifier verifier(
      [this](const Id16& host_id, uint16_t epoch) { return FindHostKeys(host_id, epoch); });
  uint64_t keys_version = keys_version_;
  std::vector<Verified> verified;
  udp_->Run(receiver, [&](const std::vector<Datagram>& batch) {
    if (const uint64_t now_version = keys_version_; now_version != keys_version) {
      verifier.Forget();
      keys_version = now_version;
    }
    verified.clear();
    verifier.VerifyAll(batch, &verified);
    WithEngine([&](Engine& engine, TimeNs now) {
      for (const Verified& packet : verified) engine.ReceiveVerified(now, packet);
    });
  });
}

void Node::TimerLoop() {
  TimeNs interfaces_ns = 0;
  while (true) {
    WithEngine([&](Engine& engine, TimeNs now) {
      if (const uint64_t drops = udp_->TakeDrops(); drops != 0) engine.NoteSocketDrops(now, drops);
      engine.Tick(now);
      const std::lock_guard<std::mutex> lock(timer_mu_);
      timer_wake_ns_ = engine.WakeNs();
    });
    if (const TimeNs now = Now(); now >= interfaces_ns) {
      interfaces_ns = now + kInterfacesNs;
      const auto fresh = udp_->JoinInterfaces();
      if (!fresh.empty()) spdlog::info("joined the groups on {}", absl::StrJoin(fresh, ", "));
      CheckHealth();
    }
    std::unique_lock<std::mutex> lock(timer_mu_);
    while (!timer_ends_) {
      const TimeNs now = Now();
      const TimeNs until = std::min(timer_wake_ns_, now + kMaxSleepNs);
      if (until <= now) break;
      if (timer_cv_.wait_for(lock, std::chrono::nanoseconds(until - now)) ==
          std::cv_status::timeout)
        break;
    }
    if (timer_ends_) return;
  }
}

void Node::CheckHealth() {
  std::string why;
  if (store_->accepting(&why) && !udp_->joined()) why = "no interface has joined the groups";
  if (why == unhealthy_) return;
  if (why.empty()) {
    spdlog::info("health: serving again");
  } else {
    spdlog::error("health: not serving: {}", why);
  }
  unhealthy_ = why;
  server_->SetReceiving(why.empty());
}

void Node::LogStoreError(StoreOp::Kind kind, const absl::Status& status) {
  // The engine's events tell of dumps and blocks that were refused.
  if (status.ok() || kind == StoreOp::Kind::kPut || kind == StoreOp::Kind::kOpenDump ||
      kind == StoreOp::Kind::kProbe)
    return;
  // A disk that stays full fails every second, with another file's name.
  const TimeNs now = Now();
  TimeNs& told = store_error_told_ns_[static_cast<size_t>(kind)];
  if (told != 0 && now < told + kStoreErrorNs) return;
  told = now;
  spdlog::error("store: {}", status.ToString());
}

void Node::WriterLoop() {
  std::vector<std::pair<uint64_t, absl::Status>> done;
  const auto report = [&] {
    WithEngine([&](Engine& engine, TimeNs now) {
      for (const auto& [id, status] : done) engine.StoreDone(now, id, status);
    });
    done.clear();
  };
  while (true) {
    std::vector<StoreOp> batch;
    {
      std::unique_lock<std::mutex> lock(ops_mu_);
      ops_cv_.wait(lock, [this] { return writer_ends_ || !ops_.empty(); });
      if (ops_.empty()) return;
      // A few blocks cost as much as many, and nobody waits for them until there is a flush.
      if (!writer_ends_ && ops_.size() < kOpsDecoded && ops_.back().kind == StoreOp::Kind::kPut) {
        lock.unlock();
        std::this_thread::sleep_for(kGatherOps);
        lock.lock();
      }
      const size_t count = std::min(kOpsPerBatch, ops_.size());
      std::move(ops_.begin(), ops_.begin() + static_cast<ptrdiff_t>(count),
                std::back_inserter(batch));
      ops_.erase(ops_.begin(), ops_.begin() + static_cast<ptrdiff_t>(count));
    }
    for (std::span<StoreOp> rest = batch; !rest.empty();) {
      const auto some = rest.first(std::min(kOpsDecoded, rest.size()));
      std::vector<absl::Status> decoded = DecodeOps(some);
      for (size_t i = 0; i < some.size(); ++i) {
        const uint64_t id = some[i].id;
        const StoreOp::Kind kind = some[i].kind;
        if (kind == StoreOp::Kind::kFlush) {
          // It says that all before it are durable: what became of those has to be known by then.
          report();
          BeginFlush(id);
          continue;
        }
        done.emplace_back(id, decoded[i].ok() ? writer_->Do(std::move(some[i])) : decoded[i]);
        LogStoreError(kind, done.back().second);
      }
      rest = rest.subspan(some.size());
    }
    report();
  }
}

void Node::BeginFlush(uint64_t id) {
  std::unique_lock<std::mutex> lock(flush_mu_);
  flush_cv_.wait(lock, [this] { return flush_id_ == 0; });
  flush_id_ = id;
  flush_cv_.notify_all();
}

void Node::FlusherLoop() {
  std::unique_lock<std::mutex> lock(flush_mu_);
  while (true) {
    flush_cv_.wait(lock, [this] { return flusher_ends_ || flush_id_ != 0; });
    if (flush_id_ == 0) return;
    const uint64_t id = flush_id_;
    lock.unlock();
    const absl::Status status = store_->Flush();
    LogStoreError(StoreOp::Kind::kFlush, status);
    WithEngine([&](Engine& engine, TimeNs now) { engine.StoreDone(now, id, status); });
    lock.lock();
    flush_id_ = 0;
    flush_cv_.notify_all();
  }
}

absl::Status Node::Stop() {
  if (stopped_) return absl::OkStatus();
  stopped_ = true;
  metrics_.reset();
  if (server_) server_->SetServing(false);
  // From the edge inwards: nothing new comes, then everything that came is written.
  if (udp_) udp_->Stop();
  for (std::thread& thread : receive_threads_) thread.join();
  {
    const std::lock_guard<std::mutex> lock(timer_mu_);
    timer_ends_ = true;
    timer_cv_.notify_one();
  }
  if (timer_thread_.joinable()) timer_thread_.join();
  if (replicator_) replicator_->Stop();
  {
    const std::lock_guard<std::mutex> lock(ops_mu_);
    writer_ends_ = true;
    ops_cv_.notify_one();
  }
  if (writer_thread_.joinable()) writer_thread_.join();
  {
    const std::lock_guard<std::mutex> lock(flush_mu_);
    flusher_ends_ = true;
    flush_cv_.notify_all();
  }
  if (flusher_thread_.joinable()) flusher_thread_.join();
  if (server_) server_->Shutdown(1000);
  return store_ ? store_->Flush() : absl::OkStatus();
}

std::optional<ReceiveStatus> Node::GetReceiveStatus(const DumpKey& dump) const {
  const std::lock_guard<std::mutex> lock(engine_mu_);
  return engine_->GetReceiveStatus(dump);
}

bool Node::FindSymbols(const DumpKey& dump, BlockSymbols* symbols) const {
  const std::lock_guard<std::mutex> lock(engine_mu_);
  return engine_->FindSymbols(dump, symbols);
}

uint32_t Node::PathsHeard(const Id16& host_id) const {
  const std::lock_guard<std::mutex> lock(engine_mu_);
  return engine_->PathsHeard(Now(), host_id);
}

RelayMetrics Node::Metrics() const {
  RelayMetrics m;
  std::string why;
  m.store_accepting = store_->accepting(&why);
  for (const DamagedDump& dump : store_->Damaged()) m.damaged_blocks += dump.keys.size();
  m.blocks_healed = replicator_->stats().blocks_healed;
  m.socket_buffer_bytes = udp_->buffer_bytes();
  m.send_errors = udp_->send_errors();
  m.assembly_limit_bytes = options_.memory_bytes;
  const std::vector<v1::HostRecord> hosts = store_->ListHosts();
  const int64_t now_unix_ns = UnixNs();
  const std::lock_guard<std::mutex> lock(engine_mu_);
  m.counters = engine_->counters();
  m.waiting_symbols = engine_->waiting_symbols();
  m.assembly_bytes = engine_->assembly_bytes();
  m.store_queue_bytes = engine_->store_queue_bytes();
  m.pace_bytes_per_second = uint64_t{engine_->pace_kib_s()} << 10;
  absl::flat_hash_set<Id16> dumping;
  for (const Engine::DumpView& dump : engine_->ListDumps()) {
    ++(dump.declined   ? m.dumps_declined
       : dump.complete ? m.dumps_complete
       : dump.sealed   ? m.dumps_incomplete
                       : m.dumps_receiving);
    if (!dump.sealed && !dump.declined && !dump.sender_gone) dumping.insert(dump.key.host_id);
  }
  for (const v1::HostRecord& host : hosts) {
    const auto id = Id16FromBytes(host.host_id());
    const v1::HostState state = StateOf(host, now_unix_ns);
    ++(id.ok() && dumping.contains(*id)   ? m.hosts_dumping
       : state == v1::HOST_STATE_DISARMED ? m.hosts_disarmed
       : state == v1::HOST_STATE_LOST     ? m.hosts_lost
                                          : m.hosts_armed);
  }
  return m;
}

std::string Node::CounterLine() const {
  const std::lock_guard<std::mutex> lock(engine_mu_);
  return engine_->counters().ToString();
}

}  // namespace dumpcast
