// What is usual of the application's writes: the latency that one in a hundred exceeds. What is long past counts less
// and less.
//
// Pure arithmetic on what it is told: same calls, same answers.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace lockstep::repl {

class UsualLatencies {
 public:
  void record(uint64_t latency_us) {
    ++counts_[bucket_of(latency_us)];
    if (++count_ < kRemembered) return;
    count_ = 0;
    for (uint32_t& each : counts_) {
      each /= 2;
      count_ += each;
    }
  }

  // In microseconds, at most an eighth too much; 0 while too little is known.
  uint64_t high_us() const {
    if (count_ < kEnough) return 0;
    uint64_t above = 0;
    for (size_t bucket = counts_.size(); bucket-- > 0;) {
      above += counts_[bucket];
      if (above * 100 >= count_) return upper_bound_us(bucket);
    }
    return 0;
  }

  static constexpr uint64_t kEnough = 200;
  static constexpr uint64_t kRemembered = 8192;

 private:
  static constexpr uint64_t kParts = 8;  // of each power of two
  static constexpr size_t kBuckets = 8 * 24;

  // Below 8 one for each value; above, by the highest bit and the three behind it.
  static size_t bucket_of(uint64_t latency_us) {
    if (latency_us < kParts) return latency_us;
    const auto shift = static_cast<unsigned>(std::bit_width(latency_us)) - 4;
    return std::min<size_t>(kParts * (shift + 1) + ((latency_us >> shift) - kParts), kBuckets - 1);
  }
  static uint64_t upper_bound_us(size_t bucket) {
    if (bucket < kParts) return bucket;
    const size_t shift = bucket / kParts - 1;
    return ((kParts + bucket % kParts + 1) << shift) - 1;
  }

  std::array<uint32_t, kBuckets> counts_{};
  uint64_t count_ = 0;
};

}  // namespace lockstep::repl
