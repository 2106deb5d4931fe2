// The verbs that talk to a daemon, against a control socket in a thread of this test.
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <future>
#include <nlohmann/json.hpp>
#include <thread>

#include "io/loop.h"
#include "replicator/control_socket.h"
#include "tests/unit/tools/temporary_folder.h"
#include "tools/lockstep_common.h"

using namespace lockstep;
using namespace lockstep::tools;
using nlohmann::json;

namespace {

using Outcome = std::pair<ExitCode, std::string>;

class FakeVerbs final : public repl::ControlVerbs {
 public:
  json status() override { return status_; }
  void execute(repl::ControlRequest request, std::unique_ptr<repl::ControlAnswer> answer) override {
    if (request.verb == "promote") {
      status_["role"] = "Primary";
      socket->state_changed();
      answer->done(repl::ControlExit::Done, "");
    } else if (request.verb == "demote") {
      const bool force = request.flag("force");
      answer->done(force ? repl::ControlExit::Done : repl::ControlExit::Refused, force ? "" : "1 client is attached");
    } else if (request.verb == "connect") {
      answer->done(request.text("peer") == "beta" ? repl::ControlExit::Done : repl::ControlExit::Failed, "no peer");
    } else if (request.verb == "resize") {
      answer->done(repl::ControlExit::Failed, "to " + std::to_string(request.number("size-bytes")));
    } else {
      answer->done(repl::ControlExit::Usage, "unknown verb '" + request.verb + "'");
    }
  }

  repl::ControlSocket* socket = nullptr;

 private:
  json status_ = {{"resource", "r"},     {"node", "alpha"},
                  {"role", "Secondary"}, {"disk-state", "UpToDate"},
                  {"promotable", true},  {"peers", {{{"node", "beta"}, {"connection-state", "Connecting"}}}}};
};

class FakeDaemon {
 public:
  explicit FakeDaemon(const std::string& path) {
    auto made = io::Loop::create({64, 1024 * 1024});
    REQUIRE(made.ok());
    loop_ = std::move(made).value();
    auto opened = repl::ControlSocket::open(*loop_, path, verbs_);
    REQUIRE(opened.ok());
    socket_ = std::move(opened).value();
    verbs_.socket = socket_.get();
    thread_ = std::thread([this] { loop_->run(); });
  }
  ~FakeDaemon() {
    loop_->request_stop();
    thread_.join();
  }
  FakeDaemon(const FakeDaemon&) = delete;
  FakeDaemon& operator=(const FakeDaemon&) = delete;

