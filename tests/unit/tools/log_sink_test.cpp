#include "tools/log_sink.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <memory>
#include <set>
#include <string>

#include "io/log_about.h"
#include "replicator/note_event.h"
#include "tests/unit/tools/temporary_folder.h"
#include "tools/service_notification.h"

using namespace lockstep;
using namespace lockstep::tools;

namespace {

// A log into a pipe, and what was written to it.
class PipedLog {
 public:
  explicit PipedLog(bool for_journal) {
    open_pipe();
    use(std::make_shared<LogSink>(ends_[1], for_journal));
  }
  explicit PipedLog(const std::string& journal_socket) {
    open_pipe();
    use(std::make_shared<LogSink>(ends_[1], journal_socket, "pgdata"));
  }
  ~PipedLog() {
    for (const int end : ends_) ::close(end);
  }
  PipedLog(const PipedLog&) = delete;
  PipedLog& operator=(const PipedLog&) = delete;

  spdlog::logger& logger() { return *logger_; }
  int fd() const { return ends_[1]; }
  std::string written() {
    std::string all;
    std::array<char, 4096> part{};
    for (ssize_t n = 0; (n = ::read(ends_[0], part.data(), part.size())) > 0;) {
      all.append(part.data(), static_cast<size_t>(n));
    }
    return all;
  }

 private:
  void open_pipe() { REQUIRE(::pipe2(ends_.data(), O_CLOEXEC | O_NONBLOCK) == 0); }
  void use(std::shared_ptr<LogSink> sink) {
    logger_ = std::make_unique<spdlog::logger>("test", std::move(sink));
    logger_->set_level(spdlog::level::debug);
  }

