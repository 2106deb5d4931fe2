#include "io/signal.h"

#include <string>
#include <vector>

#include "tests/unit/io/support.h"

namespace lockstep::io {
namespace {

Task<void> wait_and_note(Signal& signal, std::vector<std::string>& log, std::string name) {
  const bool notified = co_await signal.wait();
  log.push_back(name + (notified ? " notified" : " stopped"));
}

Task<void> wait_twice(Signal& signal, int& wakes) {
  co_await signal.wait();
  ++wakes;
  co_await signal.wait();
  ++wakes;
}

Task<void> yield(Loop& loop) {
  co_await loop.sleep_ms(0);
}

Task<void> notify_once(Loop& loop, Signal& signal, std::vector<std::string>& log) {
  co_await yield(loop);
  signal.notify_all();
  log.push_back("after notify");
  co_await yield(loop);
}

Task<void> stay_inside(Loop& loop, Gate& gate, int& ended) {
  const GatePass pass(gate);
  co_await loop.sleep_ms(1);
  ++ended;
}

Task<void> empty_gate(Gate& gate, int& ended, int& ended_when_empty) {
  co_await gate.emptied();
  ended_when_empty = ended;
}

Task<void> wait_after_stop(Loop& loop, Signal& done, bool& notified) {
  loop.stop();
  notified = co_await done.wait();
}

class LateNotice final : public Runnable {
 public:
  LateNotice(Loop& loop, Signal& signal) : loop_(loop), signal_(signal) {}
  void run() noexcept override {
    if (--turns_left_ > 0) return loop_.defer(*this);
    signal_.notify_all();
  }

 private:
  Loop& loop_;
  Signal& signal_;
  int turns_left_ = 5;
};

}  // namespace

TEST_CASE("notify_all wakes every waiter, in the order of waiting, and none of them inline") {
  auto loop = make_loop();
  Signal signal(*loop);
  std::vector<std::string> log;
  loop->spawn(wait_and_note(signal, log, "a"));
  loop->spawn(wait_and_note(signal, log, "b"));
  run_to_end(*loop, notify_once(*loop, signal, log));
  CHECK(log == std::vector<std::string>{"after notify", "a notified", "b notified"});
}

TEST_CASE("who waits again after a notify waits for the next") {
  auto loop = make_loop();
  Signal signal(*loop);
  std::vector<std::string> log;
  int wakes = 0;
  loop->spawn(wait_twice(signal, wakes));
  loop->spawn(notify_once(*loop, signal, log));
  while (Runnable* next = loop->run_queue().pop()) next->run();
  CHECK(wakes == 0);
  signal.notify_all();
  while (Runnable* next = loop->run_queue().pop()) next->run();
  CHECK(wakes == 1);
  CHECK(signal.has_waiters());
  loop->stop();
  loop->run();
  CHECK(wakes == 2);
}

TEST_CASE("a notify that nobody waits for is not kept") {
  auto loop = make_loop();
  Signal signal(*loop);
  std::vector<std::string> log;
  signal.notify_all();
  loop->spawn(wait_and_note(signal, log, "late"));
  while (Runnable* next = loop->run_queue().pop()) next->run();
  CHECK(log.empty());
  loop->stop();
  loop->run();
  CHECK(log == std::vector<std::string>{"late stopped"});
}

TEST_CASE("a wait that begins after stop() is woken by its notify only") {
  auto loop = make_loop();
  Signal done(*loop);
  LateNotice notice(*loop, done);
  bool notified = false;
  loop->spawn(wait_after_stop(*loop, done, notified));
  loop->defer(notice);
  loop->run();
  CHECK(notified);
}

TEST_CASE("the end of a signal wakes its waiters with false") {
  auto loop = make_loop();
  std::vector<std::string> log;
  auto signal = std::make_unique<Signal>(*loop);
  loop->spawn(wait_and_note(*signal, log, "a"));
  while (Runnable* next = loop->run_queue().pop()) next->run();
  signal.reset();
  loop->stop();
  loop->run();
  CHECK(log == std::vector<std::string>{"a stopped"});
}

TEST_CASE("a gate opens when the last one has left") {
  auto loop = make_loop();
  Gate gate(*loop);
  int ended = 0;
  int ended_when_empty = -1;
  for (int i = 0; i < 3; ++i) loop->spawn(stay_inside(*loop, gate, ended));
  while (Runnable* next = loop->run_queue().pop()) next->run();
  CHECK(gate.inside() == 3);
  run_to_end(*loop, empty_gate(gate, ended, ended_when_empty));
  CHECK(ended_when_empty == 3);
  CHECK(gate.inside() == 0);
}

}  // namespace lockstep::io
