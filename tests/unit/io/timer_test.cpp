#include "io/timer.h"

#include <algorithm>
#include <random>
#include <vector>

#include "io/timer_heap.h"
#include "tests/unit/io/support.h"

namespace lockstep::io {
namespace {

class HeapEntry final : public TimerEntry {
 public:
  void run() noexcept override {}
  void stopped(RunQueue& /*queue*/) noexcept override {}
};

Task<void> sleep_and_note(Loop& loop, uint64_t time_ms, std::vector<uint64_t>& order) {
  const bool passed = co_await loop.sleep_ms(time_ms);
  if (passed) order.push_back(time_ms);
}

Task<void> sleep_long(Loop& loop, int& cancelled) {
  const bool passed = co_await loop.sleep_ms(3'600'000);
  const bool passed_after_stop = co_await loop.sleep_ms(3'600'000);  // begun after stop(): ends at once
  cancelled += (passed ? 0 : 1) + (passed_after_stop ? 0 : 1);
}

Task<void> sleep_only(Loop& loop, uint64_t time_ms) {
  co_await loop.sleep_ms(time_ms);
}

Task<void> wait_for_timer(Timer& timer, int times, int& fired) {
  for (int i = 0; i < times; ++i) {
    const bool in_time = co_await timer.wait();
    if (in_time) ++fired;
  }
}

}  // namespace

TEST_CASE("the heap gives entries by deadline, and equal deadlines in the order of setting") {
  TimerHeap heap;
  std::mt19937 random(7);
  std::vector<HeapEntry> entries(500);
  std::vector<std::pair<uint64_t, HeapEntry*>> expected;
  for (HeapEntry& entry : entries) {
    const uint64_t deadline_us = random() % 50;
    heap.push(entry, deadline_us);
    expected.emplace_back(deadline_us, &entry);
  }
  for (size_t i = 0; i < entries.size(); i += 3) {
    heap.remove(entries[i]);
    std::erase_if(expected, [&](const auto& one) { return one.second == &entries[i]; });
  }
  std::stable_sort(expected.begin(), expected.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  CHECK(heap.pop_due(expected.front().first - (expected.front().first > 0 ? 1 : 0)) ==
        (expected.front().first > 0 ? nullptr : expected.front().second));
  std::vector<HeapEntry*> got;
  if (expected.front().first == 0) got.push_back(expected.front().second);
  while (TimerEntry* entry = heap.pop_due(1000)) got.push_back(static_cast<HeapEntry*>(entry));
  REQUIRE(got.size() == expected.size());
  bool in_order = true;
  for (size_t i = 0; i < got.size(); ++i) in_order = in_order && got[i] == expected[i].second;
  CHECK(in_order);
}

TEST_CASE("sleeps end in the order of their deadlines") {
  auto loop = make_loop();
  std::vector<uint64_t> order;
  for (const uint64_t time_ms : {9, 3, 7, 1, 5}) loop->spawn(sleep_and_note(*loop, time_ms, order));
  const uint64_t begin_us = loop->now_us();
  run_to_end(*loop, sleep_only(*loop, 12));
  CHECK(order == std::vector<uint64_t>{1, 3, 5, 7, 9});
  CHECK(loop->now_us() - begin_us >= 12'000);
}

TEST_CASE("stop() ends sleeping tasks, and later sleeps end at once") {
  auto loop = make_loop();
  int cancelled = 0;
  for (int i = 0; i < 10; ++i) loop->spawn(sleep_long(*loop, cancelled));
  run_to_end(*loop, sleep_only(*loop, 1));
  CHECK(cancelled == 20);
}

TEST_CASE("a timer fires once, and not after cancel()") {
  auto loop = make_loop();
  int fired = 0;
  int cancelled_fired = 0;
  Timer timer(*loop, [&] { ++fired; });
  Timer cancelled(*loop, [&] { ++cancelled_fired; });
  timer.start_once_ms(1);
  cancelled.start_once_ms(1);
  CHECK(cancelled.armed());
  cancelled.cancel();
  CHECK_FALSE(cancelled.armed());
  run_to_end(*loop, sleep_only(*loop, 5));
  CHECK(fired == 1);
  CHECK(cancelled_fired == 0);
  CHECK_FALSE(timer.armed());
}

TEST_CASE("a timer that came due is still cancelled by one that fires before it in the same turn") {
  auto loop = make_loop();
  int fired = 0;
  Timer second(*loop, [&] { ++fired; });
  Timer first(*loop, [&] { second.cancel(); });
  first.start_once_ms(1);
  second.start_once_ms(1);
  run_to_end(*loop, sleep_only(*loop, 5));
  CHECK(fired == 0);
}

TEST_CASE("setting a timer anew replaces the earlier setting") {
  auto loop = make_loop();
  std::vector<uint64_t> fired_at_us;
  Timer timer(*loop, [&] { fired_at_us.push_back(loop->now_us()); });
  const uint64_t begin_us = loop->now_us();
  timer.start_once_ms(1);
  timer.start_once_ms(8);
  run_to_end(*loop, sleep_only(*loop, 12));
  REQUIRE(fired_at_us.size() == 1);
  CHECK(fired_at_us[0] - begin_us >= 8'000);
}

TEST_CASE("a periodic timer fires until it is cancelled, also from inside itself") {
  auto loop = make_loop();
  int fired = 0;
  std::unique_ptr<Timer> timer;
  timer = std::make_unique<Timer>(*loop, [&] {
    if (++fired == 4) timer->cancel();
  });
  timer->start_periodic_ms(1);
  run_to_end(*loop, sleep_only(*loop, 15));
  CHECK(fired == 4);
}

TEST_CASE("a timer can be awaited") {
  auto loop = make_loop();
  Timer timer(*loop);
  timer.start_periodic_ms(1);
  int fired = 0;
  run_to_end(*loop, wait_for_timer(timer, 3, fired));
  CHECK(fired == 3);
}

TEST_CASE("a stopping loop disarms timers and wakes who awaits them") {
  auto loop = make_loop();
  Timer timer(*loop);
  timer.start_once_ms(3'600'000);
  int fired = 0;
  loop->spawn(wait_for_timer(timer, 1, fired));
  run_to_end(*loop, sleep_only(*loop, 1));
  CHECK(fired == 0);
  CHECK_FALSE(timer.armed());
  timer.start_once_ms(0);
  CHECK_FALSE(timer.armed());
}

}  // namespace lockstep::io
