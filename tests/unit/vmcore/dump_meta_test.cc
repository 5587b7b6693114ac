// SPDX-License-Identifier: Apache-2.0
#include "store/vmcore/dump_meta.h"

#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "protos/wire/bytes.h"
#include "store/vmcore/block_codec.h"
#include "store/vmcore/elf_view.h"
#include "store/vmcore/kdump_view.h"
#include "store/vmcore/memory_view.h"
#include "tests/unit/vmcore/dump_builder.h"

namespace dumpcast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string Bytes(const dcast_meta& meta) {
  return std::string(reinterpret_cast<const char*>(&meta), sizeof(meta));
}

dcast_meta GoodMeta() {
  DumpBuilder builder;
  dcast_meta meta = builder.meta;
  meta.window_end = dcast_to_le64(16);
  return meta;
}

template <typename Change>
absl::Status Refusal(Change change) {
  dcast_meta meta = GoodMeta();
  change(meta);
  return ParseMeta(Bytes(meta)).status();
}

std::string Range(uint64_t start, uint64_t end) {
  const dcast_range range{dcast_to_le64(start), dcast_to_le64(end)};
  return std::string(reinterpret_cast<const char*>(&range), sizeof(range));
}

std::string Note(std::string_view name, std::string_view desc, uint32_t type = 1) {
  const uint32_t header[3] = {dcast_to_le32(static_cast<uint32_t>(name.size() + 1)),
                              dcast_to_le32(static_cast<uint32_t>(desc.size())),
                              dcast_to_le32(type)};
  std::string note(reinterpret_cast<const char*>(header), sizeof(header));
  note.append(name).push_back('\0');
  note.resize((note.size() + 3) / 4 * 4);
  note.append(desc);
  note.resize((note.size() + 3) / 4 * 4);
  return note;
}

std::shared_ptr<const DumpMeta> LoadOrDie(const BlockSource& source) {
  absl::StatusOr<std::shared_ptr<const DumpMeta>> meta = DumpMeta::Load(source);
  EXPECT_TRUE(meta.ok()) << meta.status();
  return meta.ok() ? *meta : nullptr;
}

std::string Problems(const DumpMeta& meta) {
  std::string all;
  for (const std::string& problem : meta.problems()) all += problem + "\n";
  return all;
}

TEST(ParseMeta, FieldsAndTexts) {
  dcast_meta raw = GoodMeta();
  std::memset(raw.reason, 'r', sizeof(raw.reason));  // no NUL at all
  raw.flags = dcast_to_le64(DCAST_META_TEST | DCAST_META_LIVE);
  const absl::StatusOr<MetaFields> meta = ParseMeta(Bytes(raw));
  ASSERT_TRUE(meta.ok()) << meta.status();
  EXPECT_EQ(meta->elf_machine, EM_X86_64);
  EXPECT_EQ(meta->page_shift, 12u);
  EXPECT_EQ(meta->hostname, "crashed");
  EXPECT_EQ(meta->reason, std::string(sizeof(raw.reason), 'r'));
  EXPECT_TRUE(meta->live && meta->test);
  EXPECT_FALSE(meta->encrypted);
  raw.flags = dcast_to_le64(DCAST_META_ENCRYPTED);
  raw.signature[15] = 7;
  const absl::StatusOr<MetaFields> encrypted = ParseMeta(Bytes(raw));
  ASSERT_TRUE(encrypted.ok()) << encrypted.status();
  EXPECT_TRUE(encrypted->encrypted);
  EXPECT_EQ(encrypted->signature[15], 7);
}

TEST(ParseMeta, LargerStructureOfANewerMinorIsAccepted) {
  dcast_meta raw = GoodMeta();
  raw.size = dcast_to_le32(sizeof(raw) + 40);
  EXPECT_TRUE(ParseMeta(Bytes(raw) + std::string(40, 'n')).ok());
  EXPECT_THAT(std::string(ParseMeta(Bytes(raw)).status().message()), HasSubstr("size 808"));
}

TEST(ParseMeta, TheFirstSendersHadNoSignature) {
  dcast_meta raw = GoodMeta();
  raw.size = dcast_to_le32(752);
  std::memset(raw.signature, 7, sizeof(raw.signature));
  const absl::StatusOr<MetaFields> meta = ParseMeta(Bytes(raw).substr(0, 752));
  ASSERT_TRUE(meta.ok()) << meta.status();
  EXPECT_EQ(meta->hostname, "crashed");
  EXPECT_EQ(meta->signature[0], 0);
}

