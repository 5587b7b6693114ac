// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/client/client_test_base.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>

namespace dumpcast {

ClientTest::ClientTest() {
  std::string pattern =
      (std::filesystem::temp_directory_path() / "dumpcast-client-XXXXXX").string();
  folder_ = mkdtemp(pattern.data());
}

ClientTest::~ClientTest() {
  std::error_code ec;
  std::filesystem::remove_all(folder_, ec);
}

Ran ClientTest::Run(std::vector<std::string> args, const std::vector<const FakeRelay*>& relays) {
  std::istringstream in(input_);
  std::ostringstream out;
  std::ostringstream err;
  if (out_is_full_) out.setstate(std::ios::badbit);
  for (const FakeRelay* relay : relays) {
    args.emplace_back("--server");
    args.push_back(relay->address());
  }
  Environment env;
  env.in = &in;
  env.out = &out;
  env.err = &err;
  env.in_is_tty = in_is_tty_;
  env.out_is_tty = out_is_tty_;
  env.err_is_tty = err_is_tty_;
  env.columns = [this] { return columns_; };
  env.getenv = [this](const std::string& name) -> std::optional<std::string> {
    const auto it = variables_.find(name);
    if (it == variables_.end()) return std::nullopt;
    return it->second;
  };
  env.now = [this] { return now_; };
  const auto sync = [&relays] {
    for (const FakeRelay* relay : relays) relay->Sync();
  };
  env.sleep = [this, sync](absl::Duration pause) {
    now_ += pause;
    pauses_.push_back(pause);
    sync();
    if (on_pause_) on_pause_();
    sync();
  };
  sync();
  const ExitCode code = RunCli(args, env);
  sync();
  return {code, out.str(), err.str()};
}

nlohmann::json ClientTest::Json(const Ran& ran) {
  auto json = nlohmann::json::parse(ran.out, nullptr, /*allow_exceptions=*/false);
  EXPECT_FALSE(json.is_discarded()) << ran.out << ran.err;
  return json;
}

std::string ClientTest::ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

void ClientTest::WriteFile(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::vector<std::string> ClientTest::FilesLeft() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace dumpcast
