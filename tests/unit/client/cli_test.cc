// SPDX-License-Identifier: Apache-2.0
// Usage, configuration, TLS, completion, and that the manual knows every option.
#include <gmock/gmock.h>
#include <cstdlib>
#include <regex>
#include <set>

#include "tests/unit/client/client_test_base.h"

namespace dumpcast {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class CliTest : public ClientTest {
 protected:
  CliTest() { relay_.dumps = {MakeDump()}; }
  // Writes client.toml into a home of its own.
  void Config(const std::string& text) {
    variables_["XDG_CONFIG_HOME"] = folder_.string();
    std::filesystem::create_directories(folder_ / "dumpcast");
    WriteFile(Path("dumpcast/client.toml"), text);
  }
  FakeRelay relay_;
};

TEST_F(CliTest, WrongUsageExitsWith2AndSaysWhereToLook) {
  for (const std::vector<std::string>& args :
       std::vector<std::vector<std::string>>{{},
                                             {"bogus"},
                                             {"ls", "--bogus"},
                                             {"show"},
                                             {"get", "3fa9", "-f", "zip"},
                                             {"log", "a", "-n", "0"},
                                             {"ls", "-o", "yaml"},
                                             {"watch", "--until", "tomorrow"},
                                             {"ls", "--deadline", "-1"},
                                             {"ls", "--all", "-n", "3"},
                                             {"get", "3fa9", "-O", "-", "-o", "json"}}) {
    const Ran ran = Run(args, {&relay_});
    EXPECT_EQ(ran.code, kExitUsage);
    EXPECT_THAT(ran.err, HasSubstr("dumpcast: "));
    EXPECT_EQ(ran.out, "");
  }
  EXPECT_THAT(Run({"get", "--bogus"}).err, HasSubstr("dumpcast get --help"));
}

TEST_F(CliTest, HelpTeachesByExample) {
  for (const char* command :
       {"ls", "show", "log", "get", "watch", "hosts", "rm", "keygen", "hostkey", "completion"}) {
    const Ran ran = Run({command, "--help"});
    EXPECT_EQ(ran.code, kExitOk);
    EXPECT_EQ(ran.err, "");
    EXPECT_THAT(Run({"--help"}).out, HasSubstr(std::string("\n  ") + command + " "));
  }
  EXPECT_THAT(Run({"get", "--help"}).out, HasSubstr("dumpcast get 3fa9"));
  EXPECT_THAT(Run({"--version"}).out, ::testing::MatchesRegex("dumpcast [0-9.]+\n"));
}

TEST_F(CliTest, OutputThatWasNotTakenIsNoSuccess) {
  out_is_full_ = true;
  for (const char* command : {"ls", "hosts", "--help", "completion"}) {
    const Ran ran =
        command == std::string("completion") ? Run({command, "bash"}) : Run({command}, {&relay_});
    EXPECT_EQ(ran.code, kExitFailure) << command;
    EXPECT_THAT(ran.err, HasSubstr("did not take everything")) << command;
  }
}

TEST_F(CliTest, ServersComeFromFlagsThenEnvironmentThenFile) {
  Config("servers = [\"" + relay_.address() + "\"]\n");
  EXPECT_EQ(Run({"ls"}).code, kExitOk);
  variables_["DUMPCAST_SERVER"] = "127.0.0.1:1, 127.0.0.1:2";
  Ran ran = Run({"ls"});
  EXPECT_EQ(ran.code, kExitFailure);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("127.0.0.1:1:"), HasSubstr("127.0.0.1:2:")));
  EXPECT_EQ(Run({"--server", "127.0.0.1:1," + relay_.address(), "ls"}).code, kExitOk);
}

TEST_F(CliTest, TheServerFlagBeforeTheCommandKeepsItsHandsOffIt) {
  EXPECT_EQ(Run({"-s", relay_.address(), "show", "3fa9"}).code, kExitOk);
}

TEST_F(CliTest, WrongServersAreUsage) {
  for (const char* server :
       {"a:0", "a:99999", "a:b", "[::1", "[]:1", ":1", "http://a", "user@a", "a:"}) {
    const Ran ran = Run({"ls", "--server", server});
    EXPECT_EQ(ran.code, kExitUsage) << server;
    EXPECT_THAT(ran.err, HasSubstr("want host")) << server;
  }
}