TEST(ParseMeta, WrongFieldsAreRefusedByName) {
  EXPECT_THAT(std::string(ParseMeta(Bytes(GoodMeta()).substr(0, 751)).status().message()),
              HasSubstr("751 bytes"));
  EXPECT_THAT(std::string(Refusal([](dcast_meta& m) { m.size = dcast_to_le32(8); }).message()),
              HasSubstr("size 8"));
  EXPECT_THAT(std::string(Refusal([](dcast_meta& m) { m.page_shift = 11; }).message()),
              HasSubstr("page_shift 11"));
  EXPECT_THAT(std::string(Refusal([](dcast_meta& m) { m.page_shift = 17; }).message()),
              HasSubstr("page_shift 17"));
  EXPECT_THAT(std::string(Refusal([](dcast_meta& m) {
                            m.window_end = dcast_to_le64((uint64_t{1} << 36) + 1);
                          }).message()),
              HasSubstr("window_end"));
  EXPECT_THAT(std::string(Refusal([](dcast_meta& m) {
                            m.stream_len[DCAST_STREAM_PRESENCE] = dcast_to_le64(100);
                          }).message()),
              HasSubstr("PRESENCE of 100 bytes"));
  EXPECT_THAT(std::string(Refusal([](dcast_meta& m) {
                            m.stream_len[DCAST_STREAM_PRESENCE] = dcast_to_le64(2 * 12288);
                          }).message()),
              HasSubstr("at most 1 slices"));
  EXPECT_THAT(std::string(Refusal([](dcast_meta& m) {
                            m.text_paddr = dcast_to_le64(15 << 16);
                            m.text_bytes = dcast_to_le64(2 << 16);
                          }).message()),
              HasSubstr("kernel text"));
  EXPECT_THAT(std::string(Refusal([](dcast_meta& m) {
                            m.text_vaddr = dcast_to_le64(~uint64_t{0} - 100);
                            m.text_bytes = dcast_to_le64(200);
                          }).message()),
              HasSubstr("kernel text"));
}

TEST(ParseMemoryMap, UnsortedOverlappingEmptyAndHighEntriesAreRefused) {
  const absl::StatusOr<std::vector<MemoryRange>> good =
      ParseMemoryMap(Range(0x1000, 0x9fc00) + Range(0x9fc00, 0xa0000), 16);
  ASSERT_TRUE(good.ok()) << good.status();
  EXPECT_THAT(*good, ElementsAre(MemoryRange{0x1000, 0x9fc00}, MemoryRange{0x9fc00, 0xa0000}));
  EXPECT_FALSE(ParseMemoryMap(Range(0x2000, 0x3000) + Range(0x1000, 0x2000), 16).ok());
  EXPECT_FALSE(ParseMemoryMap(Range(0x1000, 0x3000) + Range(0x2000, 0x4000), 16).ok());
  EXPECT_FALSE(ParseMemoryMap(Range(0x1000, 0x1000), 16).ok());
  EXPECT_FALSE(ParseMemoryMap(Range(0x2000, 0x1000), 16).ok());
  EXPECT_FALSE(ParseMemoryMap(Range(0x1000, 0x100001), 16).ok());
  EXPECT_FALSE(ParseMemoryMap(Range(0x1000, 0x2000).substr(1), 16).ok());
}

TEST(Vmcoreinfo, LinesOfEveryKind) {
  const Vmcoreinfo info = Vmcoreinfo::Parse(
      "OSRELEASE=6.1.0-56-amd64\nSYMBOL(prb)=ffffffff82a643e0\nSIZE(prb_desc)=24\n"
      "OFFSET(prb_desc.state_var)=8\nNUMBER(phys_base)=-583008256\nNUMBER(sme_mask)=0x800\n"
      "no equals sign\n=no key\nSIZE(odd)=12x\nSIZE(prb_desc)=99\nlast=kept");
  EXPECT_EQ(info.Get("OSRELEASE"), "6.1.0-56-amd64");
  EXPECT_EQ(info.Symbol("prb"), 0xffffffff82a643e0);
  EXPECT_EQ(info.Size("prb_desc"), 24u);
  EXPECT_EQ(info.Offset("prb_desc.state_var"), 8u);
  EXPECT_EQ(info.Number("phys_base"), static_cast<uint64_t>(-583008256));
  EXPECT_EQ(info.Number("sme_mask"), 0x800u);
  EXPECT_EQ(info.Size("odd"), std::nullopt);
  EXPECT_EQ(info.Symbol("none"), std::nullopt);
  EXPECT_EQ(info.Get("last"), "kept");
}

