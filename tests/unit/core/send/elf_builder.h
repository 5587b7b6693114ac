// SPDX-License-Identifier: Apache-2.0
// ELF64 core files made in memory, for tests.
#ifndef DUMPCAST_TESTS_UNIT_CORE_SEND_ELF_BUILDER_H_
#define DUMPCAST_TESTS_UNIT_CORE_SEND_ELF_BUILDER_H_

#include <elf.h>

#include <cstring>
#include <string>
#include <vector>

namespace dumpcast {

class ElfBuilder {
 public:
  void AddLoad(uint64_t vaddr, uint64_t paddr, std::string bytes, uint64_t memsz = 0) {
    segments_.push_back({PT_LOAD, vaddr, paddr, memsz ? memsz : bytes.size(), std::move(bytes)});
  }
  void AddNote(const std::string& name, uint32_t type, const std::string& desc) {
    const Elf64_Nhdr hdr = {static_cast<Elf64_Word>(name.size() + 1),
                            static_cast<Elf64_Word>(desc.size()), type};
    notes_.append(reinterpret_cast<const char*>(&hdr), sizeof(hdr));
    Pad(name + '\0');
    Pad(desc);
  }
  std::string notes() const { return notes_; }
  std::string Build() const {
    std::vector<Segment> all = segments_;
    if (!notes_.empty()) all.insert(all.begin(), {PT_NOTE, 0, 0, 0, notes_});
    Elf64_Ehdr ehdr = {};
    std::memcpy(ehdr.e_ident, ELFMAG, SELFMAG);
    ehdr.e_ident[EI_CLASS] = ELFCLASS64;
    ehdr.e_ident[EI_DATA] = ELFDATA2LSB;
    ehdr.e_type = ET_CORE;
    ehdr.e_machine = EM_X86_64;
    ehdr.e_phoff = sizeof(ehdr);
    ehdr.e_phentsize = sizeof(Elf64_Phdr);
    ehdr.e_phnum = static_cast<Elf64_Half>(all.size());
    std::string headers, bodies;
    const uint64_t base = sizeof(ehdr) + all.size() * sizeof(Elf64_Phdr);
    for (const Segment& s : all) {
      Elf64_Phdr ph = {};
      ph.p_type = s.type;
      ph.p_offset = base + bodies.size();
      ph.p_vaddr = s.vaddr;
      ph.p_paddr = s.paddr;
      ph.p_filesz = s.bytes.size();
      ph.p_memsz = s.memsz;
      headers.append(reinterpret_cast<const char*>(&ph), sizeof(ph));
      bodies += s.bytes;
    }
    return std::string(reinterpret_cast<const char*>(&ehdr), sizeof(ehdr)) + headers + bodies;
  }

 private:
  struct Segment {
    uint32_t type;
    uint64_t vaddr, paddr, memsz;
    std::string bytes;
  };
  void Pad(std::string text) {
    text.resize((text.size() + 3) / 4 * 4);
    notes_ += text;
  }
  std::vector<Segment> segments_;
  std::string notes_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_TESTS_UNIT_CORE_SEND_ELF_BUILDER_H_
