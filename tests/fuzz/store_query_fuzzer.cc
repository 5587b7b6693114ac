// SPDX-License-Identifier: Apache-2.0
// What API callers write: filters, names, page tokens.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "store/service/filter.h"
#include "store/service/names.h"
#include "store/service/page_token.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto filter = dumpcast::DumpFilter::Parse(text);
  if (filter.ok()) {
    dumpcast::v1::Dump dump;
    dump.set_hostname("db7");
    dump.mutable_crash_time()->set_seconds(1);
    (void)filter->Matches(dump);
  }
  (void)dumpcast::ParseParent(text);
  const auto name = dumpcast::ParseDumpName(text);
  if (name.ok() && dumpcast::ParseDumpName(name->ResourceName()).value() != *name) abort();
  (void)dumpcast::ParsePageToken(text, "query");
  const auto position = dumpcast::ParsePageToken(dumpcast::MakePageToken(text, text), text);
  if (!text.empty() && position.value() != text) abort();
  return 0;
}
