// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "client/api.h"
#include "client/commands.h"
#include "client/dump_text.h"
#include "client/watch_view.h"

namespace dumpcast {
namespace {

// A watch may be silent for ever, and so may a dead relay: after this long it is opened again.
constexpr absl::Duration kSilence = absl::Seconds(60);
constexpr int kRoundsWithoutAnswer = 5;

class Watcher {
 public:
  Watcher(const Context& context, const WatchOptions& options, ListQuery query, std::string name)
      : context_(context),
        options_(options),
        query_(std::move(query)),
        name_(std::move(name)),
        view_(&context.env, context.json),
        deadline_(absl::Now() + options.timeout) {}

  absl::StatusOr<ExitCode> Run();

 private:
  // What matches now. NOT_FOUND when the dump that was named is not there.
  absl::StatusOr<std::vector<v1::Dump>> List(Server& server);
  // OK when done_ or the relay ended the stream after it had said something.
  absl::Status WatchFrom(Server& server);
  bool Matches(const v1::Dump& dump) const;
  void Show(const v1::WatchDumpsResponse& event);
  bool TimedOut() const { return absl::Now() >= deadline_; }
  absl::Time CallDeadline() const {
    return std::min(absl::Now() + context_.servers.deadline(), deadline_);
  }
  absl::Status TimeoutError() const;