TEST_F(CliTest, AConfigurationThatIsNotUnderstoodIsRefusedWithItsLine) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"\nserver = \"a\"\n", "client.toml:2: unknown key server"},
      {"servers = \"a\"\n", "client.toml:1: servers wants a list"},
      {"servers = [\n  \"a\",\n  7]\n", "client.toml:3: each server is a string"},
      {"servers = [\"a:b\"]\n", "client.toml:1: server \"a:b\""},
      {"\n[tls]\nca = 7\n", "client.toml:3: ca wants a string"},
      {"\n[tls]\nCA = \"x\"\n", "client.toml:3: unknown key tls.CA"},
      {"tls = true\n", "client.toml:1: unknown key tls"},
      {"[tls]\nenabled = 1\n", "client.toml:2: tls.enabled wants"},
      {"servers = [\n", "client.toml:"},
  };
  for (const auto& [text, error] : cases) {
    Config(text);
    const Ran ran = Run({"ls"});
    EXPECT_EQ(ran.code, kExitUsage) << text;
    EXPECT_THAT(ran.err, HasSubstr(error));
  }
  EXPECT_EQ(Run({"ls", "--config", Path("none.toml")}).code, kExitUsage);
}

TEST_F(CliTest, CertificateAndKeyBelongTogether) {
  const Ran ran = Run({"ls", "--cert", Path("c.pem")}, {&relay_});
  EXPECT_EQ(ran.code, kExitUsage);
  EXPECT_THAT(ran.err, HasSubstr("--key"));
  WriteFile(Path("c.pem"), "no PEM");
  EXPECT_THAT(Run({"ls", "--ca", Path("c.pem")}, {&relay_}).err, HasSubstr("not PEM"));
}

TEST_F(CliTest, SpeaksMutualTls) {
  // A certificate that is its own CA, for server and client alike.
  const std::string make =
      "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
      "-days 2 -subj /CN=relay -addext subjectAltName=DNS:relay -keyout " +
      Path("key.pem") + " -out " + Path("cert.pem") + " 2>/dev/null";
  ASSERT_EQ(std::system(make.c_str()), 0) << make;
  grpc::SslServerCredentialsOptions options(
      GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = ReadFile(Path("cert.pem"));
  options.pem_key_cert_pairs = {{ReadFile(Path("key.pem")), ReadFile(Path("cert.pem"))}};
  FakeRelay secure(grpc::SslServerCredentials(options));
  const std::vector<std::string> ca = {"ls", "--ca", Path("cert.pem"), "--tls-name", "relay"};
  EXPECT_EQ(Run(ca, {&secure}).code, kExitFailure) << "no certificate of ours";
  std::vector<std::string> whole = ca;
  for (const std::string& arg :
       {std::string("--cert"), Path("cert.pem"), std::string("--key"), Path("key.pem")}) {
    whole.push_back(arg);
  }
  const Ran ran = Run(whole, {&secure});
  EXPECT_EQ(ran.code, kExitOk) << ran.err;
  EXPECT_EQ(Run({"ls"}, {&secure}).code, kExitFailure) << "no TLS";
  whole[4] = "somebody-else";
  EXPECT_EQ(Run(whole, {&secure}).code, kExitFailure) << "another relay's name";
}

// Every option that a command prints in its completion.
std::set<std::string> Options(const std::string& script) {
  std::set<std::string> options;
  const std::regex word("--[a-z][a-z-]*");
  for (std::sregex_iterator it(script.begin(), script.end(), word), end; it != end; ++it) {
    options.insert(it->str());
  }
  options.erase("--help");
  options.erase("--version");
  return options;
}

TEST_F(CliTest, TheManualKnowsEveryOption) {
  const std::string manual = ReadFile(std::string(DUMPCAST_SOURCE_DIR) + "/client/dumpcast.1");
  const auto options = Options(Run({"completion", "bash"}).out);
  EXPECT_GT(options.size(), 20u);
  for (const std::string& option : options) {
    EXPECT_NE(manual.find("Fl " + option.substr(1)), std::string::npos) << option;
  }
}

TEST_F(CliTest, CompletionIsBash) {
  const Ran ran = Run({"completion", "bash"});
  EXPECT_EQ(ran.code, kExitOk);
  WriteFile(Path("dumpcast.bash"), ran.out);
  WriteFile(Path("try.sh"), "source " + Path("dumpcast.bash") + R"(
dumpcast() { [ "$1 $2" = "ls -q" ] && echo 3fa9c2e17b5d4a60918273645546372a; }
complete_line() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _dumpcast; echo "${COMPREPLY[*]}"; }
complete_line dumpcast ho
complete_line dumpcast -o json get --ret
complete_line dumpcast get -f k
complete_line dumpcast get 3f
)");
  ASSERT_EQ(std::system(("bash " + Path("try.sh") + " >" + Path("out") + " 2>&1").c_str()), 0);
  EXPECT_EQ(ReadFile(Path("out")),
            "hosts hostkey\n--retries\nkdump\n3fa9c2e17b5d4a60918273645546372a\n");
}

}  // namespace
}  // namespace dumpcast
