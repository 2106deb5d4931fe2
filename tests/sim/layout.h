// Which parts of the device a run looks at. The application writes in a few short arenas, scattered over a device of
// many extents; content is kept for their units alone, numbered through in order of offset. What lies between is
// copied, trimmed and resynced like the rest, and is taken to read as zeroes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "io/base/units.h"
#include "replicator/core/types.h"

namespace lockstep::sim {

inline constexpr uint64_t kUnitBytes = 2048;
inline constexpr uint64_t kUnitsPerBlock = repl::kBlockBytes / kUnitBytes;
inline constexpr uint64_t kArenaBlocks = 16;
inline constexpr uint64_t kUnitsPerArena = kArenaBlocks * kUnitsPerBlock;

class Layout {
 public:
  // Arenas begin at these blocks; those that overlap an earlier one are left out.
  explicit Layout(std::vector<uint64_t> first_blocks) {
    std::sort(first_blocks.begin(), first_blocks.end());
    for (const uint64_t block : first_blocks) {
      if (first_blocks_.empty() || first_blocks_.back() + kArenaBlocks <= block) first_blocks_.push_back(block);
    }
  }

  size_t arena_count() const { return first_blocks_.size(); }
  uint64_t arena_offset_bytes(size_t arena) const { return first_blocks_[arena] * repl::kBlockBytes; }
  size_t unit_count() const { return first_blocks_.size() * kUnitsPerArena; }
  uint64_t block_of(size_t unit) const {
    return first_blocks_[unit / kUnitsPerArena] + unit % kUnitsPerArena / kUnitsPerBlock;
  }

  struct Units {
    size_t first = 0;
    size_t end = 0;
    size_t count() const { return end - first; }
  };
  Units units(const ByteRange& range) const {
    return {units_before(range.offset_bytes / kUnitBytes), units_before(range.end_bytes() / kUnitBytes)};
  }

 private:
  // How many units lie before the device's unit `at`.
  size_t units_before(uint64_t at) const {
    const auto next = std::upper_bound(first_blocks_.begin(), first_blocks_.end(), at / kUnitsPerBlock);
    if (next == first_blocks_.begin()) return 0;
    const auto arena = static_cast<size_t>(next - first_blocks_.begin()) - 1;
    const uint64_t inside = at - first_blocks_[arena] * kUnitsPerBlock;
    return arena * kUnitsPerArena + std::min<uint64_t>(inside, kUnitsPerArena);
  }

  std::vector<uint64_t> first_blocks_;
};

}  // namespace lockstep::sim
