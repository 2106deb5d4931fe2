#include <stdexcept>
#include <string>
#include <vector>

#include "tests/unit/io/support.h"

namespace lockstep::io {
namespace {

Task<uint64_t> depth(uint64_t levels) {
  if (levels == 0) co_return uint64_t{0};
  const uint64_t below = co_await depth(levels - 1);
  co_return below + 1;
}

Task<void> measure_depth(uint64_t levels, uint64_t& result) {
  result = co_await depth(levels);
}

Task<std::unique_ptr<std::string>> make_text(std::string text) {
  co_return std::make_unique<std::string>(std::move(text));
}

Task<Status> fail() {
  co_return Error{ErrorKind::Busy, 0, "taken"};
}

Task<void> collect(std::string& text, ErrorKind& kind) {
  std::unique_ptr<std::string> made = co_await make_text("moved through");
  text = *made;
  Status failed = co_await fail();
  kind = failed.error().kind;
}

Task<void> add_many(uint64_t count, uint64_t& sum) {
  for (uint64_t i = 0; i < count; ++i) sum += co_await depth(1);
}

class CountedEnd {
 public:
  explicit CountedEnd(int& ended) : ended_(ended) {}
  CountedEnd(const CountedEnd&) = delete;
  CountedEnd& operator=(const CountedEnd&) = delete;
  ~CountedEnd() { ++ended_; }

 private:
  int& ended_;
};

Task<void> wait_for(Signal& signal, int& ended) {
  const CountedEnd counted(ended);
  co_await signal.wait();
}

Task<void> wait_through(Signal& signal, int& ended) {
  const CountedEnd counted(ended);
  co_await wait_for(signal, ended);
}

Task<void> note(std::vector<int>& order, int number) {
  order.push_back(number);
  co_return;
}

}  // namespace

TEST_CASE("a chain of a hundred thousand tasks needs no stack") {
  auto loop = make_loop();
  uint64_t result = 0;
  run_to_end(*loop, measure_depth(100'000, result));
  CHECK(result == 100'000);
}

TEST_CASE("a task gives its value, also one that can only be moved, and its error") {
  auto loop = make_loop();
  std::string text;
  auto kind = ErrorKind::Io;
  run_to_end(*loop, collect(text, kind));
  CHECK(text == "moved through");
  CHECK(kind == ErrorKind::Busy);
}

TEST_CASE("a task may await any number of others in turn") {
  auto loop = make_loop();
  uint64_t sum = 0;
  run_to_end(*loop, add_many(100'000, sum));
  CHECK(sum == 100'000);
}

TEST_CASE("a task is lazy: nothing of it runs until it is awaited or spawned") {
  auto loop = make_loop();
  std::vector<int> order;
  {
    const Task<void> never = note(order, 1);
    CHECK(static_cast<bool>(never));
  }
  Task<void> spawned = note(order, 2);
  CHECK(order.empty());
  loop->spawn(std::move(spawned));
  CHECK(order.empty());
  loop->stop();
  loop->run();
  CHECK(order == std::vector<int>{2});
}

TEST_CASE("spawned tasks start in the order of spawning") {
  auto loop = make_loop();
  std::vector<int> order;
  for (int i = 0; i < 5; ++i) loop->spawn(note(order, i));
  CHECK(loop->spawned_tasks() == 5);
  loop->stop();
  loop->run();
  CHECK(order == std::vector<int>{0, 1, 2, 3, 4});
  CHECK(loop->spawned_tasks() == 0);
}

TEST_CASE("tasks that never ended are destroyed with their loop, with all that they await") {
  int ended = 0;
  {
    auto loop = make_loop();
    Signal signal(*loop);
    loop->spawn(wait_through(signal, ended));
    while (Runnable* next = loop->run_queue().pop()) next->run();
    CHECK(signal.has_waiters());
    CHECK(ended == 0);
    loop->spawn(wait_through(signal, ended));  // not even begun: it has nothing to end
  }
  CHECK(ended == 2);
}

}  // namespace lockstep::io