  std::array<int, 2> ends_{};
  std::unique_ptr<spdlog::logger> logger_;
};

// Where the journal would listen.
class JournalSocket {
 public:
  explicit JournalSocket(const std::string& path)
      : socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    REQUIRE(::bind(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  }
  ~JournalSocket() { ::close(socket_); }
  JournalSocket(const JournalSocket&) = delete;
  JournalSocket& operator=(const JournalSocket&) = delete;

  // The next entry; empty when there is none.
  std::string entry() const {
    std::array<char, 4096> text{};
    const ssize_t got = ::recv(socket_, text.data(), text.size(), 0);
    return got <= 0 ? std::string() : std::string(text.data(), static_cast<size_t>(got));
  }

 private:
  int socket_;
};

}  // namespace

TEST_CASE("an allowance lets a burst through, then so many lines a second, and counts the rest") {
  LogAllowance allowance(3, 2);
  for (int i = 0; i < 3; ++i) CHECK(allowance.take(1000));
  for (int i = 0; i < 5; ++i) CHECK_FALSE(allowance.take(1000));
  CHECK_FALSE(allowance.take(1499));
  CHECK(allowance.take(1500));
  CHECK_FALSE(allowance.take(1501));
  CHECK(allowance.take_refused() == 7);
  CHECK(allowance.take_refused() == 0);
  // It fills up to the burst, however long nothing was said.
  for (int i = 0; i < 3; ++i) CHECK(allowance.take(~uint64_t{0}));
  CHECK_FALSE(allowance.take(~uint64_t{0}));
  CHECK_FALSE(allowance.take(0));
}

TEST_CASE("the journal is told each line's priority and no time") {
  PipedLog log(true);
  log.logger().error("pgdata: bad");
  log.logger().warn("pgdata: odd");
  log.logger().info("pgdata: fine");
  log.logger().debug("pgdata: detail");
  CHECK(log.written() == "<3>pgdata: bad\n<4>pgdata: odd\n<6>pgdata: fine\n<7>pgdata: detail\n");
}

TEST_CASE("the journal gets fields: the resource, and of a line that is about one the peer and the event") {
  TemporaryFolder folder;
  const JournalSocket journal(folder.path() + "/journal");
  PipedLog log(folder.path() + "/journal");
  log.logger().info("pgdata: fine");
  CHECK(journal.entry() == "MESSAGE=pgdata: fine\nPRIORITY=6\nSYSLOG_IDENTIFIER=lockstepd\nLOCKSTEP_RESOURCE=pgdata\n");
  {
    const io::LogAbout about("resync-started", "beta");
    log.logger().warn("pgdata: odd\nPRIORITY=0");
    {
      const io::LogAbout inner("suspended", "");
      log.logger().error("pgdata: bad");
    }
    log.logger().error("pgdata: again");
  }
  log.logger().error("pgdata: by itself");
  const std::string end = "SYSLOG_IDENTIFIER=lockstepd\nLOCKSTEP_RESOURCE=pgdata\n";
  CHECK(journal.entry() ==
        "MESSAGE=pgdata: odd PRIORITY=0\nPRIORITY=4\n" + end + "LOCKSTEP_PEER=beta\nLOCKSTEP_EVENT=resync-started\n");
  CHECK(journal.entry() == "MESSAGE=pgdata: bad\nPRIORITY=3\n" + end + "LOCKSTEP_EVENT=suspended\n");
  CHECK(journal.entry() ==
        "MESSAGE=pgdata: again\nPRIORITY=3\n" + end + "LOCKSTEP_PEER=beta\nLOCKSTEP_EVENT=resync-started\n");
  CHECK(journal.entry() == "MESSAGE=pgdata: by itself\nPRIORITY=3\n" + end);
  CHECK(log.written().empty());
}

TEST_CASE("what the journal's socket does not take goes to its stream") {
  TemporaryFolder folder;
  const std::string path = folder.path() + "/journal";
  PipedLog log(path);
  log.logger().error("pgdata: nobody listens");
  CHECK(log.written() == "<3>pgdata: nobody listens\n");
  {
    const JournalSocket journal(path);
    log.logger().info("pgdata: somebody does");
    CHECK_FALSE(journal.entry().empty());
    log.logger().info("pgdata: " + std::string(8 << 20, 'x'));
    CHECK(journal.entry().empty());
  }
  CHECK(log.written().starts_with("<6>pgdata: xxx"));
  log.logger().info("pgdata: it has gone");
  CHECK(log.written() == "<6>pgdata: it has gone\n");
}

TEST_CASE("a flood is left out of the journal, too") {
  TemporaryFolder folder;
  const JournalSocket journal(folder.path() + "/journal");
  PipedLog log(folder.path() + "/journal");
  size_t entries = 0;
  for (uint32_t i = 0; i < LogSink::kBurstLines + 300; ++i) {
    log.logger().info("again");
    if (!journal.entry().empty()) ++entries;
  }
  CHECK(entries >= LogSink::kBurstLines);
  CHECK(entries < LogSink::kBurstLines + 150);
  CHECK(log.written().empty());
}

TEST_CASE("every kind of note is an event with a name of its own") {
  std::set<std::string_view> names;
  for (int kind = 0; kind <= static_cast<int>(repl::NoteKind::ResyncStopped); ++kind) {
    const std::string_view name = repl::event_of(static_cast<repl::NoteKind>(kind)).name;
    CAPTURE(kind, name);
    CHECK_FALSE(name.empty());
    CHECK(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz-") == std::string_view::npos);
    CHECK(names.insert(name).second);
  }
}

TEST_CASE("elsewhere a line has its time and level") {
  PipedLog log(false);
  log.logger().warn("pgdata: odd");
  const std::string line = log.written();
  REQUIRE(line.size() > 24);
  CHECK(line[4] == '-');
  CHECK(line.ends_with(" warning: pgdata: odd\n"));
}

TEST_CASE("a message is one line, whatever a stranger put into it") {
  PipedLog log(true);
  log.logger().info("refused \n<0>pgdata: all is lost\r\x1b[2J");
  CHECK(log.written() == "<6>refused  <0>pgdata: all is lost  [2J\n");
}

TEST_CASE("a flood of one kind leaves room for errors, and is counted") {
  PipedLog log(true);
  for (uint32_t i = 0; i < LogSink::kBurstLines + 300; ++i) log.logger().info("again");
  log.logger().error("this counts");
  const std::string text = log.written();
  const auto lines = std::count(text.begin(), text.end(), '\n');
  CHECK(lines >= static_cast<long>(LogSink::kBurstLines) + 1);
  CHECK(lines < static_cast<long>(LogSink::kBurstLines) + 150);
  CHECK(text.ends_with("<3>this counts\n"));
}

TEST_CASE("the journal's stream is recognised by device and inode") {
  PipedLog log(true);
  struct stat status {};
  REQUIRE(::fstat(log.fd(), &status) == 0);
  const std::string name = std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino);
  CHECK(is_journal_stream(log.fd(), name.c_str()));
  CHECK_FALSE(is_journal_stream(log.fd(), (name + "1").c_str()));
  CHECK_FALSE(is_journal_stream(log.fd(), ""));
  CHECK_FALSE(is_journal_stream(log.fd(), nullptr));
  CHECK_FALSE(is_journal_stream(-1, name.c_str()));
}

TEST_CASE("a service manager's watchdog is fed twice in its time, and only by the process that it watches") {
  const std::string self = std::to_string(::getpid());
  CHECK(watchdog_period_ms("30000000", self.c_str()) == 15'000);
  CHECK(watchdog_period_ms("30000000", nullptr) == 15'000);
  CHECK(watchdog_period_ms("1000", nullptr) == 1);
  CHECK_FALSE(watchdog_period_ms("30000000", "1"));
  for (const char* bad : {"", "0", "-5", "abc", "30s", "99999999999999999999999"}) {
    INFO(bad);
    CHECK_FALSE(watchdog_period_ms(bad, nullptr));
  }
  CHECK_FALSE(watchdog_period_ms(nullptr, nullptr));
}
