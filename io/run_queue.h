// What runs next on a loop's thread: an intrusive list, so that queueing never allocates.
#pragma once

#include <cstddef>

#include "io/base/check.h"

namespace lockstep::io {

class RunList;

// Something that a loop can run. It is in at most one RunList at a time and leaves it when it is destroyed.
class Runnable {
 public:
  Runnable() = default;
  Runnable(const Runnable&) = delete;
  Runnable& operator=(const Runnable&) = delete;
  virtual ~Runnable() { unlink(); }

  // Called from the loop, at the top of its stack: never from inside whoever queued it. May destroy this object.
  virtual void run() noexcept = 0;

  bool listed() const { return list_ != nullptr; }
  void unlink();

 private:
  friend class RunList;
  RunList* list_ = nullptr;
  Runnable* next_ = nullptr;
  Runnable* previous_ = nullptr;
};

// First in, first out. Does not own its entries.
class RunList {
 public:
  RunList() = default;
  RunList(const RunList&) = delete;
  RunList& operator=(const RunList&) = delete;
  ~RunList() {
    while (first_ != nullptr) first_->unlink();
  }

  bool empty() const { return first_ == nullptr; }
  size_t size() const { return size_; }
  Runnable* first() const { return first_; }
  static Runnable* after(const Runnable& entry) { return entry.next_; }

  // `entry` must be in no list.
  void push(Runnable& entry) {
    LOCKSTEP_CHECK(entry.list_ == nullptr);
    entry.list_ = this;
    entry.previous_ = last_;
    entry.next_ = nullptr;
    (last_ == nullptr ? first_ : last_->next_) = &entry;
    last_ = &entry;
    ++size_;
  }
  // The oldest entry, now in no list, or null.
  Runnable* pop() {
    Runnable* entry = first_;
    if (entry != nullptr) entry->unlink();
    return entry;
  }

 private:
  friend class Runnable;
  Runnable* first_ = nullptr;
  Runnable* last_ = nullptr;
  size_t size_ = 0;
};

inline void Runnable::unlink() {
  if (list_ == nullptr) return;
  (previous_ == nullptr ? list_->first_ : previous_->next_) = next_;
  (next_ == nullptr ? list_->last_ : next_->previous_) = previous_;
  --list_->size_;
  list_ = nullptr;
  next_ = nullptr;
  previous_ = nullptr;
}

// A loop's queue of what is ready to run.
using RunQueue = RunList;

}  // namespace lockstep::io
