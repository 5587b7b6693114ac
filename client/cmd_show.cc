// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/api.h"
#include "client/commands.h"
#include "client/dump_text.h"
#include "client/json.h"
#include "client/text.h"

namespace dumpcast {
namespace {

std::string TimeText(absl::Time time, absl::Time now) {
  if (time == absl::InfinitePast()) return "-";
  return absl::StrCat(absl::FormatTime("%Y-%m-%d %H:%M:%E3S UTC", time, absl::UTCTimeZone()), " (",
                      HumanAge(time, now), ")");
}

std::string BytesText(uint64_t bytes) {
  return bytes == 0 ? "-" : absl::StrCat(HumanBytes(bytes), " (", bytes, ")");
}

std::string BlocksText(const v1::Dump& dump) {
  std::string text =
      absl::StrCat(dump.blocks_held(), " held of ", dump.blocks_expected(), " known");
  if (dump.blocks_announced() > 0) {
    absl::StrAppend(&text, ", ", dump.blocks_announced(), " announced by the host");
  }
  return text;
}

void Line(std::ostream& out, absl::string_view label, absl::string_view value) {
  out << label << std::string(label.size() < 13 ? 13 - label.size() : 1, ' ')
      << (value.empty() ? "-" : Printable(value)) << "\n";
}

void PrintDump(const v1::Dump& dump, const Environment& env) {
  std::ostream& out = *env.out;
  const absl::Time now = env.now();
  Line(out, "dump", dump.dump_id());
  Line(out, "host",
       absl::StrCat(dump.hostname(), dump.hostname().empty() ? "" : "  ", dump.host_id()));
  Line(out, "boot", dump.boot_id());
  Line(out, "kernel", absl::StrCat(dump.kernel_release(), "  ", dump.kernel_version()));
  Line(out, "kind", KindText(dump.live(), dump.test()));
  Line(out, "reason", dump.reason());
  Line(out, "signature", dump.signature());
  Line(out, "encrypted", dump.encrypted() ? "yes" : "no");
  Line(out, "state", StateText(dump));
  if (std::string missing = MissingText(dump); !missing.empty()) Line(out, "missing", missing);
  Line(out, "crashed", TimeText(ToTime(dump.has_crash_time(), dump.crash_time()), now));
  Line(out, "received", TimeText(ToTime(dump.has_receive_time(), dump.receive_time()), now));
  Line(out, "sealed", TimeText(ToTime(dump.has_seal_time(), dump.seal_time()), now));
  Line(out, "blocks", BlocksText(dump));
  Line(out, "memory", absl::StrCat(BytesText(dump.memory_bytes()), ", ", dump.cpus(), " CPUs"));
  Line(out, "dump level", absl::StrCat(dump.dump_level()));
  Line(out, "unreadable", absl::StrCat(dump.unreadable_pages(), " pages"));
  Line(out, "stored", BytesText(dump.stored_bytes()));
  Line(out, "as ELF", BytesText(dump.elf_bytes()));
  Line(out, "as kdump", BytesText(dump.kdump_bytes()));
  Line(out, "etag", dump.etag());
  if (!dump.holders().empty()) {
    Table holders({"RELAY", "ID", "BLOCKS", "WHOLE", "LEARNED"});
    for (const v1::Holder& holder : dump.holders()) {
      holders.Add({holder.relay_name(), holder.relay_id(), absl::StrCat(holder.blocks()),
                   holder.complete() ? "yes" : "no",
                   HumanAge(ToTime(holder.has_update_time(), holder.update_time()), now)});
    }
    out << "\n" << holders.Render(0);
  }
  if (!dump.paths().empty()) {
    Table paths({"PATH", "ORIGIN", "PACKETS", "LOST", "DUPLICATES"});
    for (const v1::PathStats& path : dump.paths()) {
      paths.Add({absl::StrCat(path.path()), path.origin(), absl::StrCat(path.packets()),
                 absl::StrCat(path.lost()), absl::StrCat(path.duplicates())});
    }
    out << "\n" << paths.Render(0);
  }
}

}  // namespace

absl::StatusOr<ExitCode> RunShow(const Context& context, const ShowOptions& options) {
  auto name = DumpName(options.id);
  if (!name.ok()) return name.status();
  auto dump = GetDump(context.servers, *name);
  if (!dump.ok()) return dump.status();
  if (context.json) {
    *context.env.out << ToJson(*dump, /*pretty=*/true) << "\n";
  } else {
    PrintDump(*dump, context.env);
  }
  if (options.require_complete && dump->state() != v1::DUMP_STATE_COMPLETE) return kExitIncomplete;
  return kExitOk;
}

}  // namespace dumpcast
