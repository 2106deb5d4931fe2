// Whether the loop looks for completions for a moment before it sleeps.
//
// To wake a processor that sleeps costs tens of microseconds, in a virtual machine above all, and a write that is alone
// pays that several times on its way to two disks and back. Polling takes a processor instead. So it is done only while
// few requests are in hand (many keep the loop awake by themselves), only for a short time after something happened,
// and not beside others who want the processor: between two looks it is yielded, and when somebody used it for long,
// polling pauses, longer each time.
#pragma once

#include <algorithm>
#include <cstdint>

namespace lockstep::io {

class Polling {
 public:
  // 0: never.
  explicit Polling(uint32_t window_us) : window_us_(window_us) {}

  // Something was completed.
  void went_on(uint64_t now_us) { since_us_ = now_us; }
  // How many requests are being carried out.
  void requests_in_hand(uint32_t count, uint64_t now_us) {
    if (count > kFew) not_before_us_ = std::max(not_before_us_, now_us + kCrowdPauseUs);
  }
  // Until when to look; not later than now: go to sleep.
  uint64_t until_us(uint64_t now_us) const { return now_us < not_before_us_ ? 0 : since_us_ + window_us_; }
  // The processor was yielded for that time. False: it is wanted.
  bool yielded(uint64_t from_us, uint64_t to_us) {
    if (to_us - from_us < kLongYieldUs) return true;
    pause_us_ = std::clamp(2 * pause_us_, kShortestPauseUs, kLongestPauseUs);
    not_before_us_ = to_us + pause_us_;
    return false;
  }
  // What was looked for came.
  void found() {
    if (++found_ % kFoundToTrust == 0) pause_us_ /= 2;
  }

  static constexpr uint32_t kFew = 2;
  static constexpr uint64_t kCrowdPauseUs = 2000;
  static constexpr uint64_t kLongYieldUs = 60;
  static constexpr uint64_t kShortestPauseUs = 1000;
  static constexpr uint64_t kLongestPauseUs = 256'000;
  static constexpr uint32_t kFoundToTrust = 256;

 private:
  uint32_t window_us_;
  uint32_t found_ = 0;
  uint64_t since_us_ = 0;
  uint64_t not_before_us_ = 0;
  uint64_t pause_us_ = 0;
};

}  // namespace lockstep::io
