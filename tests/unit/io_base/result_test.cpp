#include "io/base/result.h"

#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <memory>

namespace lockstep {
namespace {

Result<int> half(int number) {
  if (number % 2 != 0) return Error{ErrorKind::Invalid, 0, "odd"};
  return number / 2;
}

// The signal that ends a child which runs `action`, or 0.
template <typename Action>
int signal_of(Action action) {
  const pid_t child = fork();
  if (child == 0) {
    std::freopen("/dev/null", "w", stderr);
    std::signal(SIGABRT, SIG_DFL);  // the test program's own would report
    action();
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

}  // namespace

TEST_CASE("a result holds a value or an error") {
  Result<int> good = half(8);
  REQUIRE(good.ok());
  CHECK(static_cast<bool>(good));
  CHECK(*good == 4);
  Result<int> bad = half(7);
  REQUIRE_FALSE(bad.ok());
  CHECK(bad.error().kind == ErrorKind::Invalid);
  CHECK(bad.error().message == "odd");
}

TEST_CASE("a value that can only be moved is moved out") {
  Result<std::unique_ptr<int>> made = std::make_unique<int>(5);
  std::unique_ptr<int> taken = std::move(made).value();
  CHECK(*taken == 5);
  Result<std::unique_ptr<int>> failed = Error{ErrorKind::Busy, EBUSY, "held"};
  const Error error = std::move(failed).error();
  CHECK(error.system_errno == EBUSY);
}

TEST_CASE("a status is good unless it was made from an error") {
  CHECK(Status().ok());
  const Status failed = Error{ErrorKind::Refused, 0, "no"};
  CHECK_FALSE(failed.ok());
  CHECK(failed.error().message == "no");
}

TEST_CASE("a system error has the errno and the system's words") {
  const Error error = system_error("cannot open /x", ENOENT);
  CHECK(error.kind == ErrorKind::Io);
  CHECK(error.system_errno == ENOENT);
  CHECK(error.message == "cannot open /x: No such file or directory");
}

TEST_CASE("reading what is not there aborts instead of going on") {
  CHECK(signal_of([] { static_cast<void>(half(7).value()); }) == SIGABRT);
  CHECK(signal_of([] { static_cast<void>(half(8).error()); }) == SIGABRT);
  CHECK(signal_of([] { static_cast<void>(Status().error()); }) == SIGABRT);
  CHECK(signal_of([] { static_cast<void>(half(8).value()); }) == 0);
}

}  // namespace lockstep
