// SPDX-License-Identifier: Apache-2.0
#include "client/servers.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <fstream>
#include <sstream>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"

namespace dumpcast {
namespace {

constexpr int kMaxMessageBytes = 64 << 20;
constexpr absl::string_view kLastError = "last error: ";

absl::Status ReadPem(const std::string& path, absl::string_view what, std::string* out) {
  if (path.empty()) return absl::OkStatus();
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  *out = text.str();
  if (!file || out->find("-----BEGIN ") == std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("the ", what, " ", path, " cannot be read or is not PEM"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeCredentials(const TlsConfig& tls) {
  if (!tls.enabled) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions options;
  for (const auto& [path, what, out] :
       {std::tuple(tls.ca_path, "CA file", &options.pem_root_certs),
        std::tuple(tls.cert_path, "certificate", &options.pem_cert_chain),
        std::tuple(tls.key_path, "key", &options.pem_private_key)}) {
    if (absl::Status status = ReadPem(path, what, out); !status.ok()) return status;
  }
  return grpc::SslCredentials(options);
}

}  // namespace

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const std::string whole = status.error_message();
  absl::string_view message = whole;
  // "failed to connect to all addresses; last error: UNKNOWN: ipv4:...: Connection refused"
  if (const size_t last = message.find(kLastError); last != absl::string_view::npos) {
    message.remove_prefix(last + kLastError.size());
    absl::ConsumePrefix(&message, "UNKNOWN: ");
  }
  // The codes are the same numbers by definition of both.
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), message);
}

bool MayFailOver(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kCancelled:  // by a relay that is shutting down; we cancel by Watchdog
      return true;
    default:
      return false;
  }
}

void ServerErrors::Add(const Server& server, absl::Status status) {
  errors_.emplace_back(server.address, std::move(status));
}

absl::Status ServerErrors::Join() const {
  absl::StatusCode code = absl::StatusCode::kNotFound;
  std::string message;
  for (const auto& [address, status] : errors_) {
    if (code == absl::StatusCode::kNotFound) code = status.code();
    absl::StrAppend(&message, errors_.size() > 1 ? "\n  " : "", address, ": ",
                    absl::StatusCodeToString(status.code()), ": ", status.message());
  }
  if (errors_.size() > 1) message.insert(0, "no server could answer:");
  return absl::Status(code, message);
}

absl::StatusOr<Servers> Servers::Create(const ClientConfig& config) {
  auto credentials = MakeCredentials(config.tls);
  if (!credentials.ok()) return credentials.status();
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  // Relays are near; a proxy for the web would only be in the way.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  if (!config.tls.server_name.empty()) {
    arguments.SetSslTargetNameOverride(config.tls.server_name);
  }
  Servers servers;
  servers.deadline_ = config.deadline;
  for (const std::string& address : config.servers) {
    auto channel = grpc::CreateCustomChannel(address, *credentials, arguments);
    servers.servers_.push_back({address, v1::Dumps::NewStub(channel), v1::Hosts::NewStub(channel)});
  }
  return servers;
}

absl::Status Servers::Try(absl::FunctionRef<absl::Status(Server&)> ask) {
  ServerErrors errors;
  for (size_t i = 0; i < size(); ++i) {
    absl::Status status = ask(At(i));
    if (status.ok()) {
      Prefer(i);
      return status;
    }
    if (!MayFailOver(status)) {
      return absl::Status(status.code(), absl::StrCat(At(i).address, ": ", status.message()));
    }
    errors.Add(At(i), std::move(status));
  }
  return errors.Join();
}

struct Watchdog::State {
  absl::Mutex mutex;
  absl::Time limit ABSL_GUARDED_BY(mutex) = absl::InfiniteFuture();
  bool stop ABSL_GUARDED_BY(mutex) = false;
  bool fired ABSL_GUARDED_BY(mutex) = false;
  absl::CondVar changed;
  grpc::ClientContext* context;
  absl::Duration patience;
  std::thread thread;

  void Run() {
    absl::MutexLock lock(&mutex);
    while (!stop) {
      // Arm() and Disarm() come with every message: neither wakes this thread, it looks again
      // when the limit that it knew of has passed.
      const absl::Time until = std::min(limit, absl::Now() + patience);
      changed.WaitWithDeadline(&mutex, until);
      if (!stop && !fired && absl::Now() >= limit) {
        fired = true;
        context->TryCancel();
      }
      if (fired) limit = absl::InfiniteFuture();
    }
  }
};

Watchdog::Watchdog(grpc::ClientContext* context, absl::Duration patience)
    : state_(std::make_unique<State>()) {
  state_->context = context;
  state_->patience = patience;
  state_->thread = std::thread([state = state_.get()] { state->Run(); });
}

Watchdog::~Watchdog() {
  {
    absl::MutexLock lock(&state_->mutex);
    state_->stop = true;
    state_->changed.Signal();
  }
  state_->thread.join();
}

void Watchdog::Arm() {
  absl::MutexLock lock(&state_->mutex);
  state_->limit = absl::Now() + state_->patience;
}

void Watchdog::Disarm() {
  absl::MutexLock lock(&state_->mutex);
  state_->limit = absl::InfiniteFuture();
}

bool Watchdog::fired() const {
  absl::MutexLock lock(&state_->mutex);
  return state_->fired;
}

}  // namespace dumpcast
