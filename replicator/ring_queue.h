// First in, first out; grows when it must and never shrinks, so that a steady state allocates nothing.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "io/base/check.h"

namespace lockstep::repl {

template <typename T>
class RingQueue {
 public:
  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }

  void push(T value) {
    if (size_ == entries_.size()) grow();
    entries_[(head_ + size_) % entries_.size()] = std::move(value);
    ++size_;
  }
  T& front() {
    LOCKSTEP_CHECK(size_ > 0);
    return entries_[head_];
  }
  T pop() {
    LOCKSTEP_CHECK(size_ > 0);
    T value = std::move(entries_[head_]);
    head_ = (head_ + 1) % entries_.size();
    --size_;
    return value;
  }

 private:
  void grow() {
    std::vector<T> larger(entries_.empty() ? 16 : entries_.size() * 2);
    for (size_t i = 0; i < size_; ++i) larger[i] = std::move(entries_[(head_ + i) % entries_.size()]);
    entries_ = std::move(larger);
    head_ = 0;
  }

  std::vector<T> entries_;
  size_t head_ = 0;
  size_t size_ = 0;
};

}  // namespace lockstep::repl
