// Wakes tasks that wait for a condition of their own: a condition variable for one thread.
#pragma once

#include <coroutine>

#include "io/run_queue.h"
#include "io/task.h"

namespace lockstep::io {

class Loop;

// Use: `while (!condition && !loop.stopping()) co_await signal.wait();`
class Signal {
 public:
  // The loop must outlive the signal.
  explicit Signal(Loop& loop);
  Signal(const Signal&) = delete;
  Signal& operator=(const Signal&) = delete;
  // Wakes whoever still waits, with false.
  ~Signal();

  class Waiter;
  // Suspends until the next notify_all(). Gives true then, and false when the loop's stop() (or this signal's end)
  // woke it. A wait that begins after stop() suspends as before, so that a shutdown can wait for its last requests.
  [[nodiscard]] Waiter wait();

  // Queues every task that waits now; runs none of them inline. A task that waits again waits for the next notify.
  void notify_all() { wake_all(true); }

  bool has_waiters() const { return first_ != nullptr; }

 private:
  friend class Loop;
  void wake_all(bool notified);

  Loop& loop_;
  Waiter* first_ = nullptr;
  Waiter* last_ = nullptr;
  Signal* next_of_loop_ = nullptr;
  Signal* previous_of_loop_ = nullptr;
};

class Signal::Waiter {
 public:
  explicit Waiter(Signal& signal) : signal_(&signal) {}
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;
  ~Waiter() { leave(); }

  bool await_ready() const noexcept { return false; }
  template <typename Promise>
  void await_suspend(std::coroutine_handle<Promise> waiting) {
    waiting_ = &waiting.promise();
    enter();
  }
  bool await_resume() const noexcept { return notified_; }

 private:
  friend class Signal;
  void enter();
  void leave();

  Signal* signal_;
  TaskPromiseBase* waiting_ = nullptr;
  Waiter* next_ = nullptr;
  Waiter* previous_ = nullptr;
  bool entered_ = false;
  bool notified_ = false;
};

inline Signal::Waiter Signal::wait() {
  return Waiter(*this);
}

// Counts what must end before something may be taken down: enter() for each, leave() when it ended, and
// `co_await gate.emptied()` until none is inside.
class Gate {
 public:
  explicit Gate(Loop& loop) : left_(loop) {}
  void enter() { ++inside_; }
  void leave();
  size_t inside() const { return inside_; }
  Task<void> emptied();

 private:
  Signal left_;
  size_t inside_ = 0;
};

// Enters on construction and leaves on destruction: hold one in each task that a Gate counts.
class GatePass {
 public:
  explicit GatePass(Gate& gate) : gate_(gate) { gate_.enter(); }
  GatePass(const GatePass&) = delete;
  GatePass& operator=(const GatePass&) = delete;
  ~GatePass() { gate_.leave(); }

 private:
  Gate& gate_;
};

}  // namespace lockstep::io
