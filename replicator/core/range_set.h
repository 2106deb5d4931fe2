// The ranges that are busy now, each with the slot that holds it. Small and bounded: searched from end to end.
#pragma once

#include <cstdint>
#include <vector>

#include "io/base/check.h"
#include "io/base/units.h"

namespace lockstep::repl {

class RangeSet {
 public:
  explicit RangeSet(size_t capacity) {
    ranges_.reserve(capacity);
    slots_.reserve(capacity);
  }

  bool overlaps(const ByteRange& range) const {
    for (const ByteRange& busy : ranges_) {
      if (busy.overlaps(range)) return true;
    }
    return false;
  }
  void insert(uint32_t slot, const ByteRange& range) {
    LOCKSTEP_CHECK(ranges_.size() < ranges_.capacity());
    ranges_.push_back(range);
    slots_.push_back(slot);
  }
  void erase(uint32_t slot) {
    for (size_t i = 0; i < slots_.size(); ++i) {
      if (slots_[i] != slot) continue;
      ranges_[i] = ranges_.back();
      slots_[i] = slots_.back();
      ranges_.pop_back();
      slots_.pop_back();
      return;
    }
    LOCKSTEP_CHECK(false);
  }
  bool empty() const { return ranges_.empty(); }

 private:
  std::vector<ByteRange> ranges_;
  std::vector<uint32_t> slots_;
};

}  // namespace lockstep::repl
