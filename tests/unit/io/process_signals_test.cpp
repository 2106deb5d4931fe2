#include "io/process_signals.h"

#include <signal.h>

#include <vector>

#include "tests/unit/io/support.h"

namespace lockstep::io {
namespace {

Task<void> take_signals(ProcessSignals& signals, size_t count, std::vector<int>& taken) {
  while (taken.size() < count) {
    Result<int> number = co_await signals.next();
    if (!number.ok()) co_return;
    taken.push_back(*number);
    if (taken.size() == 1) raise(SIGUSR2);
  }
}

Task<void> await_stop(ProcessSignals& signals, ErrorKind& kind) {
  Result<int> number = co_await signals.next();
  if (!number.ok()) kind = number.error().kind;
}

Task<void> short_sleep(Loop& loop) {
  co_await loop.sleep_ms(1);
}

}  // namespace

TEST_CASE("signals come through the loop, and the mask is as before afterwards") {
  auto loop = make_loop();
  {
    auto signals = ProcessSignals::create(*loop, {SIGUSR1, SIGUSR2});
    REQUIRE(signals.ok());
    raise(SIGUSR1);
    std::vector<int> taken;
    run_to_end(*loop, take_signals(**signals, 2, taken));
    CHECK(taken == std::vector<int>{SIGUSR1, SIGUSR2});
  }
  sigset_t mask;
  REQUIRE(pthread_sigmask(SIG_SETMASK, nullptr, &mask) == 0);
  CHECK(sigismember(&mask, SIGUSR1) == 0);
}

TEST_CASE("waiting for a signal ends when the loop stops") {
  auto loop = make_loop();
  auto signals = ProcessSignals::create(*loop, {SIGUSR1});
  REQUIRE(signals.ok());
  auto kind = ErrorKind::Io;
  loop->spawn(await_stop(**signals, kind));
  run_to_end(*loop, short_sleep(*loop));
  CHECK(kind == ErrorKind::Closed);
}

}  // namespace lockstep::io
