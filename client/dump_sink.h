// SPDX-License-Identifier: Apache-2.0
// Where the bytes of a vmcore go: a file that can be resumed, or a stream that cannot.
#ifndef DUMPCAST_CLIENT_DUMP_SINK_H_
#define DUMPCAST_CLIENT_DUMP_SINK_H_

#include <cstdint>
#include <memory>
#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace dumpcast {

// Takes the bytes of one view of a dump in order. Thread safety: none needed.
class DumpSink {
 public:
  virtual ~DumpSink() = default;

  // Bytes taken so far: where to read on.
  virtual uint64_t offset() const = 0;
  // The view that they belong to, and its size; empty and 0 before Begin().
  virtual const std::string& etag() const = 0;
  virtual uint64_t file_bytes() const = 0;

  // Names the view, once, before its first byte. RESOURCE_EXHAUSTED when it will not fit.
  [[nodiscard]] virtual absl::Status Begin(const std::string& etag, uint64_t file_bytes) = 0;
  // RESOURCE_EXHAUSTED when the disk is full; what was taken before stays.
  [[nodiscard]] virtual absl::Status Write(absl::string_view data) = 0;
  // Forgets everything, since the view has changed; Begin() comes again.
  // FAILED_PRECONDITION when bytes are gone that cannot be taken back.
  [[nodiscard]] virtual absl::Status Restart() = 0;
  // All bytes are there: makes them durable under their final name.
  [[nodiscard]] virtual absl::Status Finish() = 0;
};

// What makes two downloads the same one.
struct PartIdentity {
  std::string name;    // resource name of the dump
  std::string format;  // "elf" or "kdump"
};

// Writes `path`.part and, beside it, `path`.part.json, which says what the part is. A later
// PartFile of the same dump and format goes on at the exact byte where this one ended; when this
// machine was restarted meanwhile, at the last byte known to be on disk.
class PartFile : public DumpSink {
 public:
  // ALREADY_EXISTS when `path` exists, or a part that is not a dump's, unless `overwrite`;
  // FAILED_PRECONDITION when another process is writing the part.
  static absl::StatusOr<std::unique_ptr<PartFile>> Open(const std::string& path,
                                                        const PartIdentity& identity,
                                                        bool overwrite);
  ~PartFile() override;

  // A part of another dump or format lay there and was dropped.
  bool replaced_other() const { return replaced_other_; }

  uint64_t offset() const override { return offset_; }
  const std::string& etag() const override { return etag_; }
  uint64_t file_bytes() const override { return file_bytes_; }
  [[nodiscard]] absl::Status Begin(const std::string& etag, uint64_t file_bytes) override;
  [[nodiscard]] absl::Status Write(absl::string_view data) override;
  [[nodiscard]] absl::Status Restart() override;
  [[nodiscard]] absl::Status Finish() override;

 private:
  PartFile(std::string path, PartIdentity identity, bool overwrite)
      : path_(std::move(path)), identity_(std::move(identity)), overwrite_(overwrite) {}
  std::string part_path() const { return absl::StrCat(path_, ".part"); }
  std::string note_path() const { return absl::StrCat(path_, ".part.json"); }
  absl::Status OpenPart();
  absl::Status ReadNote();
  absl::Status WriteNote();
  absl::Status SyncData();
  absl::Status WriteError(int error) const;

  std::string path_;
  PartIdentity identity_;
  bool overwrite_;
  bool replaced_other_ = false;
  int fd_ = -1;
  uint64_t offset_ = 0;
  uint64_t synced_bytes_ = 0;
  uint64_t file_bytes_ = 0;
  std::string etag_;
};

// Writes to a stream, or to a device or pipe that exists already.
class StreamSink : public DumpSink {
 public:
  // `out` must outlive it; `what` names it in errors.
  StreamSink(std::ostream* out, std::string what) : out_(out), what_(std::move(what)) {}

  uint64_t offset() const override { return offset_; }
  const std::string& etag() const override { return etag_; }
  uint64_t file_bytes() const override { return file_bytes_; }
  [[nodiscard]] absl::Status Begin(const std::string& etag, uint64_t file_bytes) override;
  [[nodiscard]] absl::Status Write(absl::string_view data) override;
  [[nodiscard]] absl::Status Restart() override;
  [[nodiscard]] absl::Status Finish() override;

 private:
  absl::Status Check() const;

  std::ostream* out_;
  std::string what_;
  uint64_t offset_ = 0;
  uint64_t file_bytes_ = 0;
  std::string etag_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_CLIENT_DUMP_SINK_H_
