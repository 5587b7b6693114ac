// SPDX-License-Identifier: Apache-2.0
#include "store/service/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <chrono>
#include <fstream>
#include <iterator>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "store/service/catalog.h"
#include "store/service/dumps_service.h"
#include "store/service/hosts_service.h"
#include "store/service/replication_service.h"

namespace dumpcast {
namespace {

constexpr int kMaxMessageBytes = 64 << 20;
constexpr int kMinPingMs = 5'000;  // of peers, see relay/node.cc

absl::StatusOr<std::string> ReadPem(const std::string& what, const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(in), {}};
  if (!in || text.find("-----BEGIN") == std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": wanted a PEM file at ", path,
                                                   in ? ": it is none" : ": cannot read it"));
  }
  return text;
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> Credentials(const ServerOptions& options) {
  if (options.tls_cert_file.empty() && options.tls_key_file.empty() &&
      options.tls_ca_file.empty()) {
    return grpc::InsecureServerCredentials();
  }
  if (options.tls_cert_file.empty() || options.tls_key_file.empty()) {
    return absl::InvalidArgumentError(
        "TLS: wanted both a certificate and its key file; a CA file alone is not enough");
  }
  const auto cert = ReadPem("TLS certificate", options.tls_cert_file);
  if (!cert.ok()) return cert.status();
  const auto key = ReadPem("TLS key", options.tls_key_file);
  if (!key.ok()) return key.status();
  grpc::SslServerCredentialsOptions ssl;
  if (!options.tls_ca_file.empty()) {
    const auto ca = ReadPem("TLS CA", options.tls_ca_file);
    if (!ca.ok()) return ca.status();
    ssl = grpc::SslServerCredentialsOptions(
        GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
    ssl.pem_root_certs = *ca;
  }
  ssl.pem_key_cert_pairs.push_back({*key, *cert});
  return grpc::SslServerCredentials(ssl);
}

class GrpcServer final : public ApiServer {
 public:
  explicit GrpcServer(ServerOptions options)
      : options_(std::move(options)),
        catalog_({options_.store, options_.receive_status, options_.holders, options_.relay_name,
                  options_.now_unix_ns}),
        dumps_(&catalog_, options_.on_delete),
        hosts_(&catalog_),
        replication_(options_.store, options_.receive_status, options_.relay_name) {}

  ~GrpcServer() override { Shutdown(0); }

  absl::Status Start() {
    absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> credentials = Credentials(options_);
    if (!credentials.ok()) return credentials.status();
    static std::once_flag once;
    std::call_once(once, [] {
      grpc::EnableDefaultHealthCheckService(true);
      grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    });
    grpc::ServerBuilder builder;
    ports_.assign(options_.listen.size(), 0);
    for (size_t i = 0; i < options_.listen.size(); i++) {
      builder.AddListeningPort(options_.listen[i], *credentials, &ports_[i]);
    }
    // Two relays on one port would share the calls between them.
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kMinPingMs);
    builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
    builder.SetMaxSendMessageSize(kMaxMessageBytes);
    builder.RegisterService(&dumps_);
    builder.RegisterService(&hosts_);
    builder.RegisterService(&replication_);
    server_ = builder.BuildAndStart();
    for (size_t i = 0; i < options_.listen.size(); i++) {
      if (server_ == nullptr || ports_[i] == 0) {
        return absl::FailedPreconditionError(
            absl::StrCat("cannot listen on ", options_.listen[i],
                         ": is another relay running there, and is the address this machine's?"));
      }
    }
    for (const char* service : {v1::Dumps::service_full_name(), v1::Hosts::service_full_name(),
                                v1::Replication::service_full_name()}) {
      server_->GetHealthCheckService()->SetServingStatus(service, true);
    }
    return absl::OkStatus();
  }

  const std::vector<int>& ports() const override { return ports_; }

  void ForgetViews() override { catalog_.ForgetViews(); }

  void SetServing(bool serving) override {
    if (server_ != nullptr && server_->GetHealthCheckService() != nullptr) {
      server_->GetHealthCheckService()->SetServingStatus(serving);
    }
  }

  void SetReceiving(bool receiving) override {
    if (server_ != nullptr && server_->GetHealthCheckService() != nullptr) {
      server_->GetHealthCheckService()->SetServingStatus("", receiving);
    }
  }

  void Shutdown(int grace_ms) override {
    if (server_ == nullptr) return;
    server_->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(grace_ms));
  }

 private:
  const ServerOptions options_;
  Catalog catalog_;
  DumpsService dumps_;
  HostsService hosts_;
  ReplicationService replication_;
  std::vector<int> ports_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ApiServer>> StartServer(ServerOptions options) {
  if (options.store == nullptr || options.listen.empty()) {
    return absl::InvalidArgumentError("the server needs a store and at least one address");
  }
  if (!options.now_unix_ns) options.now_unix_ns = [] { return absl::GetCurrentTimeNanos(); };
  auto server = std::make_unique<GrpcServer>(std::move(options));
  if (absl::Status s = server->Start(); !s.ok()) return s;
  return server;
}

}  // namespace dumpcast
