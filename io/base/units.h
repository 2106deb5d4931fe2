// Ranges and sizes in bytes, and how people write them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "io/base/result.h"

namespace lockstep {

inline constexpr uint64_t kKiB = 1024;
inline constexpr uint64_t kMiB = 1024 * kKiB;
inline constexpr uint64_t kGiB = 1024 * kMiB;

// Half open: [offset_bytes, end_bytes()). A range never wraps past 2^64: whoever makes one checks.
struct ByteRange {
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;

  constexpr uint64_t end_bytes() const { return offset_bytes + length_bytes; }
  constexpr bool empty() const { return length_bytes == 0; }
  constexpr bool overlaps(const ByteRange& other) const {
    return offset_bytes < other.end_bytes() && other.offset_bytes < end_bytes();
  }
  constexpr bool contains(const ByteRange& other) const {
    return offset_bytes <= other.offset_bytes && other.end_bytes() <= end_bytes();
  }
  // True when [offset, offset + length) lies inside a device of `size_bytes`, also when the sum would wrap.
  static constexpr bool fits(uint64_t offset, uint64_t length, uint64_t size_bytes) {
    return offset <= size_bytes && length <= size_bytes - offset;
  }
  friend constexpr bool operator==(const ByteRange&, const ByteRange&) = default;
};

constexpr uint64_t round_down(uint64_t value, uint64_t unit) {
  return value - value % unit;
}
constexpr uint64_t round_up(uint64_t value, uint64_t unit) {
  return round_down(value + unit - 1, unit);
}
constexpr uint64_t divide_up(uint64_t value, uint64_t unit) {
  return value / unit + (value % unit != 0 ? 1 : 0);
}

// "4096", "64K", "20G": bytes, or K M G T as powers of 1024, in either case. Invalid on anything else or overflow.
Result<uint64_t> parse_size(std::string_view text);

// "0B", "4.0K", "1.5G": at most one decimal, for people. Never for programs: those get the number.
std::string format_size(uint64_t bytes);

}  // namespace lockstep
