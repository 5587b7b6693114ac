// SPDX-License-Identifier: Apache-2.0
#include "client/api.h"

#include <algorithm>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace dumpcast {
namespace {

constexpr int kPageSize = 200;

bool IsHex(absl::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), absl::ascii_isxdigit);
}

void SetDeadline(const Servers& servers, grpc::ClientContext* context) {
  context->set_deadline(absl::ToChronoTime(absl::Now() + servers.deadline()));
}

// The dump that is nearer to whole; a sealed one wins over one that is still arriving.
bool Better(const v1::Dump& a, const v1::Dump& b) {
  auto rank = [](const v1::Dump& dump) {
    return std::pair(dump.state() == v1::DUMP_STATE_COMPLETE, dump.blocks_held());
  };
  return rank(a) > rank(b);
}

absl::StatusOr<v1::Dump> GetDumpFrom(Servers& servers, Server& server, const std::string& name) {
  grpc::ClientContext context;
  SetDeadline(servers, &context);
  v1::GetDumpRequest request;
  request.set_name(name);
  v1::Dump dump;
  absl::Status status = FromGrpc(server.dumps->GetDump(&context, request, &dump));
  if (!status.ok()) return status;
  return dump;
}

absl::Status ListDumpsFrom(Servers& servers, Server& server, const ListQuery& query,
                           DumpList* list) {
  *list = {};
  v1::ListDumpsRequest request;
  request.set_parent(query.parent);
  request.set_filter(query.filter);
  do {
    const size_t left = query.limit == 0 ? kPageSize : query.limit - list->dumps.size();
    request.set_page_size(static_cast<int>(std::min<size_t>(left, kPageSize)));
    grpc::ClientContext context;
    SetDeadline(servers, &context);
    v1::ListDumpsResponse response;
    absl::Status status = FromGrpc(server.dumps->ListDumps(&context, request, &response));
    if (!status.ok()) return status;
    for (v1::Dump& dump : *response.mutable_dumps()) list->dumps.push_back(std::move(dump));
    if (!response.next_page_token().empty() && response.next_page_token() == request.page_token()) {
      return absl::InternalError("the relay gave the same page twice");
    }
    request.set_page_token(response.next_page_token());
    list->more = !request.page_token().empty();
  } while (list->more && (query.limit == 0 || list->dumps.size() < query.limit));
  return absl::OkStatus();
}

absl::Status ReadLogFrom(Servers& servers, Server& server, const v1::ReadLogRequest& request,
                         DumpLog* log) {
  *log = {};
  grpc::ClientContext context;
  Watchdog watchdog(&context, servers.deadline());
  auto reader = server.dumps->ReadLog(&context, request);
  v1::ReadLogResponse response;
  watchdog.Arm();
  while (reader->Read(&response)) {
    log->text += response.text();
    log->source = response.source();
    watchdog.Arm();
  }
  absl::Status status = FromGrpc(reader->Finish());
  if (watchdog.fired()) {
    return absl::DeadlineExceededError(
        absl::StrCat("silent for ", absl::FormatDuration(servers.deadline())));
  }
  return status;
}

}  // namespace

absl::StatusOr<std::string> DumpName(absl::string_view id) {
  const std::string lower = absl::AsciiStrToLower(id);
  if (IsHex(lower) && lower.size() <= 32) return absl::StrCat("hosts/-/dumps/", lower);
  absl::string_view rest = lower;
  if (rest.substr(0, 6) == "hosts/") {
    rest.remove_prefix(6);
    const size_t slash = rest.find("/dumps/");
    if (slash != absl::string_view::npos) {
      const absl::string_view host = rest.substr(0, slash);
      const absl::string_view dump = rest.substr(slash + 7);
      if ((host == "-" || (IsHex(host) && host.size() == 32)) && IsHex(dump) && dump.size() <= 32) {
        return lower;
      }
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", id, "\" is no dump id: want 1 to 32 hex digits as `dumpcast ls` prints them, or ",
      "hosts/HOST_ID/dumps/DUMP_ID"));
}