TEST(DumpMeta, WithoutMetaThereIsNothing) {
  MapBlockSource source;
  EXPECT_EQ(DumpMeta::Load(source).status().code(), absl::StatusCode::kNotFound);
  source.PutEmpty(0, 0);
  EXPECT_EQ(DumpMeta::Load(source).status().code(), absl::StatusCode::kNotFound);
  source.Put(0, 0, "garbage");
  EXPECT_EQ(DumpMeta::Load(source).status().code(), absl::StatusCode::kDataLoss);
}

TEST(DumpMeta, WholePagesOfRamAndWhatExists) {
  absl::StatusOr<DumpBuilder> builder = DumpBuilder::FromText(R"(
    ram 0x1001 0x9fc00     # the BIOS takes the end of the page
    ram 0x100000 0x120000
    ram 0x120000 0x130000
    page 1-3 1 own
    page 0x100 2 zero
  )");
  ASSERT_TRUE(builder.ok()) << builder.status();
  const auto meta = LoadOrDie(*builder->Build());
  EXPECT_THAT(meta->ram(),
              ElementsAre(MemoryRange{0x2000, 0x9f000}, MemoryRange{0x100000, 0x130000}));
  EXPECT_EQ(meta->ram_bytes(), 0x9du * 0x1000 + 0x30000);
  EXPECT_FALSE(meta->IsRam(0x1fff));
  EXPECT_TRUE(meta->IsRam(0x2000));
  EXPECT_TRUE(meta->IsRam(0x9efff));
  EXPECT_FALSE(meta->IsRam(0x9f000));
  EXPECT_EQ(meta->Exists(1, 0), true);
  EXPECT_EQ(meta->Exists(2, 0), false);
  EXPECT_EQ(meta->Exists(2, 16), true);
  EXPECT_EQ(meta->Exists(2, 999), false);
  EXPECT_EQ(meta->Exists(0, 0), std::nullopt);
  EXPECT_EQ(meta->expected_blocks(), (std::array<uint64_t, 4>{3, 1, 1, 0}));
  EXPECT_THAT(meta->problems(), IsEmpty());
}

TEST(DumpMeta, MissingStreamsAreProblemsNotErrors) {
  absl::StatusOr<DumpBuilder> builder = DumpBuilder::FromText(R"(
    ram 0 0x10000
    page 0 1 own
    info OSRELEASE=6.1
    drop_stream 1
    drop_stream 3
    drop_stream 5
  )");
  ASSERT_TRUE(builder.ok()) << builder.status();
  builder->notes = Note("CORE", "registers");
  const auto meta = LoadOrDie(*builder->Build());
  EXPECT_THAT(meta->ram(), IsEmpty());
  EXPECT_TRUE(meta->vmcoreinfo().empty());
  EXPECT_EQ(meta->notes(), Note("CORE", "registers"));
  EXPECT_EQ(meta->Exists(1, 0), std::nullopt);
  const std::string problems = Problems(*meta);
  EXPECT_THAT(problems, HasSubstr("MEMMAP: chunk 0 is not held"));
  EXPECT_THAT(problems, HasSubstr("VMCOREINFO: chunk 0 is not held"));
  EXPECT_THAT(problems, HasSubstr("0 of 1 slices"));
}

TEST(DumpMeta, AMemoryMapThatTheDiskHasChangedIsDataLossInEveryView) {
  DumpBuilder builder;
  builder.ram = {{0, 0x10000}};
  const auto source = builder.Build();
  source->Fail(0, dcast_class0_number(DCAST_STREAM_MEMMAP, 0), absl::DataLossError("the disk"));
  const auto memory = MemoryView::Open(source);
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_TRUE(absl::IsDataLoss((*memory)->meta().memory_map_status()));
  EXPECT_TRUE((*memory)->meta().damaged());
  EXPECT_TRUE(absl::IsDataLoss(MakeElfView(*memory).status()));
  EXPECT_TRUE(absl::IsDataLoss(MakeKdumpView(*memory).status()));
}

