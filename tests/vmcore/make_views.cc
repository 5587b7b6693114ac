// SPDX-License-Identifier: Apache-2.0
// Makes the vmcore views of a raw memory image, without a sender, a network or a store: so that
// what debuggers say of a view is about the view.
//
//   vmcore_make_views SPEC OUTDIR
//
// SPEC has the statements of DumpBuilder::FromText(), and
//   image PADDR FILE CLASSES   FILE is memory from PADDR on. CLASSES has one byte for each of its
//   pages:
//                              '1' to '3' the class, 'u' class 1 and unreadable, '-' excluded; the
//                              word `all` instead puts every page into class 1
//   notes FILE                 stream NOTES
//   vmcoreinfo FILE            stream VMCOREINFO
//   cpus COUNT
// OUTDIR gets vmcore.elf, vmcore.kdump and log (with its origin as the first line).
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "protos/wire/bytes.h"
#include "store/vmcore/elf_view.h"
#include "store/vmcore/kdump_view.h"
#include "store/vmcore/log_reader.h"
#include "tests/unit/vmcore/dump_builder.h"

namespace dumpcast {
namespace {

struct Image {
  uint64_t paddr = 0;
  std::string file;
  std::string classes;
};

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(in), {}};
  if (!in) return absl::NotFoundError("cannot read " + path);
  return bytes;
}

absl::Status AddImage(const Image& image, DumpBuilder* builder) {
  std::ifstream in(image.file, std::ios::binary);
  if (!in) return absl::NotFoundError("cannot read " + image.file);
  std::string classes;
  if (image.classes != "all") {
    absl::StatusOr<std::string> read = ReadFile(image.classes);
    if (!read.ok()) return read.status();
    classes = *std::move(read);
  }
  std::string page(builder->page_bytes(), '\0');
  uint64_t pfn = image.paddr >> builder->meta.page_shift;
  for (size_t i = 0; in.read(page.data(), static_cast<std::streamsize>(page.size())); ++i, ++pfn) {
    const char what = image.classes == "all" ? '1' : i < classes.size() ? classes[i] : '-';
    if (what == 'u') builder->AddUnreadable(pfn, 1);
    if (what >= '1' && what <= '3') builder->AddPage(pfn, static_cast<uint8_t>(what - '0'), page);
  }
  return absl::OkStatus();
}

absl::Status WriteView(const absl::StatusOr<std::unique_ptr<FileView>>& view,
                       const std::string& path) {
  if (!view.ok()) return view.status();
  std::ofstream out(path, std::ios::binary);
  std::string chunk(1 << 20, '\0');
  const std::string zeros = chunk;
  for (uint64_t at = 0; at < (*view)->size(); at += chunk.size()) {
    chunk.resize(std::min<uint64_t>(chunk.size(), (*view)->size() - at));
    if (absl::Status status = (*view)->Read(at, chunk.size(), chunk.data()); !status.ok()) {
      return status;
    }
    if (chunk == zeros) {  // leaves a hole
      out.seekp(static_cast<std::streamoff>(at + chunk.size() - 1));
      out.put('\0');
    } else {
      out.write(chunk.data(), static_cast<std::streamsize>(chunk.size()));
    }
  }
  out.close();
  return out ? absl::OkStatus() : absl::UnavailableError("cannot write " + path);
}

absl::Status Run(const std::string& spec_path, const std::string& out) {
  std::ifstream spec(spec_path);
  if (!spec) return absl::NotFoundError("cannot read " + spec_path);
  std::vector<Image> images;
  std::string statements, notes, vmcoreinfo;
  uint32_t cpus = 1;
  for (std::string line; std::getline(spec, line);) {
    std::istringstream words(line);
    std::string what, file;
    words >> what;
    if (what == "image") {
      Image image;
      std::string paddr;
      words >> paddr >> image.file >> image.classes;
      image.paddr = std::stoull(paddr, nullptr, 0);
      images.push_back(image);
    } else if (what == "notes" || what == "vmcoreinfo") {
      words >> file;
      absl::StatusOr<std::string> bytes = ReadFile(file);
      if (!bytes.ok()) return bytes.status();
      (what == "notes" ? notes : vmcoreinfo) = *std::move(bytes);
    } else if (what == "cpus") {
      words >> cpus;
    } else {
      statements += line + "\n";
    }
  }
  absl::StatusOr<DumpBuilder> builder = DumpBuilder::FromText(statements);
  if (!builder.ok()) return builder.status();
  builder->notes = notes;
  builder->vmcoreinfo += vmcoreinfo;
  builder->meta.cpus = dcast_to_le32(cpus);
  for (const Image& image : images) {
    if (absl::Status status = AddImage(image, &*builder); !status.ok()) return status;
  }
  absl::StatusOr<std::shared_ptr<const MemoryView>> memory = MemoryView::Open(builder->Build());
  if (!memory.ok()) return memory.status();
  for (const std::string& problem : (*memory)->meta().problems()) std::cerr << problem << "\n";
  if (absl::Status status = WriteView(MakeElfView(*memory), out + "/vmcore.elf"); !status.ok()) {
    return status;
  }
  if (absl::Status status = WriteView(MakeKdumpView(*memory), out + "/vmcore.kdump");
      !status.ok()) {
    return status;
  }
  absl::StatusOr<KernelLog> log = ReadKernelLog(**memory);
  if (!log.ok()) return log.status();
  std::ofstream(out + "/log", std::ios::binary)
      << (log->origin == LogOrigin::kMemory ? "memory" : "stream") << " "
      << log->memory_status.message() << "\n"
      << log->text;
  return absl::OkStatus();
}

}  // namespace
}  // namespace dumpcast

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: vmcore_make_views SPEC OUTDIR\n";
    return 2;
  }
  const absl::Status status = dumpcast::Run(argv[1], argv[2]);
  if (!status.ok()) std::cerr << "vmcore_make_views: " << status << "\n";
  return status.ok() ? 0 : 1;
}
