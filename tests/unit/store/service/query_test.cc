// SPDX-License-Identifier: Apache-2.0
// What callers write: names, filters, page tokens.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "store/service/crc32c.h"
#include "store/service/filter.h"
#include "store/service/names.h"
#include "store/service/page_token.h"
#include "tests/unit/store/store_fixture.h"

namespace dumpcast {
namespace {

using testing::DumpOf;
using ::testing::HasSubstr;
using testing::OpenOrDie;
using testing::RecordOf;
using testing::TempDir;

v1::Dump SomeDump() {
  v1::Dump dump;
  dump.set_state(v1::DUMP_STATE_COMPLETE);
  dump.set_hostname("db7.example");
  dump.set_host_id(std::string(32, 'a'));
  dump.set_kernel_release("6.1.0-1");
  dump.set_live(true);
  dump.mutable_crash_time()->set_seconds(1'700'000'000);
  return dump;
}

TEST(FilterTest, ConditionsMatchAsWritten) {
  const std::vector<std::pair<const char*, bool>> cases = {
      {"", true},
      {"   ", true},
      {"state=complete", true},
      {"state=incomplete", false},
      {"state!=receiving", true},
      {"hostname=db7.example", true},
      {"hostname=db7", false},
      {"hostname=db7*", true},
      {"hostname=\"db7\"*", true},
      {"hostname=\"db7*\"", false},
      {"hostname!=db*", false},
      {"hostname = 'db7.example'", true},
      {"host_id=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", true},
      {"kernel_release=6.1* AND live=true AND test=false", true},
      {"live=true AND state=receiving", false},
      {"crash_time>2023-11-14T22:13:19Z", true},
      {"crash_time<2023-11-14T22:13:19Z", false},
      {"crash_time=2023-11-14T22:13:20Z", true},
      {"crash_time>\"2024-01-01T00:00:00+02:00\"", false},
      {"hostname=\"\"", false},
  };
  for (const auto& [text, matches] : cases) {
    const auto filter = DumpFilter::Parse(text);
    ASSERT_TRUE(filter.ok()) << text << ": " << filter.status();
    EXPECT_EQ(filter->Matches(SomeDump()), matches) << text;
  }
  v1::Dump unknown = SomeDump();
  unknown.clear_crash_time();
  EXPECT_FALSE(DumpFilter::Parse("crash_time!=2023-11-14T22:13:20Z")->Matches(unknown));
}

TEST(FilterTest, ErrorsSayWhereAndWhatWasWanted) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {"colour=red", "at character 1: wanted a field (state, hostname"},
      {"state=gone",
       "at character 7: wanted state receiving, complete or incomplete, got \"gone\""},
      {"state", "at character 6: wanted =, !=, < or >, got the end"},
      {"state>complete", "wanted = or != after state"},
      {"live=yes", "wanted true or false, got \"yes\""},
      {"crash_time<yesterday", "wanted a time like"},
      {"hostname=", "wanted a value, got the end"},
      {"hostname=\"db7", "wanted the closing quote"},
      {"hostname=a hostname=b", "at character 12: wanted AND or the end"},
      {"hostname=a AND", "wanted a field name, got the end"},
      {"hostname=a and live=true", "wanted AND or the end"},
      {"=x", "at character 1: wanted a field name, got \"=\""},
      {"hostname=\001", "wanted a value, got \"\\001\""},
  };
  for (const auto& [text, message] : cases) {
    const absl::Status s = DumpFilter::Parse(text).status();
    EXPECT_EQ(s.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(s.message()), HasSubstr(message)) << text;
  }
  EXPECT_EQ(DumpFilter::Parse(std::string(5000, 'a')).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(NamesTest, ParentsAndFullNames) {
  EXPECT_FALSE(ParseParent("")->has_value());
  EXPECT_FALSE(ParseParent("hosts/-")->has_value());
  EXPECT_EQ(**ParseParent("hosts/01010101010101010101010101010101"), testing::IdOf(1));
  for (const char* bad : {"hosts/", "hosts", "host/-", "hosts/xyz", "hosts/-/dumps/1"}) {
    EXPECT_EQ(ParseParent(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
  const DumpKey dump = DumpOf(1, 2);
  EXPECT_EQ(*ParseDumpName(dump.ResourceName()), dump);
  for (const std::string& bad : {std::string("hosts/-/dumps/0202"), dump.ResourceName() + "/x",
                                 std::string("dumps/1"), std::string()}) {
    EXPECT_EQ(ParseDumpName(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

TEST(NamesTest, PrefixesFindOneDumpOrSayWhyNot) {
  TempDir dir;
  auto store = OpenOrDie(dir.path());
  DumpKey near = DumpOf(1, 0xab);
  near.dump_id[15] = 0xac;
  for (const DumpKey& dump : {DumpOf(1, 0xab), near, DumpOf(2, 0xcd), DumpOf(3, 0xcd)}) {
    ASSERT_TRUE(store->PutDump(RecordOf(dump)).ok());
  }
  ASSERT_TRUE(store->DeleteDump(DumpOf(3, 0xcd), 1'700'000'000'000'000'000).ok());
  EXPECT_EQ(KeyOf(*ResolveDump(*store, "hosts/-/dumps/c")), DumpOf(2, 0xcd));
  EXPECT_EQ(KeyOf(*ResolveDump(*store, "hosts/-/dumps/CDcd")), DumpOf(2, 0xcd));
  EXPECT_EQ(KeyOf(*ResolveDump(*store, near.ResourceName())), near);
  const absl::Status ambiguous = ResolveDump(*store, "hosts/-/dumps/ab").status();
  EXPECT_EQ(ambiguous.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(ambiguous.message()), HasSubstr(near.ResourceName()));
  const absl::Status deleted = ResolveDump(*store, DumpOf(3, 0xcd).ResourceName()).status();
  EXPECT_EQ(deleted.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(deleted.message()), HasSubstr("was deleted at 2023-11-14"));
  EXPECT_EQ(ResolveDump(*store, "hosts/-/dumps/77").status().code(), absl::StatusCode::kNotFound);
  for (const char* bad : {"hosts/-/dumps/", "hosts/-/dumps/xyz", "hosts/1/dumps/ab", "nonsense"}) {
    EXPECT_EQ(ResolveDump(*store, bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

TEST(PageTokenTest, ATokenIsOfItsQueryAndWhole) {
  const std::string position("a\0b\xff", 4);
  const std::string token = MakePageToken(position, "query");
  EXPECT_EQ(*ParsePageToken(token, "query"), position);
  EXPECT_EQ(*ParsePageToken("", "query"), "");
  EXPECT_FALSE(ParsePageToken(token, "another").ok());
  EXPECT_FALSE(ParsePageToken(token.substr(1), "query").ok());
  EXPECT_FALSE(ParsePageToken("!", "query").ok());
  EXPECT_EQ(*CheckPageSize(0), 50u);
  EXPECT_EQ(*CheckPageSize(5000), 1000u);
  EXPECT_FALSE(CheckPageSize(-1).ok());
}

TEST(Crc32cTest, KnownVectors) {
  // RFC 3720, B.4.
  EXPECT_EQ(service::Crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(service::Crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(service::Crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(service::Crc32c(""), 0u);
}

}  // namespace
}  // namespace dumpcast
