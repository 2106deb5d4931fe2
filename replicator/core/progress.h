// How fast something shrinks, over the last seconds.
#pragma once

#include <array>
#include <cstdint>

namespace lockstep::repl {

class ProgressMeter {
 public:
  void restart(uint64_t now_us, uint64_t left) {
    count_ = 1;
    newest_ = 0;
    samples_[0] = {now_us, left};
  }
  void sample(uint64_t now_us, uint64_t left) {
    if (count_ == 0) return restart(now_us, left);
    // What became more (writes that are out of sync) is no progress, and would make all before it look like none.
    if (left > samples_[newest_].left) return restart(now_us, left);
    if (now_us - samples_[newest_].time_us < kPeriodUs) return;
    newest_ = (newest_ + 1) % samples_.size();
    samples_[newest_] = {now_us, left};
    if (count_ < samples_.size()) ++count_;
  }
  void stop() { count_ = 0; }

  uint64_t per_second(uint64_t now_us, uint64_t left) const {
    if (count_ == 0) return 0;
    const Sample& oldest = samples_[(newest_ + samples_.size() + 1 - count_) % samples_.size()];
    if (now_us <= oldest.time_us || left >= oldest.left) return 0;
    return (oldest.left - left) * 1'000'000 / (now_us - oldest.time_us);
  }

 private:
  static constexpr uint64_t kPeriodUs = 500'000;
  struct Sample {
    uint64_t time_us = 0;
    uint64_t left = 0;
  };
  std::array<Sample, 9> samples_{};  // four seconds of them
  size_t count_ = 0;
  size_t newest_ = 0;
};

}  // namespace lockstep::repl
