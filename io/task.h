// Coroutines for flows that read top-down. A Task is lazy: it starts when it is awaited by another Task, or handed to
// Loop::spawn. Starting, ending and every wake-up go through the loop's run queue, so a chain of tasks of any depth
// uses constant stack. Everything stays on one loop's thread.
//
// Rules, because GCC 12 miscompiles what they forbid: name every argument that owns something before a co_await; no
// co_await inside the condition of an if, while, for or switch (name its result first: the frame's layout may come out
// wrong); no lambda coroutines. And everywhere: never destroy a Task that waits for a kernel operation (the operation's
// destructor aborts).
#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <utility>

#include "io/base/check.h"
#include "io/run_queue.h"

namespace lockstep::io {

// The part of a task's promise that awaitables see: resume through `queue()`.
class TaskPromiseBase : public Runnable {
 public:
  std::suspend_always initial_suspend() noexcept { return {}; }
  void unhandled_exception() noexcept { std::terminate(); }

  RunQueue& queue() const {
    LOCKSTEP_CHECK(queue_ != nullptr);
    return *queue_;
  }
  // Resumes this coroutine from the loop, later.
  void schedule() { queue().push(*this); }

  void attach(RunQueue& queue, std::coroutine_handle<> self, TaskPromiseBase* awaited_by) {
    queue_ = &queue;
    self_ = self;
    awaited_by_ = awaited_by;
  }
  // From the loop only.
  void run() noexcept override { self_.resume(); }

  struct FinalAwaiter {
    bool await_ready() noexcept { return false; }
    template <typename Promise>
    void await_suspend(std::coroutine_handle<Promise> ended) noexcept {
      TaskPromiseBase* awaited_by = ended.promise().awaited_by_;
      if (awaited_by != nullptr) awaited_by->schedule();
    }
    void await_resume() noexcept {}
  };
  FinalAwaiter final_suspend() noexcept { return {}; }

 private:
  RunQueue* queue_ = nullptr;
  std::coroutine_handle<> self_;
  TaskPromiseBase* awaited_by_ = nullptr;
};

template <typename T = void>
class Task;

template <typename T>
class TaskPromise final : public TaskPromiseBase {
 public:
  Task<T> get_return_object() noexcept;
  template <typename Value>
  void return_value(Value&& value) {
    value_.emplace(std::forward<Value>(value));
  }
  T take() {
    LOCKSTEP_CHECK(value_.has_value());
    return std::move(*value_);
  }

 private:
  std::optional<T> value_;
};

template <>
class TaskPromise<void> final : public TaskPromiseBase {
 public:
  Task<void> get_return_object() noexcept;
  void return_void() noexcept {}
  void take() noexcept {}
};

// Move only; owns the coroutine's frame. May be awaited once, by a coroutine that is itself a Task.
template <typename T>
class [[nodiscard]] Task {
 public:
  using promise_type = TaskPromise<T>;

  Task() = default;
  explicit Task(std::coroutine_handle<promise_type> frame) : frame_(frame) {}
  Task(Task&& other) noexcept : frame_(std::exchange(other.frame_, {})) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      destroy();
      frame_ = std::exchange(other.frame_, {});
    }
    return *this;
  }
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  ~Task() { destroy(); }

  explicit operator bool() const { return static_cast<bool>(frame_); }

  class Awaiter {
   public:
    explicit Awaiter(std::coroutine_handle<promise_type> frame) : frame_(frame) {}
    bool await_ready() const noexcept { return false; }
    template <typename Promise>
    void await_suspend(std::coroutine_handle<Promise> awaiting) {
      TaskPromiseBase& parent = awaiting.promise();
      frame_.promise().attach(parent.queue(), frame_, &parent);
      frame_.promise().schedule();
    }
    T await_resume() { return frame_.promise().take(); }

   private:
    std::coroutine_handle<promise_type> frame_;
  };
  Awaiter operator co_await() const {
    LOCKSTEP_CHECK(frame_ && !frame_.done());
    return Awaiter(frame_);
  }

 private:
  void destroy() {
    if (frame_) std::exchange(frame_, {}).destroy();
  }
  std::coroutine_handle<promise_type> frame_;
};

template <typename T>
Task<T> TaskPromise<T>::get_return_object() noexcept {
  return Task<T>(std::coroutine_handle<TaskPromise<T>>::from_promise(*this));
}
inline Task<void> TaskPromise<void>::get_return_object() noexcept {
  return Task<void>(std::coroutine_handle<TaskPromise<void>>::from_promise(*this));
}

}  // namespace lockstep::io
