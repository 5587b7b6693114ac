// SPDX-License-Identifier: Apache-2.0
// Runs whole commands in this process, with strings for streams and a clock that sleeping moves.
#ifndef DUMPCAST_TESTS_UNIT_CLIENT_CLIENT_TEST_BASE_H_
#define DUMPCAST_TESTS_UNIT_CLIENT_CLIENT_TEST_BASE_H_

#include <gtest/gtest.h>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "client/cli.h"
#include "tests/unit/client/fake_relay.h"

namespace dumpcast {

struct Ran {
  ExitCode code;
  std::string out;
  std::string err;
};

class ClientTest : public ::testing::Test {
 protected:
  ClientTest();
  ~ClientTest() override;

  // `dumpcast ARGS`, asking `relays` in order.
  Ran Run(std::vector<std::string> args, const std::vector<const FakeRelay*>& relays = {});
  static nlohmann::json Json(const Ran& ran);

  std::string Path(const std::string& name) const { return (folder_ / name).string(); }
  static std::string ReadFile(const std::string& path);
  static void WriteFile(const std::string& path, const std::string& text);
  std::vector<std::string> FilesLeft() const;

  std::filesystem::path folder_;  // empty at first, removed afterwards
  std::map<std::string, std::string> variables_;
  std::string input_;
  bool in_is_tty_ = false;
  bool out_is_tty_ = false;
  bool out_is_full_ = false;  // takes no byte
  bool err_is_tty_ = false;
  int columns_ = 80;
  absl::Time now_ = absl::FromUnixSeconds(1790000300);
  std::vector<absl::Duration> pauses_;
  std::function<void()> on_pause_;
};

}  // namespace dumpcast

#endif  // DUMPCAST_TESTS_UNIT_CLIENT_CLIENT_TEST_BASE_H_
