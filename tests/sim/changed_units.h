// Units that changed since somebody looked last, each once: what lets a check look at those alone.
#pragma once

#include <cstdint>
#include <vector>

namespace lockstep::sim {

class ChangedUnits {
 public:
  explicit ChangedUnits(size_t unit_count) : marked_(unit_count, 0) {}

  void add(size_t unit) {
    if (marked_[unit] != 0) return;
    marked_[unit] = 1;
    list_.push_back(static_cast<uint32_t>(unit));
  }
  const std::vector<uint32_t>& list() const { return list_; }
  void clear() {
    for (const uint32_t unit : list_) marked_[unit] = 0;
    list_.clear();
  }

 private:
  std::vector<uint8_t> marked_;
  std::vector<uint32_t> list_;
};

}  // namespace lockstep::sim
