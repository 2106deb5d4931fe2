#include "io/polling.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "tests/unit/io/support.h"

namespace lockstep::io {
namespace {

LoopOptions polls_for(uint32_t poll_us) {
  LoopOptions options{256, size_t{1} << 20, false};
  options.poll_us = poll_us;
  return options;
}

Task<void> send_back_and_forth(Loop& loop, int from, int to, int rounds, int& done) {
  std::array<uint8_t, 1> byte{};
  while (done < rounds) {
    iovec piece{byte.data(), byte.size()};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    const int32_t sent = co_await loop.send(from, &message);
    const int32_t received = co_await loop.receive(to, byte);
    loop.requests_in_hand(1);
    if (sent != 1 || received != 1) break;
    ++done;
  }
}

Task<void> sleep_for(Loop& loop, uint64_t time_ms, bool& slept) {
  slept = co_await loop.sleep_ms(time_ms);
}

}  // namespace

TEST_CASE("polling lasts for its window after something happened, and a window of nothing is never") {
  Polling polling(100);
  polling.went_on(1'000);
  CHECK(polling.until_us(1'000) == 1'100);
  CHECK(polling.until_us(1'099) == 1'100);
  polling.went_on(5'000);
  CHECK(polling.until_us(5'000) == 5'100);
  Polling never(0);
  never.went_on(1'000);
  CHECK(never.until_us(1'000) <= 1'000);
}

TEST_CASE("many requests in hand end polling for a while, few do not") {
  Polling polling(100);
  polling.requests_in_hand(Polling::kFew, 1'000);
  polling.went_on(1'000);
  CHECK(polling.until_us(1'000) == 1'100);
  polling.requests_in_hand(Polling::kFew + 1, 1'000);
  CHECK(polling.until_us(1'000) == 0);
  polling.requests_in_hand(0, 1'500);
  const uint64_t after_us = 1'000 + Polling::kCrowdPauseUs;
  polling.went_on(after_us - 1);
  CHECK(polling.until_us(after_us - 1) == 0);
  CHECK(polling.until_us(after_us) == after_us + 99);
}

TEST_CASE(
    "where others want the processor polling pauses, longer each time, and is trusted again when it finds things") {
  Polling polling(100);
  uint64_t now_us = 10'000;
  const auto pause_after_long_yield = [&] {
    CHECK_FALSE(polling.yielded(now_us, now_us + Polling::kLongYieldUs));
    now_us += Polling::kLongYieldUs;
    polling.went_on(now_us);
    uint64_t pause_us = 0;
    while (polling.until_us(now_us + pause_us) == 0) pause_us += 500;
    now_us += pause_us;
    return pause_us;
  };
  CHECK(polling.yielded(now_us, now_us + Polling::kLongYieldUs - 1));
  CHECK(pause_after_long_yield() == Polling::kShortestPauseUs);
  CHECK(pause_after_long_yield() == 2 * Polling::kShortestPauseUs);
  CHECK(pause_after_long_yield() == 4 * Polling::kShortestPauseUs);
  for (int i = 0; i < 20; ++i) pause_after_long_yield();
  CHECK(pause_after_long_yield() == Polling::kLongestPauseUs);
  for (uint32_t i = 0; i < 16 * Polling::kFoundToTrust; ++i) polling.found();
  CHECK(pause_after_long_yield() == Polling::kShortestPauseUs);
}

TEST_CASE("a loop that polls gets what comes, in order, and its timers fire") {
  const auto loop = make_loop(polls_for(1000));
  std::array<int, 2> ends{};
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
  int done = 0;
  bool slept = false;
  loop->spawn(sleep_for(*loop, 2, slept));
  run_to_end(*loop, send_back_and_forth(*loop, ends[0], ends[1], 2000, done));
  CHECK(done == 2000);
  for (const int end : ends) close(end);
}

TEST_CASE("a timer ends a poll that would last longer") {
  const auto loop = make_loop(polls_for(1'000'000));
  bool slept = false;
  run_to_end(*loop, sleep_for(*loop, 1, slept));
  CHECK(slept);
}

TEST_CASE("another thread may stop a loop that polls") {
  const auto loop = make_loop(polls_for(1000));
  std::thread stopper([&] { loop->request_stop(); });
  loop->run();
  stopper.join();
  CHECK(loop->stopping());
}

}  // namespace lockstep::io
