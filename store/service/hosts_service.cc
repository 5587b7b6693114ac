// SPDX-License-Identifier: Apache-2.0
#include "store/service/hosts_service.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "store/service/grpc_status.h"
#include "store/service/page_token.h"

namespace dumpcast {

grpc::Status HostsService::ListHosts(grpc::ServerContext*, const v1::ListHostsRequest* request,
                                     v1::ListHostsResponse* response) {
  const auto page_size = CheckPageSize(request->page_size());
  if (!page_size.ok()) return ToGrpc(page_size.status());
  const auto after = ParsePageToken(request->page_token(), "hosts");
  if (!after.ok()) return ToGrpc(after.status());

  const Store& store = *catalog_->options().store;
  std::map<std::string, v1::DumpRecord> newest;  // by host_id
  for (v1::DumpRecord& record : store.ListDumps()) {
    if (record.deleted()) continue;
    v1::DumpRecord& known = newest[record.host_id()];
    if (known.host_id().empty() || record.receive_unix_ns() > known.receive_unix_ns()) {
      known = std::move(record);
    }
  }
  // A NUL keeps `db` before `db1`, whatever the ids are.
  const auto sort_key = [](const v1::HostRecord& host) {
    return host.hostname() + '\0' + host.host_id();
  };
  std::vector<v1::HostRecord> hosts = store.ListHosts();
  std::sort(hosts.begin(), hosts.end(), [&](const v1::HostRecord& a, const v1::HostRecord& b) {
    return sort_key(a) < sort_key(b);
  });
  for (const v1::HostRecord& host : hosts) {
    if (sort_key(host) <= *after && !after->empty()) continue;
    if (static_cast<size_t>(response->hosts_size()) == *page_size) {
      const v1::Host& last = response->hosts(response->hosts_size() - 1);
      const absl::StatusOr<Id16> id = Id16FromHex(last.host_id());
      response->set_next_page_token(MakePageToken(
          last.hostname() + '\0' + (id.ok() ? std::string(id->begin(), id->end()) : ""), "hosts"));
      break;
    }
    const auto dump = newest.find(host.host_id());
    *response->add_hosts() =
        catalog_->Describe(host, dump == newest.end() ? nullptr : &dump->second);
  }
  return grpc::Status::OK;
}

}  // namespace dumpcast
