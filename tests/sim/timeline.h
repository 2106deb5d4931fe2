// What is still to happen, in order of time; what is due at one time happens in the order in which it was asked for.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

#include "io/base/check.h"

namespace lockstep::sim {

// A callable that is kept in place: a run makes hundreds of thousands, and none costs an allocation of its own.
class Task {
 public:
  Task() = default;
  template <typename F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, Task>)
      Task(F&& what) {  // NOLINT(google-explicit-constructor): lambdas are given where a Task is wanted
    using Callable = std::remove_cvref_t<F>;
    static_assert(sizeof(Callable) <= kCapacityBytes && alignof(Callable) <= alignof(std::max_align_t));
    static_assert(std::is_nothrow_move_constructible_v<Callable>);
    new (storage_) Callable(std::forward<F>(what));
    call_ = [](void* self) { (*static_cast<Callable*>(self))(); };
    move_ = [](void* from, void* to) noexcept {
      auto* callable = static_cast<Callable*>(from);
      if (to != nullptr) new (to) Callable(std::move(*callable));
      callable->~Callable();
    };
  }
  Task(Task&& other) noexcept { take(other); }
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      clear();
      take(other);
    }
    return *this;
  }
  ~Task() { clear(); }

  void operator()() { call_(storage_); }

 private:
  static constexpr size_t kCapacityBytes = 112;
  void clear() {
    if (move_ != nullptr) move_(storage_, nullptr);
    move_ = nullptr;
  }
  void take(Task& other) {
    call_ = other.call_;
    move_ = std::exchange(other.move_, nullptr);
    if (move_ != nullptr) move_(other.storage_, storage_);
  }

  alignas(std::max_align_t) std::byte storage_[kCapacityBytes];
  void (*call_)(void*) = nullptr;
  void (*move_)(void*, void*) noexcept = nullptr;  // into the second, or only away
};

class Timeline {
 public:
  bool empty() const { return heap_.empty(); }

  void add(uint64_t time_us, Task task) {
    uint32_t index = 0;
    if (free_.empty()) {
      index = static_cast<uint32_t>(tasks_.size());
      tasks_.push_back(std::move(task));
    } else {
      index = free_.back();
      free_.pop_back();
      tasks_[index] = std::move(task);
    }
    heap_.push_back({time_us, ++added_, index});
    std::push_heap(heap_.begin(), heap_.end());
  }
  // The next task, and its time.
  std::pair<uint64_t, Task> take() {
    LOCKSTEP_CHECK(!heap_.empty());
    std::pop_heap(heap_.begin(), heap_.end());
    const Entry entry = heap_.back();
    heap_.pop_back();
    free_.push_back(entry.index);
    return {entry.time_us, std::move(tasks_[entry.index])};
  }

 private:
  struct Entry {
    uint64_t time_us;
    uint64_t order;
    uint32_t index;
    bool operator<(const Entry& other) const {
      return time_us != other.time_us ? time_us > other.time_us : order > other.order;
    }
  };
  std::vector<Entry> heap_;
  std::vector<Task> tasks_;
  std::vector<uint32_t> free_;
  uint64_t added_ = 0;
};

}  // namespace lockstep::sim