  const Context& context_;
  const WatchOptions& options_;
  ListQuery query_;
  std::string name_;  // resource name or prefix; empty: all that match query_
  WatchView view_;
  absl::Time deadline_;
  bool answered_ = false;  // a server spoke in this round
  bool done_ = false;
  bool deleted_ = false;
  bool told_waiting_ = false;
};

bool Watcher::Matches(const v1::Dump& dump) const {
  if (name_.empty()) return true;
  // name_ is hosts/{id or -}/dumps/{prefix}.
  const size_t dumps = name_.find("/dumps/");
  const absl::string_view host = absl::string_view(name_).substr(6, dumps - 6);
  return absl::StrContains(dump.name(), absl::StrCat("/dumps/", name_.substr(dumps + 7))) &&
         (host == "-" || absl::StartsWith(dump.name(), absl::StrCat("hosts/", host, "/")));
}

void Watcher::Show(const v1::WatchDumpsResponse& event) {
  if (!Matches(event.dump())) return;
  view_.Show(event);
  if (event.deleted() && !name_.empty()) deleted_ = true;
  if (options_.until.empty() || view_.dumps().empty()) return;
  done_ = std::all_of(view_.dumps().begin(), view_.dumps().end(), [&](const auto& entry) {
    const v1::DumpState state = entry.second.state();
    return state == v1::DUMP_STATE_COMPLETE ||
           (options_.until == "sealed" && state == v1::DUMP_STATE_INCOMPLETE);
  });
}

absl::StatusOr<std::vector<v1::Dump>> Watcher::List(Server& server) {
  std::vector<v1::Dump> dumps;
  if (!name_.empty()) {
    grpc::ClientContext call;
    call.set_deadline(absl::ToChronoTime(CallDeadline()));
    v1::GetDumpRequest request;
    request.set_name(name_);
    v1::Dump dump;
    absl::Status status = FromGrpc(server.dumps->GetDump(&call, request, &dump));
    if (!status.ok()) return status;
    dumps.push_back(std::move(dump));
    return dumps;
  }
  v1::ListDumpsRequest request;
  request.set_parent(query_.parent);
  request.set_filter(query_.filter);
  request.set_page_size(200);
  do {
    grpc::ClientContext call;
    call.set_deadline(absl::ToChronoTime(CallDeadline()));
    v1::ListDumpsResponse response;
    absl::Status status = FromGrpc(server.dumps->ListDumps(&call, request, &response));
    if (!status.ok()) return status;
    for (v1::Dump& dump : *response.mutable_dumps()) dumps.push_back(std::move(dump));
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  return dumps;
}

absl::Status Watcher::WatchFrom(Server& server) {
  // The stream does not say where its first burst ends, so that the state now is asked for first.
  // It is also the proof that the relay lives.
  auto now = List(server);
  if (!now.ok() && !(absl::IsNotFound(now.status()) && !options_.until.empty())) {
    return now.status();
  }
  answered_ = true;
  if (now.ok()) {
    std::vector<v1::WatchDumpsResponse> events(now->size());
    // done_ counts only once all of them are in the view.
    for (size_t i = 0; i < now->size(); ++i) *events[i].mutable_dump() = std::move((*now)[i]);
    for (const v1::WatchDumpsResponse& event : events) Show(event);
    if (done_) return absl::OkStatus();
  } else if (!told_waiting_) {
    told_waiting_ = true;
    *context_.env.err << "dumpcast: " << options_.id << " is not known yet, waiting for it"
                      << std::endl;
  }

  v1::WatchDumpsRequest request;
  request.set_parent(query_.parent);
  request.set_filter(query_.filter);
  grpc::ClientContext call;
  if (deadline_ != absl::InfiniteFuture()) call.set_deadline(absl::ToChronoTime(deadline_));
  Watchdog watchdog(&call, kSilence);
  auto reader = server.dumps->WatchDumps(&call, request);
  v1::WatchDumpsResponse event;
  watchdog.Arm();
  while (!done_ && !deleted_ && reader->Read(&event)) {
    Show(event);
    watchdog.Arm();
  }
  watchdog.Disarm();
  if (done_ || deleted_) call.TryCancel();
  absl::Status status = FromGrpc(reader->Finish());
  if (done_ || deleted_ || watchdog.fired()) return absl::OkStatus();
  if (status.ok()) return absl::UnavailableError("ended the watch");
  return status;
}

absl::Status Watcher::TimeoutError() const {
  std::string text = absl::StrCat("not ", options_.until.empty() ? "ended" : options_.until,
                                  " within ", absl::FormatDuration(options_.timeout));
  if (view_.dumps().empty()) absl::StrAppend(&text, ": no such dump was seen");
  for (const auto& [name, dump] : view_.dumps()) {
    if (dump.state() == v1::DUMP_STATE_COMPLETE) continue;
    absl::StrAppend(&text, "\n  ", ShortId(dump.dump_id()), ": ", MissingText(dump));
  }
  return absl::DeadlineExceededError(text);
}

absl::StatusOr<ExitCode> Watcher::Run() {
  int silent_rounds = 0;
  while (!done_) {
    answered_ = false;
    ServerErrors errors;
    for (size_t i = 0; i < context_.servers.size() && !done_; ++i) {
      Server& server = context_.servers.At(i);
      absl::Status status = WatchFrom(server);
      if (deleted_) {
        return absl::NotFoundError(absl::StrCat(options_.id, " was deleted"));
      }
      if (done_) break;
      // Without --until, a given time is how long to watch.
      if (TimedOut()) {
        if (options_.until.empty()) return kExitOk;
        return TimeoutError();
      }
      if (status.ok()) break;  // silent for long: open it again
      if (!MayFailOver(status)) {
        return absl::Status(status.code(), absl::StrCat(server.address, ": ", status.message()));
      }
      errors.Add(server, std::move(status));
    }
    if (done_ || errors.empty()) continue;
    silent_rounds = answered_ ? 0 : silent_rounds + 1;
    const absl::Status status = errors.Join();
    if (absl::IsNotFound(status)) return status;
    // A script that waits with a timeout waits for relays, too.
    const bool patient = options_.timeout != absl::InfiniteDuration();
    if (!patient && silent_rounds >= kRoundsWithoutAnswer) return status;
    context_.env.sleep(absl::Seconds(1));
    if (TimedOut()) {
      return absl::Status(
          status.code(), absl::StrCat("not reached within ", absl::FormatDuration(options_.timeout),
                                      ": ", status.message()));
    }
  }
  const bool whole = std::all_of(view_.dumps().begin(), view_.dumps().end(), [](const auto& entry) {
    return entry.second.state() == v1::DUMP_STATE_COMPLETE;
  });
  return options_.require_complete && !whole ? kExitIncomplete : kExitOk;
}

}  // namespace

absl::StatusOr<ExitCode> RunWatch(const Context& context, const WatchOptions& options) {
  auto query = MakeQuery(options.host, options.filter);
  if (!query.ok()) return query.status();
  std::string name;
  if (!options.id.empty()) {
    if (!options.host.empty() || !options.filter.empty()) {
      return absl::InvalidArgumentError("give either a dump id, or --host and --filter");
    }
    auto parsed = DumpName(options.id);
    if (!parsed.ok()) return parsed.status();
    name = *std::move(parsed);
  }
  return Watcher(context, options, *std::move(query), std::move(name)).Run();
}

}  // namespace dumpcast
