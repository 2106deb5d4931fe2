// A request to the kernel in flight, without allocation: derive from it, or embed one that does.
#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>

#include "io/base/check.h"
#include "io/run_queue.h"
#include "io/task.h"

namespace lockstep::io {

class Loop;

// An entry of a loop's timer heap.
class TimerEntry : public Runnable {
 public:
  ~TimerEntry() override { LOCKSTEP_CHECK(heap_index_ == kNotInHeap); }

 protected:
  bool in_heap() const { return heap_index_ != kNotInHeap; }
  // The loop took this entry out of the heap because it stops. May queue this entry to be run.
  virtual void stopped(RunQueue& queue) noexcept = 0;

 private:
  friend class Loop;
  friend class TimerHeap;
  static constexpr size_t kNotInHeap = SIZE_MAX;
  uint64_t deadline_us_ = 0;
  uint64_t order_ = 0;  // among equal deadlines, the one that was set first fires first
  size_t heap_index_ = kNotInHeap;
};

// Started by Loop::start_*; completed() is then called exactly once, from the loop, never from inside the start. The
// object must stay where it is until then: its destructor aborts while it is in flight. It may be started again, or
// destroyed, from inside completed().
class Operation : public TimerEntry {
 public:
  ~Operation() override { LOCKSTEP_CHECK(!in_flight_); }

  // `result`: what the system call would give: 0 or more, or a negative errno. -ECANCELED after cancel() or stop().
  virtual void completed(int32_t result) noexcept = 0;

  bool in_flight() const { return in_flight_; }

 private:
  friend class Loop;
  void run() noexcept final {
    in_flight_ = false;
    completed(result_);
  }
  void stopped(RunQueue& queue) noexcept final;

  int32_t result_ = 0;
  bool in_flight_ = false;
  bool in_kernel_ = false;
  bool at_disk_ = false;  // a read that DiskTurns counts
  bool stoppable_ = false;
};

// The awaitable form: `Start` is called with the operation and starts it.
template <typename Start>
class [[nodiscard]] AwaitedOperation final : private Operation {
 public:
  explicit AwaitedOperation(Start start) : start_(start) {}

  bool await_ready() const noexcept { return false; }
  template <typename Promise>
  void await_suspend(std::coroutine_handle<Promise> waiting) {
    waiting_ = &waiting.promise();
    start_(static_cast<Operation&>(*this));
  }
  int32_t await_resume() const noexcept { return outcome_; }

 private:
  void completed(int32_t result) noexcept override {
    outcome_ = result;
    waiting_->run();  // completed() is at the top of the loop's stack already
  }

  Start start_;
  TaskPromiseBase* waiting_ = nullptr;
  int32_t outcome_ = 0;
};

}  // namespace lockstep::io