absl::StatusOr<ListQuery> MakeQuery(absl::string_view host, absl::string_view filter) {
  ListQuery query;
  if (!host.empty()) {
    if (IsHex(host) && host.size() == 32) {
      query.parent = absl::StrCat("hosts/", absl::AsciiStrToLower(host));
    } else {
      const bool plain = std::all_of(host.begin(), host.end(), [](char c) {
        return absl::ascii_isalnum(c) || c == '-' || c == '.' || c == '_' || c == '*';
      });
      const size_t star = host.find('*');
      if (!plain || (star != absl::string_view::npos && star + 1 != host.size())) {
        return absl::InvalidArgumentError(absl::StrCat(
            "--host \"", host, "\": want a host name, `name*`, or a host id of 32 hex digits"));
      }
      query.filter = absl::StrCat("hostname=", host);
    }
  }
  if (!filter.empty()) {
    absl::StrAppend(&query.filter, query.filter.empty() ? "" : " AND ", filter);
  }
  return query;
}

absl::StatusOr<DumpList> ListDumps(Servers& servers, const ListQuery& query) {
  DumpList list;
  absl::Status status =
      servers.Try([&](Server& server) { return ListDumpsFrom(servers, server, query, &list); });
  if (!status.ok()) return status;
  return list;
}

absl::StatusOr<std::vector<v1::Host>> ListHosts(Servers& servers) {
  std::vector<v1::Host> hosts;
  absl::Status status = servers.Try([&](Server& server) {
    hosts.clear();
    v1::ListHostsRequest request;
    request.set_page_size(kPageSize);
    do {
      grpc::ClientContext context;
      SetDeadline(servers, &context);
      v1::ListHostsResponse response;
      absl::Status status = FromGrpc(server.hosts->ListHosts(&context, request, &response));
      if (!status.ok()) return status;
      for (v1::Host& host : *response.mutable_hosts()) hosts.push_back(std::move(host));
      if (!response.next_page_token().empty() &&
          response.next_page_token() == request.page_token()) {
        return absl::InternalError("the relay gave the same page twice");
      }
      request.set_page_token(response.next_page_token());
    } while (!request.page_token().empty());
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return hosts;
}

absl::StatusOr<v1::Dump> GetDump(Servers& servers, const std::string& name) {
  v1::Dump dump;
  absl::Status status = servers.Try([&](Server& server) {
    auto got = GetDumpFrom(servers, server, name);
    if (!got.ok()) return got.status();
    dump = *std::move(got);
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return dump;
}

absl::StatusOr<v1::Dump> GetBestDump(Servers& servers, const std::string& name) {
  std::optional<v1::Dump> best;
  size_t best_index = 0;
  ServerErrors errors;
  for (size_t i = 0; i < servers.size(); ++i) {
    // A prefix may be unique on one relay and mean another dump on the next.
    auto got = GetDumpFrom(servers, servers.At(i), best ? best->name() : name);
    if (!got.ok()) {
      if (!best && !MayFailOver(got.status())) {
        return absl::Status(got.status().code(),
                            absl::StrCat(servers.At(i).address, ": ", got.status().message()));
      }
      errors.Add(servers.At(i), got.status());
      continue;
    }
    if (!best || Better(*got, *best)) {
      best = *std::move(got);
      best_index = i;
    }
    if (best->state() == v1::DUMP_STATE_COMPLETE) break;
  }
  if (!best) return errors.Join();
  servers.Prefer(best_index);
  return *std::move(best);
}

absl::StatusOr<DumpLog> ReadLog(Servers& servers, const std::string& name, uint32_t tail_lines) {
  v1::ReadLogRequest request;
  request.set_name(name);
  request.set_tail_lines(tail_lines);
  DumpLog log;
  absl::Status status =
      servers.Try([&](Server& server) { return ReadLogFrom(servers, server, request, &log); });
  if (!status.ok()) return status;
  return log;
}

absl::Status DeleteDump(Servers& servers, const std::string& name, bool force) {
  return servers.Try([&](Server& server) {
    grpc::ClientContext context;
    SetDeadline(servers, &context);
    v1::DeleteDumpRequest request;
    request.set_name(name);
    request.set_force(force);
    v1::DeleteDumpResponse response;
    return FromGrpc(server.dumps->DeleteDump(&context, request, &response));
  });
}

}  // namespace dumpcast
