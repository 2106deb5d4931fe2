#include "tools/log_sink.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <memory>
#include <string>

#include "tools/service_notification.h"

using namespace lockstep::tools;

namespace {

// A log into a pipe, and what was written to it.
class PipedLog {
 public:
  explicit PipedLog(bool for_journal) {
    REQUIRE(::pipe2(ends_.data(), O_CLOEXEC | O_NONBLOCK) == 0);
    logger_ = std::make_unique<spdlog::logger>("test", std::make_shared<LogSink>(ends_[1], for_journal));
    logger_->set_level(spdlog::level::debug);
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
  std::array<int, 2> ends_{};
  std::unique_ptr<spdlog::logger> logger_;
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