TEST(DumpMeta, NotesLoseThePaddingBetweenThem) {
  DumpBuilder builder;
  builder.ram = {{0, 0x10000}};
  builder.notes = Note("CORE", "cpu0") + std::string(12, '\0') + Note("CORE", "cpu1 ") +
                  Note("VMCOREINFO", "OSRELEASE=6.1\n", 0) + std::string(24, '\0');
  const auto meta = LoadOrDie(*builder.Build());
  EXPECT_EQ(meta->notes(), Note("CORE", "cpu0") + Note("CORE", "cpu1 ") +
                               Note("VMCOREINFO", "OSRELEASE=6.1\n", 0));
  const auto [at, bytes] = meta->vmcoreinfo_in_notes();
  EXPECT_EQ(meta->notes().substr(at, bytes), "OSRELEASE=6.1\n");
  EXPECT_EQ(meta->vmcoreinfo().Get("OSRELEASE"), "6.1");
  EXPECT_THAT(meta->problems(), IsEmpty());
}

TEST(DumpMeta, VmcoreinfoNoteIsMadeWhenThereIsNone) {
  DumpBuilder builder;
  builder.ram = {{0, 0x10000}};
  builder.notes = Note("CORE", "cpu0");
  builder.vmcoreinfo = std::string("OSRELEASE=6.12\n\0\0\0", 18);
  const auto meta = LoadOrDie(*builder.Build());
  EXPECT_EQ(meta->notes(), Note("CORE", "cpu0") + Note("VMCOREINFO", "OSRELEASE=6.12\n", 0));
  const auto [at, bytes] = meta->vmcoreinfo_in_notes();
  EXPECT_EQ(meta->notes().substr(at, bytes), "OSRELEASE=6.12\n");
}

TEST(DumpMeta, CutNoteIsDroppedAndSaid) {
  DumpBuilder builder;
  builder.ram = {{0, 0x10000}};
  const std::string cut = Note("CORE", std::string(100, 'r'));
  builder.notes = Note("CORE", "cpu0") + cut.substr(0, 50);
  const auto meta = LoadOrDie(*builder.Build());
  EXPECT_EQ(meta->notes(), Note("CORE", "cpu0"));
  EXPECT_THAT(Problems(*meta), HasSubstr("the last 50"));
}

TEST(DumpMeta, StreamLongerThanItsLimitIsNotRead) {
  DumpBuilder builder;
  builder.ram = {{0, 0x10000}};
  auto source = builder.Build();
  absl::StatusOr<MetaFields> fields =
      ParseMeta(DecodeBlock(0, 12, source->blocks().at({0, 0}))->raw);
  ASSERT_TRUE(fields.ok());
  fields->stream_len[DCAST_STREAM_LOG] = ~uint64_t{0};
  EXPECT_EQ(ReadStream(*source, *fields, DCAST_STREAM_LOG, 1 << 20).status().code(),
            absl::StatusCode::kResourceExhausted);
  fields->stream_len[DCAST_STREAM_MEMMAP] = 17;
  EXPECT_EQ(ReadStream(*source, *fields, DCAST_STREAM_MEMMAP, 1 << 20).status().code(),
            absl::StatusCode::kDataLoss);
}

TEST(DumpMeta, PresenceBitsPastTheLastWindowDoNotCount) {
  DumpBuilder builder;
  builder.ram = {{0, 0x20000}};
  auto source = builder.Build();
  source->Put(
      0, dcast_class0_number(DCAST_STREAM_PRESENCE, 0),
      EncodeBlock(DCAST_CODEC_LZ4, 0, 0, 0, 0, std::string(sizeof(dcast_presence), '\xff')));
  const auto meta = LoadOrDie(*source);
  EXPECT_EQ(meta->expected_blocks(), (std::array<uint64_t, 4>{3, 2, 2, 2}));
}

TEST(DumpMeta, SecondSliceStandsAlone) {
  DumpBuilder builder;
  const uint64_t high = uint64_t{3} << 30;  // in slice 1
  builder.ram = {{0, 0x10000}, {high, high + 0x10000}};
  builder.AddPage(high >> 12, 2);
  auto source = builder.Build();
  source->Drop(0, dcast_class0_number(DCAST_STREAM_PRESENCE, 0));
  const auto meta = LoadOrDie(*source);
  EXPECT_EQ(meta->Exists(1, 0), std::nullopt);
  EXPECT_EQ(meta->Exists(2, high >> 16), true);
  EXPECT_EQ(meta->Exists(1, high >> 16), false);
}

TEST(DumpMeta, ErrorsOfTheSourceComeBack) {
  DumpBuilder builder;
  builder.ram = {{0, 0x10000}};
  auto source = builder.Build();
  source->Fail(0, 0, absl::DataLossError("checksum"));
  EXPECT_EQ(DumpMeta::Load(*source).status(), absl::DataLossError("checksum"));
}

}  // namespace
}  // namespace dumpcast