 private:
  std::unique_ptr<io::Loop> loop_;
  FakeVerbs verbs_;
  std::unique_ptr<repl::ControlSocket> socket_;
  std::thread thread_;
};

// The socket of a daemon that is dead and whose ring is not: its process listened, has gone, and somebody has it open.
class KilledDaemon {
 public:
  explicit KilledDaemon(const std::string& path) : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    REQUIRE(::bind(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    const pid_t process = ::fork();
    if (process == 0) ::_exit(::listen(socket_, 8));
    REQUIRE(::waitpid(process, nullptr, 0) == process);
  }
  ~KilledDaemon() { ::close(socket_); }
  KilledDaemon(const KilledDaemon&) = delete;
  KilledDaemon& operator=(const KilledDaemon&) = delete;

  // Whether somebody comes, who is sent away again.
  bool meets_client() const {
    pollfd waited{socket_, POLLIN, 0};
    if (::poll(&waited, 1, 10'000) <= 0) return false;
    return ::close(::accept(socket_, nullptr, nullptr)) == 0;
  }

 private:
  int socket_;
};

struct Host {
  TemporaryFolder folder;
  std::string configuration =
      folder.write("r.conf", "[resource]\nname=r\nsize=8M\n[node.alpha]\naddress=127.0.0.1:1\ndisk=" + folder.path() +
                                 "/a\n[node.beta]\naddress=127.0.0.1:2\ndisk=" + folder.path() + "/b\n");
  std::string socket = folder.path() + "/r.alpha.sock";
  std::string options = " --config " + configuration + " --node alpha --run-dir " + folder.path();

  Outcome run(std::vector<std::string> words) const {
    words.insert(words.end(), {"--config", configuration, "--node", "alpha", "--run-dir", folder.path()});
    const Result<Arguments> arguments = parse_arguments(words);
    REQUIRE(arguments.ok());
    const std::string verb(arguments->verb->name);
    try {
      if (verb == "status") return {run_status(*arguments), ""};
      if (verb == "wait") return {run_wait(*arguments), ""};
      if (verb == "events") return {run_events(*arguments), ""};
      if (verb == "down") return {run_down(*arguments), ""};
      if (verb == "create") return {run_create(*arguments), ""};
      return {run_order(*arguments), ""};
    } catch (const CommandError& error) {
      return {error.code(), error.what()};
    }
  }
  std::string is_down() const {
    return "r is down on node alpha: start its daemon with 'lockstep up r" + options + "'";
  }
};

const Outcome kDone = {ExitCode::Done, ""};

}  // namespace

TEST_CASE("without a daemon the command says what to type") {
  const Host host;
  CHECK(host.run({"status", "r"}) == Outcome{ExitCode::NoDaemon, host.is_down()});
  CHECK(host.run({"promote", "r"}) == Outcome{ExitCode::NoDaemon, host.is_down()});
  CHECK(host.run({"events", "r"}) == Outcome{ExitCode::NoDaemon, host.is_down()});
  CHECK(host.run({"wait", "r", "--for", "synced"}) == Outcome{ExitCode::NoDaemon, host.is_down()});
  CHECK(host.run({"wait", "r", "--for", "up", "--timeout", "0"}).first == ExitCode::NotInTime);
  CHECK(host.run({"down", "r"}) == kDone);
}

TEST_CASE("a socket file that a dead daemon left is no daemon") {
  const Host host;
  { const FakeDaemon daemon(host.socket); }
  CHECK(host.run({"status", "r"}) == Outcome{ExitCode::NoDaemon, host.is_down()});
}

TEST_CASE("the daemon's answer is the command's") {
  const Host host;
  const FakeDaemon daemon(host.socket);
  CHECK(host.run({"status", "r"}) == kDone);
  CHECK(host.run({"promote", "r"}) == kDone);
  CHECK(host.run({"demote", "r"}) == Outcome{ExitCode::Refused, "1 client is attached"});
  CHECK(host.run({"demote", "r", "--force"}) == kDone);
  CHECK(host.run({"connect", "r", "beta"}) == kDone);
  CHECK(host.run({"resize", "r", "1M"}) == Outcome{ExitCode::Failed, "to 1048576"});
  CHECK(host.run({"verify", "r"}) == Outcome{ExitCode::Usage, "unknown verb 'verify'"});
}

TEST_CASE("orders that make no sense do not reach the daemon") {
  const Host host;
  const FakeDaemon daemon(host.socket);
  CHECK(host.run({"connect", "r", "gamma"}) ==
        Outcome{ExitCode::Usage, host.configuration + ": no node 'gamma': the nodes of r are alpha, beta"});
  CHECK(host.run({"switchover", "r", "--to", "gamma"}).first == ExitCode::Usage);
  CHECK(host.run({"connect", "r", "alpha"}) == Outcome{ExitCode::Usage, "'alpha' is this node, not a peer of it"});
  CHECK(host.run({"resize", "r", "1000"}) ==
        Outcome{ExitCode::Usage, "the size must be a multiple of 4096 bytes and more than 0"});
  CHECK(host.run({"resize", "r", "big"}).first == ExitCode::Usage);
}

TEST_CASE("wait ends when the state comes, or when the time is over") {
  const Host host;
  const FakeDaemon daemon(host.socket);
  CHECK(host.run({"wait", "r", "--for", "up"}) == kDone);
  CHECK(host.run({"wait", "r", "--for", "promotable", "--timeout", "5"}) == kDone);
  CHECK(host.run({"wait", "r", "--for", "connected", "--timeout", "0.05"}) ==
        Outcome{ExitCode::NotInTime,
                "r on node alpha was not connected within 0.05 s: role:Secondary disk:UpToDate; beta "
                "connection:Connecting role:Unknown disk:DUnknown replication:Off"});
  CHECK(host.run({"wait", "r", "--for", "verified"}).first == ExitCode::Failed);
  CHECK(host.run({"wait", "r", "--for", "dinner"}).first == ExitCode::Usage);

  auto waiting = std::async(std::launch::async, [&] { return host.run({"wait", "r", "--for", "role=Primary"}); });
  CHECK(host.run({"promote", "r"}) == kDone);
  CHECK(waiting.get() == kDone);
}

TEST_CASE("wait ends when the daemon does") {
  const Host host;
  auto daemon = std::make_unique<FakeDaemon>(host.socket);
  auto waiting = std::async(std::launch::async, [&] { return host.run({"wait", "r", "--for", "synced"}); });
  daemon.reset();
  const Outcome outcome = waiting.get();
  CHECK(outcome.first == ExitCode::NoDaemon);
  CHECK(outcome.second.find("'lockstep up r" + host.options + "'") != std::string::npos);
}

TEST_CASE("create touches nothing under a running daemon") {
  const Host host;
  const FakeDaemon daemon(host.socket);
  CHECK(host.run({"create", "r", "--force"}) ==
        Outcome{ExitCode::Refused, "the daemon of r runs on node alpha: stop it first with 'lockstep down r" +
                                       host.options + "', or take the disk away from it with 'lockstep detach r" +
                                       host.options + "'"});
  CHECK_FALSE(std::filesystem::exists(host.folder.path() + "/a"));
}

TEST_CASE("create waits for the end of a daemon that was killed") {
  const Host host;
  auto daemon = std::make_unique<KilledDaemon>(host.socket);
  auto creating = std::async(std::launch::async, [&] { return host.run({"create", "r"}); });
  CHECK(daemon->meets_client());
  // It looks again, and finds that it is not over.
  CHECK(daemon->meets_client());
  CHECK_FALSE(std::filesystem::exists(host.folder.path() + "/a"));
  daemon.reset();
  CHECK(creating.get() == kDone);
}

TEST_CASE("a running node is found without a configuration") {
  const Host host;
  const FakeDaemon daemon(host.socket);
  const auto status = [&](std::vector<std::string> words) {
    words.insert(words.end(), {"status", "--run-dir", host.folder.path()});
    const auto arguments = parse_arguments(words);
    REQUIRE(arguments.ok());
    try {
      return run_status(*arguments);
    } catch (const CommandError& error) {
      return error.code();
    }
  };
  // A name that no configuration in /etc has.
  std::filesystem::rename(host.socket, host.folder.path() + "/lockstep-unit-test.alpha.sock");
  const auto with_resource = parse_arguments({"status", "lockstep-unit-test", "--run-dir", host.folder.path()});
  CHECK(run_status(*with_resource) == ExitCode::Done);
  CHECK(status({"--json"}) == ExitCode::Done);
  CHECK(status({"--config", host.configuration}) == ExitCode::Usage);
}
