// The loop's timers: a binary heap of intrusive entries, earliest deadline first, then in the order of setting.
#pragma once

#include <cstdint>
#include <vector>

#include "io/operation.h"

namespace lockstep::io {

class TimerHeap {
 public:
  bool empty() const { return heap_.empty(); }
  uint64_t next_deadline_us() const { return heap_.front()->deadline_us_; }

  // `entry` must not be in the heap, and stays at its address while it is.
  void push(TimerEntry& entry, uint64_t deadline_us) {
    LOCKSTEP_CHECK(entry.heap_index_ == TimerEntry::kNotInHeap);
    entry.deadline_us_ = deadline_us;
    entry.order_ = next_order_++;
    heap_.push_back(&entry);
    entry.heap_index_ = heap_.size() - 1;
    move_up(entry.heap_index_);
  }

  void remove(TimerEntry& entry) {
    const size_t hole = entry.heap_index_;
    LOCKSTEP_CHECK(hole < heap_.size() && heap_[hole] == &entry);
    entry.heap_index_ = TimerEntry::kNotInHeap;
    TimerEntry* last = heap_.back();
    heap_.pop_back();
    if (last == &entry) return;
    place(hole, last);
    move_up(hole);
    move_down(last->heap_index_);
  }

  // The next entry whose deadline is not after `now_us`, out of the heap; or null.
  TimerEntry* pop_due(uint64_t now_us) {
    if (heap_.empty() || heap_.front()->deadline_us_ > now_us) return nullptr;
    return pop_any();
  }

  // The earliest entry, out of the heap; or null.
  TimerEntry* pop_any() {
    if (heap_.empty()) return nullptr;
    TimerEntry* first = heap_.front();
    remove(*first);
    return first;
  }

 private:
  static bool before(const TimerEntry& a, const TimerEntry& b) {
    return a.deadline_us_ != b.deadline_us_ ? a.deadline_us_ < b.deadline_us_ : a.order_ < b.order_;
  }
  void place(size_t index, TimerEntry* entry) {
    heap_[index] = entry;
    entry->heap_index_ = index;
  }
  void swap(size_t a, size_t b) {
    TimerEntry* held = heap_[a];
    place(a, heap_[b]);
    place(b, held);
  }
  void move_up(size_t index) {
    while (index > 0) {
      const size_t parent = (index - 1) / 2;
      if (!before(*heap_[index], *heap_[parent])) return;
      swap(index, parent);
      index = parent;
    }
  }
  void move_down(size_t index) {
    while (true) {
      size_t least = index;
      for (size_t child = 2 * index + 1; child <= 2 * index + 2 && child < heap_.size(); ++child) {
        if (before(*heap_[child], *heap_[least])) least = child;
      }
      if (least == index) return;
      swap(index, least);
      index = least;
    }
  }

  std::vector<TimerEntry*> heap_;
  uint64_t next_order_ = 0;
};

}  // namespace lockstep::io
